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

__all__ = ["all_visible", "allowed_mask", "causal_mask", "key_ranges", "padding_mask", "visible", "window_mask"]


def visible(
    query_positions: Int[Tensor, " queries"],
    key_positions: Int[Tensor, " keys"],
    causal: bool,
    window: int | None,
    sinks: int = 0,
) -> Bool[Tensor, "queries keys"]:
    """The rule of positions: nearer than ``window``, or among the first ``sinks`` keys; when ``causal``, not later.

    Source of the sinks: StreamingLLM (Xiao et al. 2023, arXiv:2309.17453, section 3.2), which keeps the first four.
    """
    i, j = query_positions[:, None], key_positions[None, :]
    allowed = torch.ones(len(i), j.shape[1], dtype=torch.bool, device=i.device)
    if window is not None:
        allowed &= ((j > i - window) & (j < i + window)) | (j < sinks)
    if causal:
        allowed &= j <= i
    return allowed


def key_ranges(
    first: int, last: int, keys: int, *, causal: bool, window: int | None, sinks: int = 0
) -> list[tuple[int, int]]:
    """``(start, stop)`` of the keys that some query at positions ``first`` .. ``last`` may see: the sinks, the band.

    One range where the two touch, none where nothing is seen.
    """
    end = max(0, min(keys, last + 1 if causal else keys))  # causal: nothing behind the last query
    if window is None:
        ranges = [(0, end)]
    else:
        start, stop, sinks = max(0, first - window + 1), min(end, last + window), min(sinks, end)
        ranges = [(0, max(sinks, stop))] if start <= sinks else [(0, sinks), (start, stop)]
    return [(start, stop) for start, stop in ranges if start < stop]


def all_visible(first: int, last: int, keys: slice, *, causal: bool, window: int | None, sinks: int = 0) -> bool:
    """Whether all queries at positions ``first`` .. ``last`` may see all of ``keys``, so that no mask is needed."""
    if causal and keys.stop - 1 > first:
        return False
    start = max(keys.start, sinks)  # the sinks need no window
    return window is None or start >= keys.stop or (last - start < window and keys.stop - 1 - first < window)


def _band(
    queries: int, keys: int, *, causal: bool, window: int | None, sinks: int, device: torch.device | str | None
) -> Tensor:
    query_positions = torch.arange(queries, device=device) + (keys - queries)
    return visible(query_positions, torch.arange(keys, device=device), causal, window, sinks)


def causal_mask(queries: int, keys: int, device: torch.device | str | None = None) -> Bool[Tensor, "queries keys"]:
    """A query sees the keys up to its own position (bottom-right aligned)."""
    return _band(queries, keys, causal=True, window=None, sinks=0, device=device)


def window_mask(
    queries: int,
    keys: int,
    window: int,
    causal: bool = False,
    *,
    sinks: int = 0,
    device: torch.device | str | None = None,
) -> Bool[Tensor, "queries keys"]:
    """A query sees its last ``window`` keys, itself included, when ``causal``; else all keys with |i - j| < window.

    The first ``sinks`` keys stay in sight of all of them.

    Sources: Mistral 7B (Jiang et al. 2023, arXiv:2310.06825, section 2) for the causal one; Longformer (Beltagy et al.
    2020, arXiv:2004.05150, section 3.1) for the other, where w counts both sides together.
    """
    return _band(queries, keys, causal=causal, window=window, sinks=sinks, device=device)


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
    sinks: int = 0,
    mask: Tensor | None = None,
    device: torch.device | str | None = None,
) -> Bool[Tensor, "*broadcastable"] | None:
    """Causal, window and a boolean ``mask`` joined by "and"; None when every key is allowed.

    A float ``mask`` is a bias on the scores, not a rule: it is left out here and added by the caller.
    """
    allowed = mask if mask is not None and mask.dtype == torch.bool else None
    if causal or window is not None:
        band = _band(queries, keys, causal=causal, window=window, sinks=sinks, device=device)
        allowed = band if allowed is None else allowed & band
    return allowed
