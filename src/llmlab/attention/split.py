"""Attention over keys cut into parts: each part on its own, then one merge. What decoding over a long cache rests on.

One query reads the whole cache, so a decoder's step has little to spread over a GPU: batch x key heads programs, and
each walks alone along all keys. Cutting the keys into parts gives parts times as many programs. Part s returns its own
output o_s and lse_s, the logarithm of its sum of exp(scores). The whole sum is exp(lse) = sum_s exp(lse_s), so part s
stands for the share exp(lse_s - lse) of all weight, and

    output = sum_s exp(lse_s - lse) o_s

without looking at a key again. The same holds for any two sets of keys: a shared prefix and a suffix, or two machines.

Sources: Dao, Haziza, Massa, Sizov 2023, "Flash-Decoding for long-context inference" (the split); Milakov and Gimelshein
2018, arXiv:1805.02867 (the sums that merge).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from llmlab.attention.tiled import tiled_attention

__all__ = ["merge", "split_attention"]


def merge(
    outputs: Float[Tensor, "splits *rows d"], lses: Float[Tensor, " splits *rows"]
) -> tuple[Float[Tensor, "*rows d"], Float[Tensor, "*rows"]]:
    """One attention from the attentions over disjoint parts of the keys: the output and the log-sum-exp.

    Computed and returned in the dtype of ``lses``, float32 or better. A part without keys (lse = -inf) has no share; a
    row with keys in no part gives zeros and -inf. Time O(splits rows d).

    Raises:
        ValueError: the shapes do not belong together, or there is no part.
    """
    if outputs.ndim < 2 or outputs.shape[:-1] != lses.shape or len(lses) == 0:
        raise ValueError(
            f"outputs {tuple(outputs.shape)}, lses {tuple(lses.shape)}: expected (splits, ..., d) and (splits, ...) "
            "with one or more splits"
        )
    # From the maximum, not from lse: where lse is large, its last digit would be an error of every share.
    top = lses.amax(0).clamp(min=torch.finfo(lses.dtype).min)  # -inf - -inf would be NaN
    share = torch.exp(lses - top)
    total = share.sum(0)
    empty = total == 0
    total = total.masked_fill(empty, 1)
    output = (share[..., None] * outputs).sum(0) / total[..., None]
    return output, (top + total.log()).masked_fill(empty, -torch.inf)


def split_attention(
    q: Float[Tensor, "batch heads queries d"],
    k: Float[Tensor, "batch kv_heads keys d"],
    v: Float[Tensor, "batch kv_heads keys d_value"],
    splits: int,
    *,
    scale: float | None = None,
) -> tuple[Float[Tensor, "batch heads queries d_value"], Float[Tensor, "batch heads queries"]]:
    """Causal attention, bottom-right, with the keys in ``splits`` parts: the decoding kernel in plain torch.

    Returns output and log-sum-exp. The parts are worked off one after the other here; on a GPU all at once.

    Raises:
        ValueError: ``splits`` is below 1.
    """
    if splits < 1:
        raise ValueError(f"splits={splits}: expected 1 or more parts of the keys")
    queries, keys = q.shape[2], k.shape[2]
    size = max(1, -(-keys // splits))
    position = torch.arange(queries, device=q.device)[:, None] + (keys - queries)
    outputs, lses = [], []
    for start in range(0, max(keys, 1), size):
        part = slice(start, start + size)
        allowed = torch.arange(keys, device=q.device)[None, part] <= position
        output, lse = tiled_attention(q, k[:, :, part], v[:, :, part], mask=allowed, scale=scale)
        outputs.append(output)
        lses.append(lse)
    output, lse = merge(torch.stack(outputs), torch.stack(lses))
    return output.to(q.dtype), lse
