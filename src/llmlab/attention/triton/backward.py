"""The backward kernels: the second half of ``tiled``'s docstring, cut into three kernels that share no output.

With p_ij = exp(s_ij - lse_i), the incoming do_i and dlse_i, and s_ij = scale q_i . k_j:

    delta_i = do_i . o_i - dlse_i                      one number a row: ``delta_kernel``
    ds_ij   = p_ij (do_i . v_j - delta_i)              from dp_ij = do_i . v_j and the softmax's Jacobian
    dq_i    = scale sum_j ds_ij k_j                    a sum along a row of the table: ``dq_kernel`` walks the keys
    dv_j    = sum_i p_ij do_i                          sums down a column: ``dkdv_kernel`` walks the queries,
    dk_j    = scale sum_i ds_ij q_i                    and with shared key heads the query heads of the group

``tiled`` adds every tile to dq, dk and dv at once. On a GPU the tiles run side by side, and either dq or dk and dv
would have to be added to by many programs. Floating-point addition in no fixed order is a result that changes from run
to run. So the table is computed twice, once along each side, and each output is written once, by one program.

Only lse is kept of the softmax. A row without keys has lse = -inf; +inf in its place makes every p = 0 instead of NaN.
The same trick serves rows below the last query: their lse is loaded as +inf, and they need no mask.

Sources: FlashAttention, Dao et al. 2022, arXiv:2205.14135, appendix B.2 and algorithm 4 (delta, and that p comes back
from lse); FlashAttention-2, Dao 2023, arXiv:2307.08691, section 3.1 (of a row only lse is kept).
"""

from __future__ import annotations

import triton
import triton.language as tl

from llmlab.attention.triton.tiles import (
    LOG2E,
    key_walk,
    load_tile,
    matrix,
    query_walk,
    real_keys,
    sequence,
    store_tile,
    tile_at,
    visible,
)

__all__ = ["delta_kernel", "dkdv_kernel", "dq_kernel"]


@triton.jit(do_not_specialize=["queries"])
def delta_kernel(
    output, d_output, d_lse, delta, cu_queries, output_strides, d_output_strides, d_lse_strides, delta_strides,
    queries, D_VALUE: tl.constexpr, TILE_DV: tl.constexpr, TILE_Q: tl.constexpr,
):  # fmt: skip
    i_first = tl.program_id(0) * TILE_Q
    head, batch = tl.program_id(1), tl.program_id(2).to(tl.int64)
    start_q, queries = sequence(cu_queries, batch, queries)
    i = i_first + tl.arange(0, TILE_Q)
    output = matrix(output, output_strides, batch, head, start_q)
    d_output = matrix(d_output, d_output_strides, batch, head, start_q)
    o_rows = load_tile(output, output_strides, i_first, queries, D_VALUE, TILE_Q, TILE_DV).to(tl.float32)
    do_rows = load_tile(d_output, d_output_strides, i_first, queries, D_VALUE, TILE_Q, TILE_DV).to(tl.float32)
    row_delta = tl.sum(o_rows * do_rows, 1)
    if d_lse is not None:
        d_lse = matrix(d_lse, d_lse_strides, batch, head, start_q)
        row_delta -= tl.load(d_lse + i * d_lse_strides[2], mask=i < queries, other=0.0)
    tl.store(matrix(delta, delta_strides, batch, head, start_q) + i * delta_strides[2], row_delta, mask=i < queries)


@triton.jit
def load_rows(x, strides, i, queries, other: tl.constexpr):
    """One number a query."""
    return tl.load(x + i * strides[2], mask=i < queries, other=other)


@triton.jit
def load_lse(lse, strides, i, queries):
    """lse in base 2, +inf for rows that see no key or do not exist."""
    row_lse = load_rows(lse, strides, i, queries, float("inf"))
    return tl.where(row_lse == -float("inf"), float("inf"), row_lse) * LOG2E


