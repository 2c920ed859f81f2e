"""Lab 01, self-attention: build it, test it for leaks, mend a mask, and count what it costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from llmlab.course.checking import Bank, Case, Task, Wrong, call, expect, expect_close, expect_finite, expect_number


def _made(batch: int, heads: int, queries: int, keys: int, d: int, *, seed: int) -> tuple[Any, Any, Any]:
    import torch

    g = torch.Generator().manual_seed(seed)
    shapes = (queries, keys, keys)
    q, k, v = (torch.randn(batch, heads, t, d, generator=g, dtype=torch.float64) for t in shapes)
    return 2 * q, k, v


def _right(q: Any, k: Any, v: Any, allowed: Any = None, scale: float | None = None) -> Any:
    """torch's own attention in float64, with zeros where nothing may be seen."""
    from torch.nn.functional import scaled_dot_product_attention

    out = scaled_dot_product_attention(q, k, v, attn_mask=allowed, scale=scale)
    if allowed is None:
        return out
    return out.masked_fill(~allowed.expand(*q.shape[:3], k.shape[2]).any(-1, keepdim=True), 0.0)


def _weights(q: Any, k: Any, allowed: Any) -> Any:
    return (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(~allowed, -math.inf).softmax(-1)


def check_attention(answer: Any) -> str:
    import torch

    q, k, v = _made(2, 3, 5, 7, 8, seed=1)
    raw = q @ k.mT
    expect_close(
        call(answer, q, k, v),
        _right(q, k, v),
        "the output without a mask",
        near_misses=[
            (raw.softmax(-1) @ v, "the scores are not divided by the root of d"),
            ((raw / 8).softmax(-1) @ v, "the scores are divided by d, not by its root"),
            (
                (raw / math.sqrt(8)).softmax(-2) @ v,
                "the softmax runs over the queries; each query's weights must sum to 1",
            ),
            (
                (raw / math.sqrt(7)).softmax(-1) @ v,
                "the scale uses the number of keys; it is the head size d that counts",
            ),
            (
                (raw / math.sqrt(3)).softmax(-1) @ v,
                "the scale uses the number of heads; it is the head size d that counts",
            ),
        ],
    )
    wide = torch.cat([v, v.flip(-1)], dim=-1)
    expect_close(
        call(answer, q, k, wide),
        _right(q, k, wide),
        "the output for values wider than the queries",
        near_misses=[
            ((raw / math.sqrt(16)).softmax(-1) @ wide, "the scale uses the width of the values; d is the queries'")
        ],
    )
    mask = torch.tensor([[1, 1, 0, 1, 0, 0, 1], [1, 0, 0, 0, 0, 0, 0]], dtype=torch.bool)[:, None, None, :]
    scores = raw / math.sqrt(8)
    expect_close(
        call(answer, q, k, v, mask=mask),
        _right(q, k, v, mask),
        "the output with a mask (True: may look)",
        near_misses=[
            (_right(q, k, v), "the mask is not used"),
            (_right(q, k, v, ~mask), "the mask is read the wrong way round: True means that the query may look"),
            (
                (scores.softmax(-1) * mask) @ v,
                "the mask is applied after the softmax: the hidden keys stay in the denominator",
            ),
            (
                (scores * mask).softmax(-1) @ v,
                "the mask is multiplied into the scores: a score of 0 has the weight exp(0) = 1",
            ),
            (
                (scores + mask).softmax(-1) @ v,
                "the mask is added to the scores as 0 and 1; a hidden key needs minus infinity",
            ),
        ],
    )
    _check_causal(answer)
    _check_empty_rows(answer)
    return "scaled, masked before the softmax, causal for any number of keys, zero where nothing may be seen"


def _check_causal(answer: Any) -> None:
    import torch

    for queries, keys in ((6, 6), (2, 6)):
        q, k, v = _made(1, 2, queries, keys, 4, seed=2)
        ones = torch.ones(queries, keys, dtype=torch.bool)
        near = [
            (_right(q, k, v), "causal=True changes nothing"),
            (_right(q, k, v, ones.tril(keys - queries - 1)), "a token does not see itself; it may"),
            (_right(q, k, v, ones.triu(keys - queries)), "the triangle is the upper one: every token sees the future"),
        ]
        if queries != keys:
            near.append(
                (
                    _right(q, k, v, ones.tril()),
                    "with fewer queries than keys the queries are the *last* tokens: align the triangle at the bottom right",
                )
            )
        expect_close(
            call(answer, q, k, v, causal=True),
            _right(q, k, v, ones.tril(keys - queries)),
            f"the causal output for {queries} queries and {keys} keys",
            near_misses=near,
        )
    q, k, v = _made(1, 1, 4, 4, 4, seed=3)
    mask = torch.tensor([True, False, True, True])[None, None, None]
    both = mask & torch.ones(4, 4, dtype=torch.bool).tril()
    expect_close(
        call(answer, q, k, v, mask=mask, causal=True),
        _right(q, k, v, both),
        "the output with a mask and causal=True together",
        near_misses=[
            (_right(q, k, v, mask), "a mask switches causal off; both hold at once"),
            (
                _right(q, k, v, torch.ones(4, 4, dtype=torch.bool).tril()),
                "causal switches the mask off; both hold at once",
            ),
        ],
    )


def _check_empty_rows(answer: Any) -> None:
    import torch

    q, k, v = _made(1, 1, 3, 4, 4, seed=4)
    mask = torch.tensor([[1, 1, 0, 1], [0, 0, 0, 0], [0, 1, 1, 0]], dtype=torch.bool)[None, None]
    v = v.requires_grad_(True)
    out = call(answer, q.requires_grad_(True), k, v, mask=mask)
    expect_finite(
        out, "the output of a query that may see nothing", "a row of minus infinities makes 0/0 in the softmax"
    )
    mean = v.mean(-2, keepdim=True).expand_as(v)[:, :, :3]
    expect(
        not torch.allclose(out[0, 0, 1], mean[0, 0, 1]),
        "a query that may see nothing gets the mean of all values: one large negative number everywhere cancels in the softmax",
    )
    expect_close(out, _right(q, k, v, mask), "the output of a query that may see nothing (zeros are asked for)")
    out = answer(q, k, v, mask=mask)
    if isinstance(out, torch.Tensor) and out.requires_grad:
        (gradient,) = torch.autograd.grad(out.sum(), q)
        expect_finite(
            gradient,
            "the gradient at a query that may see nothing",
            "mend the scores before the softmax, not only the output",
        )


def _sdpa(q: Any, k: Any, v: Any, mask: Any = None, causal: bool = False) -> Any:
    """A right answer, written in another way than the solution: torch's kernel and an explicit mask."""
    import torch

    allowed = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool)
    if causal:
        allowed = allowed.tril(k.shape[-2] - q.shape[-2])
    if mask is not None:
        allowed = allowed & mask
    return _right(q, k, v, allowed.expand(q.shape[0], 1, q.shape[2], k.shape[2]))


