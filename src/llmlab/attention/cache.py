"""Caches of keys and values: what a decoder keeps so that a new token costs one row of attention, not all rows again.

Three ways to keep them, one interface. ``append(k, v)`` takes the new tokens' (batch, kv_heads, new, d); ``attend(q)``
gives the output of the queries of the tokens just appended; ``view()`` shows what is kept, and at which position.

- :class:`ContiguousCache` keeps everything in one tensor, which doubles when it is full.
- :class:`RollingCache` keeps the last ``window`` tokens and the first ``sinks``: memory does not grow with time.
- :class:`PagedCache` keeps everything in blocks of a shared pool: sequences of any length, freed and forked at will.

One cache serves one layer; a model keeps ``[ContiguousCache() for _ in layers]``. Caches are for inference: they write
in place, so keys that want a gradient are refused.

Positions. Keys are cached as attention sees them, that is already rotated where the model uses RoPE. A token keeps the
rotation of its absolute position after the rolling cache has dropped its neighbours (Mistral 7B does the same), so the
distance to a sink goes on growing, past what the model was trained on. StreamingLLM instead caches keys unrotated and
rotates by the place in the cache, so that no distance exceeds window + sinks. That computes something else: it does
not equal full attention under a mask, which is what the tests hold the rolling cache to.

Sources: Mistral 7B, Jiang et al. 2023, arXiv:2310.06825, section 2 (the rolling buffer). StreamingLLM, Xiao et al.
2023, arXiv:2309.17453, section 3.2 (sinks). PagedAttention, Kwon et al. 2023, arXiv:2309.06180, section 4 (blocks,
sharing, copy-on-write).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from llmlab.attention.masks import visible

__all__ = [
    "BlockAllocator",
    "Cache",
    "CacheView",
    "ContiguousCache",
    "OutOfBlocksError",
    "PagedCache",
    "RollingCache",
]


class CacheView(NamedTuple):
    """What a cache holds. Rows past a sequence's end, and slots not yet filled, are zero and stand at position -1."""

    k: Float[Tensor, "batch kv_heads keys d"]
    v: Float[Tensor, "batch kv_heads keys d_value"]
    positions: Int[Tensor, "batch keys"]


class Cache(Protocol):
    """What a decoder needs of a cache."""

    def append(self, k: Float[Tensor, "batch kv_heads new d"], v: Float[Tensor, "batch kv_heads new d_value"]) -> None:
        """Keep the new tokens' keys and values, in order of time."""

    def attend(
        self, q: Float[Tensor, "batch heads new d"], *, scale: float | None = None, backend: str = "auto"
    ) -> Float[Tensor, "batch heads new d_value"]:
        """Causal attention of the tokens just appended over everything kept."""

    def view(self) -> CacheView:
        """The keys and values kept, with their positions."""


class ContiguousCache:
    """All keys and values in one tensor. It doubles when it is full, so an append costs O(new d) on average.

    Args:
        capacity: tokens to make room for at the first append.
    """

    def __init__(self, capacity: int = 0) -> None:
        if capacity < 0:
            raise ValueError(f"capacity={capacity}: expected the number of tokens to make room for, 0 or more")
        self.length = 0
        self.capacity = capacity
        self._k: Tensor | None = None
        self._v: Tensor | None = None

    def append(self, k: Float[Tensor, "batch kv_heads new d"], v: Float[Tensor, "batch kv_heads new d_value"]) -> None:
        """Keep the new tokens. Raises ValueError or TypeError where they do not fit what is kept."""
        _check_new(k, v, self._k, self._v)
        end = self.length + k.shape[2]
        if self._k is None or self._v is None or end > self.capacity:
            self.capacity = max(end, self.capacity if self._k is None else 2 * self.capacity)
            self._k, self._v = (self._grown(old, new) for old, new in ((self._k, k), (self._v, v)))
        self._k[:, :, self.length : end] = k
        self._v[:, :, self.length : end] = v
        self.length = end

    def _grown(self, old: Tensor | None, new: Tensor) -> Tensor:
        grown = new.new_zeros(*new.shape[:2], self.capacity, new.shape[3])
        if old is not None:
            grown[:, :, : self.length] = old[:, :, : self.length]
        return grown

    def view(self) -> CacheView:
        k, v = _filled(self._k, self._v)
        positions = torch.arange(self.length, device=k.device).expand(len(k), -1)
        return CacheView(k[:, :, : self.length], v[:, :, : self.length], positions)

    def attend(
        self, q: Float[Tensor, "batch heads new d"], *, scale: float | None = None, backend: str = "auto"
    ) -> Float[Tensor, "batch heads new d_value"]:
        """Causal attention of the last ``new`` tokens over all. O(new length d) per head."""
        k, v, _ = self.view()
        _check_queries(q, self.length)
        if takes_kernel(q, k, backend):
            lengths = torch.full((len(q),), self.length, dtype=torch.int32, device=q.device)
            return _decode(q, k, v, lengths, scale)
        return _attention(q, k, v, causal=True, scale=scale, backend=backend)


