"""Lab 42, building a corpus: MinHash and LSH, a deduplicator that eats, a leak that nobody sees, and what collides."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

from llmlab.course.checking import Bank, Case, Task, Wrong, call, expect, expect_close, expect_number, expect_type

# --- Build: the signature


def _orders(size: int = 24, seed: int = 3) -> tuple[Any, Any]:
    import numpy as np

    rng = np.random.default_rng(seed)
    return rng.integers(0, 2**64, size, dtype=np.uint64), rng.integers(0, 2**64, size, dtype=np.uint64)


def _right_signature(x: Any, a: Any, b: Any) -> Any:
    import numpy as np

    if not len(x):
        return np.full(len(a), 2**32 - 1, dtype=np.uint32)
    return ((x[:, None] * a + b) >> np.uint64(32)).min(0).astype(np.uint32)


def check_signature(answer: Any) -> str:
    import numpy as np

    a, b = _orders()
    rng = np.random.default_rng(0)
    for count in (1, 2, 40, 7):
        x = rng.integers(0, 2**32, count, dtype=np.uint64)
        got = call(answer, x, a, b)
        values = (x[:, None] * a + b) >> np.uint64(32)
        low = (x[:, None] * a + b).min(0)
        misses = [
            (values.max(0), "that is the greatest value in each order; the least is asked for"),
            (values[0], "that is the value of the first shingle; the least over all shingles is asked for"),
            (
                (x.min() * a + b) >> np.uint64(32),
                "you took the least hash first and then applied the orders: the same shingle wins everywhere",
            ),
            (
                np.sort(values[:, 0])[: len(a)],
                "those are the smallest values in one order; each place has its own order",
            ),
            (((x[:, None] * a) >> np.uint64(32)).min(0), "b is missing"),
            (values.min(1), "the least was taken over the orders; take it over the shingles"),
            (low, "the product is not shifted: (a·x + b) is a number of 64 bits, the place holds its upper 32"),
            (low & np.uint64(2**32 - 1), "those are the lower 32 bits; the upper ones are asked for (shift by 32)"),
            (values.astype(float).mean(0), "that is the mean; the least is asked for"),
        ]
        expect_close(
            got, _right_signature(x, a, b).astype(float), f"the signature of {count} shingles", rtol=0, atol=0.5,
            near_misses=[(m, s) for m, s in misses if np.shape(m) == (len(a),)],
            hint="stay in uint64: Python's and float's numbers do not wrap around at 2**64",
        )  # fmt: skip
    empty = call(answer, np.zeros(0, dtype=np.uint64), a, b)
    expect_close(empty, np.full(24, 2.0**32 - 1), "the signature of no shingles", rtol=0, atol=0.5)
    x = rng.integers(0, 2**32, 12, dtype=np.uint64)
    expect_close(
        call(answer, x[::-1].copy(), a, b), _right_signature(x, a, b), "the signature of the same set backwards"
    )
    y = rng.integers(0, 2**32, 12, dtype=np.uint64)
    expect_close(call(answer, y, a, b), _right_signature(y, a, b), "the signature of another set", rtol=0, atol=0.5)
    c, d = _orders(5, 9)
    expect_close(
        call(answer, x, c, d), _right_signature(x, c, d), "the signature with five other orders", rtol=0, atol=0.5
    )
    return "each place holds the least shingle of its own order"


def _signature(least: Callable[[Any], Any]) -> Callable[..., Any]:
    """A signature with another way to go from (shingles, orders) to places."""

    def signature(x: Any, a: Any, b: Any) -> Any:
        import numpy as np

        if not len(x):
            return np.full(len(a), 2**32 - 1, dtype=np.uint32)
        return least((x[:, None] * a + b) >> np.uint64(32))

    return signature


def _bottom(x: Any, a: Any, b: Any) -> Any:
    import numpy as np

    values = np.sort((x * a[0] + b[0]) >> np.uint64(32))
    return np.resize(values, len(a))


def _least_first(x: Any, a: Any, b: Any) -> Any:
    import numpy as np

    return (x.min() * a + b) >> np.uint64(32) if len(x) else np.full(len(a), 2**32 - 1)


def _no_b(x: Any, a: Any, b: Any) -> Any:
    return _right_signature(x, a, b * 0)


def _no_shift(x: Any, a: Any, b: Any) -> Any:
    return (x[:, None] * a + b).min(0)


def _lower_bits(x: Any, a: Any, b: Any) -> Any:
    import numpy as np

    return (x[:, None] * a + b).min(0) & np.uint64(2**32 - 1)


def _floats(x: Any, a: Any, b: Any) -> Any:
    import numpy as np

    if not len(x):
        return np.full(len(a), 2**32 - 1)
    return ((x[:, None].astype(float) * a.astype(float) + b.astype(float)) % 2.0**64 // 2**32).min(0)


def _zeros_for_none(x: Any, a: Any, b: Any) -> Any:
    import numpy as np

    return _right_signature(x, a, b) if len(x) else np.zeros(len(a))


def _remembers() -> Callable[..., Any]:
    known: dict[Any, Any] = {}

    def signature(x: Any, a: Any, b: Any) -> Any:
        key = (len(x), len(a))
        if key not in known:
            known[key] = _right_signature(x, a, b)
        return known[key]

    return signature


def _python_integers(x: Any, a: Any, b: Any) -> Any:
    """A right answer written differently: no NumPy arithmetic at all."""
    numbers = [int(value) for value in x]
    orders = zip((int(v) for v in a), (int(v) for v in b))
    return [min(((p * n + q) % 2**64 >> 32 for n in numbers), default=2**32 - 1) for p, q in orders]


def _sorts(x: Any, a: Any, b: Any) -> Any:
    x.sort()
    return _right_signature(x, a, b)


# --- Build: from signatures to pairs


def _right_pairs(signatures: Any, bands: int) -> set[tuple[int, int]]:
    rows = signatures.shape[1] // bands
    cut = signatures.reshape(len(signatures), bands, rows)
    return {(i, j) for i, j in combinations(range(len(cut)), 2) if (cut[i] == cut[j]).all(-1).any()}


def check_pairs(answer: Any) -> str:
    import numpy as np

    rng = np.random.default_rng(5)
    small = np.array(
        [[1, 2, 3, 4], [1, 2, 9, 9], [7, 7, 3, 4], [3, 4, 1, 2], [2, 1, 8, 8], [1, 9, 3, 9]], dtype=np.uint32
    )
    _expect_pairs(call(answer, small, 2), {(0, 1), (0, 2)}, small, 2)
    cases = [(rng.integers(0, 3, (30, 12)).astype(np.uint32), bands) for bands in (3, 4, 6, 1, 12)]
    big = rng.integers(0, 2**32, (40, 16), dtype=np.uint64).astype(np.uint32)
    big[30:33] = big[3]
    big[33, 4:8] = big[2, 4:8]
    big[34, 6:10] = big[1, 6:10]  # four equal places, half in one band and half in the next
    for signatures, bands in [*cases, (big, 4), (big[:1], 4), (big[:0], 4)]:
        _expect_pairs(call(answer, signatures, bands), _right_pairs(signatures, bands), signatures, bands)
    return "equal bands meet, and nothing else is compared"


def _expect_pairs(got: Any, want: set[tuple[int, int]], signatures: Any, bands: int) -> None:
    expect_type(got, (set, list, frozenset), "the result")
    try:
        pairs = {(int(i), int(j)) for i, j in got}
    except (TypeError, ValueError):
        raise Wrong("each element of the result should be a pair of text numbers (i, j)") from None
    n, rows = len(signatures), signatures.shape[1] // bands
    cut = signatures.reshape(n, bands, rows)
    every = {(i, j) for i, j in combinations(range(n), 2)}
    across = {
        (i, j) for i, j in every if any((cut[i, p] == cut[j, q]).all() for p in range(bands) for q in range(bands))
    }
    if across != want and {(min(p), max(p)) for p in pairs if p[0] != p[1]} == across:
        raise Wrong("band 0 of one text meets band 1 of another: every band has buckets of its own")
    expect(all(i != j for i, j in pairs), "a text is paired with itself: only i < j")
    expect(all(i < j for i, j in pairs), "a pair comes as (j, i): the smaller number stands first")
    expect(len(got) == len(pairs), "a pair comes twice: texts that agree in two bands are still one pair")
    expect(bool(pairs) or not want, f"no pair comes out; {len(want)} are missing: one band that agrees is enough")
    if pairs != want:
        agree = {(i, j): (cut[i] == cut[j]).all(-1) for i, j in every}
        places = {(i, j): (signatures[i] == signatures[j]).sum() for i, j in every}
        told = [
            ({p for p in every if agree[p].all()}, "you ask for all bands to agree; one is enough"),
            (
                {p for p in every if places[p] >= rows},
                f"you count {rows} equal places anywhere; they must fill one band",
            ),
            ({p for p in every if places[p] > 0}, "one equal place is not enough: all places of a band must agree"),
            ({p for p in every if agree[p][0]}, "only the first band is looked at"),
            ({p for p in every if agree[p][:-1].any()}, "the last band is never looked at"),
        ]
        for value, sentence in told:
            if pairs == value:
                raise Wrong(sentence)
        missing, extra = sorted(want - pairs), sorted(pairs - want)
        if missing and not extra:
            raise Wrong(
                f"{len(missing)} of {len(want)} pairs are missing, for example {missing[0]}: does every pair in a bucket "
                "of three or more come out, also the first with the last?"
            )
        raise Wrong(
            f"{len(extra)} pairs are too many, for example {extra[0] if extra else missing[0]}: its texts agree in no whole "
            "band of consecutive places"
        )


def _pairs(
    key: Callable[[int, Any], Any] = lambda band, part: (band, part.tobytes()),
    inside: Callable[[list[int]], Any] = lambda bucket: combinations(bucket, 2),
    cut: Callable[[Any, int], list[Any]] | None = None,
    make: Callable[[Any], Any] = set,
) -> Callable[..., Any]:
    """LSH; changed in one thing it is a wrong answer."""

    def candidate_pairs(signatures: Any, bands: int) -> Any:
        import numpy as np

        buckets: dict[Any, list[int]] = {}
        parts = cut(signatures, bands) if cut else np.split(signatures, bands, axis=1)
        for band, rows in enumerate(parts):
            for i, part in enumerate(rows):
                buckets.setdefault(key(band, np.ascontiguousarray(part)), []).append(i)
        return make(pair for bucket in buckets.values() for pair in inside(bucket))

    return candidate_pairs


def _brute(signatures: Any, bands: int) -> Any:
    """A right answer written differently: no buckets, all pairs."""
    return sorted(_right_pairs(signatures, bands)) if len(signatures) else []


def _any_places(signatures: Any, bands: int) -> Any:
    rows = signatures.shape[1] // bands
    every = combinations(range(len(signatures)), 2)
    return {(i, j) for i, j in every if (signatures[i] == signatures[j]).sum() >= rows}


def _all_bands(signatures: Any, bands: int) -> Any:
    every = combinations(range(len(signatures)), 2)
    return {(i, j) for i, j in every if (signatures[i] == signatures[j]).all()}


def _without_last(signatures: Any, bands: int) -> list[Any]:
    import numpy as np

    return list(np.split(signatures, bands, axis=1))[: max(bands - 1, 1)]


# --- Debug: a deduplicator that misses and eats


def _grams(text: str, n: int) -> set[str]:
    return {text[i : i + n] for i in range(max(len(text) - n + 1, 1))} if text else set()


def _similar(a: set[str], b: set[str]) -> float:
    return len(a & b) / len(a | b) if a or b else 1.0


def _dedup(
    grams: Callable[[str, int], set[str]] = _grams,
    similar: Callable[[set[str], set[str]], float] = _similar,
    against: Callable[[list[set[str]]], Sequence[set[str]]] = lambda seen: seen,
    *,
    at: Callable[[float, float], bool] = lambda s, threshold: s >= threshold,
    remember_all: bool = False,
) -> Callable[..., list[int]]:
    """A deduplicator; changed in one thing it is a wrong answer."""

    def deduplicate(texts: Sequence[str], threshold: float = 0.7, n: int = 5) -> list[int]:
        kept: list[int] = []
        seen: list[set[str]] = []
        for i, text in enumerate(texts):
            mine = grams(text, n)
            if any(at(similar(mine, other), threshold) for other in against(seen)):
                if remember_all:
                    seen.append(mine)
                continue
            kept.append(i)
            seen.append(mine)
        return kept

    return deduplicate


_LONG = "房间干净，服务热情，早餐也丰盛，位置离地铁站很近，下次来还会住这里。"
_NEAR = _LONG[:9] + "非" + _LONG[9:]  # one character put in
_OTHER = "电脑外观漂亮，键盘手感舒服，就是风扇有一点响，系统要自己安装。"


def check_dedup(answer: Any) -> str:
    def run(texts: list[str], *rest: Any) -> list[int]:
        got = call(answer, texts, *rest)
        expect_type(got, (list, tuple), "the result")
        expect(
            all(isinstance(i, int) for i in got),
            "the numbers of the texts that stay are asked for, not the texts themselves",
        )
        return list(got)

    short = ["好", "差", "不错", "很好", "好", "一般"]
    got = run(short)
    expect(
        got != [0],
        "of six short texts, five of them different, one is left: a text shorter than n has no n-gram, and empty sets count "
        "as equal. Let a short text be its own only n-gram",
    )
    expect(
        got == [0, 1, 2, 3, 5],
        f"of {short} the texts {got} stay; only the second 好 is a repeat. Is a text compared with all that was kept, not with the last alone?",
    )
    got = run([_LONG, _OTHER, _NEAR])
    expect(
        got == [0, 1],
        "a copy with one character put in stays. Are the n-grams taken at every place, so that they agree again behind "
        "the change? And is it compared with all that was kept, not with the last alone?"
        if got == [0, 1, 2]
        else f"of a review, another one and a near copy of the first, {got} stay; expected [0, 1]",
    )
    quoted = _LONG[:14]
    expect(
        run([_LONG, quoted]) == [0, 1],
        "a short text that stands inside a longer one is eaten: its n-grams are all there, but the Jaccard similarity "
        f"divides by the union ({_similar(_grams(_LONG, 5), _grams(quoted, 5)):.2f} here), not by the smaller set",
    )
    last = ["abcdeX", "abcdeY"]
    expect(
        run(last, 0.7, 6) == [0, 1] and run(["abcdef", "abcdeg", "abcdef"], 0.9, 3) == [0, 1],
        "texts that differ in their last character alone are taken for equal: the last n-gram begins at len(text) - n",
    )
    _thresholds(run)
    chain = ["abcdefghij", "abcdefghiX", "ZZcdefghiX"]  # 0.80 and 0.64 to the next, 0.50 from end to end
    expect(
        run(chain, 0.6, 2) == [0, 2],
        "the third text is like the second, which is gone, and not like the first, which is kept: it stays. Compare with "
        "kept texts only",
    )
    expect(run(["不错", "错不"]) == [0, 1], "a short text is its own only n-gram, not the set of its characters")
    expect(
        run(["abcdef", "ABCDEF"]) == [0, 1], "capitals are not what small letters are: compare the texts as they stand"
    )
    expect(run(["", " ", "", "x"]) == [0, 1, 3], "two empty texts are equal, and equal to nothing else")
    expect(run([]) == [], "of no texts none stay")
    return "near copies go, short and quoted texts stay"


def _thresholds(run: Callable[..., list[int]]) -> None:
    a, b = "abcdefgh", "abcdefgX"  # 3-grams: 5 shared of 7; 1-grams: 7 shared of 9
    share = _similar(_grams(a, 3), _grams(b, 3))
    expect(run([a, b], 0.7, 1) == [0], "the n that is handed over is not used")
    expect(
        run([a, b], 0.7, 5) == [0, 1],
        "two texts share 3 of their 5 different n-grams, 0.6, and one goes at a threshold of 0.7: divide what they share by "
        "the size of the union, and use the n that is handed over",
    )
    expect(
        run([a, b], share, 3) == [0],
        "a pair whose similarity equals the threshold is a duplicate: at least it, not above",
    )
    expect(run([a, b], share + 0.01, 3) == [0, 1], "the threshold that is handed over is not used")
    bag = ["abab" * 3 + "abcab", "abcab"]  # sets, not lists: repeats count once
    expect(
        run(bag, 0.5, 2) == [0] and run(bag[::-1], 0.5, 2) == [0],
        "n-grams that occur several times count several times: the similarity is one of sets",
    )


def _strided(text: str, n: int) -> set[str]:
    return {text[i : i + n] for i in range(0, len(text) - n + 1, n)} or ({text} if text else set())


def _nothing_if_short(text: str, n: int) -> set[str]:
    return {text[i : i + n] for i in range(len(text) - n + 1)}


def _without_last_gram(text: str, n: int) -> set[str]:
    return {text[i : i + n] for i in range(len(text) - n)} or ({text} if text else set())


def _contained(a: set[str], b: set[str]) -> float:
    return len(a & b) / min(len(a), len(b)) if a and b else float(a == b)


def _dice(a: set[str], b: set[str]) -> float:
    return 2 * len(a & b) / (len(a) + len(b)) if a or b else 1.0


def _larger(a: set[str], b: set[str]) -> float:
    return len(a & b) / max(len(a), len(b)) if a or b else 1.0


def _set_of_characters(text: str, n: int) -> set[str]:
    return _grams(text, n) if len(text) >= n else set(text)


def _as_given(texts: Sequence[str], threshold: float = 0.7, n: int = 5) -> list[int]:
    kept: list[int] = []
    seen: list[set[str]] = []
    for i, text in enumerate(texts):
        grams = {text[j : j + n] for j in range(0, len(text) - n, n)}
        if any(len(grams & other) >= threshold * min(len(grams), len(other)) for other in seen):
            continue
        kept.append(i)
        seen.append(grams)
    return kept


def _the_texts(texts: Sequence[str], threshold: float = 0.7, n: int = 5) -> list[str]:
    return [texts[i] for i in _dedup()(texts, threshold, n)]


def _exact_only(texts: Sequence[str], threshold: float = 0.7, n: int = 5) -> list[int]:
    return [i for i, text in enumerate(texts) if text not in texts[:i]]


def _with_the_library(texts: Sequence[str], threshold: float = 0.7, n: int = 5) -> list[int]:
    """A right answer written differently."""
    from llmlab.text import jaccard, shingles

    kept: list[int] = []
    for i, text in enumerate(texts):
        if all(jaccard(shingles(text, n), shingles(texts[j], n)) < threshold for j in kept):
            kept.append(i)
    return kept


# --- Debug: a leak that nobody sees


def check_leak(answer: Any) -> str:
    train = [
        'As he told us, "The quick brown fox jumps over the lazy dog" -- and so on, for hours.',
        "Completely different. Nothing to see here at all today.",
        "one two three",
        "four five six",
    ]
    test = [
        "the quick brown fox jumps over the lazy dog",  # quoted, with other case and signs
        "Q: Which animal is it? A: The quick, brown FOX jumps away.",  # a part
        "the dog quick brown jumps fox over lazy the",  # the same words, other order
        "one two three four five six",  # across two texts
        "nothing to see",  # too short for n = 5
    ]
    got = call(answer, test, train, 5)
    expect_type(got, (list, tuple), "the result")
    expect(
        len(got) == len(test),
        f"one answer for each test text is asked for; there are {len(test)}, yours has {len(got)}",
    )
    want = [True, True, False, False, None]
    expect(
        got[0] is True or got[0] == 1,
        "a test text that a training text quotes, with a capital and a comma more, goes unseen: compare runs of words, "
        "lower case, without signs, not whole texts",
    )
    expect(
        got[1] == 1, "a test text that shares a run of 5 words and differs in the rest goes unseen: one run is enough"
    )
    expect(
        got[2] == 0 and got[2] is not None, "the same words in another order are taken for a leak: a run has an order"
    )
    expect(got[3] == 0 and got[3] is not None, "a run that begins in one training text and ends in the next is no text")
    expect(got[4] is None, "a test text of 3 words can hold no run of 5: say None, which is neither clean nor leaked")
    expect(all(g is w or (w is not None and g == w) for g, w in zip(got, want)), f"expected {want}")
    expect(list(call(answer, test, train, 3))[4] == 1, "with n = 3 the last test text does stand in training")
    expect(list(call(answer, test, train, 10))[0] is None, "the n that is handed over is not used")
    words = ["in", "1998", "the", "price", "of", "rice", "rose", "by", "价格", "percent", "in", "Ürümqi"]
    each = [" ".join(words[i : i + 5]) for i in range(len(words) - 4)]
    got = list(call(answer, each, ["nothing at all", " ".join(words)], 5))
    expect(any(got), "the last training text is never looked at")
    expect(
        all(got),
        "a run in the middle or at the end of a training text goes unseen, or a word with figures or other letters is none: "
        "take a run at every place, and words by \\w+",
    )
    glued = call(answer, ["new york times are here again"], ["the new yorktimes are here again now"], 5)
    expect(list(glued) == [False], "words are joined without a blank between them: 'york times' is not 'yorktimes'")
    edges = call(answer, ["a b c d e", "c d e f g", "e f g h i"], ["a b c d e f g"], 5)
    expect(list(edges) == [True, True, False], "the first and the last run of a training text count as well")
    inside = call(answer, ["art is long and life"], ["smart is long and lifeless"], 5)
    expect(list(inside) == [False], "'art is' is found inside 'smart is': compare words, not characters")
    return "quotations are seen, shuffles are not, and short items are counted apart"


def _runs(text: str, n: int) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def _leak(
    runs: Callable[[str, int], set[Any]] = _runs,
    *,
    how: Callable[[set[Any], set[Any]], bool] = lambda mine, seen: bool(mine & seen),
    none: bool = True,
    joined: bool = False,
) -> Callable[..., list[Any]]:
    """A contamination check; changed in one thing it is a wrong answer."""

    def leaked(test: Sequence[str], train: Sequence[str], n: int = 13) -> list[Any]:
        seen = runs(" ".join(train), n) if joined else set().union(*(runs(text, n) for text in train))
        out: list[Any] = []
        for text in test:
            mine = runs(text, n)
            out.append(None if none and not mine else how(mine, seen))
        return out

    return leaked


def _whole_texts(test: Sequence[str], train: Sequence[str], n: int = 13) -> list[Any]:
    return [text in train for text in test]


def _substring(test: Sequence[str], train: Sequence[str], n: int = 13) -> list[Any]:
    plain = [" ".join(re.findall(r"\w+", text.lower())) for text in train]
    out: list[Any] = []
    for text in test:
        words = re.findall(r"\w+", text.lower())
        parts = [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
        out.append(None if not parts else any(part in whole for part in parts for whole in plain))
    return out


def _case_kept(text: str, n: int) -> set[Any]:
    words = text.split()
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def _bags(text: str, n: int) -> set[Any]:
    return {tuple(sorted(run)) for run in _runs(text, n)} if len(_runs(text, n)) else set()


def _word_sets(text: str, n: int) -> set[Any]:
    words = re.findall(r"\w+", text.lower())
    return set(words) if len(words) >= n else set()


def _glued(text: str, n: int) -> set[Any]:
    return {"".join(run) for run in _runs(text, n)} | {
        "".join(run) for run in _runs(text, n - 1)
    }  # a run of n - 1 words may be the same letters


def _five_only(test: Sequence[str], train: Sequence[str], n: int = 13) -> list[Any]:
    return _leak()(test, train, 5)


def _english_letters(text: str, n: int) -> set[Any]:
    words = re.findall("[a-z]+", text.lower())
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def _every_second(test: Sequence[str], train: Sequence[str], n: int = 13) -> list[Any]:
    def runs(text: str) -> list[Any]:
        words = re.findall(r"\w+", text.lower())
        return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]

    seen = {run for text in train for run in runs(text)[::2]}
    return [any(run in seen for run in runs(text)) if runs(text) else None for text in test]


def _without_last_text(test: Sequence[str], train: Sequence[str], n: int = 13) -> list[Any]:
    return _leak()(test, train[:-1] or train, n)


def _with_index(test: Sequence[str], train: Sequence[str], n: int = 13) -> list[Any]:
    """A right answer written differently."""
    from llmlab.text import NgramIndex

    index = NgramIndex(train, n)
    found = [index.overlap(text) for text in test]
    return [None if overlap.share is None else overlap.longest > 0 for overlap in found]


# --- Reason: what collides

TEXTS, BANDS, ROWS = 10_000, 16, 4


def _meet(s: float, bands: int = BANDS, rows: int = ROWS) -> float:
    return 1 - (1 - s**rows) ** bands


def check_collisions(answer: Any) -> str:
    names = ("copy", "false_pairs", "missed", "hash_pairs")
    if not isinstance(answer, dict) or any(name not in answer for name in names):
        lacking = [name for name in names if not isinstance(answer, dict) or name not in answer]
        raise Wrong(f"a dict with {', '.join(names)} is asked for; yours lacks {', '.join(lacking)}")
    expect_number(
        answer["copy"],
        _meet(0.8),
        what="copy",
        near_misses={
            0.8**4: "that is the probability that one band agrees; there are 16 chances",
            16 * 0.8**4: "16 chances do not add up to more than 1: take the complement, no band agrees",
            (1 - 0.8**4) ** 16: "that is the probability that they do not meet",
            _meet(0.8, 4, 16): "bands and rows are exchanged: 16 bands of 4 places",
            1 - (1 - 0.8) ** 16: "a band of 4 places agrees with probability 0.8⁴, not 0.8",
        },
    )
    count = math.comb(TEXTS, 2)
    expect_number(
        answer["false_pairs"],
        count * _meet(0.1),
        rtol=0.005,
        what="false_pairs",
        near_misses={
            TEXTS**2 * _meet(0.1): "every pair is counted twice, and every text with itself",
            TEXTS * _meet(0.1): "there are n(n - 1)/2 pairs, not n",
            _meet(0.1): "that is the probability of one pair; how many pairs are there?",
            count * 0.1**4: "one band; there are 16",
        },
    )
    expect_number(
        answer["missed"],
        3000 * (1 - _meet(0.6)),
        rtol=0.005,
        what="missed",
        near_misses={
            3000 * _meet(0.6): "those are found; how many are missed?",
            1 - _meet(0.6): "that is the share; of 3,000 pairs",
            3000 * (1 - 0.6**4): "one band; there are 16",
        },
    )
    n = 10**9
    expect_number(
        answer["hash_pairs"],
        n * (n - 1) / 2 / 2**32,
        rtol=0.01,
        what="hash_pairs",
        near_misses={
            n / 2**32: "that many would share the hash of one given text; how many pairs are there?",
            n * n / 2**32: "every pair is counted twice",
            n * (n - 1) / 2 / 2**64: "that is for 64 bits; 32 are asked for",
            n * (n - 1) / 2 / 32: "32 bits are 2³² values",
        },
    )
    return "a curve for the pairs one wants, and the square of the corpus for those one does not"


def _told(**changes: float) -> dict[str, float]:
    right = {
        "copy": _meet(0.8),
        "false_pairs": math.comb(TEXTS, 2) * _meet(0.1),
        "missed": 3000 * (1 - _meet(0.6)),
        "hash_pairs": 10**9 * (10**9 - 1) / 2 / 2**32,
    }
    return {**right, **changes}


TASKS = [
    Task(
        id="42.signature",
        kind="build",
        title="A MinHash signature",
        difficulty=2,
        minutes=7,
        hints=(
            "A table of shingles by orders, then one number a column.",
            "`((x[:, None] * a + b) >> np.uint64(32)).min(axis=0)`: uint64 wraps around by itself. Handle no shingles first.",
        ),
        check=check_signature,
        bank=Bank(
            wrong=[
                Case("greatest", _signature(lambda v: v.max(0)), "greatest"),
                Case("first shingle", _signature(lambda v: v[0]), "first shingle"),
                Case("mean", _signature(lambda v: v.mean(0)), "mean"),
                Case("over the orders", _signature(lambda v: v.min(1)), "shape"),
                Case("least hash first", _least_first, "same shingle wins"),
                Case("one order", _bottom, "expected"),
                Case("without b", _no_b, "b is missing"),
                Case("not shifted", _no_shift, "not shifted"),
                Case("lower bits", _lower_bits, "lower 32 bits"),
                Case("in floats", _floats, "uint64"),
                Case("zeros for none", _zeros_for_none, "no shingles"),
                Case("sorts its input", _sorts, "in place"),
                Case("remembers", _remembers(), "another set"),
            ],
            right=[Case("Python's integers", _python_integers), Case("NumPy", _right_signature)],
        ),
    ),
    Task(
        id="42.pairs",
        kind="build",
        title="Bands and buckets",
        difficulty=2,
        minutes=8,
        hints=(
            "A dict from (band, the places in it) to the texts that have them. What does a bucket of three hold?",
            "`itertools.combinations(bucket, 2)` gives every pair of a bucket; a set makes each come once. "
            "`signatures[i, band * rows : (band + 1) * rows].tobytes()` can be a key.",
        ),
        check=check_pairs,
        bank=Bank(
            wrong=[
                Case("bands share buckets", _pairs(key=lambda band, part: part.tobytes()), "buckets of its own"),
                Case("all bands", _all_bands, "agrees is enough"),
                Case("places anywhere", _any_places, "must fill one band"),
                Case("neighbours in a bucket", _pairs(inside=lambda b: zip(b, b[1:])), "three or more"),
                Case("first with the rest", _pairs(inside=lambda b: [(b[0], j) for j in b[1:]]), "three or more"),
                Case(
                    "turned round", _pairs(inside=lambda b: [(j, i) for i, j in combinations(b, 2)]), "smaller number"
                ),
                Case("with itself", _pairs(inside=lambda b: [(i, j) for i in b for j in b if i <= j]), "itself"),
                Case("twice", _pairs(make=list), "twice"),
                Case("sum of a band", _pairs(key=lambda band, part: (band, int(part.sum()))), "too many"),
                Case("sorted band", _pairs(key=lambda band, part: (band, tuple(sorted(part)))), "too many"),
                Case("first place of a band", _pairs(key=lambda band, part: (band, int(part[0]))), "one equal place"),
                Case("strided", _pairs(cut=lambda s, b: [s[:, k::b] for k in range(b)]), "consecutive"),
                Case("first band", _pairs(cut=lambda s, b: [s[:, : s.shape[1] // b]]), "first band"),
                Case("last band left out", _pairs(cut=_without_last), "only the first band"),
                Case("nothing", lambda signatures, bands: set(), "missing"),
            ],
            right=[
                Case("all pairs", _brute),
                Case("tuples as keys", _pairs(key=lambda band, part: (band, *part.tolist()))),
            ],
        ),
    ),
    Task(
        id="42.dedup",
        kind="debug",
        title="A deduplicator that misses and eats",
        difficulty=2,
        minutes=9,
        hints=(
            "Print the n-grams of 好, and of a review with and without one more character at its start.",
            "n-grams at every place, up to and with `len(text) - n`; a shorter text is its own only n-gram; divide by the "
            "union, `len(a | b)`.",
        ),
        check=check_dedup,
        bank=Bank(
            wrong=[
                Case("as given", _as_given, "no n-gram"),
                Case("n-grams side by side", _dedup(_strided), "at every place"),
                Case("short ones have none", _dedup(_nothing_if_short), "no n-gram"),
                Case("without the last", _dedup(_without_last_gram), "last n-gram"),
                Case("short ones by character", _dedup(_set_of_characters), "not the set of its characters"),
                Case("small letters", _dedup(lambda text, n: _grams(text.lower(), n)), "as they stand"),
                Case("Dice", _dedup(similar=_dice), "size of the union"),
                Case("by the larger set", _dedup(similar=_larger), "size of the union"),
                Case("by the smaller set", _dedup(similar=_contained), "divides by the union"),
                Case("with the last kept", _dedup(against=lambda seen: seen[-1:]), "the last alone"),
                Case("above, not at", _dedup(at=lambda s, t: s > t + 1e-12), "equals the threshold"),
                Case("fixed threshold", _dedup(at=lambda s, t: s >= 0.7), "threshold that is handed over"),
                Case("fixed n", _dedup(lambda text, n: _grams(text, 5)), "not used"),
                Case("with dropped ones too", _dedup(remember_all=True), "kept texts only"),
                Case("exact copies alone", _exact_only, "one character put in"),
                Case("the texts", _the_texts, "numbers of the texts"),
                Case("everything", lambda texts, threshold=0.7, n=5: list(range(len(texts))), "repeat"),
            ],
            right=[Case("with the library", _with_the_library), Case("from its parts", _dedup())],
        ),
    ),
    Task(
        id="42.leak",
        kind="debug",
        title="A leak that nobody sees",
        difficulty=2,
        minutes=7,
        hints=(
            "A benchmark question is rarely a whole web page. What part of it would be enough to be suspicious?",
            "`re.findall(r'\\w+', text.lower())`, then a set of tuples of n words for each training text. A test text leaks "
            "if one of its tuples is in the set, and has no verdict if it has no tuple.",
        ),
        check=check_leak,
        bank=Bank(
            wrong=[
                Case("as given", _whole_texts, "goes unseen"),
                Case("case and signs kept", _leak(_case_kept), "goes unseen"),
                Case("all runs must be seen", _leak(how=lambda mine, seen: mine <= seen), "one run is enough"),
                Case("bags of words", _leak(_word_sets), "other order"),
                Case("joined texts", _leak(joined=True), "ends in the next"),
                Case("short ones are clean", _leak(none=False), "neither clean nor leaked"),
                Case("fixed n", _five_only, "n = 3"),
                Case("substrings", _substring, "compare words"),
                Case("letters of English", _leak(_english_letters), "other letters"),
                Case("every second run", _every_second, "in the middle"),
                Case("without the last text", _without_last_text, "last training text"),
                Case("all leaked", lambda test, train, n=13: [True] * len(test), "other order"),
                Case("the share", lambda test, train, n=13: 0.4, "should be"),
            ],
            right=[Case("the package's index", _with_index), Case("sets of tuples", _leak())],
        ),
    ),
    Task(
        id="42.collisions",
        kind="reason",
        title="What collides",
        difficulty=2,
        minutes=6,
        hints=(
            "One band agrees with probability s⁴. What is the probability that none of 16 does? How many pairs do n texts form?",
            "1 - (1 - s⁴)¹⁶; n(n - 1)/2 pairs, each with the same small probability; for the hash 1/2³².",
        ),
        check=check_collisions,
        bank=Bank(
            wrong=[
                Case("one band", _told(copy=0.8**4), "16 chances"),
                Case("added up", _told(copy=16 * 0.8**4), "more than 1"),
                Case("the complement", _told(copy=1 - _meet(0.8)), "do not meet"),
                Case("exchanged", _told(copy=_meet(0.8, 4, 16)), "exchanged"),
                Case("twice", _told(false_pairs=TEXTS**2 * _meet(0.1)), "counted twice"),
                Case("n for pairs", _told(false_pairs=TEXTS * _meet(0.1)), "not n"),
                Case("found", _told(missed=3000 * _meet(0.6)), "are missed"),
                Case("share", _told(missed=1 - _meet(0.6)), "the share"),
                Case("given text", _told(hash_pairs=1e9 / 2**32), "how many pairs"),
                Case("64 bits", _told(hash_pairs=1e18 / 2 / 2**64), "64 bits"),
                Case("lacking", {"copy": 1.0}, "lacks"),
            ],
            right=[Case("rounded", _told(false_pairs=79_900, missed=325.6, hash_pairs=1.164e8))],
        ),
    ),
]
