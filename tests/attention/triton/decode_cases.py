"""Decoding under the interpreter against float64. Each case is a function that raises; imported where TRITON_INTERPRET=1."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

LENGTHS = (100, 37, 3)
PAGE = 8


@cache
def tensors(queries: int, lengths: tuple[int, ...], dtype: torch.dtype, *, d: int, d_value: int, spread: float):
    """q, k, v of 6 heads in groups of 3, k and v with room for 104 keys, NaN where there is none; and what comes out.

    ``expected`` is (output, lse) in float64; ``allowed`` the error: twice torch's own in this dtype, and a little.
    """
    g = torch.Generator().manual_seed(queries)
    batch = len(lengths)
    q = (
        (torch.randn(batch, queries, 6, d, generator=g) * spread).to(dtype).transpose(1, 2)
    )  # strided, as a model has it
    k, v = (torch.randn(batch, 104, 2, size, generator=g).to(dtype).transpose(1, 2) for size in (d, d_value))
    outputs, lses, allowed = [], [], 1e-5
    for b, keys in enumerate(lengths):
        k[b, :, keys:], v[b, :, keys:] = torch.nan, torch.nan  # never to be read
        row = [x[b : b + 1, :, :keys].repeat_interleave(3, 1) for x in (k, v)]
        mask = torch.arange(keys)[None] <= torch.arange(queries)[:, None] + keys - queries
        scores = (q[b : b + 1].double() @ row[0].double().mT * d**-0.5).masked_fill(~mask, -torch.inf)
        outputs.append(scores.softmax(-1).nan_to_num(0.0) @ row[1].double())
        lses.append(scores.logsumexp(-1))
        if keys:
            theirs = scaled_dot_product_attention(q[b : b + 1], *row, attn_mask=mask)
            allowed = max(allowed, 2 * (theirs - outputs[-1]).abs().max().item())
    return q, k, v, torch.cat(outputs), torch.cat(lses), allowed


def paged(k: Tensor, lengths: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """k in blocks of a pool, in an order of their own; entries of the table past a sequence's end point far outside."""
    blocks = k.shape[2] // PAGE
    order = torch.randperm(len(k) * blocks, generator=torch.Generator().manual_seed(9))
    pool = torch.full((len(order), k.shape[1], PAGE, k.shape[3]), torch.nan, dtype=k.dtype)
    table = torch.full((len(k), blocks), 10**6, dtype=torch.int32)
    for b, keys in enumerate(lengths):
        for n in range(-(-keys // PAGE)):
            table[b, n] = order[b * blocks + n]
            pool[table[b, n]] = k[b, :, n * PAGE : (n + 1) * PAGE]
    return pool, table


def compare(name: str, found: Tensor, expected: Tensor, allowed: float) -> None:
    assert found.shape == expected.shape, f"{name} has shape {tuple(found.shape)}, expected {tuple(expected.shape)}"
    seen = torch.isfinite(expected)
    assert torch.equal(found[~seen].double(), expected[~seen]), f"{name} of a row without keys is not {-torch.inf}"
    assert torch.isfinite(found[seen]).all(), f"{name} is not finite"
    error = (found[seen] - expected[seen]).abs().max().item() if seen.any() else 0.0
    assert error <= allowed, f"{name} is off by {error:.1e}"


def check(
    *,
    queries=1,
    lengths=LENGTHS,
    dtype=torch.float32,
    d=24,
    d_value=40,
    spread=1.0,
    splits: int | None = 3,
    pages=False,
) -> None:
    from llmlab.attention.triton.decode import decode_attention

    q, k, v, output, lse, allowed = tensors(queries, lengths, dtype, d=d, d_value=d_value, spread=spread)
    table = None
    if pages:
        (k, table), (v, _) = paged(k, lengths), paged(v, lengths)
    found = decode_attention(q, k, v, torch.tensor(lengths, dtype=torch.int32), table, splits=splits)
    assert found[0].dtype == dtype and found[1].dtype == torch.float32
    compare("output", found[0], output, allowed)
    compare("lse", found[1], lse, max(allowed, 1e-5 * spread))


def one_query() -> None:
    check()


def some_queries_and_high_scores() -> None:
    check(queries=3, spread=60.0, d=16, d_value=16)


def pages() -> None:
    check(pages=True)


def pages_and_some_queries() -> None:
    check(queries=2, pages=True, lengths=(41, 100, 2), d=16, d_value=16)


def half_precision() -> None:
    check(dtype=torch.float16, d=64, d_value=64, splits=2)


def a_large_odd_head() -> None:
    check(queries=2, lengths=(19,), d=80, d_value=128, splits=None)


def fewer_keys_than_queries() -> None:
    check(queries=4, lengths=(0, 2, 33), d=16, d_value=16, splits=2)


def one_part() -> None:
    check(lengths=(16, 17), splits=1, d=16, d_value=16)


def caches() -> None:
    """Each cache's own ``attend`` through the kernel, one by one and in chunks."""
    from llmlab.attention.cache import ContiguousCache, PagedCache, RollingCache

    g = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(2, heads, 20, 16, generator=g) for heads in (4, 2, 2))
    position = torch.arange(20)
    for kept, window in ((ContiguousCache(7), 20), (PagedCache(30, 4, batch=2), 20), (RollingCache(5, 2), 5)):
        mask = (position[None] <= position[:, None]) & (
            (position[None] > position[:, None] - window) | (position[None] < 2)
        )
        expected = scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
        start = 0
        for new in (3, 1, 1, 8, 1, 5, 1) if window == 20 else (1,) * 20:
            at = slice(start, start + new)
            kept.append(k[:, :, at], v[:, :, at])
            compare(type(kept).__name__, kept.attend(q[:, :, at], backend="triton"), expected[:, :, at], 1e-5)
            start += new


#: quick ones first
CASES = (
    one_part,
    one_query,
    pages,
    fewer_keys_than_queries,
    pages_and_some_queries,
    some_queries_and_high_scores,
    half_precision,
    a_large_odd_head,
    caches,
)