def _variant(
    *,
    divide: Callable[[int], float] = math.sqrt,
    top_left: bool = False,
    strict: int = 0,
    after: bool = False,
    times: bool = False,
    fill: float = -math.inf,
    inverted: bool = False,
    zero_rows: bool = True,
    axis: int = -1,
    either: bool = False,
) -> Callable[..., Any]:
    """A wrong answer: attention with one thing changed."""

    def attention(q: Any, k: Any, v: Any, mask: Any = None, causal: bool = False) -> Any:
        import torch

        n, m = q.shape[-2], k.shape[-2]
        allowed = torch.ones(n, m, dtype=torch.bool)
        if causal:
            allowed = allowed.tril((0 if top_left else m - n) - strict)
        if mask is not None:
            allowed = (~mask if inverted else mask) if either else allowed & (~mask if inverted else mask)
        scores = q @ k.mT / divide(q.shape[-1])
        if after:
            weights = scores.softmax(axis) * allowed
        elif times:
            weights = (scores * allowed).softmax(axis)
        else:
            weights = scores.masked_fill(~allowed, fill).softmax(axis)
        if zero_rows:
            weights = weights.masked_fill(~allowed.any(-1, keepdim=True), 0.0)
        return weights @ v

    return attention


def _scaled_by_values(q: Any, k: Any, v: Any, mask: Any = None, causal: bool = False) -> Any:
    return _variant(divide=lambda d: math.sqrt(v.shape[-1]))(q, k, v, mask=mask, causal=causal)


