"""One contract for attention, several ways to compute it.

``attention(q, k, v)`` works on (batch, heads, time, d). ``naive`` writes the definition down and is the one to read;
``tiled`` never holds the table of scores; ``sdpa`` is torch's own kernel, ``flex`` the one that torch compiles from our
rules, ``triton`` our own for a GPU. All follow the same two rules: causal is aligned bottom-right, and a query that may
see no key gives zeros and zero gradients. ``varlen_attention`` takes sequences of different lengths without padding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, overload

from jaxtyping import Float
from torch import Tensor

from llmlab.attention import flex, sdpa, triton
from llmlab.attention.contract import BackendError, Call, autocast, checked, without_autocast
from llmlab.attention.flex import flex_attention
from llmlab.attention.masks import allowed_mask, causal_mask, padding_mask, window_mask
from llmlab.attention.naive import naive_attention, naive_scores, softmax
from llmlab.attention.sdpa import sdpa_attention
from llmlab.attention.tiled import tiled_attention
from llmlab.attention.triton import triton_attention
from llmlab.attention.varlen import varlen_attention

__all__ = [
    "Backend",
    "BackendError",
    "allowed_mask",
    "attention",
    "attention_backends",
    "attention_weights",
    "causal_mask",
    "explain_choice",
    "flex_attention",
    "naive_attention",
    "padding_mask",
    "sdpa_attention",
    "tiled_attention",
    "triton_attention",
    "varlen_attention",
    "window_mask",
]

BACKENDS: dict[str, Callable[..., tuple[Tensor, Tensor | None]]] = {
    "sdpa": sdpa_attention,
    "tiled": tiled_attention,
    "naive": naive_attention,
    "flex": flex_attention,
    "triton": triton_attention,
}
REFUSALS: dict[str, Callable[[Call], str | None]] = {
    "sdpa": sdpa.refusal,
    "flex": flex.refusal,
    "triton": triton.refusal,
}


class Backend(NamedTuple):
    """One line of :func:`attention_backends`."""

    name: str
    can_run: bool
    reason: str  # why it cannot, or what it is
    chosen: bool  # by backend="auto"


@overload
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool = ...,
    window: int | None = ...,
    sinks: int = ...,
    mask: Tensor | None = ...,
    scale: float | None = ...,
    enable_gqa: bool = ...,
    dropout_p: float = ...,
    backend: str = ...,
    return_lse: Literal[False] = ...,
) -> Tensor: ...
@overload
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool = ...,
    window: int | None = ...,
    sinks: int = ...,
    mask: Tensor | None = ...,
    scale: float | None = ...,
    enable_gqa: bool = ...,
    dropout_p: float = ...,
    backend: str = ...,
    return_lse: Literal[True],
) -> tuple[Tensor, Tensor]: ...
def attention(
    q: Float[Tensor, "batch heads queries d"],
    k: Float[Tensor, "batch kv_heads keys d"],
    v: Float[Tensor, "batch kv_heads keys d_value"],
    *,
    causal: bool = False,
    window: int | None = None,
    sinks: int = 0,
    mask: Tensor | None = None,
    scale: float | None = None,
    enable_gqa: bool = False,
    dropout_p: float = 0.0,
    backend: str = "auto",
    return_lse: bool = False,
) -> (
    Float[Tensor, "batch heads queries d_value"]
    | tuple[Float[Tensor, "batch heads queries d_value"], Float[Tensor, "batch heads queries"]]
):
    """softmax(scale q k^T + mask) v for every head.

    Args:
        causal: a query sees the keys up to its own position; the last query stands at the last key (bottom-right).
        window: with ``causal`` the last ``window`` keys, the own position included; without, all |i - j| < window.
        sinks: the first ``sinks`` keys stay in sight of a windowed query, as far as ``causal`` allows (Xiao et al.
            2023, arXiv:2309.17453).
        mask: boolean, True = may look, or a float bias added to the scores; broadcastable to
            (batch, heads, queries, keys). It is joined with causal and window by "and".
        scale: what multiplies q k^T; 1 / sqrt(d) if None.
        enable_gqa: k and v may have fewer heads; consecutive groups of query heads share one (Ainslie et al. 2023,
            arXiv:2305.13245).
        dropout_p: the share of weights set to 0, the others divided by 1 - dropout_p; pass 0 to evaluate.
        backend: "auto", or a name from :func:`attention_backends`.
        return_lse: also return the log-sum-exp of each row of scores, in float32 or better; -inf where no key is seen.

    Raises:
        ValueError, TypeError: the arguments have no meaning together. BackendError: the named backend cannot do this.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.
    """
    q, k, v = autocast(q, k, v)
    call = checked(
        q,
        k,
        v,
        causal=causal,
        window=window,
        sinks=sinks,
        mask=mask,
        scale=scale,
        enable_gqa=enable_gqa,
        dropout_p=dropout_p,
        return_lse=return_lse,
    )
    name = _choose(call)[0] if backend == "auto" else _named(backend, call)
    with without_autocast(call.q.device):
        output, lse = BACKENDS[name](call.q, call.k, call.v, **call.options())
    if not return_lse:
        return output
    assert lse is not None, f"{name} said that it returns the log-sum-exp"
    return output, lse


def attention_weights(
    q: Float[Tensor, "batch heads queries d"],
    k: Float[Tensor, "batch kv_heads keys d"],
    *,
    causal: bool = False,
    window: int | None = None,
    sinks: int = 0,
    mask: Tensor | None = None,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Float[Tensor, "batch heads queries keys"]:
    """The attention maps: how much each query takes from each key. Rows sum to 1, or to 0 where no key is allowed.

    In float32 or better; memory is quadratic in time. Arguments and errors as :func:`attention`.
    """
    call = checked(
        q,
        k,
        k,
        causal=causal,
        window=window,
        sinks=sinks,
        mask=mask,
        scale=scale,
        enable_gqa=enable_gqa,
        dropout_p=0.0,
        return_lse=False,
    )
    scores = naive_scores(q, k, causal=causal, window=window, sinks=sinks, mask=call.mask, scale=call.scale)
    return softmax(scores)[0]


def attention_backends(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> list[Backend]:
    """Every backend: can it take this call (options as :func:`attention`), why not, and which one ``auto`` takes."""
    call = _call(q, k, v, **options)
    chosen, _ = _choose(call)
    rows = []
    for name in BACKENDS:
        reason = _refusal(name, call)
        rows.append(Backend(name, reason is None, reason or _what(name, call), name == chosen))
    return rows


def explain_choice(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> str:
    """One sentence: which backend ``auto`` takes for this call, and why."""
    chosen, why = _choose(_call(q, k, v, **options))
    return f"auto takes {chosen}: {why}."


WHAT = {
    "sdpa": "torch's scaled_dot_product_attention",
    "tiled": "online softmax in plain torch, memory linear in time",
    "naive": "the definition, memory quadratic in time",
    "flex": "torch's FlexAttention, compiled at the first call",
    "triton": "our own kernels, after FlashAttention-2",
}


def _what(name: str, call: Call) -> str:
    if name == "flex" and (reason := flex.uncompiled_because(call.q, call.mask)):
        return f"torch's FlexAttention, not compiled ({reason}): memory quadratic in time"
    if name == "flex" and call.q.device.type == "cpu":
        return f"{WHAT[name]}; forward only on the CPU"
    return WHAT[name]


def _call(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool = False,
    window: int | None = None,
    sinks: int = 0,
    mask: Tensor | None = None,
    scale: float | None = None,
    enable_gqa: bool = False,
    dropout_p: float = 0.0,
    return_lse: bool = False,
) -> Call:
    """:func:`attention`'s arguments with its defaults, checked."""
    return checked(
        q,
        k,
        v,
        causal=causal,
        window=window,
        sinks=sinks,
        mask=mask,
        scale=scale,
        enable_gqa=enable_gqa,
        dropout_p=dropout_p,
        return_lse=return_lse,
    )


