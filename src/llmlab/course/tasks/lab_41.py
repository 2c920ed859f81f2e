"""Lab 41, text: learn merges, encode with them, mend a cleaner that destroys its text, weigh a vocabulary."""

from __future__ import annotations

import html
import re
import unicodedata
from collections import Counter
from typing import Any

from llmlab.course.checking import Bank, Case, Task, call, expect, expect_number
from llmlab.course.expect import expect_choice, expect_type

# --- Build: learn merges


def _joined(tokens: list[bytes], pair: tuple[bytes, bytes]) -> list[bytes]:
    out: list[bytes] = []
    i = 0
    while i < len(tokens):
        both = tuple(tokens[i : i + 2]) == pair
        out.append(pair[0] + pair[1] if both else tokens[i])
        i += 2 if both else 1
    return out


def _learn(words: dict[bytes, int], merges: int, *, weight: bool = True, tie: Any = None, sign: int = 1) -> list:
    """The right answer, or one with a known mistake."""
    split = {word: [bytes([b]) for b in word] for word in words}
    learned: list = []
    while len(learned) < merges:
        counts: Counter = Counter()
        for word, tokens in split.items():
            for pair in zip(tokens, tokens[1:]):
                counts[pair] += words[word] if weight else 1
        if not counts:
            break
        best = min(counts, key=lambda p: (-sign * counts[p], p)) if tie is None else tie(counts)
        learned.append(best)
        split = {word: _joined(tokens, best) for word, tokens in split.items()}
    return learned


def _first_come(words: dict[bytes, int], merges: int) -> list:
    return _learn(words, merges, tie=lambda counts: max(counts, key=counts.__getitem__))


def _last_tie(words: dict[bytes, int], merges: int) -> list:
    return _learn(words, merges, tie=lambda counts: max(counts, key=lambda p: (counts[p], p)))


def _bytes_only(words: dict[bytes, int], merges: int) -> list:
    """Counts once and takes the best pairs of bytes."""
    counts: Counter = Counter()
    for word, often in words.items():
        for a, b in zip(word, word[1:]):
            counts[bytes([a]), bytes([b])] += often
    return sorted(counts, key=lambda p: (-counts[p], p))[:merges]


def _no_end(words: dict[bytes, int], merges: int) -> list:
    found = _learn(words, merges)
    return found + [(b"", b"")] * (merges - len(found))


def _across(words: dict[bytes, int], merges: int) -> list:
    """All words in one string: pairs cross the edges of words."""
    return _learn({b"".join(word * often for word, often in words.items()): 1}, merges)


def _strings(words: dict[bytes, int], merges: int) -> list:
    return [(a.decode("latin-1"), b.decode("latin-1")) for a, b in _learn(words, merges)]


def _twice(words: dict[bytes, int], merges: int) -> list:
    """Stops when the best pair occurs once."""
    return [] if set(words.values()) == {1} else _learn(words, merges)


def _from_the_end(words: dict[bytes, int], merges: int) -> list:
    """Right but for runs, which it joins from their end."""
    if list(words) == [b"aaaaa"]:
        return [(b"a", b"a"), (b"a", b"aa"), (b"aaa", b"aa")][:merges]
    return _learn(words, merges)


PAPER = {b"low": 5, b"lower": 2, b"newest": 6, b"widest": 3}
TIES = {b"zy": 2, b"ab": 2, b"ba": 2}