class RollingCache:
    """The last ``window`` tokens (the own position included) and the first ``sinks`` tokens; all others are dropped.

    A ring: after the sinks, token p stands in slot sinks + (p - sinks) mod ring, where it overwrites token p - ring.
    The first of ``new`` tokens still looks window - 1 back when the last is already written, so ring = window - 1 +
    new; it is laid out anew when ``new`` changes. Memory O(window + sinks + new), whatever the length.

    The order of the slots is not the order of time. Attention does not mind: it is a sum over the keys.
    """

    def __init__(self, window: int, sinks: int = 0) -> None:
        if window < 1:
            raise ValueError(f"window={window}: expected 1 or more tokens (1 = only its own position)")
        if sinks < 0:
            raise ValueError(f"sinks={sinks}: expected the number of first tokens to keep, 0 or more")
        self.window, self.sinks = window, sinks
        self.length = 0  # tokens seen, not tokens kept
        self._new = self._ring = 0
        self._k: Tensor | None = None
        self._v: Tensor | None = None
        self._positions: Tensor | None = None

    def append(self, k: Float[Tensor, "batch kv_heads new d"], v: Float[Tensor, "batch kv_heads new d_value"]) -> None:
        """Keep the new tokens and drop what no coming query may see. Raises as :class:`ContiguousCache`."""
        _check_new(k, v, self._k, self._v)
        new = k.shape[2]
        if new == 0:
            return
        if self._positions is None or self._ring != self.window - 1 + new:
            self._lay_out(self.window - 1 + new, k, v)
        self._write(torch.arange(self.length, self.length + new, device=k.device), k, v)
        self.length, self._new = self.length + new, new

    def _lay_out(self, ring: int, k: Tensor, v: Tensor) -> None:
        """A ring of another size, with the tokens that the next query may see moved over."""
        old = self.view() if self._k is not None else None
        self._ring, slots = ring, self.sinks + ring
        self._k, self._v = (x.new_zeros(*x.shape[:2], slots, x.shape[3]) for x in (k, v))
        self._positions = torch.full((slots,), -1, device=k.device)
        if old is not None:
            positions = old.positions[0]
            kept = (positions < self.sinks) | (positions > self.length - self.window)
            self._write(positions[kept], old.k[:, :, kept], old.v[:, :, kept])

    def _write(self, positions: Tensor, k: Tensor, v: Tensor) -> None:
        assert self._k is not None and self._v is not None and self._positions is not None
        slots = torch.where(positions < self.sinks, positions, self.sinks + (positions - self.sinks) % self._ring)
        self._k[:, :, slots], self._v[:, :, slots], self._positions[slots] = k, v, positions

    def view(self) -> CacheView:
        """In the order of the slots. Until the ring is full they fill from the left."""
        k, v = _filled(self._k, self._v)
        assert self._positions is not None
        filled = min(self.length, k.shape[2])
        return CacheView(k[:, :, :filled], v[:, :, :filled], self._positions[:filled].expand(len(k), -1))

    def attend(
        self, q: Float[Tensor, "batch heads new d"], *, scale: float | None = None, backend: str = "auto"
    ) -> Float[Tensor, "batch heads new d_value"]:
        """Causal attention of the tokens just appended, within the window and to the sinks. O(new (window + new) d)."""
        k, v, positions = self.view()
        _check_queries(q, self.length)
        if q.shape[2] > self._new:
            raise ValueError(
                f"q has {q.shape[2]} queries, but {self._new} token(s) were appended last: a rolling cache has dropped "
                "the keys that earlier queries would need; call attend after each append"
            )
        if self._new == 1:  # the ring holds exactly what this one query may see: no mask
            if takes_kernel(q, k, backend):
                lengths = torch.full((len(q),), k.shape[2], dtype=torch.int32, device=q.device)
                return _decode(q, k, v, lengths, scale)
            return _attention(q, k, v, scale=scale, backend=backend)
        queries = torch.arange(self.length - q.shape[2], self.length, device=q.device)
        allowed = visible(queries, positions[0], True, self.window, self.sinks)
        return _attention(q, k, v, mask=allowed, scale=scale, backend=backend)


