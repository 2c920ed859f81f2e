"""Lab 03, several heads: share the keys, mend two reshapes, read a knock-out, and work out what a cache takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from llmlab.course.checking import (
    Bank,
    Case,
    Task,
    Wrong,
    call,
    expect,
    expect_choice,
    expect_close,
    expect_number,
    expect_shape,
)


def _weights(d: int, heads: int, kv_heads: int, seed: int) -> tuple[Any, Any, Any, Any]:
    """Matrices for queries, keys, values and the output, used as ``x @ w``."""
    import torch

    g, size = torch.Generator().manual_seed(seed), d // heads
    shapes = ((d, d), (d, kv_heads * size), (d, kv_heads * size), (d, d))
    wq, wk, wv, wo = (torch.randn(shape, generator=g, dtype=torch.float64) / d**0.5 for shape in shapes)
    return 3 * wq, wk, wv, wo


def _text(batch: int, time: int, d: int, seed: int) -> Any:
    import torch

    return torch.randn(batch, time, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _split(x: Any, heads: int) -> Any:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _merge(x: Any) -> Any:
    return x.transpose(1, 2).flatten(2)


def _grouped(
    *,
    group: str = "neighbours",
    scale: Callable[[int, int, int], float] = lambda size, d, heads: size**-0.5,
    causal: bool = True,
    split: Callable[[Any, int], Any] = _split,
    merge: Callable[[Any], Any] = _merge,
    output: bool = True,
    strict: bool = True,
) -> Callable[..., Any]:
    """Grouped-query attention; changed in one thing it is a wrong answer."""

    def attention(x: Any, w: tuple[Any, ...], heads: int, kv_heads: int) -> Any:
        import torch

        wq, wk, wv, wo = w
        d, n = x.shape[-1], x.shape[1]
        if strict and (d % heads or heads % kv_heads):
            raise ValueError(f"{d} features, {heads} heads, {kv_heads} key heads")
        q, k, v = split(x @ wq, heads), split(x @ wk, kv_heads), split(x @ wv, kv_heads)
        if group == "neighbours":
            k, v = (t.repeat_interleave(heads // kv_heads, dim=1) for t in (k, v))
        elif group == "turns":
            k, v = (t.repeat(1, heads // kv_heads, 1, 1) for t in (k, v))
        elif group == "first":
            k, v = (t[:, :1].expand(-1, heads, -1, -1) for t in (k, v))
        else:
            k, v = (t.mean(1, keepdim=True).expand(-1, heads, -1, -1) for t in (k, v))
        scores = q @ k.mT * scale(d // heads, d, heads)
        if causal:
            scores = scores.masked_fill(~torch.ones(n, n, dtype=torch.bool).tril(), -math.inf)
        mixed = merge(scores.softmax(-1) @ v)
        return mixed @ wo if output else mixed

    return attention


def _flat_merge(x: Any) -> Any:
    return x.reshape(x.shape[0], x.shape[2], -1)


def _turned_merge(x: Any) -> Any:
    return x.transpose(-1, -2).reshape(x.shape[0], x.shape[2], -1)


def _flat_split(x: Any, heads: int) -> Any:
    return x.reshape(x.shape[0], heads, x.shape[1], -1)


def _dealt_split(x: Any, heads: int) -> Any:
    return x.unflatten(-1, (-1, heads)).permute(0, 3, 1, 2)


def check_grouped(answer: Any) -> str:
    x = _text(2, 6, 24, seed=1)
    for heads, kv_heads in ((6, 2), (6, 6), (4, 1)):
        w = _weights(24, heads, kv_heads, seed=2)
        got = call(answer, x, w, heads, kv_heads)
        near = [
            (_grouped(causal=False)(x, w, heads, kv_heads), "a token sees the future; it may see itself and the past"),
            (
                _grouped(scale=lambda s, d, h: d**-0.5)(x, w, heads, kv_heads),
                "the scores are divided by the root of the whole width; a head compares d / heads features",
            ),
            (_grouped(scale=lambda s, d, h: 1.0)(x, w, heads, kv_heads), "the scores are not divided by a root"),
            (
                _grouped(scale=lambda s, d, h: 1 / s)(x, w, heads, kv_heads),
                "the scores are divided by the head size, not by its root",
            ),
            (
                _grouped(group="turns")(x, w, heads, kv_heads),
                "query heads take the key heads in turn (0, 1, 0, 1, …); it is neighbours that share one (0, 0, 0, 1, …)",
            ),
            (_grouped(group="first")(x, w, heads, kv_heads), "every query head reads the first key head"),
            (_grouped(group="mean")(x, w, heads, kv_heads), "the key heads are averaged; each serves its own group"),
            (
                _grouped(merge=_flat_merge)(x, w, heads, kv_heads),
                "the heads are merged without a transpose: heads must stand beside their features first",
            ),
            (
                _grouped(merge=_turned_merge)(x, w, heads, kv_heads),
                "the merge turns time and features; it is heads and time that change places",
            ),
            (
                _grouped(split=_flat_split)(x, w, heads, kv_heads),
                "the split cuts the text into heads: cut the features of each token, then move the heads forward",
            ),
            (_grouped(output=False)(x, w, heads, kv_heads), "the output matrix is missing"),
            (_grouped()(x, (w[0], w[2], w[1], w[3]), heads, kv_heads), "keys and values are exchanged"),
            (
                _grouped(split=_dealt_split)(x, w, heads, kv_heads),
                "the features are dealt out to the heads in turn; those of one head stand side by side",
            ),
        ]
        right = _grouped()(x, w, heads, kv_heads)
        if kv_heads == heads:  # turns, first and mean differ from the right answer here as they should not in a hint
            near = [pair for pair in near if not _alike(pair[0], right)]
        expect_close(got, right, f"the output for {heads} heads and {kv_heads} key heads", near_misses=near)
    _refuses(answer, d=10, heads=3, kv_heads=3, why="10 features among 3 heads")
    _refuses(answer, d=24, heads=6, kv_heads=4, why="6 query heads on 4 key heads")
    return "neighbours share a key head, heads merge beside their features, and sizes that do not divide are refused"


def _alike(a: Any, b: Any) -> bool:
    return a.shape == b.shape and bool((a - b).abs().max() < 1e-9)


def _refuses(answer: Any, *, d: int, heads: int, kv_heads: int, why: str) -> None:
    import torch

    size = max(d // heads, 1)
    x = _text(1, heads * 3, d, seed=3)
    widths = (d, d, d, d) if d % heads else (d, kv_heads * size, kv_heads * size, d)
    w = tuple(torch.ones(d, n, dtype=torch.float64) for n in widths)
    try:
        got = answer(x, w, heads, kv_heads)
    except ValueError:
        return
    except NotImplementedError:
        raise
    except Exception as error:
        raise Wrong(
            f"{why} should raise a ValueError that says so; yours ends in {type(error).__name__}: {error}"
        ) from error
    shown = f" and returns shape {tuple(got.shape)}" if hasattr(got, "shape") else ""
    raise Wrong(f"{why} should raise a ValueError; yours runs{shown}, on tokens that do not exist")


def _by_loop(x: Any, w: tuple[Any, ...], heads: int, kv_heads: int) -> Any:
    """A right answer, written differently: a loop over heads and torch's kernel, added up through slices of wo."""
    from torch.nn.functional import scaled_dot_product_attention as sdpa

    d, (wq, wk, wv, wo) = x.shape[-1], w
    if d % heads != 0 or heads % kv_heads != 0:
        raise ValueError("sizes do not divide")
    size, total = d // heads, 0
    for h in range(heads):
        g = h * kv_heads // heads
        mine, shared = slice(h * size, (h + 1) * size), slice(g * size, (g + 1) * size)
        out = sdpa(x @ wq[:, mine], x @ wk[:, shared], x @ wv[:, shared], is_causal=True)
        total = total + out @ wo[mine]
    return total