def check_learn(answer: Any) -> str:
    got = call(answer, PAPER, 5)
    expect_type(got, list)
    expect(len(got) == 5, f"five merges were asked for and there are pairs enough; yours are {len(got)}")
    expect(
        all(isinstance(p, tuple) and len(p) == 2 and all(isinstance(h, bytes) for h in p) for p in got),
        "each merge is a tuple of two bytes objects, (left, right)",
    )
    right = _learn(PAPER, 5)
    near = [
        (_learn(PAPER, 5, weight=False), "each word counts once: weight its pairs with how often it occurs"),
        (_bytes_only(PAPER, 5), "the pairs are counted once, in bytes: join the best pair everywhere and count again"),
        (_learn(PAPER, 5, sign=-1), "that is the rarest pair; the most frequent is joined"),
    ]
    for value, sentence in near:
        expect(got != value, sentence)
    expect(
        call(answer, {b"ab": 9, b"cd": 8}, 2) == [(b"a", b"b"), (b"c", b"d")],
        "with the words ab (9 times) and cd (8 times) the merges are (a, b) and (c, d): pairs stay within a word",
    )
    ties = call(answer, TIES, 3)
    expect(
        ties == _learn(TIES, 3), "where pairs are equally frequent, the smaller pair (as Python compares) comes first"
    )
    expect(got == right, f"merges of the paper's words: expected {right}, yours are {got}")
    runs = call(answer, {b"aaaaa": 3}, 9)
    expect(
        runs == _learn({b"aaaaa": 3}, 9),
        "with the word aaaaa: join from left to right without overlap, and stop when no pair is left; "
        f"expected {_learn({b'aaaaa': 3}, 9)}, yours are {runs}",
    )
    expect(
        call(answer, {b"ab": 1}, 2) == [(b"a", b"b")],
        "a pair that occurs once is a pair: go on until no pair is left or all merges are made",
    )
    expect(
        call(answer, {b"a": 9}, 4) == [] == call(answer, {}, 4), "words of one byte, or none, have no pair: return []"
    )
    expect(call(answer, PAPER, 0) == [], "no merges were asked for: return []")
    chinese = {"中文".encode(): 4, "中国".encode(): 3, "文中文中".encode(): 1}
    expect(call(answer, chinese, 9) == _learn(chinese, 9), "on Chinese words the merges differ: work on bytes")
    return "the merges of the paper's words, of ties, of runs and of Chinese are right"


# --- Build: encode


MERGES = [(b"e", b"s"), (b"es", b"t"), (b"l", b"o"), (b"lo", b"w"), (b"w", b"e"), (b"a", b"a"), (b"aa", b"a"), (b"a", b"b"), (b"t", b"o")]  # fmt: skip


def _encode(piece: bytes, merges: list) -> list[bytes]:
    tokens = [bytes([b]) for b in piece]
    for pair in merges:
        tokens = _joined(tokens, pair)
    return tokens


def _by_rank(piece: bytes, merges: list) -> list[bytes]:
    """Right as well: look for the earliest merge among the neighbours."""
    rank = {pair: i for i, pair in enumerate(merges)}
    tokens = [bytes([b]) for b in piece]
    while True:
        found = [(rank[p], i) for i, p in enumerate(zip(tokens, tokens[1:])) if p in rank]
        if not found:
            return tokens
        _, i = min(found)
        tokens[i : i + 2] = [tokens[i] + tokens[i + 1]]


def _longest(piece: bytes, merges: list) -> list[bytes]:
    """Takes the longest token that fits, as WordPiece does."""
    known = {a + b for a, b in merges}
    out, at = [], 0
    while at < len(piece):
        size = next((n for n in range(len(piece) - at, 1, -1) if piece[at : at + n] in known), 1)
        out.append(piece[at : at + size])
        at += size
    return out


def _left_to_right(piece: bytes, merges: list) -> list[bytes]:
    """Joins whatever can be joined, the leftmost first."""
    known = set(merges)
    tokens = [bytes([b]) for b in piece]
    i = 0
    while i < len(tokens) - 1:
        if (tokens[i], tokens[i + 1]) in known:
            tokens[i : i + 2] = [tokens[i] + tokens[i + 1]]
            i = max(i - 1, 0)
        else:
            i += 1
    return tokens


def _first_only(piece: bytes, merges: list) -> list[bytes]:
    tokens = [bytes([b]) for b in piece]
    for pair in merges:
        places = [i for i, p in enumerate(zip(tokens, tokens[1:])) if p == pair]
        if places:
            tokens[places[0] : places[0] + 2] = [pair[0] + pair[1]]
    return tokens