class OutOfBlocksError(RuntimeError):
    """The pool has fewer free blocks than an append needs; nothing was changed."""


class BlockAllocator:
    """Hands out the numbers 0 .. blocks - 1 and counts who holds each. O(1) for every call.

    A block is free or it has one or more references; it comes back to the free list when the last is released.
    """

    def __init__(self, blocks: int) -> None:
        if blocks < 1:
            raise ValueError(f"blocks={blocks}: expected 1 or more")
        self._references = [0] * blocks
        self._free = list(range(blocks - 1, -1, -1))  # a stack: the block freed last is still in the processor's cache

    @property
    def free(self) -> int:
        """How many blocks nobody holds."""
        return len(self._free)

    def references(self, block: int) -> int:
        """How many hold this block; 0 = it is free."""
        if not 0 <= block < len(self._references):
            raise ValueError(f"block {block} does not exist: expected 0 to {len(self._references) - 1}")
        return self._references[block]

    def allocate(self) -> int:
        """A free block, now with one reference. Raises OutOfBlocksError where there is none."""
        if not self._free:
            raise OutOfBlocksError(
                f"all {len(self._references)} blocks are in use; free a sequence or make a larger pool"
            )
        block = self._free.pop()
        self._references[block] = 1
        return block

    def share(self, block: int) -> None:
        """One reference more. Raises ValueError if the block is free: it may be anybody's next."""
        if self.references(block) == 0:
            raise ValueError(f"block {block} is free and cannot be shared: allocate it first")
        self._references[block] += 1

    def release(self, block: int) -> None:
        """One reference less; without any the block is free again. Raises ValueError if it was free already."""
        if self.references(block) == 0:
            raise ValueError(f"block {block} is free already: it was released twice")
        self._references[block] -= 1
        if self._references[block] == 0:
            self._free.append(block)


@dataclass
class _Sequence:
    blocks: list[int] = field(default_factory=list)  # in order of time; the last one may be partly filled
    length: int = 0


