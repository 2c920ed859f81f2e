"""Lab 09, scale: allocate a budget, mend a split that leaks, and work out days, bytes and epochs."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

from llmlab.course.checking import Bank, Case, Task, Wrong, call, expect, expect_number
from llmlab.course.expect import expect_type
from llmlab.estimate import BESIROGLU, Fit, compute_optimal

# --- Build: the compute-optimal allocator

SKEW = Fit(E=1.0, A=120.0, B=5000.0, alpha=0.30, beta=0.42)
EPOCHS = 4


def _plan(flops: float, fit: Fit, unique: float | None = None) -> tuple[float, float]:
    n, d = compute_optimal(flops, fit=fit)
    if unique is not None and d > EPOCHS * unique:
        d = EPOCHS * unique
        n = flops / 6 / d
    return n, d


def check_allocate(answer: Any) -> str:
    for fit, flops in ((BESIROGLU, 5.76e23), (SKEW, 1e20), (SKEW, 3e24)):
        _expect_plan(call(answer, flops, fit), flops, fit, None)
    n, d = compute_optimal(5.76e23)
    for unique in (d, 0.26 * d, 0.24 * d, d / 100):
        _expect_plan(call(answer, 5.76e23, BESIROGLU, unique), 5.76e23, BESIROGLU, unique)
    _expect_plan(call(answer, 1e20, SKEW, 1e9), 1e20, SKEW, 1e9)
    return "the optimum of any fit, and all of the budget spent when the text runs out"


def _expect_plan(got: Any, flops: float, fit: Fit, unique: float | None) -> None:
    if not (isinstance(got, tuple | list) and len(got) == 2):
        raise Wrong("two numbers are asked for: (parameters, tokens)")
    n, d = _plan(flops, fit, unique)
    best_n, best_d = compute_optimal(flops, fit=fit)
    where = f"for {flops:g} operations" + (
        "" if unique is None else f" and {unique / best_d:.2g} of the text it would like"
    )
    alpha, beta, c = fit.alpha, fit.beta, flops / 6
    g = (alpha * fit.A / (beta * fit.B)) ** (1 / (alpha + beta))
    bound = unique is not None and best_d > EPOCHS * unique
    tokens = [
        (g * flops ** (beta / (alpha + beta)), "that is the number of parameters: the order is (parameters, tokens)"),
        (
            math.sqrt(20 * c),
            "20 tokens a parameter is what one fit says of one budget; minimise the loss of the fit given",
        ),
        (c / (g * c ** (alpha / (alpha + beta))), "the exponents are swapped: N grows with C to the β / (α + β)"),
        (c ** (alpha / (alpha + beta)) * g, "G and 1/G are swapped: the larger A, the more parameters are worth"),
        (flops / (g * flops ** (beta / (alpha + beta))), "the 6 of C = 6ND is missing"),
        (c / (c ** (beta / (alpha + beta))), "the constant G is missing: A and B say how much each term weighs"),
    ]
    if bound:
        tokens = [
            (best_d, "the text runs out: at most four epochs of the unique tokens can be read"),
            (unique, "four epochs are allowed, not one"),
            *tokens,
        ]
    parameters = (
        [(best_n, "the tokens are capped, so budget is left over: spend it on parameters, N = C / 6D")] if bound else []
    )
    if unique is not None and not bound:
        tokens = [
            (EPOCHS * unique, "there is text enough: the cap is a limit, not a wish"),
            (unique, "there is text enough, if four epochs are read: cap at 4 · unique, not at unique"),
            *tokens,
        ]
    expect_number(got[1], d, rtol=0.01, what=f"the tokens {where}", near_misses=tokens)
    expect_number(got[0], n, rtol=0.01, what=f"the parameters {where}", near_misses=parameters)
    spent = 6 * float(got[0]) * float(got[1]) / flops
    expect(abs(spent - 1) < 0.005, f"{where}: 6ND is {spent:.1%} of the budget; it should be all of it")


def _allocator(
    *,
    ratio: float | None = None,
    swap: bool = False,
    six: float = 6.0,
    invert: bool = False,
    cap: float = EPOCHS,
    respend: bool = True,
    always: bool = False,
    order: int = 1,
    constant: bool = True,
) -> Callable[..., Any]:
    """An allocator; changed in one thing it is a wrong answer."""

    def allocate(flops: float, fit: Any, unique: float | None = None) -> Any:
        a, b = (fit.beta, fit.alpha) if swap else (fit.alpha, fit.beta)
        g = (fit.alpha * fit.A / (fit.beta * fit.B)) ** (1 / (a + b)) if constant else 1.0
        c = flops / six
        n = (1 / g if invert else g) * c ** (b / (a + b))
        if ratio:
            n = (c / ratio) ** 0.5
        d = c / n
        if unique is not None and (always or d > cap * unique):
            d = cap * unique
            n = c / d if respend else n
        return (n, d)[::order]

    return allocate


def _searched(flops: float, fit: Any, unique: float | None = None) -> Any:
    """A right answer written differently: look at many sizes."""
    import numpy as np

    n = np.geomspace(1e3, 1e16, 100_001)
    d = flops / 6 / n
    loss = fit.A / n**fit.alpha + fit.B / d**fit.beta
    if unique is not None:
        loss[d > 4.0001 * unique] = np.inf
    best = int(np.argmin(loss))
    return float(n[best]), float(d[best])


def _numeric(flops: float, fit: Any, unique: float | None = None) -> Any:
    """Another: halve an interval on the derivative."""
    low, high = 0.0, 60.0
    for _ in range(200):
        mid = (low + high) / 2
        n = math.exp(mid)
        d = flops / 6 / n
        if fit.alpha * fit.A / n**fit.alpha > fit.beta * fit.B / d**fit.beta:
            low = mid
        else:
            high = mid
    d = flops / 6 / math.exp(low)
    d = d if unique is None else min(d, 4 * unique)
    return [flops / 6 / d, d]


def _just_chinchilla(flops: float, fit: Any, unique: float | None = None) -> Any:
    """Right for one fit only: the constants are built in."""
    return _plan(flops, BESIROGLU, unique)


# --- Debug: the validation set inside the training set

Split = Callable[[list[str], int, float], Any]


def _documents(count: int, length: Callable[[int], int], start: int = 0x4E00) -> list[str]:
    """Documents in which no character occurs twice, so that every window says where it comes from."""
    made, at = [], start
    for i in range(count):
        made.append("".join(chr(at + j) for j in range(length(i))))
        at += length(i)
    return made


def check_split(answer: Any) -> str:
    documents = _documents(40, lambda i: 30 + 7 * (i % 5))
    valid = _expect_split(call(answer, documents, 10, 0.2), documents, 10, 8)
    expect(
        valid not in (set(range(8)), set(range(32, 40))),
        "the validation documents are the first or the last of the list, which is sorted by topic: draw them at random",
    )
    at = sorted(valid)
    expect(
        len({b - a for a, b in zip(at, at[1:])}) > 1,
        f"the validation documents are every {at[1] - at[0]}th of the list: what returns with that step, a weekday or a "
        "source, is then on one side alone. Draw them at random",
    )
    copies = documents[:20] + documents[5:15] + documents[:3]
    _expect_split(call(answer, copies, 10, 0.2), documents[:20], 10, 4)
    _expect_split(call(answer, documents[:10], 7, 0.01), documents[:10], 7, 1)
    short = _documents(12, lambda i: 5 if i % 3 == 0 else 25, 0x6000)
    _expect_split(call(answer, short, 10, 0.5), short, 10, None)
    return "no character, no document and no copy stands on both sides"


def _expect_split(got: Any, documents: Sequence[str], length: int, wanted: int | None) -> set[int]:
    """That (train, valid) is a clean split of these distinct documents; the documents of the validation side."""
    if not (isinstance(got, tuple | list) and len(got) == 2 and all(isinstance(side, list | tuple) for side in got)):
        raise Wrong("two lists of windows are asked for: (train, valid)")
    home = {c: i for i, text in enumerate(documents) for c in text}
    sides, seen = [], []
    for name, side in zip(("training", "validation"), got):
        expect(len(side) > 0, f"the {name} side is empty; at least one document goes to each")
        for window in side:
            expect_type(window, str, f"a {name} window")
            expect(len(window) == length, f"a {name} window has {len(window)} characters, not {length}")
            expect(len({home.get(c) for c in window}) == 1, f"a {name} window reaches over the end of a document")
            expect(window[0] in home and window in documents[home[window[0]]], f"a {name} window stands in no document")
        sides.append({home[window[0]] for window in side})
        seen.append([c for window in side for c in window])
    train, valid = (set(part) for part in seen)
    both = sides[0] & sides[1]
    if train & valid:
        raise Wrong(
            f"{len(train & valid)} characters of {len(valid)} on the validation side were trained on as well: windows "
            "that overlap, or copies of a document, went to both sides. Split the documents first, then cut windows"
        )
    expect(not both, f"{len(both)} documents have windows on both sides: a document goes to one side as a whole")
    for name, part in zip(("training", "validation"), seen):
        expect(
            len(part) == len(set(part)),
            f"the {name} side holds some characters twice: cut one window after the other, and keep one copy of a document",
        )
    whole = {c for text in documents for c in text[: len(text) // length * length]}
    expect(
        whole <= train | valid,
        f"{len(whole - train - valid)} characters of full windows are on no side: only what fills no window is left out",
    )
    if wanted is not None and len(sides[1]) != wanted:
        raise Wrong(
            f"{len(sides[1])} of {len(documents)} distinct documents are on the validation side; expected {wanted}: "
            "the share is of distinct documents, rounded, and never 0"
        )
    return sides[1]


def _cut(documents: Sequence[str], length: int, stride: int | None = None) -> list[str]:
    step = stride or length
    return [text[i : i + length] for text in documents for i in range(0, len(text) - length + 1, step)]


def _split(
    *,
    distinct: bool = True,
    stride: float = 1.0,
    draw: Callable[[list[str]], list[str]] | None = None,
    count: Callable[[float], int] = lambda x: max(1, round(x)),
    ends: bool = False,
    both: bool = False,
) -> Split:
    """A split by documents; changed in one thing it is a wrong answer."""

    def split(documents: list[str], length: int, share: float) -> Any:
        texts = list(dict.fromkeys(documents)) if distinct else list(documents)
        if draw is None:
            random.Random(0).shuffle(texts)
        else:
            texts = draw(texts)
        k = count(share * len(texts))
        step = int(stride * length)
        train, valid = texts[k:], texts[:k]
        if both:
            train = texts
        if ends:
            return [t[i : i + length] for t in train for i in range(0, len(t), length)], _cut(valid, length)
        return _cut(train, length, step), _cut(valid, length, step)

    return split


def _popular(documents: list[str], length: int, share: float) -> Any:
    text = "".join(documents)
    windows = [text[i : i + length] for i in range(0, len(text) - length + 1, length // 2)]
    random.Random(0).shuffle(windows)
    k = int(len(windows) * share)
    return windows[k:], windows[:k]


def _windows_first(documents: list[str], length: int, share: float) -> Any:
    windows = _cut(list(dict.fromkeys(documents)), length)
    random.Random(0).shuffle(windows)
    k = round(len(windows) * share)
    return windows[k:], windows[:k]


def _cut_in_two(documents: list[str], length: int, share: float) -> Any:
    text = "".join(dict.fromkeys(documents))
    k = int(len(text) * (1 - share))
    return _cut([text[:k]], length), _cut([text[k:]], length)


def _set_of_windows(documents: list[str], length: int, share: float) -> Any:
    train, valid = _split(distinct=False)(documents, length, share)
    return [w for w in train if w not in set(valid)], valid


def _by_hash(documents: list[str], length: int, share: float) -> Any:
    """A right answer written differently: the order is that of hashes."""
    import hashlib

    texts = sorted(set(documents), key=lambda text: hashlib.sha256(text.encode()).hexdigest())
    k = max(1, round(share * len(texts)))
    return _cut(texts[k:], length), _cut(texts[:k], length)


def _sampled(documents: list[str], length: int, share: float) -> Any:
    """Another: draw the validation documents, keep the order of the list."""
    texts = list(dict.fromkeys(documents))
    held = set(random.Random(7).sample(range(len(texts)), max(1, round(share * len(texts)))))
    return (
        _cut([t for i, t in enumerate(texts) if i not in held], length),
        _cut([t for i, t in enumerate(texts) if i in held], length),
    )


# --- Reason: days of a published model

N, D, PEAK, MFU, CARDS_USED, HOURS = 70e9, 2e12, 312e12, 0.4, 2048, 1_720_320


def _budget(**changes: Any) -> dict[str, Any]:
    flops = 6 * N * D
    hours = flops / (PEAK * MFU) / 3600
    told = {
        "flops": flops,
        "hours": hours,
        "days": hours / CARDS_USED / 24,
        "reached": flops / (HOURS * 3600 * PEAK),
        "state_gb": 16 * N / 1e9,
    }
    return {**told, **changes}


def check_days(answer: Any) -> str:
    right = _budget()
    _need(answer, right)
    flops = right["flops"]
    expect_number(
        answer["flops"], flops, rtol=0.02, what="the operations",
        near_misses={
            2 * N * D: "2ND is the forward pass; the backward pass costs twice as much again",
            4 * N * D: "4ND is the backward pass; the forward pass costs 2ND more",
            8 * N * D: "8ND counts a second forward pass, for recomputation; here it is 6ND",
            N * D: "each parameter takes part in one multiplication and one addition, forward, and twice that backward",
        },
    )  # fmt: skip
    expect_number(
        answer["hours"], right["hours"], rtol=0.02, what="the GPU hours",
        near_misses={
            right["hours"] * MFU: "that is at 100 % of the peak; no run reaches it. Divide by 0.4",
            right["hours"] * MFU * MFU: "the utilisation divides the rate, so it makes the hours more, not fewer",
            right["hours"] * 3600: "those are seconds",
            right["hours"] / 24: "those are days of one GPU",
            right["hours"] / CARDS_USED: "those are hours of the whole cluster; the sum over all GPUs is asked",
            right["hours"] / 2: "624e12 is the rate with structured sparsity; dense it is 312e12",
        },
    )  # fmt: skip
    expect_number(
        answer["days"], right["days"], rtol=0.02, unit="days", what="the days on 2,048 GPUs",
        near_misses={
            right["days"] * 24: "those are hours",
            right["days"] * CARDS_USED: "that is one GPU",
            right["days"] * MFU: "that is at 100 % of the peak",
        },
    )  # fmt: skip
    expect_number(
        answer["reached"], right["reached"], rtol=0.02, what="the utilisation that the published hours imply",
        near_misses={
            100 * right["reached"]: "as a share of 1, please, not in percent",
            right["reached"] / MFU: "that is relative to 40 %; relative to the peak, please",
            right["hours"] / HOURS: "that is how far your estimate is off; the share of the peak is asked",
            1 / right["reached"]: "the other way round: operations done, divided by what the peak would have done",
        },
    )  # fmt: skip
    expect_number(
        answer["state_gb"], right["state_gb"], rtol=0.02, unit="GB", what="the training state",
        near_misses={
            2 * N / 1e9: "those are the bf16 weights alone; gradients, fp32 copy and Adam's two moments come on top",
            4 * N / 1e9: "those are weights in fp32, or weights and gradients in bf16; Adam's moments are missing",
            12 * N / 1e9: "12 bytes are the fp32 copy and the moments; weights and gradients in bf16 are 4 more",
            8 * N / 1e9: "those are Adam's two moments alone",
            16 * N / 2**30: "those are GiB, of 2^30 bytes",
        },
    )  # fmt: skip
    return "8.7 % above the published hours: 40 % is a good guess, and 6ND a good count"


def _need(answer: Any, right: dict[str, Any]) -> None:
    expect_type(answer, dict, "answer")
    missing = [key for key in right if key not in answer]
    expect(not missing, f"answer lacks {', '.join(missing)}")


# --- Reason: epochs and steps

SEEN, CRAWL, BOOKS, BATCH, LENGTH, DECAY = 300e9, 410e9, 12e9, 3.2e6, 2048, 15.39


def _mixture(**changes: Any) -> dict[str, Any]:
    told = {
        "crawl_epochs": 0.60 * SEEN / CRAWL,
        "books_epochs": 0.08 * SEEN / BOOKS,
        "steps": SEEN / BATCH,
        "popular_steps": SEEN / (8 * LENGTH),
        "four_epochs": 1 + DECAY * (1 - math.exp(-3 / DECAY)),
    }
    return {**told, **changes}


def check_mixture(answer: Any) -> str:
    right = _mixture()
    _need(answer, right)
    expect_number(
        answer["crawl_epochs"], right["crawl_epochs"], rtol=0.02, what="the epochs of Common Crawl",
        near_misses={
            SEEN / CRAWL: "only 60 % of the tokens seen come from it",
            0.6: "that is its weight in the mixture",
            CRAWL / (0.60 * SEEN): "the other way round: tokens seen of it, divided by the tokens there are",
            3: "three epochs are what the popular snippet sets; the mixture says otherwise",
        },
    )  # fmt: skip
    expect_number(
        answer["books_epochs"], right["books_epochs"], rtol=0.02, what="the epochs of Books1",
        near_misses={SEEN / BOOKS: "only 8 % of the tokens seen come from it", BOOKS / (0.08 * SEEN): "the other way round"},
    )  # fmt: skip
    expect_number(
        answer["steps"], right["steps"], rtol=0.02, what="the steps of GPT-3",
        near_misses={
            SEEN / (BATCH * LENGTH): "the batch is given in tokens already, not in sequences",
            3 * SEEN / BATCH: "300 billion is what was seen in all, epochs included",
        },
    )  # fmt: skip
    expect_number(
        answer["popular_steps"], right["popular_steps"], rtol=0.02, what="the steps at 8 sequences a batch",
        near_misses={
            SEEN / 8: "8 sequences hold 8 · 2,048 tokens",
            SEEN / LENGTH: "there are 8 sequences in a batch",
            3 * SEEN / (8 * LENGTH): "the same 300 billion tokens, no more",
        },
    )  # fmt: skip
    expect_number(
        answer["four_epochs"], right["four_epochs"], rtol=0.004, what="the worth of four epochs, in fresh ones",
        near_misses={
            4: "by the formula the repeats are worth a little less than fresh text",
            1 + DECAY * (1 - math.exp(-4 / DECAY)): "of four epochs three are repeats",
            DECAY * (1 - math.exp(-3 / DECAY)): "that is the three repeats; the first epoch comes on top",
            1 + DECAY: "that is the limit for endless epochs",
        },
    )  # fmt: skip
    return "most of GPT-3's text was never read to the end once"


_FIT, _HALF = _allocator(), _split()

TASKS = [
    Task(
        id="09.allocate",
        kind="build",
        title="The compute-optimal allocator",
        difficulty=2,
        minutes=15,
        hints=(
            "Put D = C / 6N into the loss and set its derivative by N to zero: α·A / N^α = β·B / D^β.",
            "N = (αA / βB)^(1/(α+β)) · (C/6)^(β/(α+β)), D = C / 6N. If D is more than 4 · unique, D is that, and N = C / 6D.",
        ),
        check=check_allocate,
        bank=Bank(
            wrong=[
                Case("20 tokens a parameter", _allocator(ratio=20), "20 tokens a parameter"),
                Case("exponents swapped", _allocator(swap=True), "not right"),
                Case("no 6", _allocator(six=1.0), "6"),
                Case("G upside down", _allocator(invert=True), "not right"),
                Case("no G", _allocator(constant=False), "G is missing"),
                Case("one epoch", _allocator(cap=1.0), "not right"),
                Case("no cap", _allocator(cap=1e9), "text runs out"),
                Case("budget left over", _allocator(respend=False), "budget is left over"),
                Case("the cap always", _allocator(always=True), "limit, not a wish"),
                Case("the other order", _allocator(order=-1), "not right"),
                Case("one fit built in", _just_chinchilla, "not right"),
                Case("one number", lambda flops, fit, unique=None: _FIT(flops, fit, unique)[0], "two numbers"),
                Case("half of the budget", lambda flops, fit, unique=None: _FIT(flops / 2, fit, unique), "not right"),
            ],
            right=[
                Case("a search over sizes", _searched),
                Case("the derivative, halved", _numeric),
                Case("closed form", _FIT),
            ],
        ),
    ),
    Task(
        id="09.split",
        kind="debug",
        title="A validation set inside the training set",
        difficulty=2,
        minutes=12,
        hints=(
            "Take ten documents of 30 different characters each. How many characters stand in both lists?",
            "Drop the copies, shuffle the documents, take the first share of them aside, and cut windows on each side last.",
        ),
        check=check_split,
        bank=Bank(
            wrong=[
                Case("as given", _popular, "reaches over"),
                Case("windows split", _windows_first, "both sides"),
                Case("one cut through the text", _cut_in_two, "reaches over"),
                Case("copies stay", _split(distinct=False), "copies"),
                Case("copies sieved window by window", _set_of_windows, "twice"),
                Case("overlapping windows", _split(stride=0.5), "twice"),
                Case("windows with gaps", _split(stride=2.0), "on no side"),
                Case("the first documents", _split(draw=list), "sorted by topic"),
                Case("the last documents", _split(draw=lambda t: t[::-1]), "sorted by topic"),
                Case("every fifth", _split(draw=lambda t: [x for i in range(5) for x in t[i::5]]), "every 5th"),
                Case("a share that can be 0", _split(count=int), "empty"),
                Case("always one", _split(count=lambda x: 1), "expected 8"),
                Case("short windows kept", _split(ends=True), "characters, not"),
                Case("validation trained on as well", _split(both=True), "were trained on"),
                Case("made up", lambda d, n, s: (["a" * n], ["b" * n]), "no document"),
                Case("sides swapped", lambda d, n, s: _HALF(d, n, s)[::-1], "expected 8"),
                Case("everything trains", lambda d, n, s: (_cut(d, n), []), "empty"),
                Case(
                    "shuffled characters",
                    lambda d, n, s: [["".join(sorted(w, reverse=True)) for w in side] for side in _HALF(d, n, s)],
                    "no document",
                ),
            ],
            right=[Case("by hash", _by_hash), Case("sampled indices", _sampled), Case("shuffled", _HALF)],
        ),
    ),
    Task(
        id="09.days",
        kind="reason",
        title="GPU days of Llama 2 70B",
        difficulty=1,
        minutes=7,
        hints=(
            "6 operations a parameter and token; a GPU does peak · utilisation of them a second.",
            "Adam in mixed precision: 2 + 2 bytes for weights and gradients, 4 for the fp32 copy, 4 + 4 for the moments.",
        ),
        check=check_days,
        bank=Bank(
            wrong=[
                Case("forward only", _budget(flops=2 * N * D), "forward pass"),
                Case("at the peak", _budget(hours=_budget()["hours"] * MFU), "no run reaches it"),
                Case("times the utilisation", _budget(hours=_budget()["hours"] * MFU**2), "makes the hours more"),
                Case("seconds", _budget(hours=_budget()["hours"] * 3600), "seconds"),
                Case("cluster hours", _budget(hours=_budget()["hours"] / CARDS_USED), "whole cluster"),
                Case("days in hours", _budget(days=_budget()["days"] * 24), "hours"),
                Case("percent", _budget(reached=100 * _budget()["reached"]), "percent"),
                Case("error, not utilisation", _budget(reached=_budget()["hours"] / HOURS), "how far"),
                Case("weights alone", _budget(state_gb=140.0), "weights alone"),
                Case("no weights", _budget(state_gb=840.0), "4 more"),
                Case("a number lacks", {"flops": 8.4e23}, "lacks"),
                Case("a list", [8.4e23], "dict"),
            ],
            right=[
                Case("rounded", {"flops": 8.4e23, "hours": 1.87e6, "days": 38, "reached": 0.435, "state_gb": 1120}),
                Case("exact", _budget()),
            ],
        ),
    ),
    Task(
        id="09.mixture",
        kind="reason",
        title="Epochs and steps of GPT-3",
        difficulty=2,
        minutes=6,
        hints=(
            "Epochs of a part: the tokens seen of it, divided by the tokens that there are of it.",
            "The formula counts repeats, not epochs: R = epochs - 1.",
        ),
        check=check_mixture,
        bank=Bank(
            wrong=[
                Case("no weight", _mixture(crawl_epochs=SEEN / CRAWL), "60 %"),
                Case("upside down", _mixture(crawl_epochs=CRAWL / (0.6 * SEEN)), "other way round"),
                Case("three epochs", _mixture(crawl_epochs=3), "snippet"),
                Case("books without weight", _mixture(books_epochs=25), "8 %"),
                Case("batch in sequences", _mixture(steps=SEEN / BATCH / LENGTH), "in tokens already"),
                Case("eight tokens", _mixture(popular_steps=SEEN / 8), "2,048"),
                Case("four fresh epochs", _mixture(four_epochs=4), "less than fresh"),
                Case("four repeats", _mixture(four_epochs=1 + DECAY * (1 - math.exp(-4 / DECAY))), "three are repeats"),
                Case("repeats alone", _mixture(four_epochs=_mixture()["four_epochs"] - 1), "comes on top"),
                Case("not a dict", 0.44, "dict"),
            ],
            right=[
                Case(
                    "rounded",
                    {
                        "crawl_epochs": 0.44,
                        "books_epochs": 2,
                        "steps": 93_750,
                        "popular_steps": 18.3e6,
                        "four_epochs": 3.73,
                    },
                ),
                Case("exact", _mixture()),
            ],
        ),
    ),
]