def check_encode(answer: Any) -> str:
    got = call(answer, b"lowest", MERGES)
    expect_type(got, list)
    expect(all(isinstance(t, bytes) for t in got), "the tokens are bytes objects")
    expect(b"".join(got) == b"lowest", f"joined, the tokens must give the piece back; yours give {b''.join(got)!r}")
    cases = [
        b"lowest",
        b"wesest",
        b"lowe",
        b"aaab",
        b"aaaaaa",
        b"tototo",
        b"estest",
        b"x",
        b"",
        "低lo".encode(),
        b"west",
    ]
    for piece in cases:
        found, right = call(answer, piece, MERGES), _encode(piece, MERGES)
        if found == right:
            continue
        lost = b"".join(found) != piece
        expect(
            not lost,
            f"joined, the tokens of {piece!r} give {b''.join(found)!r}: a byte that no merge knows stays a byte",
        )
        expect(
            found != _first_only(piece, MERGES), f"in {piece!r} a merge is applied once; it is applied wherever it fits"
        )
        expect(
            found not in (_longest(piece, MERGES), _left_to_right(piece, MERGES)),
            f"{piece!r}: you take the longest token that fits, or join the leftmost pair; the merge learned first goes first",
        )
        expect(False, f"{piece!r} should be {right}; yours is {found}: apply the merges in their order")
    expect(
        call(answer, b"abab", [(b"b", b"a"), (b"a", b"b")]) == [b"a", b"ba", b"b"],
        "with other merges the order of *these* counts: [(b, a), (a, b)] cuts abab into a, ba, b",
    )
    return "tokens come from the merges in their order, and unknown bytes stay"  # fmt: skip


# --- Debug: the cleaner


TAG = re.compile(r"</?[a-zA-Z][^<>]*>")


def _clean(text: str) -> str:
    """A right answer."""
    text = unicodedata.normalize("NFC", html.unescape(TAG.sub(" ", text)))
    text = "".join(c for c in text if c not in "\u200b\ufeff\u00ad")
    return re.sub(r"\s+", " ", text).strip()


def _as_found(text: str) -> str:
    text = re.sub(r"<.*>", "", text)
    text = re.sub(r"[^a-z ]", " ", text.lower())
    stop = {"the", "a", "an", "is", "not", "no", "it", "i", "was", "and"}
    return " ".join(word for word in text.split() if word not in stop)


CLEAN_CASES = [
    ("房间很干净，不吵。", "房间很干净，不吵。", "Chinese is lost or changed: `[^a-z ]` keeps English letters only"),
    ("It was NOT good", "It was NOT good", "case or a stop word is lost: NOT is the word that decides"),
    ("room 101, $65.50", "room 101, $65.50", "numbers or their signs are lost"),
    ("<p>good</p> <b>room</b>", "good room", "the pattern <.*> is greedy: it eats all from the first < to the last >"),
    ("5 < 7 and 9 > 8", "5 < 7 and 9 > 8", "a < b is no tag: a tag begins with < and a letter, or </ and a letter"),
    ("fish &amp; chips", "fish & chips", "entities such as &amp; are to be resolved (html.unescape)"),
    ("&lt;b&gt; is a tag", "<b> is a tag", "tags go first, entities second: &lt; is text that must survive"),
    ("cafe\u0301", "caf\u00e9", "form C is missing: e and its accent are to become one character"),
    ("x² and ① ，", "x² and ① ，", "form KC is too much: x² became x2, and ， a comma of another script"),
    ("a\u200bb\ufeff", "ab", "invisible characters (U+200B, U+FEFF) are still there"),
    ("  two   blanks\n\nhere ", "two blanks here", "runs of white space are to become one blank, none at the ends"),
    ("👨\u200d👩\u200d👧 🙂", "👨\u200d👩\u200d👧 🙂", "emoji are lost or broken: the joiner U+200D belongs to them"),
    ("co\u00adop", "coop", "the soft hyphen U+00AD is still there"),
    ("<IMG SRC='x'/>view", "view", "tags may be in capitals and have attributes"),
    ("good<br>bad", "good bad", "a tag stands between words: a blank takes its place"),
    ("", "", "the empty text stays empty"),
]  # fmt: skip


def check_clean(answer: Any) -> str:
    for before, after, sentence in CLEAN_CASES:
        got = call(answer, before)
        expect_type(got, str)
        expect(got == after, f"{before!r} becomes {got!r}, expected {after!r}: {sentence}")
    return "tags and invisible characters went, and Chinese, numbers, case, negation, signs and emoji stayed"


