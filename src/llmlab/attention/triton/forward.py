"""The forward kernel: ``tiled.forward`` for one tile of queries, so read that first.

A program holds a tile of queries and walks along the keys with ``row_max``, ``row_sum`` and ``weighted``. It differs
from ``tiled`` in three things. Scores are kept in base 2 (the scale carries log2 e), as the hardware has 2^x. Query
heads of a group are programs of their own that read the same key head. And the mask is computed only on the edges.

Sources: FlashAttention-2, Dao 2023, arXiv:2307.08691, algorithm 1; Tillet, Kung and Cox 2019, MAPL, for Triton.
"""

from __future__ import annotations

import triton
import triton.language as tl

from llmlab.attention.triton.tiles import (
    LN2,
    LOG2E,
    LOWEST,
    key_walk,
    load_tile,
    matrix,
    real_keys,
    sequence,
    store_tile,
    tile_at,
    visible,
)

__all__ = ["forward_kernel"]


@triton.jit(do_not_specialize=["queries", "keys", "group", "window", "sinks"])
def forward_kernel(
    q, k, v, output, lse, mask, cu_queries, cu_keys,
    q_strides, k_strides, v_strides, output_strides, lse_strides, mask_strides,
    queries, keys, group, window, sinks, scale,
    CAUSAL: tl.constexpr, D: tl.constexpr, D_VALUE: tl.constexpr,
    TILE_D: tl.constexpr, TILE_DV: tl.constexpr, TILE_Q: tl.constexpr, TILE_K: tl.constexpr,
):  # fmt: skip
    tile_q = tl.program_id(0)
    if CAUSAL:
        tile_q = tl.num_programs(0) - 1 - tile_q  # the longest rows first: none is left to run alone at the end
    head, batch = tl.program_id(1), tl.program_id(2).to(tl.int64)
    start_q, queries = sequence(cu_queries, batch, queries)
    start_k, keys = sequence(cu_keys, batch, keys)
    i_first = tile_q * TILE_Q
    if i_first >= queries:  # packed sequences are shorter than the longest, for which the grid was made
        return
    k = matrix(k, k_strides, batch, head // group, start_k)
    v = matrix(v, v_strides, batch, head // group, start_k)

    i = i_first + tl.arange(0, TILE_Q)
    offset = keys - queries  # bottom-right: query i stands at key position i + offset
    last = tl.minimum(i_first + TILE_Q, queries) - 1
    walk = key_walk(i_first + offset, last + offset, keys, window, sinks, mask is not None, TILE_K, CAUSAL)
    q_rows = load_tile(matrix(q, q_strides, batch, head, start_q), q_strides, i_first, queries, D, TILE_Q, TILE_D)
    row_max = tl.full([TILE_Q], LOWEST, tl.float32)
    row_sum = tl.zeros([TILE_Q], tl.float32)
    weighted = tl.zeros([TILE_Q, TILE_DV], tl.float32)
    for edges in tl.static_range(2):
        if edges or mask is None:  # with padding no tile is whole
            for n in range(walk[edges]):
                j_first = tile_at(walk, n, edges) * TILE_K
                k_tile = load_tile(k, k_strides, j_first, keys, D, TILE_K, TILE_D)
                scores = tl.dot(q_rows, tl.trans(k_tile), input_precision="ieee") * (scale * LOG2E)
                if edges:
                    j = j_first + tl.arange(0, TILE_K)
                    allowed = visible((i + offset)[:, None], j[None, :], window, sinks, CAUSAL)
                    allowed = allowed & real_keys(mask, mask_strides, batch, j, keys)[None, :]
                    scores = tl.where(allowed, scores, -float("inf"))
                new_max = tl.maximum(row_max, tl.max(scores, 1))
                rescale = tl.exp2(row_max - new_max)
                weights = tl.exp2(scores - new_max[:, None])
                row_sum = row_sum * rescale + tl.sum(weights, 1)
                v_tile = load_tile(v, v_strides, j_first, keys, D_VALUE, TILE_K, TILE_DV)
                weighted = tl.dot(weights.to(v_tile.dtype), v_tile, weighted * rescale[:, None], input_precision="ieee")
                row_max = new_max

    empty = row_sum == 0
    row_sum = tl.where(empty, 1.0, row_sum)
    output = matrix(output, output_strides, batch, head, start_q)
    store_tile(output, output_strides, i_first, queries, weighted / row_sum[:, None], D_VALUE, TILE_Q, TILE_DV)
    row_lse = tl.where(empty, -float("inf"), (row_max + tl.log2(row_sum)) * LN2)
    tl.store(matrix(lse, lse_strides, batch, head, start_q) + i * lse_strides[2], row_lse, mask=i < queries)
