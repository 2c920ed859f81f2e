"""Who may look at whom: causal, window and padding masks, all boolean with True = "may look" (as in torch's SDPA).

Positions are aligned at the bottom right: of ``queries`` queries over ``keys`` keys, query ``i`` stands at key position
``i + keys - queries``, so that the last query always sees the last key. That is what a decoder with a cache needs: the
new tokens are the last ones. torch's ``is_causal=True`` aligns at the top left; the two agree only when the counts do.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

__all__ = ["all_visible", "allowed_mask", "causal_mask", "key_range", "padding_mask", "visible", "window_mask"]


def visible(
    query_positions: Int[Tensor, " queries"], key_positions: Int[Tensor, " keys"], causal: bool, window: int | None
) -> Bool[Tensor, "queries keys"]:
    """The band rule, for any set of positions: at or before the query when ``causal``, and nearer than ``window``."""
    i, j = query_positions[:, None], key_positions[None, :]
    allowed = torch.ones(len(i), j.shape[1], dtype=torch.bool, device=i.device)
    if causal:
        allowed &= j <= i
    if window is not None:
        allowed &= j > i - window
        if not causal:
            allowed &= j < i + window
    return allowed


def key_range(first: int, last: int, keys: int, *, causal: bool, window: int | None) -> tuple[int, int]:
    """``(start, stop)`` of the keys that some query at positions ``first`` .. ``last`` may see."""
    start = 0 if window is None else first - window + 1
    stop = keys
    if causal:
        stop = last + 1
    elif window is not None:
        stop = last + window
    start = min(max(start, 0), keys)
    return start, max(start, min(stop, keys))


def all_visible(first: int, last: int, keys: slice, *, causal: bool, window: int | None) -> bool:
    """Whether all queries at positions ``first`` .. ``last`` may see all of ``keys``, so that no mask is needed."""
    if causal and keys.stop - 1 > first:
        return False
    return window is None or (last - keys.start < window and keys.stop - 1 - first < window)


def _band(queries: int, keys: int, causal: bool, window: int | None, device: torch.device | str | None) -> Tensor:
    query_positions = torch.arange(queries, device=device) + (keys - queries)
    return visible(query_positions, torch.arange(keys, device=device), causal, window)


def causal_mask(queries: int, keys: int, device: torch.device | str | None = None) -> Bool[Tensor, "queries keys"]:
    """A query sees the keys up to its own position (bottom-right aligned)."""
    return _band(queries, keys, True, None, device)


def window_mask(
    queries: int, keys: int, window: int, causal: bool = False, device: torch.device | str | None = None
) -> Bool[Tensor, "queries keys"]:
    """A query sees its last ``window`` keys, itself included, when ``causal``; else all keys with |i - j| < window.

    Sources: Mistral 7B (Jiang et al. 2023, arXiv:2310.06825, section 2) for the causal one; Longformer (Beltagy et al.
    2020, arXiv:2004.05150, section 3.1) for the other, where w counts both sides together.
    """
    return _band(queries, keys, causal, window, device)


def padding_mask(
    lengths: Int[Tensor, " batch"], keys: int, side: Literal["right", "left"] = "right"
) -> Bool[Tensor, "batch 1 1 keys"]:
    """Hides the padding of each sequence: ``lengths`` real tokens, then padding (``side="left"``: padding first)."""
    if side not in ("right", "left"):
        raise ValueError(f"side={side!r}: expected 'right' or 'left', the side on which the padding stands")
    position = torch.arange(keys, device=lengths.device)[None, :]
    real = position < lengths[:, None] if side == "right" else position >= keys - lengths[:, None]
    return real[:, None, None, :]


def allowed_mask(
    queries: int,
    keys: int,
    *,
    causal: bool = False,
    window: int | None = None,
    mask: Tensor | None = None,
    device: torch.device | str | None = None,
) -> Bool[Tensor, "*broadcastable"] | None:
    """Causal, window and a boolean ``mask`` joined by "and"; None when every key is allowed.

    A float ``mask`` is a bias on the scores, not a rule: it is left out here and added by the caller.
    """
    allowed = mask if mask is not None and mask.dtype == torch.bool else None
    if causal or window is not None:
        band = _band(queries, keys, causal, window, device)
        allowed = band if allowed is None else allowed & band
    return allowed