def _adds_infinity(q: Any, k: Any, v: Any, mask: Any = None, causal: bool = False) -> Any:
    """Adds log(mask): the output is mended with nan_to_num, but 0/0 still flows backwards into q and k."""
    import torch

    n, m = q.shape[-2], k.shape[-2]
    allowed = torch.ones(n, m, dtype=torch.bool).tril(m - n) if causal else torch.ones(n, m, dtype=torch.bool)
    allowed = allowed if mask is None else allowed & mask
    return (q @ k.mT / math.sqrt(q.shape[-1]) + allowed.double().log()).softmax(-1).nan_to_num() @ v


def check_leaks(answer: Any) -> str:
    import torch

    good = {"a right causal attention": _variant(), "another right one, by torch": _sdpa}
    bad: dict[str, Callable[..., Any]] = {
        "attention without a mask": _variant(),
        "a mask applied after the softmax": _variant(after=True),
        "a mask multiplied into the scores": _variant(times=True),
        "a triangle that lets every token see one token ahead": _variant(strict=-1),
        "a leak into the first token alone": _first_token_leaks,
        "a leak from the second token to the first": _second_token_leaks,
        "a leak through the keys only": _leaks_through_keys,
    }
    as_causal = lambda f: lambda q, k, v: f(q, k, v, causal=True)  # noqa: E731
    for name, function in good.items():
        if bool(call(answer, as_causal(function))):
            raise Wrong(f"{name} is said to leak: does your test compare positions that may see the change?")
    for name, function in bad.items():
        plain = function if name.startswith(("attention without", "a leak")) else as_causal(function)
        torch.manual_seed(1)
        if not bool(call(answer, plain)):
            raise Wrong(
                f"{name} is not found: change the key and the value of each token in turn, and compare every earlier output"
            )
    return "finds seven kinds of leak, and clears two right attentions"


def _first_token_leaks(q: Any, k: Any, v: Any) -> Any:
    out = _variant()(q, k, v, causal=True)
    out[:, :, 0] += 0.1 * v[:, :, -1]
    return out


def _second_token_leaks(q: Any, k: Any, v: Any) -> Any:
    out = _variant()(q, k, v, causal=True)
    out[:, :, 0] += 0.1 * (k + v)[:, :, 1]
    return out


def _leaks_through_keys(q: Any, k: Any, v: Any) -> Any:
    return _variant()(q, k, v, causal=True) * (1 + 0.1 * k.mean(dim=(-1, -2), keepdim=True))


def _leak_test(
    *, change: str = "kv", compare: str = "earlier", position: int = -1, size: float = 1.0
) -> Callable[..., bool]:
    """A leak test; changed in one thing it is a wrong answer."""

    def leaks(attention: Any) -> bool:
        import torch

        q, k, v = torch.randn(3, 1, 2, 6, 4, dtype=torch.float64).unbind()
        before = attention(q, k.clone(), v.clone())
        k, v = k.clone(), v.clone()
        if "k" in change:
            k[:, :, position] += size
        if "v" in change:
            v[:, :, position] += size
        after = attention(q, k, v)
        rows = {"earlier": slice(None, -1), "all": slice(None), "last": slice(-1, None), "middle": slice(1, -1)}[
            compare
        ]
        return not torch.allclose(before[:, :, rows], after[:, :, rows], atol=1e-9)

    return leaks


def _reads_weights(attention: Any) -> bool:
    """Looks at one value per key, as an attention map does: zero weight, no leak."""
    import torch

    q, k = torch.randn(2, 1, 1, 6, 6, dtype=torch.float64).unbind()
    weights = attention(q, k, torch.eye(6, dtype=torch.float64)[None, None])
    return bool((weights.triu(1).abs() > 1e-9).any())


