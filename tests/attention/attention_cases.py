"""Inputs and an oracle shared by the attention tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from llmlab.attention import attention

BACKENDS = ("naive", "tiled", "sdpa")  # with gradients and on every machine
FORWARD = (*BACKENDS, "flex")  # flex has no gradients on the CPU; triton's cases run in processes of their own
# (queries, keys): ragged both ways, one, none.
SHAPES = ((113, 203), (203, 113), (64, 64), (1, 1), (1, 37), (37, 1), (5, 0), (0, 5), (0, 0))


def make(
    queries: int,
    keys: int,
    *,
    batch: int = 2,
    heads: int = 4,
    kv_heads: int = 4,
    d: int = 8,
    d_value: int = 8,
    dtype=torch.float64,
    seed: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Random q, k, v that want gradients."""
    g = torch.Generator().manual_seed(seed)
    shapes = (batch, heads, queries, d), (batch, kv_heads, keys, d), (batch, kv_heads, keys, d_value)
    return tuple(torch.randn(s, generator=g, dtype=torch.float64).to(dtype).requires_grad_() for s in shapes)


def may_look(
    i: int, j: int, queries: int, keys: int, *, causal: bool = False, window: int | None = None, sinks: int = 0
) -> bool:
    """The contract's sentence about positions, said once more in plain Python."""
    position = i + keys - queries
    if causal and j > position:
        return False
    return window is None or abs(position - j) < window or j in range(sinks)


def oracle(
    q: Tensor, k: Tensor, v: Tensor, *, causal=False, window=None, sinks=0, mask=None, scale=None
) -> tuple[Tensor, Tensor]:
    """Output and log-sum-exp row by row: each query sees a list of keys, and only those enter a softmax. No -inf, no mask."""
    (batch, heads, queries, d), (kv_heads, keys) = q.shape, k.shape[1:3]
    scale = d**-0.5 if scale is None else scale
    bias = torch.zeros(batch, heads, queries, keys, dtype=q.dtype)
    allowed = torch.tensor(
        [
            [may_look(i, j, queries, keys, causal=causal, window=window, sinks=sinks) for j in range(keys)]
            for i in range(queries)
        ]
    )
    allowed = allowed.reshape(queries, keys).bool().expand(batch, heads, queries, keys)
    if mask is not None and mask.dtype == torch.bool:
        allowed = allowed & mask
    elif mask is not None:
        bias, allowed = bias + mask, allowed & (mask > -torch.inf)
    outputs, lses = [], []
    for b in range(batch):
        for h in range(heads):
            group = h // (heads // kv_heads)
            for i in range(queries):
                seen = allowed[b, h, i].nonzero().squeeze(-1)
                scores = k[b, group, seen] @ q[b, h, i] * scale + bias[b, h, i, seen]
                outputs.append(scores.softmax(0) @ v[b, group, seen])
                lses.append(scores.logsumexp(0))
    empty = q.new_zeros(0)
    return (
        (torch.stack(outputs) if outputs else empty).reshape(batch, heads, queries, v.shape[-1]),
        (torch.stack(lses) if lses else empty).reshape(batch, heads, queries),
    )


def options(name: str, queries: int, keys: int, batch: int = 2, heads: int = 4) -> dict[str, Any]:
    """The named set of options, with tensors of the right shape."""
    g = torch.Generator().manual_seed(1)
    lengths = torch.randint(0, keys + 1, (batch,), generator=g)
    padding = (torch.arange(keys) < lengths[:, None])[:, None, None, :]
    rough = torch.rand(batch, 1, queries, keys, generator=g) > 0.4
    bias = torch.randn(1, heads, queries, keys, generator=g, dtype=torch.float64)
    return {
        "full": {},
        "causal": {"causal": True},
        "window": {"window": 9},
        "causal window": {"causal": True, "window": 9},
        "own position": {"causal": True, "window": 1},
        "window sinks": {"window": 4, "sinks": 3},
        "causal window sinks": {"causal": True, "window": 3, "sinks": 2},
        "causal window sinks mask": {"causal": True, "window": 5, "sinks": 4, "mask": rough},
        "padding": {"mask": padding},
        "causal padding": {"causal": True, "mask": padding},
        "mask": {"mask": rough},
        "causal window mask": {"causal": True, "window": 20, "mask": rough},
        "bias": {"mask": bias},
        "bias window": {"mask": bias, "window": 30},
        "bias of -inf": {"mask": bias.masked_fill(~rough, -torch.inf)},
        "scale": {"scale": 0.7},
    }[name]


OPTIONS = (
    "full", "causal", "window", "causal window", "own position", "window sinks", "causal window sinks",
    "causal window sinks mask", "padding", "causal padding", "mask", "causal window mask", "bias", "bias window",
    "bias of -inf", "scale",
)  # fmt: skip


def gradients(output: Tensor, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Gradients of a random weighted sum of the output; an input it does not depend on gets zeros."""
    if not output.requires_grad:  # the oracle with no rows at all
        return tuple(torch.zeros_like(x) for x in inputs)
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    grads = torch.autograd.grad((output * weights.to(output.dtype)).sum(), inputs, allow_unused=True)
    return tuple(torch.zeros_like(x) if g is None else g for x, g in zip(inputs, grads))


def run(backend: str, q: Tensor, k: Tensor, v: Tensor, **kwargs: Any) -> tuple[Tensor, ...]:
    """Output and the gradients of q, k, v (and of a float mask that wants one)."""
    output = attention(q, k, v, backend=backend, enable_gqa=True, **kwargs)
    assert output.requires_grad, f"{backend} cut the graph"
    mask = kwargs.get("mask")
    return output, *gradients(output, (q, k, v, mask) if mask is not None and mask.requires_grad else (q, k, v))