@triton.jit(do_not_specialize=["queries", "keys", "group", "window", "sinks"])
def dq_kernel(
    q, k, v, d_output, lse, delta, dq, mask, cu_queries, cu_keys,
    q_strides, k_strides, v_strides, d_output_strides, lse_strides, dq_strides, mask_strides,
    queries, keys, group, window, sinks, scale,
    CAUSAL: tl.constexpr, D: tl.constexpr, D_VALUE: tl.constexpr,
    TILE_D: tl.constexpr, TILE_DV: tl.constexpr, TILE_Q: tl.constexpr, TILE_K: tl.constexpr,
):  # fmt: skip
    tile_q = tl.program_id(0)
    if CAUSAL:
        tile_q = tl.num_programs(0) - 1 - tile_q
    head, batch = tl.program_id(1), tl.program_id(2).to(tl.int64)
    start_q, queries = sequence(cu_queries, batch, queries)
    start_k, keys = sequence(cu_keys, batch, keys)
    i_first = tile_q * TILE_Q
    if i_first >= queries:
        return
    k = matrix(k, k_strides, batch, head // group, start_k)
    v = matrix(v, v_strides, batch, head // group, start_k)

    i = i_first + tl.arange(0, TILE_Q)
    offset = keys - queries
    last = tl.minimum(i_first + TILE_Q, queries) - 1
    walk = key_walk(i_first + offset, last + offset, keys, window, sinks, mask is not None, TILE_K, CAUSAL)
    q_rows = load_tile(matrix(q, q_strides, batch, head, start_q), q_strides, i_first, queries, D, TILE_Q, TILE_D)
    d_output = matrix(d_output, d_output_strides, batch, head, start_q)
    do_rows = load_tile(d_output, d_output_strides, i_first, queries, D_VALUE, TILE_Q, TILE_DV)
    lse_rows = load_lse(matrix(lse, lse_strides, batch, head, start_q), lse_strides, i, queries)
    delta_rows = load_rows(matrix(delta, lse_strides, batch, head, start_q), lse_strides, i, queries, 0.0)
    dq_rows = tl.zeros([TILE_Q, TILE_D], tl.float32)
    for edges in tl.static_range(2):
        if edges or mask is None:
            for n in range(walk[edges]):
                j_first = tile_at(walk, n, edges) * TILE_K
                k_tile = load_tile(k, k_strides, j_first, keys, D, TILE_K, TILE_D)
                v_tile = load_tile(v, v_strides, j_first, keys, D_VALUE, TILE_K, TILE_DV)
                scores = tl.dot(q_rows, tl.trans(k_tile), input_precision="ieee") * (scale * LOG2E)
                if edges:
                    j = j_first + tl.arange(0, TILE_K)
                    allowed = visible((i + offset)[:, None], j[None, :], window, sinks, CAUSAL)
                    allowed = allowed & real_keys(mask, mask_strides, batch, j, keys)[None, :]
                    scores = tl.where(allowed, scores, -float("inf"))
                weights = tl.exp2(scores - lse_rows[:, None])
                d_weights = tl.dot(do_rows, tl.trans(v_tile), input_precision="ieee")
                d_scores = weights * (d_weights - delta_rows[:, None])
                dq_rows = tl.dot(d_scores.to(k_tile.dtype), k_tile, dq_rows, input_precision="ieee")

    dq = matrix(dq, dq_strides, batch, head, start_q)
    store_tile(dq, dq_strides, i_first, queries, dq_rows * scale, D, TILE_Q, TILE_D)


@triton.jit(do_not_specialize=["queries", "keys", "group", "window", "sinks"])
def dkdv_kernel(
    q, k, v, d_output, lse, delta, dk, dv, mask, cu_queries, cu_keys,
    q_strides, k_strides, v_strides, d_output_strides, lse_strides, dk_strides, dv_strides, mask_strides,
    queries, keys, group, window, sinks, scale,
    CAUSAL: tl.constexpr, D: tl.constexpr, D_VALUE: tl.constexpr,
    TILE_D: tl.constexpr, TILE_DV: tl.constexpr, TILE_Q: tl.constexpr, TILE_K: tl.constexpr,
):  # fmt: skip
    kv_head, batch = tl.program_id(1), tl.program_id(2).to(tl.int64)
    start_q, queries = sequence(cu_queries, batch, queries)
    start_k, keys = sequence(cu_keys, batch, keys)
    j_first = tl.program_id(0) * TILE_K
    if j_first >= keys:
        return
    k = matrix(k, k_strides, batch, kv_head, start_k)
    v = matrix(v, v_strides, batch, kv_head, start_k)

    j = j_first + tl.arange(0, TILE_K)
    offset = keys - queries
    last = tl.minimum(j_first + TILE_K, keys) - 1
    walk = query_walk(
        j_first - offset, last - offset, queries, window, sinks - offset, mask is not None, TILE_Q, CAUSAL
    )
    real = real_keys(mask, mask_strides, batch, j, keys)
    k_tile = load_tile(k, k_strides, j_first, keys, D, TILE_K, TILE_D)
    v_tile = load_tile(v, v_strides, j_first, keys, D_VALUE, TILE_K, TILE_DV)
    dk_tile = tl.zeros([TILE_K, TILE_D], tl.float32)
    dv_tile = tl.zeros([TILE_K, TILE_DV], tl.float32)
    for edges in tl.static_range(2):
        if edges or mask is None:
            for n in range(group * walk[edges]):  # heads of the group x tiles, in one loop: two nested ones spill
                head = kv_head * group + n // walk[edges]
                i_first = tile_at(walk, n % walk[edges], edges) * TILE_Q
                i = i_first + tl.arange(0, TILE_Q)
                q_head = matrix(q, q_strides, batch, head, start_q)
                do_head = matrix(d_output, d_output_strides, batch, head, start_q)
                q_rows = load_tile(q_head, q_strides, i_first, queries, D, TILE_Q, TILE_D)
                do_rows = load_tile(do_head, d_output_strides, i_first, queries, D_VALUE, TILE_Q, TILE_DV)
                # The table transposed, (keys, queries): then weights and d_scores stand as the products below want.
                scores = tl.dot(k_tile, tl.trans(q_rows), input_precision="ieee") * (scale * LOG2E)
                if edges:
                    allowed = visible((i + offset)[None, :], j[:, None], window, sinks, CAUSAL)
                    scores = tl.where(allowed & real[:, None], scores, -float("inf"))
                lse_rows = load_lse(matrix(lse, lse_strides, batch, head, start_q), lse_strides, i, queries)
                weights = tl.exp2(scores - lse_rows[None, :])
                dv_tile = tl.dot(weights.to(do_rows.dtype), do_rows, dv_tile, input_precision="ieee")
                d_weights = tl.dot(v_tile, tl.trans(do_rows), input_precision="ieee")
                delta_rows = load_rows(matrix(delta, lse_strides, batch, head, start_q), lse_strides, i, queries, 0.0)
                d_scores = weights * (d_weights - delta_rows[None, :])
                dk_tile = tl.dot(d_scores.to(q_rows.dtype), q_rows, dk_tile, input_precision="ieee")

    dk = matrix(dk, dk_strides, batch, kv_head, start_k)
    dv = matrix(dv, dv_strides, batch, kv_head, start_k)
    store_tile(dk, dk_strides, j_first, keys, dk_tile * scale, D, TILE_K, TILE_D)
    store_tile(dv, dv_strides, j_first, keys, dv_tile, D_VALUE, TILE_K, TILE_DV)
