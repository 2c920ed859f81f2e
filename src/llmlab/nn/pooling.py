"""Pooling: from one vector a token to one vector a text."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["masked_mean"]


def masked_mean(states: Float[Tensor, "batch time d"], mask: Bool[Tensor, "batch time"]) -> Float[Tensor, "batch d"]:
    """The mean of the vectors of the real tokens; padding takes no part, neither in the sum nor in the count.

    Args:
        states: one vector a token.
        mask: True where a token is real.

    Returns:
        One vector a text. A text without any real token gives zeros (not NaN), so that an empty line in a batch
        cannot spoil the others.

    Raises:
        ValueError: the mask's shape is not that of ``states`` without its last axis, or it is not boolean. An integer
            mask is refused because ``~mask`` and indexing mean something else for it.

    Cost: O(batch · time · d). Source: Reimers and Gurevych, Sentence-BERT, 2019 (arXiv:1908.10084), section 3.
    """
    if mask.shape != states.shape[:2]:
        raise ValueError(f"mask has shape {tuple(mask.shape)}, expected {tuple(states.shape[:2])}: one entry a token")
    if mask.dtype != torch.bool:
        raise ValueError(f"mask is {mask.dtype}, expected torch.bool: write mask.bool()")
    kept = states.masked_fill(~mask[..., None], 0.0)  # fill, not multiply: NaN · 0 is NaN
    return kept.sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)
