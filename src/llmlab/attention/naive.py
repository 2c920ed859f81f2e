"""Attention as its definition: the version to read first.

    Attention(Q, K, V) = softmax(scale Q K^T + mask) V

Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1, equation (1); the scale is 1 / sqrt(d).
It writes down the whole (queries x keys) table of scores, so its memory is quadratic in time. ``tiled`` takes the same
steps under the same names and never holds more than one tile of that table.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import dropout

from llmlab.attention.masks import allowed_mask

__all__ = ["naive_attention", "naive_scores", "softmax"]


def naive_attention(
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
) -> tuple[Float[Tensor, "batch heads queries d_value"], Float[Tensor, "batch heads queries"]]:
    """The output and the log-sum-exp of each row of scores. Time O(queries keys d), memory O(queries keys) per head."""
    scores = naive_scores(q, k, causal=causal, window=window, sinks=sinks, mask=mask, scale=scale)
    weights, lse = softmax(scores)
    weights = dropout(weights, dropout_p)
    v = v.repeat_interleave(q.shape[1] // v.shape[1], dim=1)
    output = weights @ v.to(weights.dtype)
    return output.to(q.dtype), lse


def naive_scores(
    q: Float[Tensor, "batch heads queries d"],
    k: Float[Tensor, "batch kv_heads keys d"],
    *,
    causal: bool = False,
    window: int | None = None,
    sinks: int = 0,
    mask: Tensor | None = None,
    scale: float | None = None,
) -> Float[Tensor, "batch heads queries keys"]:
    """Scaled, masked scores: a forbidden key scores -inf *before* the softmax, so that its weight is exactly 0."""
    queries, keys, d = q.shape[2], k.shape[2], q.shape[3]
    exact = torch.promote_types(q.dtype, torch.float32)  # half precision is summed in float32, as the fused kernels do
    k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)  # each key head serves a group of query heads
    scores = q.to(exact) @ k.to(exact).mT * (d**-0.5 if scale is None else scale)
    if mask is not None and mask.dtype != torch.bool:
        scores = scores + mask
    allowed = allowed_mask(queries, keys, causal=causal, window=window, sinks=sinks, mask=mask, device=q.device)
    return scores if allowed is None else scores.masked_fill(~allowed, -torch.inf)


def softmax(
    scores: Float[Tensor, "batch heads queries keys"],
) -> tuple[Float[Tensor, "batch heads queries keys"], Float[Tensor, "batch heads queries"]]:
    """Weights over the keys and their log-sum-exp; a row with no key allowed gives zeros and -inf, not NaN.

    Subtracting the row's maximum changes nothing in exact arithmetic and keeps exp from overflowing; it is detached
    because its gradient is zero.
    """
    if scores.shape[-1]:
        row_max = scores.detach().amax(-1, keepdim=True).clamp(min=torch.finfo(scores.dtype).min)  # -inf - -inf is NaN
    else:
        row_max = scores.new_zeros(*scores.shape[:-1], 1)
    weights = torch.exp(scores - row_max)
    row_sum = weights.sum(-1, keepdim=True)
    empty = row_sum == 0
    row_sum = row_sum.masked_fill(empty, 1)
    lse = (row_max + row_sum.log()).masked_fill(empty, -torch.inf)
    return weights / row_sum, lse.squeeze(-1)
