"""torch's FlexAttention under our rules: small Python functions state the rules, and torch compiles the kernel.

FlexAttention takes two functions of (batch, head, query, key): ``score_mod`` changes a score, ``mask_mod`` says whether
it counts. ``torch.compile`` puts them into a fused kernel with an online softmax. Which 128 x 128 blocks hold nothing,
and which need no mask, must be told beside them (``BlockMask``); we read that off the same rule that ``tiled`` skips by
(:mod:`llmlab.attention.masks`), so that no queries x keys table is made for it.

On the CPU torch 2.13 compiles a forward only: no gradients and no log-sum-exp. Where it cannot compile at all, the same
functions run uncompiled and hold the whole table of scores, as ``naive`` does.

Source: Dong, Feng, Guessous, Liang, He 2024, "Flex Attention", arXiv:2412.05496.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.attention import flex_attention as torch_flex
from torch.nn.attention.flex_attention import AuxRequest, BlockMask

from llmlab.attention.contract import BackendError, Call
from llmlab.attention.masks import all_visible, key_ranges

__all__ = ["flex_attention", "refusal", "uncompiled_because"]

BLOCK = 128
ANY = 2**40  # a distance that no two positions have
NO_BACKWARD = (
    "torch's FlexAttention has no backward on the CPU; take backend='tiled' or 'sdpa', or move q, k and v to a GPU"
)


def refusal(call: Call) -> str | None:
    """Why this backend cannot take the call, or None."""
    if call.dropout_p:
        return f"torch's FlexAttention has no dropout, and dropout_p={call.dropout_p}"
    if call.return_lse and call.q.device.type == "cpu":
        return "torch's FlexAttention does not return the log-sum-exp on the CPU"
    return None


def uncompiled_because(q: Tensor, mask: Tensor | None) -> str | None:
    """Why the call would run uncompiled, holding the table of scores; None where it is compiled."""
    if q.dtype == torch.float64:
        return "its compiled kernels have no float64"
    if q.device.type != "cpu":
        return None
    if mask is not None:
        return "torch 2.13 may write C++ that does not compile for a mask of the caller's"
    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512", "AMX") or torch.version.hip is not None:
        return "its compiled kernel needs a processor with AVX2"
    compiler = os.environ.get("CXX", "g++")
    return None if shutil.which(compiler) else f"there is no C++ compiler ({compiler}) to compile it with"


def flex_attention(
    q: Float[Tensor, "batch heads queries d"],
    k: Float[Tensor, "batch kv_heads keys d"],
    v: Float[Tensor, "batch kv_heads keys d_value"],
    *,
    causal: bool = False,
    window: int | None = None,
    sinks: int = 0,
    mask: Tensor | None = None,
    scale: float | None = None,
    dropout_p: float = 0.0,
) -> tuple[Float[Tensor, "batch heads queries d_value"], Float[Tensor, "batch heads queries"] | None]:
    """The output, and off the CPU the log-sum-exp of each row of scores.

    The first call for a new dtype, head count or head size compiles (some 4 to 20 s). A new length does not, nor do
    other rules: 50 calls of 50 lengths, with and without window, sinks and a cache, made five programs.

    Raises:
        BackendError: on the CPU, when the backward is asked for.
    """
    assert not dropout_p, "refusal() lets no dropout through"
    rule = {"causal": causal, "window": window, "sinks": sinks}
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if q.device.type == "cpu":
        return _ForwardOnly.apply(q, k, v, mask, (rule, scale)), None
    return _forward(q, k, v, mask, (rule, scale))


def _forward(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, options: tuple[dict[str, Any], float]
) -> tuple[Tensor, Tensor | None]:
    rule, scale = options
    (batch, heads, queries, _), keys = q.shape, k.shape[2]
    if not batch * queries * keys:  # nothing to compile for
        return q.new_zeros(batch, heads, queries, v.shape[3]), q.new_full((batch, heads, queries), -torch.inf).float()
    # Numbers that a compiled function sees as constants would compile it again for every length: keep them in a tensor.
    numbers = keys - queries, rule["window"] or ANY, rule["sinks"], 0 if rule["causal"] else ANY
    offset, window, sinks, ahead = torch.tensor(numbers, device=q.device).unbind()
    table = q if mask is None else mask.expand(batch, heads, queries, keys)

    def in_sight(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        position = i + offset
        near = (j > position - window) & (j < position + window)
        return (near | (j < sinks)) & (j <= position + ahead)

    def allowed(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return in_sight(b, h, i, j) & table[b, h, i, j]

    def biased(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return score + table[b, h, i, j]

    boolean = mask is not None and mask.dtype == torch.bool
    blocks = BlockMask.from_kv_blocks(
        *_blocks(queries, keys, masked=boolean, device=q.device, **rule),
        BLOCK_SIZE=BLOCK,
        mask_mod=allowed if boolean else in_sight,
        seq_lengths=(queries, keys),
    )
    arguments: dict[str, Any] = {
        "score_mod": biased if mask is not None and not boolean else None,
        "block_mask": blocks,
        "scale": scale,
        "enable_gqa": heads != k.shape[1],
    }
    if q.device.type != "cpu":
        arguments["return_aux"] = AuxRequest(lse=True)
    if uncompiled_because(q, mask) is None:
        # One program for each dtype, head count, head size and kind of mask: more than dynamo's default of 8.
        with torch._dynamo.config.patch(recompile_limit=64):
            found = _compiled()(q, k, v, **arguments)
    else:
        with torch.compiler.set_stance("force_eager"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "flex_attention called without torch.compile", UserWarning)
            found = torch_flex.flex_attention(q, k, v, **arguments)
    return (found, None) if q.device.type == "cpu" else (found[0], found[1].lse)


@cache
def _compiled() -> Callable[..., Any]:
    return torch.compile(torch_flex.flex_attention, dynamic=True)


@lru_cache(maxsize=16)
def _blocks(
    queries: int, keys: int, *, masked: bool, device: torch.device, **rule: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Which blocks hold a score that counts: in each row of blocks how many need the mask and which, then those whole.

    With a boolean mask of the caller's none is taken to be whole. Cached: every layer of a model asks the same.
    """
    rows, columns = -(-queries // BLOCK), -(-keys // BLOCK)
    edge, whole = torch.zeros(2, rows, columns, dtype=torch.bool)
    for row in range(rows):
        first = row * BLOCK + keys - queries
        last = min((row + 1) * BLOCK, queries) - 1 + keys - queries
        for start, stop in key_ranges(first, last, keys, **rule):
            for column in range(start // BLOCK, (stop - 1) // BLOCK + 1):
                block = slice(column * BLOCK, (column + 1) * BLOCK)
                full = not masked and block.stop <= keys and all_visible(first, last, block, **rule)
                (whole if full else edge)[row, column] = True

    def table(kind: Tensor) -> tuple[Tensor, Tensor]:
        # Those that count come first, in order; the number says how many of the list are meant.
        order = (~kind).to(torch.uint8).argsort(dim=-1, stable=True)
        return kind.sum(-1)[None, None].to(device, torch.int32), order[None, None].to(device, torch.int32)

    return *table(edge), *table(whole)


class _ForwardOnly(torch.autograd.Function):
    """The CPU's half: computes, and says so when a gradient is asked for."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        q, k, v, mask, options = inputs
        mask = None if mask is None else mask.detach()
        return _forward(q.detach(), k.detach(), v.detach(), mask, options)[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        raise BackendError(NO_BACKWARD)
