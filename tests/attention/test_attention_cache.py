"""Decoding with a cache gives what one forward pass over everything gives; the pool of blocks neither leaks nor mixes."""

from __future__ import annotations

import math
import sys
from types import SimpleNamespace

import pytest
import torch
from attention_cases import make
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule
from torch.nn.functional import scaled_dot_product_attention

from llmlab.attention import cache as room
from llmlab.attention import split, triton
from llmlab.attention.cache import BlockAllocator, ContiguousCache, OutOfBlocksError, PagedCache, RollingCache
from llmlab.attention.contract import BackendError
from llmlab.attention.split import merge, split_attention
from llmlab.attention.tiled import tiled_attention

torch.set_num_threads(1)

TIME = 23
WAYS = {
    "one by one": [1] * TIME,
    "in chunks": [5, 1, 1, 7, 2, 1, 6],
    "prompt first": [11] + [1] * 12,
    "at once": [TIME],
}


def band(time: int, window: int | None = None, sinks: int = 0) -> torch.Tensor:
    """Causal, said by lists: query i sees j <= i that is within the window or among the sinks."""
    return torch.tensor(
        [[j <= i and (window is None or i - j < window or j < sinks) for j in range(time)] for i in range(time)]
    )


def inputs(dtype=torch.float64, *, time=TIME, batch=2, heads=6, kv_heads=2, seed=0):
    q, k, v = make(time, time, batch=batch, heads=heads, kv_heads=kv_heads, d=8, d_value=5, dtype=dtype, seed=seed)
    return q.detach(), k.detach(), v.detach()


def full(q, k, v, mask, scale=None):
    """torch's own kernel in float64, heads written out: nothing of ours."""
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    return scaled_dot_product_attention(q.double(), k.double(), v.double(), attn_mask=mask, scale=scale)


def decode(cache, q, k, v, chunks, **options):
    outputs, start = [], 0
    for n in chunks:
        part = slice(start, start + n)
        cache.append(k[:, :, part], v[:, :, part])
        outputs.append(cache.attend(q[:, :, part], **options))
        start += n
    assert start == q.shape[2]
    return torch.cat(outputs, dim=2)


