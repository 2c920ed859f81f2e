"""Self-attention of short texts by two products and a softmax: the table of scores is written, and not missed.

On a CPU torch's fused kernel pays for holding no table with products of its own that, in bfloat16, do not use the
processor's bfloat16 instructions; the two products here do. At 256 tokens, forward and backward together, they took a
third of the time. In float32 the two are level. ``llmlab bench train`` measures it.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from llmlab.attention import attention

__all__ = ["LONGEST", "short_attention"]

#: queries; beyond, the table of scores no longer fits a processor's own cache, and its memory grows with the square
LONGEST = 512


def short_attention(
    q: Float[Tensor, "batch heads queries d"],
    k: Float[Tensor, "batch kv_heads keys d"],
    v: Float[Tensor, "batch kv_heads keys d_value"],
    *,
    causal: bool = False,
    mask: Tensor | None = None,
    enable_gqa: bool = False,
    dropout_p: float = 0.0,
) -> Float[Tensor, "batch heads queries d_value"]:
    """As :func:`llmlab.attention.attention`, which is called for whatever is not plain: dropout, grouped heads, other
    keys than queries, more than :data:`LONGEST` of them, mixed dtypes, or a mask that is not one boolean row of keys a
    text, (batch, 1, 1, keys), or that leaves a text without any.

    In half precision the scores are rounded once, before the softmax, so that a score of 10 may be off by 0.03; the
    fused kernel keeps them in float32. Cost: O(queries² · (d + d_value)) a head, also where the rule is causal and half
    of the table is above the diagonal; memory O(queries²) a head.
    """
    batch, heads, queries, _ = q.shape
    alike = k.shape[:3] == q.shape[:3] == v.shape[:3] and q.dtype == k.dtype == v.dtype
    rows = mask is None or (mask.shape == (batch, 1, 1, queries) and mask.dtype == torch.bool)
    if not alike or not rows or dropout_p or queries > LONGEST or (mask is not None and not mask.any(-1).all()):
        return attention(q, k, v, causal=causal, mask=mask, enable_gqa=enable_gqa, dropout_p=dropout_p)
    # What is added to the scores, in the call that makes them: neither rule nor scale costs a pass over the table.
    bias = q.new_zeros(1, 1, 1)
    if causal:
        bias = q.new_full((queries, queries), -torch.inf).triu(1)
    if mask is not None:
        padding = q.new_zeros(mask.shape).masked_fill(~mask, -torch.inf)
        bias = (bias + padding).expand(-1, heads, -1, -1).flatten(0, 1)
    scores = torch.baddbmm(bias, q.flatten(0, 1), k.flatten(0, 1).mT, alpha=q.shape[-1] ** -0.5)
    return torch.bmm(scores.softmax(dim=-1).to(v.dtype), v.flatten(0, 1)).unflatten(0, (batch, heads))