def _exchanged(x: Any, w: tuple[Any, ...], heads: int, kv_heads: int) -> Any:
    return _grouped()(x, (w[0], w[2], w[1], w[3]), heads, kv_heads)


def _asserts(x: Any, w: tuple[Any, ...], heads: int, kv_heads: int) -> Any:
    assert x.shape[-1] % heads == 0
    return _grouped()(x, w, heads, kv_heads)


def _unchecked_view(x: Any, w: tuple[Any, ...], heads: int, kv_heads: int) -> Any:
    """Right where the sizes divide; elsewhere the view finds tokens of its own."""
    if x.shape[-1] % heads == 0 and heads % kv_heads == 0:
        return _grouped()(x, w, heads, kv_heads)
    q = (x @ w[0]).reshape(x.shape[0], -1, heads, x.shape[-1] // heads).transpose(1, 2)
    return q.transpose(1, 2).reshape(x.shape[0], -1, x.shape[-1])


def check_mend(answer: Any) -> str:
    import torch

    x = _text(2, 6, 12, seed=4)
    w = _weights(12, 3, 3, seed=5)
    got = call(answer, x, w, 3)
    expect_shape(got, (2, 6, 12), "the output")

    def given(split: Callable[[Any, int], Any], merge: Callable[[Any], Any]) -> Any:
        return _grouped(split=split, merge=merge)(x, w, 3, 3)

    expect_close(
        got,
        given(_split, _merge),
        "the output",
        near_misses=[
            (given(_flat_split, _turned_merge), "this is the code as given: the split and the merge are both wrong"),
            (given(_split, _turned_merge), "the split is mended, the merge still turns time and features"),
            (
                given(_flat_split, _merge),
                "the merge is mended, the split still cuts the text into heads instead of the features",
            ),
            (
                given(_split, _flat_merge),
                "the merge has no transpose: heads must stand beside their features before they become one axis",
            ),
            (
                given(_flat_split, _flat_merge),
                "split and merge now undo each other, but the heads still hold pieces of the text: cut the features",
            ),
            (_grouped(causal=False)(x, w, 3, 3), "the mask is gone: a token sees the future"),
        ],
    )
    other = call(answer, x, w, 2)
    expect_close(
        other,
        _grouped()(x, w, 2, 2),
        "the output for two heads",
        near_misses=[(got, "the number of heads is fixed in the code; take it from `heads`")],
    )
    longer = torch.cat([x, _text(2, 3, 12, seed=6)], 1)
    again = call(answer, longer, w, 3)
    expect_shape(again, (2, 9, 12), "the output for nine tokens")
    expect(torch.allclose(again[:, :6], got, atol=1e-9), "three more tokens at the end change the first six: it leaks")
    return "each head holds features of every token, and nobody sees the future"


def _mend(split: Callable[[Any, int], Any], merge: Callable[[Any], Any], causal: bool = True) -> Callable[..., Any]:
    def multi_head(x: Any, w: tuple[Any, ...], heads: int) -> Any:
        return _grouped(split=split, merge=merge, causal=causal)(x, w, heads, heads)

    return multi_head


def _mend_by_einsum(x: Any, w: tuple[Any, ...], heads: int) -> Any:
    """A right answer, written differently: no transposes at all."""
    import torch

    q, k, v = ((x @ one).reshape(*x.shape[:2], heads, -1) for one in w[:3])
    scores = torch.einsum("bihd,bjhd->bhij", q, k) / q.shape[-1] ** 0.5
    hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    weights = scores.masked_fill(hidden, -math.inf).softmax(-1)
    return torch.einsum("bhij,bjhd->bihd", weights, v).reshape(x.shape) @ w[3]


LLAMA = 2 * 80 * 8 * 128 * 131_072 * 2 / 2**30


def check_cache(answer: Any) -> str:
    expect_number(
        answer,
        LLAMA,
        rtol=0.005,
        unit="GiB",
        what="the cache of one text",
        near_misses={
            8
            * LLAMA: "that keeps a key and a value for each of the 64 query heads (or it is one token in KiB); only the 8 key heads are kept, for 131,072 tokens",
            LLAMA / 2: "keys and values are both kept: a factor of 2",
            2 * LLAMA: "that is 4 bytes a number; bfloat16 takes 2",
            LLAMA / 80: "that is one layer; there are 80",
            LLAMA * 2**30 / 1e9: "those are GB of 10^9 bytes; GiB of 2^30 are asked",
        },
    )
    return "half of an 80 GB accelerator, for one reader; with 64 key heads it would fill more than four of them"


def check_latent(answer: Any) -> str:
    expect_number(
        answer,
        (512 + 64) / (2 * 128),
        rtol=0.002,
        what="the number of key heads",
        near_misses={
            576 / 128: "a key head keeps a key *and* a value: 256 numbers",
            512 / 256: "the 64 numbers that carry the position are kept as well",
            128: "that is the number of query heads, and it does not enter",
            256 / 576: "that is the inverse: key heads whose cache equals the latent's are asked",
        },
    )
    return "fewer than three key heads, for 128 query heads"


def check_evidence(answer: Any) -> str:
    expect_choice(
        answer,
        "mean",
        {
            "more text": "a longer text shrinks the error bar, but a constant is missed on every text",
            "map": "a map says where a head looks, not what the model would miss",
            "gradient": "a gradient is the slope near the head as it is; the claim is about taking it away",
            "zeros again": "that is the experiment that has been made; it cannot tell a constant from knowledge",
        },
    )
    return "if its average will do, the head told the model nothing about this token"


TASKS = [
    Task(
        id="03.grouped",
        kind="build",
        title="Grouped-query attention",
        difficulty=2,
        minutes=15,
        hints=(
            "`unflatten(-1, (heads, -1))` cuts the features of each token; then the heads axis moves before time. Do it "
            "for q with `heads`, for k and v with `kv_heads`.",
            "`repeat_interleave(heads // kv_heads, dim=1)` gives neighbours the same key head; `repeat` deals them out in "
            "turn. At the end heads and time change places back before the last two axes become one.",
        ),
        check=check_grouped,
        bank=Bank(
            wrong=[
                Case("in turn", _grouped(group="turns"), "in turn"),
                Case("first key head", _grouped(group="first"), "first key head"),
                Case("averaged", _grouped(group="mean"), "averaged"),
                Case("scale of the width", _grouped(scale=lambda s, d, h: d**-0.5), "whole width"),
                Case("no scale", _grouped(scale=lambda s, d, h: 1.0), "not divided"),
                Case("no root", _grouped(scale=lambda s, d, h: 1 / s), "not by its root"),
                Case("not causal", _grouped(causal=False), "sees the future"),
                Case("merge without transpose", _grouped(merge=_flat_merge), "without a transpose"),
                Case("merge turned", _grouped(merge=_turned_merge), "turns time and features"),
                Case("split into the text", _grouped(split=_flat_split), "cuts the text"),
                Case("no output matrix", _grouped(output=False), "output matrix"),
                Case("keys for values", _exchanged, "exchanged"),
                Case("features dealt out", _grouped(split=_dealt_split), "side by side"),
                Case("asserts", _asserts, "AssertionError"),
                Case("no sizes checked", _grouped(strict=False), "should raise a ValueError"),
                Case("a view that invents tokens", _unchecked_view, "tokens that do not exist"),
                Case("nothing returned", lambda x, w, heads, kv_heads: print(end=""), "return"),
            ],
            right=[Case("a loop over heads", _by_loop), Case("in one piece", _grouped())],
        ),
    ),
    Task(
        id="03.mend",
        kind="debug",
        title="The right shape, the wrong tokens",
        difficulty=2,
        minutes=10,
        hints=(
            "Two lines are wrong, and each hides behind a shape that fits. Feed it `torch.arange` and look at what a "
            "head holds after the split.",
            "`view(batch, heads, n, -1)` cuts the sequence. Cut the last axis, then swap heads and time; to merge, swap "
            "them back before you flatten.",
        ),
        check=check_mend,
        bank=Bank(
            wrong=[
                Case("as given", _mend(_flat_split, _turned_merge), "as given"),
                Case("split only", _mend(_split, _turned_merge), "the merge still turns"),
                Case("merge only", _mend(_flat_split, _merge), "still cuts the text"),
                Case("merge without transpose", _mend(_split, _flat_merge), "no transpose"),
                Case("undone but wrong", _mend(_flat_split, _flat_merge), "undo each other"),
                Case("three heads always", lambda x, w, heads: _grouped()(x, w, 3, 3), "fixed in the code"),
                Case("mask lost", _mend(_split, _merge, causal=False), "mask is gone"),
                Case("heads forgotten", lambda x, w, heads: x @ w[0] @ w[3], "output"),
                Case("four axes", lambda x, w, heads: _split(x @ w[0], heads), "(2, 6, 12)"),
            ],
            right=[Case("by einsum", _mend_by_einsum), Case("mended", _mend(_split, _merge))],
        ),
    ),
    Task(
        id="03.cache",
        kind="reason",
        title="One long text in a 70B model",
        difficulty=1,
        minutes=5,
        hints=(
            "What is kept for each token, in each layer? Query heads are not in the list.",
            "2 · layers · key heads · head size · tokens · bytes, divided by 2^30.",
        ),
        check=check_cache,
        bank=Bank(
            wrong=[
                Case("64 heads", 320, "64 query heads"),
                Case("keys only", 20.0, "both kept"),
                Case("float32", 80, "4 bytes"),
                Case("one layer", 0.5, "one layer"),
                Case("GB", 42.95, "10^9"),
                Case("one token", 320 * 1.0 * 128, "not right"),
                Case("words", "40 GiB", "number"),
            ],
            right=[Case("as an integer", 40), Case("worked out", 2 * 80 * 8 * 128 * 2**17 * 2 / 2**30)],
        ),
    ),
    Task(
        id="03.latent",
        kind="reason",
        title="How many key heads is a latent worth?",
        difficulty=2,
        minutes=4,
        hints=(
            "Count the numbers kept a token and layer in both.",
            "The latent keeps 512 + 64; a key head keeps 2 · 128.",
        ),
        check=check_latent,
        bank=Bank(
            wrong=[
                Case("keys only", 4.5, "*and* a value"),
                Case("no positions", 2, "position"),
                Case("query heads", 128, "does not enter"),
                Case("inverse", 256 / 576, "inverse"),
                Case("rounded", 2.3, "not right"),
            ],
            right=[Case("a fraction", 9 / 4)],
        ),
    ),
    Task(
        id="03.evidence",
        kind="reason",
        title="What does the dearest head know?",
        difficulty=2,
        minutes=3,
        hints=(
            "What does the rest of the model receive in place of the head, when it is set to zero?",
            "A head that says the same to every token is missed as well. Let it go on saying just that.",
        ),
        check=check_evidence,
        bank=Bank(
            wrong=[
                Case("more text", "more text", "error bar"),
                Case("map", "map", "where a head looks"),
                Case("gradient", "gradient", "slope"),
                Case("again", "zeros again", "cannot tell"),
                Case("other", "prune it", "should be one of"),
                Case("number", 3, "should be one of"),
            ],
            right=[Case("in capitals", " Mean ")],
        ),
    ),
]