@pytest.mark.parametrize("chunks", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("kv_heads", [6, 2, 1], ids=["mha", "gqa", "mqa"])
def test_decoding_equals_the_full_forward(chunks, kv_heads):
    q, k, v = inputs(kv_heads=kv_heads)
    expected = full(q, k, v, band(TIME), scale=0.4)
    for cache in (ContiguousCache(), ContiguousCache(9), PagedCache(20, 4, batch=2), PagedCache(50, 1, batch=2)):
        output = decode(cache, q, k, v, chunks, scale=0.4)
        torch.testing.assert_close(output, expected, msg=lambda m, c=cache: f"{type(c).__name__}: {m}")


@pytest.mark.parametrize("chunks", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("window, sinks", [(1, 0), (4, 0), (4, 3), (1, 1), (7, 9), (22, 1), (23, 0), (40, 4)], ids=str)
def test_rolling_equals_full_attention_under_the_mask(chunks, window, sinks):
    q, k, v = inputs()
    cache = RollingCache(window, sinks)
    output = decode(cache, q, k, v, chunks)
    torch.testing.assert_close(output, full(q, k, v, band(TIME, window, sinks)))
    assert cache.length == TIME
    kept = cache.view().positions[0].tolist()
    seen = {j for i in range(TIME - chunks[-1], TIME) for j in range(i + 1) if i - j < window or j < sinks}
    assert seen <= set(kept) and len(set(kept)) == len(kept), "a visible token is missing, or one stands twice"
    assert len(kept) <= sinks + window - 1 + chunks[-1], "memory grows with time"


def test_a_rolling_cache_stays_as_small_as_its_window():
    q, k, v = inputs(time=100, batch=1)
    cache = RollingCache(8, 4)
    decode(cache, q, k, v, [60] + [1] * 40)
    assert cache._k.shape[2] == 8 + 4
    assert sorted(cache.view().positions[0].tolist()) == [0, 1, 2, 3, *range(92, 100)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_half_precision(dtype):
    q, k, v = inputs(dtype, heads=4)
    whole = {None: full(q, k, v, band(TIME)), 6: full(q, k, v, band(TIME, 6, 2))}
    # torch itself, in the same dtype, sets the scale: never more than twice its error, plus one rounding.
    theirs = scaled_dot_product_attention(q, k, v, attn_mask=band(TIME), enable_gqa=True)
    allowed = 2 * (theirs.double() - whole[None]).abs().max() + torch.finfo(dtype).eps
    for cache, window in ((ContiguousCache(), None), (RollingCache(6, 2), 6), (PagedCache(12, 4, batch=2), None)):
        output = decode(cache, q, k, v, WAYS["in chunks"])
        assert output.dtype == dtype
        assert (output.double() - whole[window]).abs().max() <= allowed, type(cache).__name__


def test_the_contiguous_cache_doubles():
    cache, pointers = ContiguousCache(), set()
    k = torch.zeros(1, 1, 1, 4)
    for _ in range(1000):
        cache.append(k, k)
        pointers.add(cache.capacity)
    assert len(pointers) == 11 and cache.capacity == 1024, "an append must not copy everything each time"


def test_ragged_sequences_in_one_pool():
    """Three prompts of 7, 1 and 12 tokens, decoded together; one is freed, its blocks serve a fourth."""
    prompts, steps = {0: 7, 1: 1, 2: 12}, 9
    data = {s: inputs(time=n + steps, batch=1, seed=s) for s, n in prompts.items()}
    data[3] = inputs(time=5 + steps, batch=1, seed=3)
    cache = PagedCache(13, 4)
    outputs = {s: [] for s in data}

    def prefill(s, n):
        assert cache.add() == s
        q, k, v = (x[:, :, :n] for x in data[s])
        cache.append(k, v, [s])
        outputs[s].append(cache.attend(q, [s]))

    def step(*sequences):
        at = [cache.length(s) for s in sequences]
        q, k, v = (torch.cat([data[s][x][:, :, t : t + 1] for s, t in zip(sequences, at)]) for x in range(3))
        cache.append(k, v, sequences)
        for s, row in zip(sequences, cache.attend(q, sequences)):
            outputs[s].append(row[None])

    for s, n in prompts.items():
        prefill(s, n)
    for _ in range(4):
        step(2, 0, 1)  # the order is the caller's
    cache._k[cache._sequences[1].blocks] = torch.nan  # what the next owner finds must not matter
    cache._v[cache._sequences[1].blocks] = torch.inf
    cache.free(1)
    prefill(3, 5)
    for _ in range(4):
        step(0, 3, 2)
    for s in (0, 2, 3):
        found = torch.cat(outputs[s], 2)
        time = found.shape[2]
        q, k, v = (x[:, :, :time] for x in data[s])
        torch.testing.assert_close(found, full(q, k, v, band(time)), msg=lambda m, s=s: f"sequence {s}: {m}")
    for s in (0, 2, 3):
        cache.free(s)
    assert cache.allocator.free == 13


@pytest.mark.parametrize("new", [1, 2, 5])
def test_several_tokens_at_once_for_sequences_of_different_lengths(new):
    """As a speculative decoder asks: each query sees its own sequence up to its own position."""
    lengths = (3, 8, 0)
    data = [inputs(time=n + new, batch=1, seed=i) for i, n in enumerate(lengths)]
    cache = PagedCache(20, 4, batch=3)
    for s, n in enumerate(lengths):
        _, k, v = data[s]
        cache.append(k[:, :, :n], v[:, :, :n], [s])
    q, k, v = (torch.cat([data[s][x][:, :, n:] for s, n in enumerate(lengths)]) for x in range(3))
    cache.append(k, v)
    found = cache.attend(q)
    for s, n in enumerate(lengths):
        torch.testing.assert_close(found[s : s + 1], full(*data[s], band(n + new))[:, :, n:])
    assert cache.view([]).k.shape == (0, 2, 0, 8) and cache.block_table([])[0].shape == (0, 0)


def test_a_fork_shares_until_it_writes():
    q, k, v = inputs(time=10, batch=1)
    other = inputs(time=10, batch=1, seed=5)
    cache = PagedCache(6, 4, batch=1)
    cache.append(k[:, :, :6], v[:, :, :6])
    child = cache.fork(0)
    half = cache.fork(0, 3)
    assert cache.allocator.free == 4, "a fork takes no block"
    for t in range(6, 10):
        rows = [torch.cat([x[:, :, t : t + 1], y[:, :, t : t + 1]]) for x, y in zip((q, k, v), other)]
        cache.append(rows[1], rows[2], [0, child])
        found = cache.attend(rows[0], [0, child])
        mine = full(q[:, :, : t + 1], k[:, :, : t + 1], v[:, :, : t + 1], band(t + 1))
        torch.testing.assert_close(found[:1], mine[:, :, -1:])
        theirs = [torch.cat([x[:, :, :6], y[:, :, 6 : t + 1]], 2) for x, y in zip((q, k, v), other)]
        torch.testing.assert_close(found[1:], full(*theirs, band(t + 1))[:, :, -1:])
    cache.append(other[1][:, :, :1], other[2][:, :, :1], [half])
    torch.testing.assert_close(cache.view([half]).k, torch.cat([k[:, :, :3], other[1][:, :, :1]], 2))
    torch.testing.assert_close(cache.view([0]).k, k)
    for s in (0, child, half):
        cache.free(s)
    assert cache.allocator.free == 6


def test_out_of_blocks_changes_nothing():
    _, k, v = inputs(time=9)
    cache = PagedCache(4, 4, batch=2)
    cache.append(k[:, :, :6], v[:, :, :6])
    before = cache.view()
    with pytest.raises(OutOfBlocksError, match=r"2 sequence\(s\) with 3 new token\(s\) need 2 block\(s\) and 0 of 4"):
        cache.append(k[:, :, 6:], v[:, :, 6:])
    for a, b in zip(before, cache.view()):
        assert torch.equal(a, b)
    cache.free(1)
    cache.append(k[:1, :, 6:], v[:1, :, 6:])  # there is room again
    torch.testing.assert_close(cache.view().k, k[:1])


class PagedAgainstLists(RuleBasedStateMachine):
    """The paged cache and its allocator against a dict of plain lists of numbers."""

    alive = Bundle("alive")
    BLOCKS, SIZE = 7, 3

    def __init__(self):
        super().__init__()
        self.cache = PagedCache(self.BLOCKS, self.SIZE)
        self.model: dict[int, list[float]] = {}
        self.counter = 0.0

    def tokens(self, sequences, new):
        """Every token written anywhere has its own number, so that a mix-up cannot hide."""
        count = len(sequences) * new
        x = torch.arange(self.counter, self.counter + count, dtype=torch.float64).view(len(sequences), 1, new, 1)
        self.counter += count
        return x

    @rule(target=alive)
    def add(self):
        sequence = self.cache.add()
        assert sequence not in self.model
        self.model[sequence] = []
        return sequence

    @rule(target=alive, parent=alive, share=st.floats(0, 1))
    def fork(self, parent, share):
        length = round(share * len(self.model[parent]))
        child = self.cache.fork(parent, length)
        self.model[child] = self.model[parent][:length]
        return child

    @rule(sequence=consumes(alive))
    def free(self, sequence):
        self.cache.free(sequence)
        del self.model[sequence]
        for use in (lambda: self.cache.free(sequence), lambda: self.cache.fork(sequence)):
            with pytest.raises(ValueError, match="was freed"):
                use()

    @precondition(lambda self: self.model)
    @rule(data=st.data(), new=st.integers(0, 5))
    def append(self, data, new):
        sequences = data.draw(st.lists(st.sampled_from(sorted(self.model)), unique=True, min_size=1, max_size=3))
        x = self.tokens(sequences, new)
        free = self.cache.allocator.free
        try:
            self.cache.append(x, -x, sequences)
        except OutOfBlocksError:
            assert self.minimum(sequences, new) > self.BLOCKS, "refused although there was room"
            assert self.cache.allocator.free == free
            return
        for sequence, row in zip(sequences, x.flatten(1).tolist()):
            self.model[sequence] = self.model[sequence] + row

    def minimum(self, sequences, new):
        """Blocks that hold everything after this append, if only whole common prefixes may be shared as they are now."""
        tables = {s: list(row.blocks) for s, row in self.cache._sequences.items()}
        for s in sequences:
            length = len(self.model[s])
            if new and length % self.SIZE and sum(tables[s][-1] in t for t in tables.values()) > 1:
                tables[s] = [*tables[s][:-1], object()]
            while len(tables[s]) * self.SIZE < length + new:
                tables[s] = [*tables[s], object()]
        return len({block for table in tables.values() for block in table})

    @invariant()
    def contents(self):
        for sequence, expected in self.model.items():
            assert self.cache.length(sequence) == len(expected)
        if self.cache._k is None or not self.model:
            return
        k, v, positions = self.cache.view()
        for row, (_, expected) in enumerate(sorted(self.model.items())):
            assert k[row, 0, : len(expected), 0].tolist() == expected
            assert v[row, 0, : len(expected), 0].tolist() == [-x for x in expected]
            assert positions[row].tolist() == [*range(len(expected)), *[-1] * (len(positions[row]) - len(expected))]
            assert (k[row, 0, len(expected) :] == 0).all()

    @invariant()
    def blocks(self):
        """Every block is free, or counted once for every sequence that holds it: none lost, none held for nobody."""
        held = [block for row in self.cache._sequences.values() for block in row.blocks]
        allocator = self.cache.allocator
        assert [allocator.references(b) for b in range(self.BLOCKS)] == [held.count(b) for b in range(self.BLOCKS)]
        assert allocator.free == self.BLOCKS - len(set(held))
        assert sorted(allocator._free) == [b for b in range(self.BLOCKS) if b not in held]
        for row in self.cache._sequences.values():
            assert len(row.blocks) == -(-row.length // self.SIZE), "a block is held without need"


TestPagedAgainstLists = PagedAgainstLists.TestCase
TestPagedAgainstLists.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_the_allocator_says_what_is_wrong():
    allocator = BlockAllocator(2)
    a, b = allocator.allocate(), allocator.allocate()
    assert {a, b} == {0, 1}
    with pytest.raises(OutOfBlocksError, match="all 2 blocks are in use"):
        allocator.allocate()
    allocator.share(a)
    allocator.release(a)
    assert allocator.free == 0 and allocator.references(a) == 1
    allocator.release(a)
    with pytest.raises(ValueError, match="free already: it was released twice"):
        allocator.release(a)
    with pytest.raises(ValueError, match="free and cannot be shared"):
        allocator.share(a)
    for call in (allocator.references, allocator.release, allocator.share):
        with pytest.raises(ValueError, match="block 2 does not exist: expected 0 to 1"):
            call(2)


@pytest.mark.parametrize("make_cache", [ContiguousCache, lambda: RollingCache(4), lambda: PagedCache(9, 4, batch=2)])
def test_a_cache_says_what_is_wrong(make_cache):
    q, k, v = inputs(torch.float32, time=3)
    cache = make_cache()
    with pytest.raises(ValueError, match="the cache is empty: append keys and values first"):
        cache.view()
    cache.append(k, v)
    for bad, error, message in (
        ((k[0], v[0]), ValueError, r"k has shape \(2, 3, 8\): expected \(batch, kv_heads, new, d\)"),
        ((k, v[:, :, :2]), ValueError, "expected one value per key"),
        ((k[:, :1], v[:, :1]), ValueError, r"k has shape \(2, 1, 3, 8\); the cache keeps"),
        ((k[..., :4], v), ValueError, r"k has shape \(2, 2, 3, 4\); the cache keeps"),
        ((k.half(), v.half()), TypeError, "k is torch.float16 on cpu, the cache torch.float32"),
        ((k.long(), v.long()), TypeError, "floating-point"),
        ((k.clone().requires_grad_(), v), ValueError, "wants a gradient.*torch.no_grad"),
        ((k[:1], v[:1]), ValueError, r"k has (shape \(1, 2, 3, 8\); the cache keeps|a batch of 1 for 2 sequence)"),
    ):
        with pytest.raises(error, match=message):
            cache.append(*bad)
    torch.testing.assert_close(cache.attend(q), full(q, k, v, band(3)).float())  # and none of it was kept
    with pytest.raises(ValueError, match="q has 4 queries, but 3 token"):
        cache.attend(torch.cat([q, q[:, :, :1]], 2))
    with pytest.raises(ValueError, match=r"q has shape \(6, 3, 8\)"):
        cache.attend(q[0])
    with pytest.raises(BackendError, match="unknown"):
        cache.attend(q, backend="nothing")


def test_a_paged_cache_says_which_sequence():
    _, k, v = inputs(time=2)
    cache = PagedCache(4, 2, batch=2)
    cache.append(k, v)
    cache.free(0)
    with pytest.raises(ValueError, match=r"sequence 0 was freed; alive are \[1\]"):
        cache.append(k[:1], v[:1], [0])
    with pytest.raises(ValueError, match="sequence 7 was never made"):
        cache.length(7)
    with pytest.raises(ValueError, match="named twice"):
        cache.append(k, v, [1, 1])
    with pytest.raises(ValueError, match="length=3: sequence 1 has 2 tokens"):
        cache.fork(1, 3)
    for wrong in (
        lambda: PagedCache(0),
        lambda: PagedCache(2, 0),
        lambda: RollingCache(0),
        lambda: RollingCache(3, -1),
    ):
        with pytest.raises(ValueError, match="expected"):
            wrong()
    with pytest.raises(ValueError, match="capacity=-1"):
        ContiguousCache(-1)


def test_a_rolling_cache_refuses_queries_whose_keys_are_gone():
    q, k, v = inputs()
    cache = RollingCache(4)
    decode(cache, q, k, v, [20, 1, 1, 1])
    with pytest.raises(
        ValueError, match="q has 2 queries, but 1 token.* were appended last: a rolling cache has dropped"
    ):
        cache.attend(q[:, :, :2])


def test_merge_equals_full_attention_for_any_parts():
    """torch's own attention over uneven, unordered parts of the keys, each with its lse, against torch over all keys."""
    q, k, v = inputs(heads=2)
    order = torch.randperm(TIME, generator=torch.Generator().manual_seed(0))
    outputs, lses = [], []
    for part in order.split([1, 9, 13]):
        scores = q @ k[:, :, part].mT * 8**-0.5
        outputs.append(scores.softmax(-1) @ v[:, :, part])
        lses.append(scores.logsumexp(-1))
    outputs.append(torch.zeros_like(outputs[0]))  # a part without keys has no say
    lses.append(torch.full_like(lses[0], -torch.inf))
    output, lse = merge(torch.stack(outputs), torch.stack(lses))
    torch.testing.assert_close(output, scaled_dot_product_attention(q, k, v))
    torch.testing.assert_close(lse, (q @ k.mT * 8**-0.5).logsumexp(-1))


def test_merge_keeps_its_head():
    o = torch.tensor([[[1.0]], [[3.0]]])
    assert merge(o, torch.tensor([[1000.0], [1000.0]]))[0].item() == 2, "exp(lse) itself would overflow"
    output, lse = merge(o, torch.full((2, 1), -torch.inf))
    assert output.item() == 0 and lse.item() == -torch.inf
    output, lse = merge(torch.tensor([[1.0, 5.0], [3.0, 9.0]]), torch.zeros(2))  # the parts of a single row
    assert output.tolist() == [2, 7] and lse.item() == pytest.approx(math.log(2))
    for bad in ((o, torch.zeros(2, 2)), (o[:0], torch.zeros(0, 1)), (torch.zeros(2), torch.zeros(()))):
        with pytest.raises(ValueError, match="expected"):
            merge(*bad)


@pytest.mark.parametrize("splits", [1, 2, 5, 23, 40])
@pytest.mark.parametrize("new", [1, 4])
def test_split_attention_equals_full_attention(splits, new):
    q, k, v = inputs()
    output, lse = split_attention(q[:, :, -new:], k, v, splits, scale=0.3)
    torch.testing.assert_close(output, full(q, k, v, band(TIME), 0.3)[:, :, -new:])
    scores = q @ k.repeat_interleave(3, 1).mT * 0.3
    expected = scores.masked_fill(~band(TIME), -torch.inf).logsumexp(-1)[:, :, -new:]
    torch.testing.assert_close(lse, expected)
    with pytest.raises(ValueError, match="splits=0"):
        split_attention(q, k, v, 0)


@pytest.mark.parametrize(
    ("splits", "sizes"),
    [(1, [23]), (2, [12, 11]), (5, [5, 5, 5, 5, 3]), (22, [2] * 11 + [1]), (23, [1] * 23), (40, [1] * 23)],
)
def test_the_keys_are_cut_into_even_parts(splits, sizes, monkeypatch):
    seen = []
    monkeypatch.setattr(
        split,
        "tiled_attention",
        lambda q, k, v, **options: seen.append(k.shape[2]) or tiled_attention(q, k, v, **options),
    )
    q, k, v = inputs()
    split_attention(q[:, :, -1:], k, v, splits)
    assert seen == sizes
    output, lse = split_attention(q[:, :, -1:], k[:, :, :0], v[:, :, :0], splits)
    assert (output == 0).all() and (lse == -torch.inf).all()


def test_what_the_kernel_for_decoding_is_told(monkeypatch):
    """The rows it may read, how many of them count, the scale; of the paged cache, the pool and the table of blocks."""
    told, asked = [], []
    monkeypatch.setattr(room, "takes_kernel", lambda q, k, backend: asked.append(backend) or True)
    decoder = SimpleNamespace(decode_attention=lambda *a, scale: told.append((*a, scale)) or (a[0] * 2, None))
    monkeypatch.setitem(sys.modules, "llmlab.attention.triton.decode", decoder)
    q, k, v = inputs(time=5)
    last = q[:, :, 4:]
    for cache in (ContiguousCache(), RollingCache(3), PagedCache(9, 2, batch=2)):
        cache.append(k[:, :, :4], v[:, :, :4])
        cache.append(k[:, :, 4:], v[:, :, 4:])
        assert torch.equal(cache.attend(last, scale=0.3, backend="triton"), last * 2)
        found_q, found_k, found_v, lengths, table, scale = told.pop()
        assert found_q is last and scale == 0.3 and lengths.dtype == torch.int32
        if isinstance(cache, PagedCache):
            assert found_k is cache._k and found_v is cache._v and table.dtype == torch.int32
            rows = [torch.cat(list(found_k[row]), 1)[:, :5] for row in table.tolist()]
            assert torch.equal(torch.stack(rows), k) and lengths.tolist() == [5, 5]
            continue
        view = cache.view()
        assert table is None and torch.equal(found_k, view.k) and torch.equal(found_v, view.v)
        assert lengths.tolist() == [found_k.shape[2]] * 2 == [{ContiguousCache: 5, RollingCache: 3}[type(cache)]] * 2
    rolling = RollingCache(3)
    rolling.append(k, v)
    rolling.attend(q)
    assert asked == ["triton"] * 3 and not told, "two or more queries need a mask in the ring"


def test_when_the_kernel_for_decoding_is_taken(monkeypatch):
    monkeypatch.setattr(triton, "decode", SimpleNamespace(refusal=lambda q, k: q.reason), raising=False)
    monkeypatch.setattr(room.importlib.util, "find_spec", lambda name: object())
    gpu, cpu = SimpleNamespace(is_cuda=True, reason=None), SimpleNamespace(is_cuda=False, reason=None)
    refused = SimpleNamespace(is_cuda=True, reason="too many queries")
    found = {(q.is_cuda, b): room.takes_kernel(q, None, b) for q in (gpu, cpu) for b in ("auto", "triton", "naive")}
    assert [key for key, taken in found.items() if taken] == [(True, "auto"), (True, "triton"), (False, "triton")]
    assert not room.takes_kernel(refused, None, "auto")
    monkeypatch.setattr(room.importlib.util, "find_spec", lambda name: None)
    assert not room.takes_kernel(gpu, None, "triton")


def test_what_a_cache_makes_lies_where_its_keys_do(monkeypatch):
    """torch refuses to mix the meta device with the CPU, so it stands for a GPU."""
    told = []
    monkeypatch.setattr(room, "takes_kernel", lambda q, k, backend: True)
    monkeypatch.setattr(room, "_decode", lambda q, k, v, *rest: told.extend(rest) or q)
    q, k, v = (x.to("meta") for x in inputs(time=1))
    for cache in (ContiguousCache(), RollingCache(3, 1), PagedCache(9, 2, batch=2)):
        cache.append(k, v)
        cache.attend(q)
        if not isinstance(cache, PagedCache):
            assert {x.device.type for x in cache.view()} == {"meta"}
    assert {x.device.type for x in told if isinstance(x, torch.Tensor)} == {"meta"}
    rolling = RollingCache(3)
    rolling.append(k.expand(-1, -1, 2, -1), v.expand(-1, -1, 2, -1))
    assert rolling.attend(q.expand(-1, -1, 2, -1), backend="naive").device.type == "meta"


@pytest.fixture(scope="module")
def smollm2():
    from llmlab import assets

    return assets.load_smollm2()


@pytest.mark.parametrize("kind", ["contiguous", "rolling", "paged"])
def test_every_layer_of_smollm2_decodes_as_it_reads(smollm2, kind):
    """A prompt of 12 tokens, then one by one, a cache in each of 30 layers: the logits of one pass over the whole text."""
    from llmlab.models.hooks import replaced_attention

    model, tokenizer = smollm2
    ids = tokenizer(
        "The cat sat on the mat because it was tired, and then it slept until", return_tensors="pt"
    ).input_ids
    time = ids.shape[1]
    mask = band(time, 6, 2) if kind == "rolling" else band(time)
    make_cache = {
        "contiguous": ContiguousCache,
        "rolling": lambda: RollingCache(6, 2),
        "paged": lambda: PagedCache(5, 4, batch=1),
    }[kind]
    caches = [make_cache() for _ in model.model.layers]

    def cached(call):
        caches[call.layer].append(call.k, call.v)
        return caches[call.layer].attend(call.q, scale=call.scale)

    def whole(call):
        return scaled_dot_product_attention(call.q, *call.shared, attn_mask=mask, scale=call.scale)

    with torch.no_grad():
        with replaced_attention(model, whole):
            expected = model(ids, use_cache=False).logits
        with replaced_attention(model, cached):
            logits, start = [], 0
            for n in [12] + [1] * (time - 12):
                at = torch.arange(start, start + n)[None]
                logits.append(model(ids[:, start : start + n], position_ids=at, use_cache=False).logits)
                start += n
    found = torch.cat(logits, 1)
    assert (found - expected).abs().max() < 1e-3 * expected.abs().max()
    assert torch.equal(found.argmax(-1), expected.argmax(-1))
    if kind == "rolling":  # and the window is one that the model feels
        with torch.no_grad():
            plain = model(ids, use_cache=False).logits
        assert (plain - expected)[0, -1].abs().max() > 0.1