def _refusal(name: str, call: Call) -> str | None:
    return REFUSALS[name](call) if name in REFUSALS else None


def _named(backend: str, call: Call) -> str:
    if backend not in BACKENDS:
        raise BackendError(
            f"backend={backend!r} is unknown: expected 'auto' or one of {', '.join(map(repr, BACKENDS))}"
        )
    reason = _refusal(backend, call)
    if reason is not None:
        raise BackendError(f"backend={backend!r} cannot do this: {reason}; backend='auto' takes {_choose(call)[0]!r}")
    return backend


def _choose(call: Call) -> tuple[str, str]:
    """The name of the backend that ``auto`` takes, and why."""
    queries, keys = call.q.shape[2], call.k.shape[2]
    gpu = call.q.device.type == "cuda"
    large = queries * keys >= 2**20
    reason = sdpa.refusal(call)
    if reason is not None:
        if gpu and triton.refusal(call) is None:
            return "triton", f"it is our fused kernel for the GPU, and sdpa cannot do this ({reason})"
        return "tiled", f"it keeps memory linear, and sdpa cannot do this ({reason})"
    # On a GPU torch's fastest kernels take no mask. What only a mask tells them, ours is told as a rule.
    if gpu and large and sdpa.writes_table(call) and triton.refusal(call) is None:
        return (
            "triton",
            f"it follows the rule itself, where sdpa would need a mask of {queries} x {keys} and a slower kernel",
        )
    # Measured on the CPU, forward and backward: from about here on, tiles skipped outweigh torch's faster kernel.
    if call.window is not None and 2 * (call.window + call.sinks) <= keys and large and not gpu:
        return (
            "tiled",
            f"it skips the keys outside a window of {call.window}, where sdpa computes all {keys} and a mask",
        )
    return "sdpa", "it is torch's fused kernel, the fastest here for this call"
