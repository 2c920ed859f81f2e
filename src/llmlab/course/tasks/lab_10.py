"""Lab 10, context: cut a text into pieces that know their place, find a word's rows, and work out what length costs."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
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
    expect_type,
)

Piece = tuple[int, int, str]


def _pieces(
    *,
    words: Callable[[str], list[tuple[int, int]]] = lambda text: [m.span() for m in re.finditer(r"\S+", text)],
    share: bool = True,
    give_way: bool = True,
    tail: bool = True,
    again: bool = False,
    limit: Callable[[int], int] = lambda size: size,
    spare: Callable[[int], int] = lambda overlap: overlap,
    strict: bool = True,
    show: Callable[[str, int, int], Piece] = lambda text, a, b: (a, b, text[a:b]),
) -> Callable[[str, int, int], list[Piece]]:
    """Pieces of whole words; changed in one thing it is a wrong answer."""

    def chunks(text: str, size: int, overlap: int) -> list[Piece]:
        spans = words(text)
        if strict and (not 0 <= overlap < size or any(b - a > size for a, b in spans)):
            raise ValueError("sizes that cannot be")
        found: list[Piece] = []
        first = 0
        while first < len(spans):
            behind = first + 1
            while behind < len(spans) and spans[behind][1] - spans[first][0] <= limit(size):
                behind += 1
            if behind == len(spans) and not tail and found:
                break
            found.append(show(text, spans[first][0], spans[behind - 1][1]))
            if behind == len(spans) and not again:
                break
            before, first = first, behind
            while share and first - 1 > before and spans[behind - 1][1] - spans[first - 1][0] <= spare(overlap):
                if give_way and behind < len(spans) and spans[behind][1] - spans[first - 1][0] > size:
                    break
                first -= 1
            if again and behind == len(spans):
                if first < len(spans):
                    found.append(show(text, spans[first][0], spans[-1][1]))
                break
        return found

    return chunks


RIGHT = _pieces()
TRIALS = [
    ("one two three four five six seven", 13, 5),
    ("one two three four five six seven", 13, 0),
    ("aa bb cc dd ee ff", 5, 2),  # everything fits to the last character
    ("aa bb cc dd ee ff", 8, 4),  # two words would be one character too many to share
    ("aa bb cc dd ee ff", 8, 5),  # and here they fit to the last character
    ("la la la la la la la", 8, 5),  # every piece reads the same
    ("  two  blanks\n\nand an end ", 12, 6),
    ("a bb cccc dddddddd e", 9, 5),  # the overlap must give way, or nothing new would fit
    ("short", 10, 4),
    ("abcde fg", 5, 2),  # a word as long as a piece
    ("ab -- cd -- ef", 4, 2),  # what has no letters is a word as well
]


def _sought(text: str, a: int, b: int) -> Piece:
    """The place looked for afterwards: the first text that reads the same."""
    at = text.find(text[a:b])
    return at, at + b - a, text[a:b]


def check_chunks(answer: Any) -> str:
    for text, size, overlap in TRIALS:
        got = call(answer, text, size, overlap)
        right = RIGHT(text, size, overlap)
        told = f"for text={text!r}, size={size}, overlap={overlap}"
        expect_type(got, list, f"the pieces {told}")
        for piece in got:
            well = isinstance(piece, tuple) and len(piece) == 3 and isinstance(piece[2], str)
            well = well and all(type(place) is int for place in piece[:2])
            expect(well, f"a piece should be a tuple (start, end, text); {told} one of yours is {piece!r:.60}")
        _diagnose(got, right, text, size, overlap, told)
    for nothing in ("", " \n "):
        expect(call(answer, nothing, 5, 2) == [], f"the text {nothing!r} has no word: an empty list was expected")
    for text, size, overlap, why in (
        ("a longerword b", 5, 2, "a word of 10 characters does not fit into 5: cut it and it is no word"),
        ("a b c", 4, 4, "an overlap as large as the piece never moves on"),
        ("a b c", 4, -1, "an overlap of -1 leaves a gap"),
    ):
        _refuses(partial(answer, text, size, overlap), why)
    return "whole words, true places, as much overlap as fits, and every word is in a piece"


def _diagnose(got: list[Piece], right: list[Piece], text: str, size: int, overlap: int, told: str) -> None:
    if got == right:
        return
    if any(len(piece[2]) > size for piece in got):
        raise Wrong(f"a piece is longer than size, {told}: count the blanks between the words as well")
    if any(piece[2] != piece[2].strip() for piece in got):
        raise Wrong(f"a piece begins or ends with a blank, {told}")
    words = re.findall(r"\S+", text)
    if any(word not in words for piece in got for word in piece[2].split()):
        raise Wrong(f"a word is cut in two, {told}: end a piece between words")
    if any(text[start:end] != piece for start, end, piece in got):
        raise Wrong(f"text[start:end] is not the piece, {told}: count the blanks of the text as they stand")
    if [p[2] for p in got] == [p[2] for p in right]:
        raise Wrong(
            f"the pieces are right, their places are not, {told}: a piece that reads like an earlier one was found there; "
            "carry the places along instead of searching for them"
        )
    if not got or got[-1][1] < right[-1][1]:
        raise Wrong(f"the end of the text is in no piece, {told}")
    for number, (one, two) in enumerate(zip(got, got[1:])):
        if two[0] >= one[0] and two[1] <= one[1]:
            why = (
                "stop when the text is used up"
                if number + 2 == len(got)
                else "let the overlap give way to the next word"
            )
            raise Wrong(f"a piece lies inside the one before it, {told}: {why}")
    inside = {place for start, end, _ in got for place in range(start, end)}
    if any(not text[i].isspace() and i not in inside for i in range(len(text))):
        raise Wrong(f"some words are in no piece, {told}")
    if any(one[1] - two[0] > overlap for one, two in zip(got, got[1:])):
        raise Wrong(f"two neighbours share more than overlap={overlap} characters, {told}")
    if overlap and got == RIGHT(text, size, 0):
        raise Wrong(f"neighbours share nothing, {told}: begin again with the last words that fit into the overlap")
    shorter = next((i for i, (a, b) in enumerate(zip(got, right)) if a != b), min(len(got), len(right)))
    yours = repr(got[shorter]) if shorter < len(got) else "missing"
    wanted = repr(right[shorter]) if shorter < len(right) else "none"
    raise Wrong(f"piece {shorter} is {yours}, {wanted} was expected, {told}: take as many words as fit, each time")


def _refuses(run: Callable[[], Any], why: str) -> None:
    try:
        run()
    except ValueError:
        return
    except NotImplementedError:
        raise
    except Exception as error:
        raise Wrong(f"{why}: a ValueError was expected; yours ends in {type(error).__name__}: {error}") from error
    raise Wrong(f"{why}: a ValueError was expected; yours returns something")


def _by_size(text: str, size: int, overlap: int) -> list[Piece]:
    if not 0 <= overlap < size:
        raise ValueError("overlap")
    places = range(0, len(text), size - overlap)
    return [(a, min(a + size, len(text)), text[a : a + size]) for a in places]


def _rejoined(text: str, size: int, overlap: int) -> list[Piece]:
    """Places in the text as it would be with single blanks."""
    return RIGHT(" ".join(text.split()), size, overlap)


def _exactly_refused(text: str, size: int, overlap: int) -> list[Piece]:
    if any(len(word) >= size for word in text.split()):
        raise ValueError("a word")
    return RIGHT(text, size, overlap)


def _letters_only(text: str, size: int, overlap: int) -> list[Piece]:
    return [piece for piece in RIGHT(text, size, overlap) if re.search(r"\w", piece[2])]


def _one_word(text: str, size: int, overlap: int) -> list[Piece]:
    """At most one word is shared."""
    spans = [m.span() for m in re.finditer(r"\S+", text)]
    if not 0 <= overlap < size or any(b - a > size for a, b in spans):
        raise ValueError("sizes")
    found, first = [], 0
    while first < len(spans):
        behind = first + 1
        while behind < len(spans) and spans[behind][1] - spans[first][0] <= size:
            behind += 1
        start, end = spans[first][0], spans[behind - 1][1]
        found.append((start, end, text[start:end]))
        if behind == len(spans):
            break
        again = end - spans[behind - 1][0] <= overlap and spans[behind][1] - spans[behind - 1][0] <= size
        first = behind - 1 if again and behind - 1 > first else behind
    return found


def _backwards(text: str, size: int, overlap: int) -> list[Piece]:
    """A right answer, written differently: the beginning of every piece is searched for from the left."""
    if overlap < 0 or overlap >= size:
        raise ValueError("overlap")
    starts, ends = [m.start() for m in re.finditer(r"\S+", text)], [m.end() for m in re.finditer(r"\S+", text)]
    if any(b - a > size for a, b in zip(starts, ends)):
        raise ValueError("a word")
    found, begin = [], 0
    while starts:
        end = max(i for i in range(begin, len(ends)) if ends[i] - starts[begin] <= size)
        found.append((starts[begin], ends[end], text[starts[begin] : ends[end]]))
        if end + 1 == len(ends):
            break
        fits = [
            i
            for i in range(begin + 1, end + 1)
            if ends[end] - starts[i] <= overlap and ends[end + 1] - starts[i] <= size
        ]
        begin = min(fits, default=end + 1)
    return found


# --- the rows of a word ---------------------------------------------------------------------------------------------

# "the bank of embankments": special tokens at both ends, one word in three tokens
OFFSETS = [(0, 0), (0, 3), (4, 8), (9, 11), (12, 14), (14, 18), (18, 23), (0, 0)]
# the same text as a byte-level tokenizer sees it: a token begins with its blank, and nothing is special
BYTES = [(0, 3), (3, 8), (8, 11), (11, 14), (14, 18), (18, 23)]


def _states(count: int, seed: int) -> Any:
    import torch

    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))


def _rows(offsets: list[tuple[int, int]], start: int, end: int) -> list[int]:
    return [i for i, (a, b) in enumerate(offsets) if a < b and a < end and start < b]


def _vector(states: Any, offsets: list[tuple[int, int]], start: int, end: int) -> Any:
    rows = _rows(offsets, start, end)
    if not rows:
        raise ValueError("no token")
    return states[rows].mean(0)


def check_word(answer: Any) -> str:
    trials = [
        (OFFSETS, 4, 8, "'bank', token 2"),
        (OFFSETS, 12, 23, "'embankments', tokens 4 to 6"),
        (OFFSETS, 0, 3, "'the', token 1, where special tokens have the place (0, 0)"),
        (OFFSETS, 9, 11, "'of', token 3"),
        (BYTES, 4, 8, "'bank', whose token begins with the blank before it"),
        (BYTES, 12, 23, "'embankments' in a tokenizer without special tokens"),
    ]
    for seed, (offsets, start, end, what) in enumerate(trials):
        states = _states(len(offsets), seed)
        got = call(answer, states, offsets, start, end)
        expect_shape(got, (4,), f"the vector of {what}")
        rows = _rows(offsets, start, end)
        touching = [i for i, (a, b) in enumerate(offsets) if a <= end and start <= b]
        inside = [i for i, (a, b) in enumerate(offsets) if start <= a and b <= end]
        near = [
            (states[1], "this is position 1: the first token of the text behind [CLS], not the word"),
            (states[1:-1].mean(0), "this is the mean of the whole text without its ends"),
            (states.mean(0), "this is the mean of the whole text"),
            (states[rows[0]], "only the first token of the word is used; take the mean of all of them"),
            (states[rows[-1]], "only the last token of the word is used; take the mean of all of them"),
            (states[rows].sum(0), "the tokens are added up; the mean was asked"),
            (states[rows[0] : rows[-1]].mean(0), "the last token of the word is left out"),
            (states[touching].mean(0), "a neighbour that only touches the word is taken in: compare with <, not <="),
            (
                states[[i for i, (a, b) in enumerate(offsets) if a < end and start <= a]].mean(0),
                "special tokens are taken in: they have the place (0, 0)",
            ),
        ]
        if inside != rows:
            near.append(
                (states[inside].mean(0), "a token that begins with a blank reaches beyond the word, and still holds it")
            )
        right = states[rows].mean(0)
        near = [pair for pair in near if pair[0].isfinite().all() and not (pair[0] - right).abs().max() < 1e-6]
        expect_close(got, right, f"the vector of {what}", near_misses=near)
    for start, end in ((30, 34), (8, 9)):
        _refuses(
            partial(answer, _states(8, 9), OFFSETS, start, end),
            f"no token holds the characters {start} to {end}: the text was cut before the word, or there is a blank",
        )
    return "the rows are found by their characters, however many there are and wherever they stand"


def _by_mask(states: Any, offsets: list[tuple[int, int]], start: int, end: int) -> Any:
    """A right answer, written differently."""
    import torch

    weight = torch.tensor([float(len(range(max(a, start), min(b, end))) > 0) for a, b in offsets])
    if weight.sum() == 0:
        raise ValueError("no token")
    return (weight[:, None] * states).sum(0) / weight.sum()


def _pick(
    rule: Callable[[int, int, int, int], bool], how: Callable[[Any], Any] = lambda x: x.mean(0)
) -> Callable[..., Any]:
    def vector(states: Any, offsets: list[tuple[int, int]], start: int, end: int) -> Any:
        rows = [i for i, (a, b) in enumerate(offsets) if rule(a, b, start, end)]
        if not rows:
            raise ValueError("no token")
        return how(states[rows])

    return vector


def _no_refusal(states: Any, offsets: list[tuple[int, int]], start: int, end: int) -> Any:
    return states[_rows(offsets, start, end)].mean(0)


# --- what length costs ----------------------------------------------------------------------------------------------

FIXED, EACH = 2 * 7.5e9, 4 * 32 * 4096


def _reading(tokens: int, causal: bool = False) -> float:
    return tokens * (FIXED + EACH * tokens / (2 if causal else 1))


DOUBLED = _reading(16_384) / _reading(8_192)


def check_doubling(answer: Any) -> str:
    expect_number(
        answer,
        DOUBLED,
        rtol=0.005,
        what="the factor",
        near_misses={
            2: "that counts the matrices alone: the pairs of tokens become four times as many",
            4: "that counts the pairs of tokens alone: at this length the matrices are still the larger part",
            DOUBLED / 2: "that is the factor a token; there are twice as many tokens as well",
            3: "the two parts are not equal: work out what each is at 8,192 tokens",
            _reading(16_384): "those are the operations; the factor was asked",
        },
    )
    return "between 2 and 4: linear in the matrices, quadratic in the pairs, and the pairs catch up at 28,610 tokens"


def check_windows(answer: Any) -> str:
    expect_number(
        answer,
        37,
        rtol=1e-6,
        what="the number of windows",
        near_misses={
            40: "the last ones would begin inside the last full window: stop when the end is reached",
            10: "that is without overlap",
            36: "one is missing: the first window counts as well",
            38: "one too many: the 37th ends at token 10,000",
            13.333333: "dividing by the overlap gives no windows; a step is size less overlap, 250 tokens",
            9001: "that is a step of one token",
        },
    )
    return "37 windows read 37,000 tokens for a text of 10,000: overlap is paid for"


def check_twice(answer: Any) -> str:
    expect_choice(
        answer,
        "twice",
        {
            "last layer": "every layer sits behind the same mask: what follows the word reaches none of them",
            "more data": "no training changes what the mask hides from this position",
            "last token": "the last token has read all of it, but it is the vector of 'today', made to guess what comes next",
            "temperature": "temperature changes what is drawn from the logits, not the states",
        },
    )
    return "before the second 'bank' stands the whole sentence, and the mask has not changed"


TASKS = [
    Task(
        id="10.chunks",
        kind="build",
        title="Pieces that know their place",
        difficulty=3,
        minutes=18,
        hints=(
            "Work on the words' places, `[m.span() for m in re.finditer(r'\\S+', text)]`, not on the words.",
            "A piece of the words i to j has `spans[j][1] - spans[i][0]` characters. When it is full, step back from the "
            "next word while the shared part fits into `overlap` and the next word still fits into `size`.",
        ),
        check=check_chunks,
        bank=Bank(
            wrong=[
                Case("fixed windows", _by_size, "cut in two"),
                Case("no overlap", _pieces(share=False), "share nothing"),
                Case("places searched for", _pieces(show=_sought), "carry the places"),
                Case("blanks rejoined", _rejoined, "text[start:end] is not the piece"),
                Case("the end lost", _pieces(tail=False), "the end of the text"),
                Case("a piece inside another", _pieces(again=True), "inside the one before"),
                Case("one character too long", _pieces(limit=lambda size: size + 1), "longer than size"),
                Case("one character too short", _pieces(limit=lambda size: size - 1), "was expected"),
                Case("overlap one too large", _pieces(spare=lambda overlap: overlap + 1), "share more than"),
                Case("overlap one too small", _pieces(spare=lambda overlap: overlap - 1), "was expected"),
                Case("nothing refused", _pieces(strict=False), "does not fit into 5"),
                Case("overlap does not give way", _pieces(give_way=False), "inside the one before"),
                Case("lists for tuples", lambda t, s, o: [list(p) for p in RIGHT(t, s, o)], "tuple (start, end, text)"),
                Case("texts alone", lambda t, s, o: [p[2] for p in RIGHT(t, s, o)], "tuple (start, end, text)"),
                Case("a word as long as size refused", _exactly_refused, "a word"),
                Case("letters only", _letters_only, "no piece"),
                Case("one word shared", _one_word, "take as many words as fit"),
                Case("one piece", lambda t, s, o: [(0, len(t), t)], "longer than size"),
                Case("nothing", lambda t, s, o: [], "the end of the text"),
            ],
            right=[Case("searched from the left", _backwards), Case("stepping back", RIGHT)],
        ),
    ),
    Task(
        id="10.word",
        kind="debug",
        title="Position 1 is not the word",
        difficulty=1,
        minutes=8,
        hints=(
            "Print the tokens and their places for a text in which the word is not the first.",
            "A token holds part of the word if it begins before the word ends and ends behind the word's beginning. "
            "Special tokens have the place (0, 0): they hold nothing.",
        ),
        check=check_word,
        bank=Bank(
            wrong=[
                Case("as given", lambda states, offsets, start, end: states[1], "position 1"),
                Case("without the ends", lambda states, offsets, start, end: states[1:-1].mean(0), "whole text"),
                Case("everything", lambda states, offsets, start, end: states.mean(0), "whole text"),
                Case(
                    "first token", _pick(lambda a, b, s, e: a < b and a < e and s < b, lambda x: x[0]), "only the first"
                ),
                Case(
                    "last token", _pick(lambda a, b, s, e: a < b and a < e and s < b, lambda x: x[-1]), "only the last"
                ),
                Case("sum", _pick(lambda a, b, s, e: a < b and a < e and s < b, lambda x: x.sum(0)), "added up"),
                Case("touching", _pick(lambda a, b, s, e: a < b and a <= e and s <= b), "only touches"),
                Case("special tokens", _pick(lambda a, b, s, e: s <= a < e), "(0, 0)"),
                Case("wholly inside", _pick(lambda a, b, s, e: a < b and s <= a and b <= e), "no token"),
                Case("no refusal", _no_refusal, "ValueError was expected"),
                Case("all rows", lambda states, offsets, start, end: states[_rows(offsets, start, end)], "shape"),
            ],
            right=[Case("by weights", _by_mask), Case("mended", _vector)],
        ),
    ),
    Task(
        id="10.doubling",
        kind="reason",
        title="What does twice the context cost?",
        difficulty=2,
        minutes=5,
        hints=(
            "Two parts: every token meets every matrix, and every token meets every token.",
            "n · (15e9 + 524,288 · n) operations for n tokens. Put in 16,384 and 8,192.",
        ),
        check=check_doubling,
        bank=Bank(
            wrong=[
                Case("linear", 2, "matrices alone"),
                Case("quadratic", 4.0, "pairs of tokens alone"),
                Case("a token", DOUBLED / 2, "factor a token"),
                Case("halfway", 3, "not equal"),
                Case("operations", _reading(16_384), "the factor was asked"),
                Case("causal half", _reading(16_384, True) / _reading(8_192, True), "not right"),
                Case("words", "about 2.4", "number"),
            ],
            right=[Case("worked out", 2 * (15 + 0.524288 * 16.384) / (15 + 0.524288 * 8.192)), Case("rounded", 2.445)],
        ),
    ),
    Task(
        id="10.windows",
        kind="reason",
        title="How many windows?",
        difficulty=1,
        minutes=3,
        hints=(
            "How far does each window move on?",
            "The first ends at 1,000; each of the others brings 250 new tokens.",
        ),
        check=check_windows,
        bank=Bank(
            wrong=[
                Case("by the step", 40, "stop when the end"),
                Case("by the size", 10, "without overlap"),
                Case("first forgotten", 36, "first window"),
                Case("one too many", 38, "one too many"),
                Case("by the overlap", 10_000 / 750, "step is size less overlap"),
                Case("step of one", 9001, "one token"),
            ],
            right=[Case("a float", 37.0), Case("worked out", 1 + (10_000 - 1_000) // 250)],
        ),
    ),
    Task(
        id="10.twice",
        kind="reason",
        title="A hand over the rest of the line",
        difficulty=2,
        minutes=3,
        hints=("What may the position of 'bank' attend to?", "The mask cannot be changed. The text can."),
        check=check_twice,
        bank=Bank(
            wrong=[
                Case("last layer", "last layer", "same mask"),
                Case("more data", "more data", "no training"),
                Case("last token", "last token", "vector of 'today'"),
                Case("temperature", "temperature", "not the states"),
                Case("other", "bidirectional", "should be one of"),
            ],
            right=[Case("in capitals", " TWICE ")],
        ),
    ),
]