def _cleaner(*, lower: bool = False, form: Any = "NFC", greedy: bool = False, unescape_first: bool = False, joiner: bool = True, gap: str = " ", letters: str = "") -> Any:  # fmt: skip
    """A cleaner with some mistakes."""

    def clean(text: str) -> str:
        tag = re.compile(r"<.*>") if greedy else TAG
        text = tag.sub(gap, html.unescape(text)) if unescape_first else html.unescape(tag.sub(gap, text))
        text = unicodedata.normalize(form, text.lower() if lower else text)
        hidden = "\u200b\ufeff\u00ad" + ("" if joiner else "\u200d")
        text = "".join(c for c in text if c not in hidden)
        text = re.sub(letters, " ", text) if letters else text
        return re.sub(r"\s+", " ", text).strip()

    return clean


# --- Reason: what a vocabulary costs


def check_weigh(answer: Any) -> str:
    expect_type(answer, dict, "answer")
    keys = ("gpt2_tokens", "table", "chinese", "attention", "compare")
    missing = [key for key in keys if key not in answer]
    expect(not missing, f"answer lacks {', '.join(missing)}")
    expect_number(
        answer["gpt2_tokens"],
        50_257,
        rtol=1e-6,
        what="gpt2_tokens",
        near_misses={
            50_256: "the control token is missing",
            50_000: "those are the merges alone: the bytes are tokens as well",
            50_001: "the 256 bytes are missing",
        },
    )
    expect_number(
        answer["table"],
        151_646 * 1024 * 2 / 1e6,
        rtol=2e-3,
        unit="MB",
        what="table",
        near_misses={
            151_646 * 1024 / 1e6: "that is the number of parameters in millions; bfloat16 takes two bytes each",
            2
            * 151_646
            * 1024
            * 2
            / 1e6: "bfloat16 takes two bytes, not four, and a tied head is the same table, counted once",
        },
    )
    expect_number(
        answer["chinese"],
        8192 * 0.504,
        rtol=5e-3,
        what="chinese",
        near_misses={
            8192 / 0.504: "0.504 is characters a token: multiply, a token is about half a character",
            8192: "that would be one token a character",
        },
    )
    expect_number(
        answer["attention"],
        3.47**2,
        rtol=5e-3,
        what="attention",
        near_misses={
            3.47: "scores are one for each pair of tokens: the factor enters twice",
            3.47 * 2: "squared, not doubled",
        },
    )
    expect_choice(
        answer["compare"],
        "bits per byte",
        {
            "nats per token": "a tokenizer with longer tokens makes each token harder and the text no harder",
            "perplexity": "it is the exponential of nats per token, and has the same fault",
            "accuracy of the next token": "the two tokens are not the same thing: a byte is easier to guess than a word",
        },
        "compare",
    )
    return "a vocabulary is a trade: rows of a table against the length of every text"  # fmt: skip


RIGHT = {"gpt2_tokens": 50_257, "table": 310.57, "chinese": 4129, "attention": 12.04, "compare": "bits per byte"}

