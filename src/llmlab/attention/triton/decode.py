"""The decoding kernel: ``split.split_attention`` with all parts of the keys at once, and with keys in pages.

A step of decoding reads the whole cache and computes next to nothing, so it is as fast as memory is. Two things count.
The queries of a group of heads stand in one tile, as its rows, so that the keys they share are read once. And the keys
are cut into parts, so that there are programs for the whole GPU: ``decode_kernel`` leaves an output and a log-sum-exp a
part, and ``merge_kernel`` does what ``split.merge`` does.

Two inputs differ from ``forward``. ``lengths`` says how many keys each sequence has: the rest of k and v is never read.
With a ``table``, k and v are pools of blocks, and key j of sequence b stands in block table[b, j // PAGE].

Sources: Dao, Haziza, Massa, Sizov 2023, "Flash-Decoding for long-context inference"; PagedAttention, Kwon et al. 2023,
arXiv:2309.06180, section 4.1.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from llmlab.attention.triton import HEAD_SIZE, configs, unavailable
from llmlab.attention.triton.configs import Config
from llmlab.attention.triton.tiles import LN2, LOG2E, LOWEST, inside

__all__ = ["CONFIGS", "ROWS", "decode_attention", "decode_kernel", "merge_kernel", "refusal"]

ROWS = 32  # queries x heads of a group that stand in one tile
SPLITS = 64  # parts that one program merges
# Largest head size, bytes of an element -> a line for each architecture of ``configs``; tile_q is what the rows need.
CONFIGS: dict[tuple[int, int], tuple[Config, Config, Config]] = {
    (64, 2): (Config(ROWS, 64, 4, 3), Config(ROWS, 64, 4, 3), Config(ROWS, 64, 4, 3)),
    (128, 2): (Config(ROWS, 64, 4, 2), Config(ROWS, 64, 4, 2), Config(ROWS, 64, 4, 2)),
    (64, 4): (Config(ROWS, 32, 8, 2), Config(ROWS, 32, 8, 2), Config(ROWS, 32, 8, 2)),
    (128, 4): (Config(ROWS, 16, 8, 2), Config(ROWS, 16, 8, 2), Config(ROWS, 16, 8, 2)),
}


@triton.jit(do_not_specialize=["queries", "group", "part"])
def decode_kernel(
    q, k, v, lengths, table, outputs, lses,
    q_strides, k_strides, v_strides, table_strides, queries, group, part, scale,
    PAGE: tl.constexpr, D: tl.constexpr, D_VALUE: tl.constexpr,
    TILE_D: tl.constexpr, TILE_DV: tl.constexpr, TILE_Q: tl.constexpr, TILE_K: tl.constexpr,
):  # fmt: skip
    split, kv_head, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    keys = tl.load(lengths + batch)
    start = split * part
    stop = tl.minimum(start + part, keys)  # a short sequence has parts without keys: they store 0 and -inf

    r = tl.arange(0, TILE_Q)  # row r is query r % queries of the group's head r // queries
    head, i = kv_head * group + r // queries, r % queries
    d, dv = tl.arange(0, TILE_D), tl.arange(0, TILE_DV)
    rows = q + batch * q_strides[0] + head * q_strides[1] + i * q_strides[2]
    q_rows = tl.load(
        rows[:, None] + d[None, :] * q_strides[3], mask=inside(r, d, group * queries, D, TILE_D), other=0.0
    )
    position = keys - queries + i  # the queries are the last tokens
    row_max = tl.full([TILE_Q], LOWEST, tl.float32)
    row_sum = tl.zeros([TILE_Q], tl.float32)
    weighted = tl.zeros([TILE_Q, TILE_DV], tl.float32)
    for j_first in range(start, stop, TILE_K):
        j = j_first + tl.arange(0, TILE_K)
        if table is None:
            block, slot = batch, j
        else:
            entry = table + batch * table_strides[0] + (j // PAGE) * table_strides[1]
            block, slot = tl.load(entry, mask=j < stop, other=0).to(tl.int64), j % PAGE
        k_rows = k + block * k_strides[0] + kv_head * k_strides[1] + slot.to(tl.int64) * k_strides[2]
        k_tile = tl.load(k_rows[:, None] + d[None, :] * k_strides[3], mask=inside(j, d, stop, D, TILE_D), other=0.0)
        scores = tl.dot(q_rows, tl.trans(k_tile), input_precision="ieee") * (scale * LOG2E)
        scores = tl.where((j < stop)[None, :] & (j[None, :] <= position[:, None]), scores, -float("inf"))
        new_max = tl.maximum(row_max, tl.max(scores, 1))
        rescale = tl.exp2(row_max - new_max)
        weights = tl.exp2(scores - new_max[:, None])
        row_sum = row_sum * rescale + tl.sum(weights, 1)
        v_rows = v + block * v_strides[0] + kv_head * v_strides[1] + slot.to(tl.int64) * v_strides[2]
        v_tile = tl.load(
            v_rows[:, None] + dv[None, :] * v_strides[3], mask=inside(j, dv, stop, D_VALUE, TILE_DV), other=0.0
        )
        weighted = tl.dot(weights.to(v_tile.dtype), v_tile, weighted * rescale[:, None], input_precision="ieee")
        row_max = new_max

    empty = row_sum == 0
    row_sum = tl.where(empty, 1.0, row_sum)
    row_lse = tl.where(empty, -float("inf"), (row_max + tl.log2(row_sum)) * LN2)
    # (batch, heads, queries, splits, d_value) in memory: the parts of a row lie side by side for the merge.
    row = (batch * tl.num_programs(1) * group + head) * queries + i
    row = row * tl.num_programs(0) + split
    tl.store(lses + row, row_lse, mask=r < group * queries)
    tl.store(
        outputs + row[:, None] * D_VALUE + dv[None, :],
        weighted / row_sum[:, None],
        mask=inside(r, dv, group * queries, D_VALUE, TILE_DV),
    )


@triton.jit(do_not_specialize=["splits"])
def merge_kernel(
    outputs, lses, output, lse, output_strides, splits,
    D_VALUE: tl.constexpr, TILE_DV: tl.constexpr, TILE_S: tl.constexpr,
):  # fmt: skip
    """``split.merge`` for one row: query program_id(0) of head program_id(1)."""
    i, head, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    row = (batch * tl.num_programs(1) + head) * tl.num_programs(0) + i
    s, dv = tl.arange(0, TILE_S), tl.arange(0, TILE_DV)
    part_lse = tl.load(lses + row * splits + s, mask=s < splits, other=-float("inf"))
    part = outputs + (row * splits + s)[:, None] * D_VALUE + dv[None, :]
    part_output = tl.load(part, mask=inside(s, dv, splits, D_VALUE, TILE_DV), other=0.0)
    top = tl.maximum(tl.max(part_lse, 0), LOWEST)
    share = tl.exp2((part_lse - top) * LOG2E)
    total = tl.sum(share, 0)
    empty = total == 0
    total = tl.where(empty, 1.0, total)
    row_output = tl.sum(share[:, None] * part_output, 0) / total
    pointers = output + batch * output_strides[0] + head * output_strides[1] + i * output_strides[2]
    tl.store(pointers + dv * output_strides[3], row_output.to(output.dtype.element_ty), mask=dv < D_VALUE)
    tl.store(lse + row, tl.where(empty, -float("inf"), top + tl.log2(total) * LN2))


# TRITON_INTERPRET=1 is read when a kernel is defined.
INTERPRETED = not isinstance(decode_kernel, triton.JITFunction)


def refusal(q: Tensor, k: Tensor) -> str | None:
    """Why the kernel cannot take these queries over these keys (or this pool of keys), or None."""
    reason = unavailable(q)
    if reason is not None:
        return reason
    if q.dtype == torch.float64:
        return "the kernel computes in float32 and below, and q has float64"
    if q.requires_grad and torch.is_grad_enabled():
        return "the decoding kernel has no backward; decode under torch.no_grad()"
    if max(q.shape[3], k.shape[3]) > HEAD_SIZE:
        return f"the kernel holds a head of at most {HEAD_SIZE} numbers; d={q.shape[3]}"
    rows = q.shape[1] // k.shape[1] * q.shape[2]
    if rows > ROWS:
        return f"the kernel holds {ROWS} rows, and a group of heads has {rows} (heads x queries)"
    return None


def decode_attention(
    q: Float[Tensor, "batch heads queries d"],
    k: Float[Tensor, "batch_or_blocks kv_heads keys_or_page d"],
    v: Float[Tensor, "batch_or_blocks kv_heads keys_or_page d_value"],
    lengths: Int[Tensor, " batch"],
    table: Int[Tensor, "batch blocks"] | None = None,
    *,
    scale: float | None = None,
    splits: int | None = None,
) -> tuple[Float[Tensor, "batch heads queries d_value"], Float[Tensor, "batch heads queries"]]:
    """Causal attention of the last ``queries`` tokens of each sequence over its first ``lengths`` keys.

    Returns the output and the log-sum-exp in float32. Memory: (splits, d_value + 1) float32 numbers a row beside them.

    Args:
        lengths: keys of each sequence, its queries' own among them; no more than k has room for (not looked at on a
            GPU, which would have to be waited for).
        table: k and v are pools of blocks, and these are each sequence's blocks in order of time.
        splits: parts of the keys; None chooses as many as fill the device.

    Raises:
        ValueError, TypeError: the arguments do not fit together.
    """
    _check(q, k, v, lengths, table)
    room = k.shape[2] if table is None else k.shape[2] * table.shape[1]
    tile_k = _config(q, v).tile_k
    if splits is None:
        splits = _splits(q, k.shape[1], room, tile_k)
    part = triton.cdiv(triton.cdiv(max(room, 1), min(splits, SPLITS)), tile_k) * tile_k
    return decode_op(q, k, v, lengths, table, q.shape[3] ** -0.5 if scale is None else scale, room, part)


@torch.library.custom_op("llmlab::decode", mutates_args=())
def decode_op(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Tensor,
    table: Tensor | None,
    scale: float,
    room: int,
    part: int,
) -> tuple[Tensor, Tensor]:
    """Keys in parts of ``part`` out of ``room``, then the merge."""
    output, lse = _outputs(q, v)
    (batch, heads, queries, d), kv_heads, d_value = q.shape, k.shape[1], v.shape[3]
    splits = max(1, triton.cdiv(room, part))
    outputs = q.new_empty(batch, heads, queries, splits, d_value, dtype=torch.float32)
    lses = q.new_empty(batch, heads, queries, splits, dtype=torch.float32)
    tile_q, tile_dv = configs.padded(heads // kv_heads * queries), configs.padded(d_value)
    _, tile_k, warps, stages = _config(q, v)
    if output.numel():
        with torch.cuda.device(q.device if q.is_cuda else -1):
            decode_kernel[splits, kv_heads, batch](
                q, k, v, lengths, table, outputs, lses,
                q.stride(), k.stride(), v.stride(), (0, 1) if table is None else table.stride(),
                queries, heads // kv_heads, part, scale, PAGE=1 if table is None else k.shape[2], D=d, D_VALUE=d_value,
                TILE_D=configs.padded(d), TILE_DV=tile_dv, TILE_Q=tile_q, TILE_K=tile_k,
                num_warps=warps, num_stages=stages,
            )  # fmt: skip
            merge_kernel[queries, heads, batch](
                outputs, lses, output, lse, output.stride(), splits,
                D_VALUE=d_value, TILE_DV=tile_dv, TILE_S=triton.next_power_of_2(splits), num_warps=4,
            )  # fmt: skip
    return output, lse


@decode_op.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *rest: object) -> tuple[Tensor, Tensor]:
    return _outputs(q, v)


def _outputs(q: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """As ``ops`` lays them out: (batch, time, heads, d) in memory, so that joining the heads is a view."""
    batch, heads, queries, _ = q.shape
    output = q.new_empty(batch, queries, heads, v.shape[3]).transpose(1, 2)
    return output, q.new_empty(batch, heads, queries, dtype=torch.float32)


def _config(q: Tensor, v: Tensor) -> Config:
    if INTERPRETED:
        return Config(ROWS, 16)
    arch = configs.architecture(torch.cuda.get_device_capability(q.device))
    size = 64 if max(q.shape[3], v.shape[3]) <= 64 else 128
    return CONFIGS[size, q.element_size()][configs.ARCHITECTURES.index(arch)]


def _splits(q: Tensor, kv_heads: int, room: int, tile_k: int) -> int:
    """Two programs for every multiprocessor, but no part shorter than four tiles."""
    processors = torch.cuda.get_device_properties(q.device).multi_processor_count if q.is_cuda else 4
    wanted = triton.cdiv(2 * processors, max(1, len(q) * kv_heads))
    return max(1, min(wanted, triton.cdiv(room, 4 * tile_k), SPLITS))


def _check(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, table: Tensor | None) -> None:
    for name, x in (("q", q), ("k", k), ("v", v)):
        if x.ndim != 4 or x.dtype != q.dtype or x.device != q.device:
            raise ValueError(
                f"{name} has shape {tuple(x.shape)}, {x.dtype}, on {x.device}: expected 4 dimensions, with the dtype "
                f"and the device of q ({q.dtype}, {q.device})"
            )
    reason = refusal(q, k)
    if reason is not None:
        raise ValueError(f"the decoding kernel cannot do this: {reason}; attention(..., backend='auto') can")
    shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}"
    if k.shape[:3] != v.shape[:3] or q.shape[3] != k.shape[3] or q.shape[1] % k.shape[1] or v.shape[3] > HEAD_SIZE:
        raise ValueError(f"{shapes}: expected one value per key, equal d in q and k, and whole groups of heads")
    if table is None and len(k) != len(q):
        raise ValueError(f"{shapes}: the batch sizes differ; a pool of blocks needs its table")
    indices = {"lengths": lengths} if table is None else {"lengths": lengths, "table": table}
    for axes, (name, x) in enumerate(indices.items(), 1):
        if x.ndim != axes or len(x) != len(q) or x.dtype not in (torch.int32, torch.int64):
            raise ValueError(f"{name} has shape {tuple(x.shape)} and {x.dtype}: expected int32, one row a sequence")
        if x.device != q.device:
            raise ValueError(f"{name} is on {x.device} and q on {q.device}: expected one device")
    room = k.shape[2] if table is None else k.shape[2] * table.shape[1]
    if not q.is_cuda and len(lengths) and not 0 <= int(lengths.min()) <= int(lengths.max()) <= room:
        raise ValueError(f"lengths={lengths.tolist()}: k has room for {room} keys of a sequence")
