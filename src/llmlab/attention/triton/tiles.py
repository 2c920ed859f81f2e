"""What every kernel needs: where a sequence lies, which tiles it visits, who sees whom, one tile from memory and back.

A program of a kernel owns a tile of queries (or of keys) and walks along the other side of the table of scores. It
visits only tiles in which somebody sees something: first the whole ones, which need no mask, then those on the edges of
the band. The order is free, since the online softmax and the sums of the backward do not depend on it.
"""

from __future__ import annotations

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)  # the hardware has 2^x: exp(x) = 2^(x log2 e)
LN2 = tl.constexpr(0.6931471805599453)
# The lowest finite float32, where -inf would do but for -inf - -inf: see tiled.forward.
LOWEST = tl.constexpr(-3.4028234663852886e38)


@triton.jit
def sequence(cu_seqlens, batch, length):
    """First row and length of a sequence: of ``length`` rows, or, packed, from cu_seqlens[b] to cu_seqlens[b + 1]."""
    start = batch * 0
    if cu_seqlens is not None:
        start = tl.load(cu_seqlens + batch).to(tl.int64)
        length = (tl.load(cu_seqlens + batch + 1) - start).to(tl.int32)
    return start, length


@triton.jit
def matrix(x, strides, batch, head, start):
    """Pointer to the first row of one head of one sequence. 64 bits, since a batch may well exceed 2^31 elements."""
    return x + batch * strides[0] + tl.cast(head, tl.int64) * strides[1] + start * strides[2]


@triton.jit
def load_tile(x, strides, first, rows, D: tl.constexpr, TILE: tl.constexpr, TILE_D: tl.constexpr):
    """Rows ``first`` .. ``first + TILE`` of a (rows, D) matrix; 0 below its last row and right of its last column."""
    i, d = tl.arange(0, TILE), tl.arange(0, TILE_D)
    pointers = x + tl.cast(first, tl.int64) * strides[2] + i[:, None] * strides[2] + d[None, :] * strides[3]
    return tl.load(pointers, mask=inside(first + i, d, rows, D, TILE_D), other=0.0)


@triton.jit
def store_tile(x, strides, first, rows, tile, D: tl.constexpr, TILE: tl.constexpr, TILE_D: tl.constexpr):
    """The reverse of :func:`load_tile`, in the type of ``x``."""
    i, d = tl.arange(0, TILE), tl.arange(0, TILE_D)
    pointers = x + tl.cast(first, tl.int64) * strides[2] + i[:, None] * strides[2] + d[None, :] * strides[3]
    tl.store(pointers, tile.to(x.dtype.element_ty), mask=inside(first + i, d, rows, D, TILE_D))


@triton.jit
def inside(i, d, rows, D: tl.constexpr, TILE_D: tl.constexpr):
    """Which elements of a tile exist. Triton's tiles are powers of two; a head of 80 is a tile of 128 with a mask."""
    exists = (i < rows)[:, None]
    if D != TILE_D:
        exists = exists & (d < D)[None, :]
    return exists


@triton.jit
def real_keys(mask, mask_strides, batch, j, keys):
    """Which of the keys ``j`` exist and are not padding."""
    real = j < keys
    if mask is not None:
        real = real & (tl.load(mask + batch * mask_strides[0] + j * mask_strides[1], mask=real, other=0) != 0)
    return real


@triton.jit
def visible(i, j, window, sinks, CAUSAL: tl.constexpr):
    """``masks.visible`` for positions that broadcast: (rows, 1) with (1, columns), or the table transposed."""
    allowed = (i >= j) | (not CAUSAL)
    if window is not None:
        near = j > i - window
        if not CAUSAL:
            near = near & (j < i + window)
        allowed = allowed & (near | (j < sinks))
    return allowed


@triton.jit
def key_walk(first, last, keys, window, sinks, padded: tl.constexpr, TILE: tl.constexpr, CAUSAL: tl.constexpr):
    """The tiles of keys for queries at positions ``first`` .. ``last``: ``masks.key_ranges``."""
    start, stop, sink_tiles = 0, keys, 0
    if CAUSAL:
        stop = tl.maximum(tl.minimum(last + 1, keys), 0)
    if window is not None:
        sink_tiles = tl.cdiv(tl.minimum(sinks, stop), TILE)
        start = tl.maximum(first - window + 1, 0)
        if not CAUSAL:
            stop = tl.maximum(tl.minimum(last + window, keys), 0)
    band = tl.maximum(start // TILE, sink_tiles)  # where the tiles continue after the sinks
    # Tiles in which all these queries see all keys. The last one, if ragged, is not among them.
    whole_start, whole_stop = band, keys // TILE
    if CAUSAL:
        whole_stop = tl.minimum(whole_stop, tl.maximum(first + 1, 0) // TILE)
    if window is not None:
        whole_start = tl.cdiv(tl.maximum(last - window + 1, 0), TILE)
        if not CAUSAL:
            whole_stop = tl.minimum(whole_stop, tl.maximum(first + window, 0) // TILE)
    return walk(sink_tiles, band, whole_start, whole_stop, tl.cdiv(stop, TILE), padded)


@triton.jit
def query_walk(first, last, queries, window, sinks, padded: tl.constexpr, TILE: tl.constexpr, CAUSAL: tl.constexpr):
    """The tiles of queries for keys ``first`` .. ``last``, both counted from the first query: the same band transposed.

    ``sinks`` is counted from there as well. Queries below the last need no mask: their lse is +inf.
    """
    start, stop = 0, queries
    whole_start, whole_stop = 0, tl.cdiv(queries, TILE)
    if CAUSAL:
        start = tl.maximum(first, 0)
        whole_start = tl.cdiv(tl.maximum(last, 0), TILE)
    if window is not None:
        # A tile with a sink is seen by queries behind the window too.
        stop = tl.where(first < sinks, queries, tl.maximum(tl.minimum(last + window, queries), 0))
        whole_stop = tl.minimum(whole_stop, tl.maximum(first + window, 0) // TILE)
        if not CAUSAL:
            start = tl.where(first < sinks, 0, tl.maximum(first - window + 1, 0))
            whole_start = tl.cdiv(tl.maximum(last - window + 1, 0), TILE)
    return walk(0, start // TILE, whole_start, whole_stop, tl.cdiv(stop, TILE), padded)


@triton.jit
def walk(sink_tiles, band, whole_start, whole_stop, stop, padded: tl.constexpr):
    """(number of whole tiles, number on the edges, place of the first whole one, sink tiles, tiles skipped after them).

    The tiles to visit are 0 .. ``sink_tiles`` and ``band`` .. ``stop``; those from ``whole_start`` to ``whole_stop``
    need no mask. Padding may lie anywhere: then none is taken for whole.
    """
    stop = tl.maximum(stop, band)
    if padded:
        whole_start, whole_stop = stop, stop
    whole_start = tl.minimum(tl.maximum(whole_start, band), stop)
    whole = tl.minimum(tl.maximum(whole_stop, whole_start), stop) - whole_start
    skipped = band - sink_tiles
    return whole, stop - skipped - whole, whole_start - skipped, sink_tiles, skipped


@triton.jit
def tile_at(walk, n, edges: tl.constexpr):
    """The n-th whole tile, or the n-th of those on the edges: sinks, near edge, far edge."""
    whole, _, lead, sink_tiles, skipped = walk
    n = tl.where(n < lead, n, n + whole) if edges else n + lead
    return tl.where(n < sink_tiles, n, n + skipped)