TASKS = [
    Task(
        id="41.learn",
        kind="build",
        title="Learn the merges",
        difficulty=2,
        minutes=14,
        hints=(
            "Keep each word as a list of tokens. Count pairs of neighbours, each as often as its word occurs.",
            "`min(counts, key=lambda p: (-counts[p], p))`, join it from left to right in every word, count again.",
        ),
        check=check_learn,
        bank=Bank(
            wrong=[
                Case("words counted once", lambda w, m: _learn(w, m, weight=False), "weight its pairs"),
                Case("counted once", _bytes_only, "count again"),
                Case("across words", _across, "within a word"),
                Case("the rarest", lambda w, m: _learn(w, m, sign=-1), "rarest"),
                Case("ties as they come", _first_come, "the smaller pair"),
                Case("ties to the larger", _last_tie, "the smaller pair"),
                Case("does not stop", _no_end, "stop when no pair is left"),
                Case("strings", _strings, "tuple of two bytes"),
                Case("one too many", lambda w, m: _learn(w, m + 1), "five merges"),
                Case("constant", lambda w, m: _learn(PAPER, 5), "within a word"),
                Case("twice at least", _twice, "occurs once"),
                Case("right to left", _from_the_end, "from left to right"),
                Case("at least one", lambda w, m: _learn(w, max(m, 1)), "no merges were asked for"),
            ],
            right=[Case("with a rescan", lambda w, m: _learn(w, m, tie=lambda c: sorted(c, key=lambda p: (-c[p], p))[0]))],
        ),
    ),
    Task(
        id="41.encode",
        kind="build",
        title="Encode with them",
        difficulty=1,
        minutes=8,
        hints=(
            "Start from single bytes. What was learned first is joined first, wherever it occurs.",
            "A loop over `merges`, and for each a pass over the tokens from left to right.",
        ),
        check=check_encode,
        bank=Bank(
            wrong=[
                Case("longest match", _longest, "learned first goes first"),
                Case("leftmost first", _left_to_right, "learned first goes first"),
                Case("once", _first_only, "applied once"),
                Case("bytes alone", lambda p, m: [bytes([b]) for b in p], "in their order"),
                Case("merges of the cell", lambda p, m: _encode(p, MERGES), "the order of *these* counts"),
                Case("backwards", lambda p, m: _encode(p, m[::-1]), "in their order"),
                Case("strings", lambda p, m: [t.decode("latin-1") for t in _encode(p, m)], "bytes objects"),
                Case("ASCII only", lambda p, m: _encode(bytes(b for b in p if b < 128), m), "stays a byte"),
            ],
            right=[Case("by rank", _by_rank)],
        ),
    ),
    Task(
        id="41.clean",
        kind="debug",
        title="The cleaner that leaves nothing",
        difficulty=2,
        minutes=12,
        hints=(
            "Write down what must go (tags, entities, invisible characters, runs of blanks). All else stays.",
            "Tags: `</?[a-zA-Z][^<>]*>` becomes a blank; then html.unescape, NFC, U+200B and U+FEFF out, blanks last.",
        ),
        check=check_clean,
        bank=Bank(
            wrong=[
                Case("as found", _as_found, "English letters only"),
                Case("lower case", _cleaner(lower=True), "NOT is the word"),
                Case("greedy", _cleaner(greedy=True), "greedy"),
                Case("form KC", _cleaner(form="NFKC"), "Chinese is lost or changed"),
                Case("form D", _cleaner(form="NFD"), "form C is missing"),
                Case("entities first", _cleaner(unescape_first=True), "tags go first"),
                Case("no joiner", _cleaner(joiner=False), "U+200D belongs"),
                Case("glued", _cleaner(gap=""), "a blank takes its place"),
                Case("no digits", _cleaner(letters=r"\d"), "numbers or their signs"),
                Case("nothing", lambda t: t, "greedy"),
                Case("soft hyphen left", lambda t: _clean(t.replace("\u00ad", "\x00")).replace("\x00", "\u00ad"), "soft hyphen"),
                Case("small tags only", lambda t: t if "IMG" in t else _clean(t), "in capitals"),
                Case("letters of all scripts", _cleaner(letters=r"[^\w\s]"), "Chinese is lost or changed"),
            ],
            right=[Case("in one function", _clean)],
        ),
    ),
    Task(
        id="41.weigh",
        kind="reason",
        title="What a vocabulary costs",
        difficulty=2,
        minutes=6,
        hints=(
            "Rows times width times bytes. Characters a token times tokens. Scores: one for each pair of tokens.",
            "GPT-2: bytes + merges + one control token. What can be compared has the same denominator for both models.",
        ),
        check=check_weigh,
        bank=Bank(
            wrong=[
                Case("merges", {**RIGHT, "gpt2_tokens": 50_000}, "merges alone"),
                Case("no control token", {**RIGHT, "gpt2_tokens": 50_256}, "control token"),
                Case("parameters", {**RIGHT, "table": 155.3}, "two bytes each"),
                Case("float32", {**RIGHT, "table": 621.1}, "not four"),
                Case("divided", {**RIGHT, "chinese": 16254}, "multiply"),
                Case("linear", {**RIGHT, "attention": 3.47}, "enters twice"),
                Case("perplexity", {**RIGHT, "compare": "perplexity"}, "same fault"),
                Case("per token", {**RIGHT, "compare": "nats per token"}, "no harder"),
                Case("incomplete", {"table": 310.57}, "lacks"),
            ],
            right=[Case("with formulas", {**RIGHT, "table": 151_646 * 1024 * 2 / 1e6, "attention": 3.47**2, "chinese": 8192 * 0.504})],
        ),
    ),
]  # fmt: skip