class PagedCache:
    """Keys and values in blocks of ``block_size`` tokens; every sequence has a list of the blocks that hold it.

    A sequence takes a block only when it needs one, so at most block_size - 1 slots a sequence stay empty, and a freed
    sequence's blocks serve the next. ``fork`` shares a prefix by counting references; whoever writes into a shared
    block first copies it.

    Args:
        blocks: blocks in the pool. block_size: tokens in a block. batch: sequences to begin with, numbered from 0.

    Where a method takes ``sequences``, None means all that are alive, in the order in which they were made. The lists
    of blocks are plain Python, and every layer has its own; a serving engine keeps one for all layers, on the device.
    """

    def __init__(self, blocks: int, block_size: int = 16, *, batch: int = 0) -> None:
        if block_size < 1:
            raise ValueError(f"block_size={block_size}: expected 1 or more tokens")
        self.allocator, self.blocks, self.block_size = BlockAllocator(blocks), blocks, block_size
        self._sequences: dict[int, _Sequence] = {}
        self._next = 0
        self._k: Tensor | None = None
        self._v: Tensor | None = None
        for _ in range(batch):
            self.add()

    def add(self) -> int:
        """A new, empty sequence; its number is never used again, not even after it was freed."""
        self._sequences[self._next] = _Sequence()
        self._next += 1
        return self._next - 1

    def fork(self, sequence: int, length: int | None = None) -> int:
        """A new sequence that begins with the first ``length`` tokens (None = all) of another one. Copies nothing."""
        parent = self._get(sequence)
        length = parent.length if length is None else length
        if not 0 <= length <= parent.length:
            raise ValueError(f"length={length}: sequence {sequence} has {parent.length} tokens; expected 0 to as many")
        child = self.add()
        blocks = parent.blocks[: -(-length // self.block_size)]
        for block in blocks:
            self.allocator.share(block)
        self._sequences[child] = _Sequence(blocks, length)
        return child

    def free(self, sequence: int) -> None:
        """Forget a sequence. Blocks that no other holds can be handed out again."""
        for block in self._get(sequence).blocks:
            self.allocator.release(block)
        del self._sequences[sequence]

    @property
    def sequences(self) -> list[int]:
        """The sequences alive, oldest first."""
        return list(self._sequences)

    def length(self, sequence: int) -> int:
        """Tokens kept of this sequence."""
        return self._get(sequence).length

    def append(
        self,
        k: Float[Tensor, "batch kv_heads new d"],
        v: Float[Tensor, "batch kv_heads new d_value"],
        sequences: Sequence[int] | None = None,
    ) -> None:
        """Keep ``new`` more tokens of each of ``sequences``, whatever their lengths so far.

        Raises:
            OutOfBlocksError: the pool is too full; then nothing was changed. ValueError, TypeError: wrong arguments.
        """
        _check_new(k, v, self._k, self._v, any_batch=True)
        rows = self._rows(sequences, len(k), "k")
        needed, new = self._needed(rows, k.shape[2]), k.shape[2]
        if needed > self.allocator.free:
            raise OutOfBlocksError(
                f"{len(rows)} sequence(s) with {new} new token(s) need {needed} block(s) and {self.allocator.free} of "
                f"{self.blocks} are free; free a sequence or make a larger pool"
            )
        if self._k is None or self._v is None:
            self._k, self._v = (x.new_zeros(self.blocks, x.shape[1], self.block_size, x.shape[3]) for x in (k, v))
        blocks, offsets = [], []
        for row in rows:
            self._make_room(row, new)
            positions = range(row.length, row.length + new)
            blocks.append([row.blocks[p // self.block_size] for p in positions])
            offsets.append([p % self.block_size for p in positions])
            row.length += new
        where = (torch.tensor(x, dtype=torch.long, device=k.device).view(len(rows), new) for x in (blocks, offsets))
        block, offset = where
        self._k[block, :, offset], self._v[block, :, offset] = k.transpose(1, 2), v.transpose(1, 2)

    def _needed(self, rows: list[_Sequence], new: int) -> int:
        """Blocks that appending takes from the pool: for the new tokens, and for copies of shared last blocks."""
        needed, writers = 0, dict[int, int]()
        for row in rows if new else ():
            needed += -(-(row.length + new) // self.block_size) - len(row.blocks)
            if row.length % self.block_size:
                writers[row.blocks[-1]] = writers.get(row.blocks[-1], 0) + 1
        # Of those that hold a block, the last one to write has it to itself by then and need not copy it.
        return needed + sum(min(n, self.allocator.references(block) - 1) for block, n in writers.items())

    def _make_room(self, row: _Sequence, new: int) -> None:
        assert self._k is not None and self._v is not None
        if new and row.length % self.block_size and self.allocator.references(row.blocks[-1]) > 1:
            shared, own = row.blocks[-1], self.allocator.allocate()
            self._k[own], self._v[own] = self._k[shared], self._v[shared]
            self.allocator.release(shared)
            row.blocks[-1] = own
        while len(row.blocks) * self.block_size < row.length + new:
            row.blocks.append(self.allocator.allocate())

    def block_table(
        self, sequences: Sequence[int] | None = None
    ) -> tuple[Int[Tensor, "batch blocks"], Int[Tensor, " batch"]]:
        """(table, lengths), int32: token p of row b stands in block table[b, p // block_size], slot p % block_size.

        Entries past a sequence's last block are 0 and mean nothing; the lengths say where to stop.
        """
        pool, _ = _filled(self._k, self._v)
        rows = self._rows(sequences)
        table = torch.zeros(len(rows), max((len(row.blocks) for row in rows), default=0), dtype=torch.int32)
        for b, row in enumerate(rows):
            table[b, : len(row.blocks)] = torch.tensor(row.blocks, dtype=torch.int32)
        lengths = torch.tensor([row.length for row in rows], dtype=torch.int32)
        return table.to(pool.device), lengths.to(pool.device)

    def view(self, sequences: Sequence[int] | None = None) -> CacheView:
        """The sequences gathered from their blocks and padded on the right to the longest. This copies them."""
        pools = _filled(self._k, self._v)
        table, lengths = self.block_table(sequences)
        keys = int(lengths.max()) if len(lengths) else 0
        positions = torch.arange(keys, device=table.device).expand(len(table), -1)
        outside = positions >= lengths[:, None]
        # Zeros, because a block may hold what another sequence left there, and 0 * inf in the output would be NaN.
        k, v = (
            pool[table].transpose(1, 2).flatten(2, 3)[:, :, :keys].masked_fill(outside[:, None, :, None], 0)
            for pool in pools
        )
        return CacheView(k, v, positions.masked_fill(outside, -1))

    def attend(
        self,
        q: Float[Tensor, "batch heads new d"],
        sequences: Sequence[int] | None = None,
        *,
        scale: float | None = None,
        backend: str = "auto",
    ) -> Float[Tensor, "batch heads new d_value"]:
        """Causal attention of the last ``new`` tokens of each sequence over it. O(new longest d) per head."""
        pool_k, pool_v = _filled(self._k, self._v)
        _check_queries(q, max((row.length for row in self._rows(sequences)), default=0))
        rows = self._rows(sequences, len(q), "q")
        for row in rows:
            _check_queries(q, row.length)
        if takes_kernel(q, pool_k, backend):
            table, lengths = self.block_table(sequences)
            return _decode(q, pool_k, pool_v, lengths, scale, table)
        k, v, positions = self.view(sequences)
        if len({row.length for row in rows}) <= 1:
            return _attention(q, k, v, causal=True, scale=scale, backend=backend)
        return _attention(q, k, v, mask=_last_queries(positions, q.shape[2]), scale=scale, backend=backend)

    def _get(self, sequence: int) -> _Sequence:
        if sequence not in self._sequences:
            known = isinstance(sequence, int) and 0 <= sequence < self._next
            raise ValueError(
                f"sequence {sequence!r} {'was freed' if known else 'was never made'}; alive are {self.sequences}"
            )
        return self._sequences[sequence]

    def _rows(self, sequences: Sequence[int] | None, batch: int | None = None, name: str = "") -> list[_Sequence]:
        chosen = self.sequences if sequences is None else list(sequences)
        if len(set(chosen)) != len(chosen):
            raise ValueError(f"sequences={chosen}: one is named twice; expected each once")
        if batch is not None and batch != len(chosen):
            raise ValueError(
                f"{name} has a batch of {batch} for {len(chosen)} sequence(s) {chosen}; expected one row for each "
                "(make them with add(), or name those meant with sequences=[...])"
            )
        return [self._get(sequence) for sequence in chosen]


def _last_queries(positions: Int[Tensor, "batch keys"], new: int) -> Bool[Tensor, "batch 1 new keys"]:
    """Causal, bottom-right, where every sequence has its own length."""
    end = positions.amax(1) + 1
    i = end[:, None] - new + torch.arange(new, device=positions.device)
    allowed = (positions >= 0)[:, None, :] & (positions[:, None, :] <= i[:, :, None])
    return allowed[:, None]


def _attention(q: Tensor, k: Tensor, v: Tensor, **options: object) -> Tensor:
    from llmlab.attention import attention

    return attention(q, k, v, enable_gqa=True, **options)  # type: ignore[call-overload]


def takes_kernel(q: Tensor, k: Tensor, backend: str) -> bool:
    """Whether ``attend`` runs the Triton kernel for decoding (few queries, on a GPU) and not :func:`attention`."""
    if backend not in ("auto", "triton") or (backend == "auto" and not q.is_cuda):
        return False
    if importlib.util.find_spec("triton") is None:
        return False
    from llmlab.attention.triton import decode

    return decode.refusal(q, k) is None


def _decode(
    q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, scale: float | None, table: Tensor | None = None
) -> Tensor:
    from llmlab.attention.triton.decode import decode_attention

    return decode_attention(q, k, v, lengths, table, scale=scale)[0]


def _filled(k: Tensor | None, v: Tensor | None) -> tuple[Tensor, Tensor]:
    if k is None or v is None:
        raise ValueError("the cache is empty: append keys and values first")
    return k, v


def _check_queries(q: Tensor, length: int) -> None:
    if not isinstance(q, Tensor) or q.ndim != 4:
        given = f"has shape {tuple(q.shape)}" if isinstance(q, Tensor) else f"is a {type(q).__name__}"
        raise ValueError(f"q {given}: expected a tensor (batch, heads, new, d)")
    if q.shape[2] > length:
        raise ValueError(
            f"q has {q.shape[2]} queries, but {length} token(s) are cached; append their keys and values first"
        )


def _check_new(k: Tensor, v: Tensor, old_k: Tensor | None, old_v: Tensor | None, any_batch: bool = False) -> None:
    """New keys and values fit one another and what is kept already (``any_batch``: the first axes may differ)."""
    for name, x, old in (("k", k, old_k), ("v", v, old_v)):
        if not isinstance(x, Tensor):
            raise TypeError(f"{name} is a {type(x).__name__}: expected a torch.Tensor (batch, kv_heads, new, d)")
        if x.ndim != 4 or 0 in (x.shape[0], x.shape[1], x.shape[3]):
            raise ValueError(f"{name} has shape {tuple(x.shape)}: expected (batch, kv_heads, new, d), none but new 0")
        if not x.is_floating_point():
            raise TypeError(f"{name} has dtype {x.dtype}: expected a floating-point dtype")
        if x.requires_grad and torch.is_grad_enabled():
            raise ValueError(
                f"{name} wants a gradient, but a cache writes in place and is for inference: use torch.no_grad()"
            )
        if old is None:
            continue
        if (x.dtype, x.device) != (old.dtype, old.device):
            raise TypeError(
                f"{name} is {x.dtype} on {x.device}, the cache {old.dtype} on {old.device}: expected the same"
            )
        if x.shape[1] != old.shape[1] or x.shape[3] != old.shape[3] or (x.shape[0] != old.shape[0] and not any_batch):
            batch = "any" if any_batch else old.shape[0]
            raise ValueError(
                f"{name} has shape {tuple(x.shape)}; the cache keeps ({batch}, {old.shape[1]}, new, {old.shape[3]})"
            )
    if k.shape[:3] != v.shape[:3] or (k.dtype, k.device) != (v.dtype, v.device):
        raise ValueError(
            f"k is {tuple(k.shape)} {k.dtype}, v {tuple(v.shape)} {v.dtype}: expected one value per key, of one dtype"
        )