def _by_gradient(attention: Any) -> bool:
    """A right answer written differently: no gradient may flow from an output to a later key or value."""
    import torch

    q, k, v = (torch.randn(1, 1, 5, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    out = attention(q, k * 1, v * 1)
    for i in range(4):
        for g in torch.autograd.grad(out[:, :, i].pow(2).sum(), (k, v), retain_graph=True, allow_unused=True):
            if g is not None and (g[:, :, i + 1 :].abs() > 1e-12).any():
                return True
    return False


def check_mend(answer: Any) -> str:
    import torch

    q, k, v = _made(2, 2, 6, 6, 4, seed=5)
    lengths = torch.tensor([6, 4])
    padding = (torch.arange(6)[None] < lengths[:, None])[:, None, None]
    allowed = padding & torch.ones(6, 6, dtype=torch.bool).tril()
    scores = q @ k.mT / 2
    got = call(answer, q, k, v, padding)
    expect_close(
        got,
        _right(q, k, v, allowed),
        "the output",
        near_misses=[
            ((scores.softmax(-1) * allowed) @ v, "this is the code as given: the mask comes after the softmax"),
            ((scores * allowed).softmax(-1) @ v, "multiplied into the scores a hidden key keeps the weight exp(0) = 1"),
            (_right(q, k, v, padding), "the padding is hidden, the future is not"),
            (_right(q, k, v, allowed | ~padding), "the future is hidden, the padding is not"),
            (
                (scores.masked_fill(~padding, -math.inf).softmax(-1).tril()) @ v,
                "the padding is hidden before the softmax, the future still after it",
            ),
        ],
    )
    return "weights of every query sum to one over what it may see"


def _renormalised(q: Any, k: Any, v: Any, padding: Any) -> Any:
    """A right answer written differently: weights zeroed after the softmax, then divided by their sum."""
    w = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1) * padding
    w = w.tril()
    return w / w.sum(-1, keepdim=True) @ v


def check_score_bytes(answer: Any) -> str:
    expect_number(
        answer,
        32 * 131_072**2 * 2 / 2**30,
        rtol=0.005,
        unit="GiB",
        what="the score matrices of one layer",
        near_misses={
            131_072**2 * 2 / 2**30: "that is one head; the layer has 32",
            32 * 131_072**2 * 4 / 2**30: "that is float32, at 4 bytes; bfloat16 takes 2",
            32 * 131_072**2 / 2**30: "that counts numbers, not bytes: bfloat16 takes 2 each",
            32 * 131_072**2 * 2 / 1e9: "those are GB of 10^9 bytes; GiB of 2^30 are asked",
            131_072
            * 4096
            * 2
            / 2**30: "that is the layer's input; the score matrix is tokens by tokens, for each head",
        },
    )
    return "a matrix that no accelerator holds, which is why it is never written down"


def check_share(answer: Any) -> str:
    if not (isinstance(answer, tuple | list) and len(answer) == 2):
        raise Wrong("two numbers are asked for, (share at 4,096 tokens, share at 131,072 tokens)")
    d = 4096
    for n, value in zip((4096, 131_072), answer):
        expect_number(
            value,
            4 * n * n * d / (24 * n * d * d + 4 * n * n * d),
            rtol=0.01,
            what=f"the share of attention itself at {n:,} tokens",
            near_misses={
                4 * n * n * d / (24 * n * d * d): "that is attention divided by the rest; a share divides by the whole",
                24 * n * d * d / (24 * n * d * d + 4 * n * n * d): "that is the share of the matrices, the other part",
                n / (n + 2 * d): "the projections alone cost 8nd²; the feed-forward adds 16nd²",
                n / (n + 12 * d): "attention multiplies twice: scores and weighted sum, 2n²d each",
                100 * n / (n + 6 * d): "a share between 0 and 1 is asked, not a percentage",
            },
        )
    return "one seventh at 4 k, most of the work at 128 k"


TASKS = [
    Task(
        id="01.attention",
        kind="build",
        title="Attention that survives every mask",
        difficulty=2,
        minutes=15,
        hints=(
            "Put minus infinity where a query may not look, before the softmax. For causal, the last query stands "
            "at the last key: with fewer queries than keys the triangle moves right.",
            "A row of minus infinities has no softmax. Find those rows with `allowed.any(-1, keepdim=True)`, give "
            "them any finite score before the softmax, and set their weights to zero after it.",
        ),
        check=check_attention,
        bank=Bank(
            wrong=[
                Case("no scale", _variant(divide=lambda d: 1.0), "not divided by the root of d"),
                Case("divided by d", _variant(divide=float), "not by its root"),
                Case("divided by the values' width", _scaled_by_values, "width of the values"),
                Case("softmax over queries", _variant(axis=-2), "over the queries"),
                Case("inverted mask", _variant(inverted=True), "wrong way round"),
                Case("after the softmax", _variant(after=True), "after the softmax"),
                Case("multiplied", _variant(times=True), "multiplied into the scores"),
                Case("top left", _variant(top_left=True), "bottom right"),
                Case("not itself", _variant(strict=1), "does not see itself"),
                Case("sees one ahead", _variant(strict=-1), "causal output"),
                Case("mask instead of causal", _variant(either=True), "both hold at once"),
                Case("NaN rows", _variant(zero_rows=False), "NaN"),
                Case("NaN gradient", _adds_infinity, "gradient"),
                Case("mean of all", _variant(fill=-1e9, zero_rows=False), "mean of all values"),
                Case(
                    "values forgotten", lambda q, k, v, mask=None, causal=False: (q @ k.mT).softmax(-1), "(2, 3, 5, 7)"
                ),
            ],
            right=[Case("torch's kernel", _sdpa)],
        ),
    ),
    Task(
        id="01.leaks",
        kind="build",
        title="A test that finds every leak",
        difficulty=2,
        minutes=8,
        hints=(
            "Run the attention twice: once as it is, once with one token's key and value changed.",
            "Do it for every token: all outputs before it must stay. Weights of zero are no proof: the denominator leaks.",
        ),
        check=check_leaks,
        bank=Bank(
            wrong=[
                Case("compares all positions", _leak_test(compare="all"), "said to leak"),
                Case("compares the last only", _leak_test(compare="last"), "said to leak"),
                Case("changes the last token only", _leak_test(), "second token to the first"),
                Case("changes values only", _leak_test(change="v"), "not found"),
                Case("changes keys only", _leak_test(change="k"), "not found"),
                Case("skips the first token", _leak_test(compare="middle"), "first token"),
                Case("changes the past", _leak_test(position=0), "said to leak"),
                Case("reads the map", _reads_weights, "not found"),
                Case("trusts everyone", lambda attention: False, "not found"),
            ],
            right=[Case("by gradient", _by_gradient)],
        ),
    ),
    Task(
        id="01.mend",
        kind="debug",
        title="A mask that does not mask",
        difficulty=2,
        minutes=7,
        hints=(
            "Print the sum of each row of weights. What should it be?",
            "A hidden key must not take part in the softmax at all: give it minus infinity before, not zero after.",
        ),
        check=check_mend,
        bank=Bank(
            wrong=[
                Case("as given", lambda q, k, v, p: ((q @ k.mT / 2).softmax(-1) * p).tril() @ v, "as given"),
                Case("multiplied", lambda q, k, v, p: (q @ k.mT / 2 * p).tril().softmax(-1) @ v, "exp(0)"),
                Case(
                    "padding only",
                    lambda q, k, v, p: (q @ k.mT / 2).masked_fill(~p, -math.inf).softmax(-1) @ v,
                    "the future is not",
                ),
                Case(
                    "half mended",
                    lambda q, k, v, p: (q @ k.mT / 2).masked_fill(~p, -math.inf).softmax(-1).tril() @ v,
                    "still after it",
                ),
            ],
            right=[Case("divided by the sum afterwards", _renormalised)],
        ),
    ),
    Task(
        id="01.score_bytes",
        kind="reason",
        title="The matrix that is never written down",
        difficulty=1,
        minutes=5,
        hints=(
            "How many rows and columns has one head's score matrix?",
            "heads · tokens² · bytes a number, then divide by 2^30.",
        ),
        check=check_score_bytes,
        bank=Bank(
            wrong=[
                Case("one head", 32.0, "one head"),
                Case("float32", 2048, "float32"),
                Case("no bytes", 512, "2 each"),
                Case("GB", 32 * 131_072**2 * 2 / 1e9, "GiB"),
                Case("words", "1 TiB", "number"),
            ],
            right=[Case("as a power", 2**10)],
        ),
    ),
    Task(
        id="01.share",
        kind="reason",
        title="When is attention the expensive part?",
        difficulty=2,
        minutes=5,
        hints=("24nd² for the matrices, 4n²d for attention itself.", "4n²d / (24nd² + 4n²d) = n / (n + 6d)."),
        check=check_share,
        bank=Bank(
            wrong=[
                Case("ratio", (1 / 6, 32 / 6), "divides by the whole"),
                Case("the other part", (6 / 7, 6 / 38), "the other part"),
                Case("without feed-forward", (1 / 3, 32 / 34), "feed-forward"),
                Case("attention once", (1 / 13, 32 / 44), "twice"),
                Case("percent", (100 / 7, 3200 / 38), "percentage"),
                Case("one number", 1 / 7, "two numbers"),
            ],
            right=[Case("as fractions", [1 / 7, 32 / 38])],
        ),
    ),
]
