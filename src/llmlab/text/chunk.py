"""Cut a long text into pieces that a model can read: sentences kept whole, some overlap, and where each one stood.

    for piece in chunk(text, 200, 40, count=lambda part: len(tokenizer(part).input_ids)):
        assert text[piece.start : piece.end] == piece.text

An answer found in a piece can be shown in its text because the piece knows its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

__all__ = ["Chunk", "chunk", "sentence_spans", "token_windows"]


class Chunk(NamedTuple):
    """A piece of a text: ``text`` is the source's characters from ``start`` up to, not including, ``end``."""

    start: int
    end: int
    text: str


# An end of a sentence: its mark, closing quotes or brackets, blanks; Chinese marks need no blank; or an empty line.
_END = re.compile(r"[.!?…]+[\"'”’)\]_]*\s+|[。！？；]+[”’」』）]*\s*|\n\s*\n")
# What ends in a full stop and goes on: titles, initials, a few abbreviations.
_GOES_ON = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|St|Prof|vs|cf|e\.g|i\.e|No|[A-Z])\.\s*$")


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """The sentences as (start, end), blanks after each included: together they are the whole text.

    Rules, not a model: a mark, perhaps a closing quote, then a blank (none in Chinese), or an empty line. "Mr. Darcy"
    and "J. Austen" are not cut; an abbreviation that is not in the list is.
    """
    ends = [m.end() for m in _END.finditer(text) if not _GOES_ON.search(text, max(0, m.start() - 8), m.end())]
    cuts = [0, *ends] if ends and ends[-1] == len(text) else [0, *ends, len(text)]
    return [(a, b) for a, b in pairwise(cuts) if b > a]


def chunk(text: str, size: int, overlap: int = 0, *, count: Callable[[str], int] = len) -> list[Chunk]:
    """Pieces of at most ``size``, in order, none of them inside another; only blanks at a cut are left out.

    As many whole sentences as fit; the next piece begins again with as many of the last ones as fit into ``overlap``.
    A sentence longer than ``size`` is cut between words, a word longer than that between characters.

    Args:
        text: the text. Blanks alone give no piece.
        size: the most that a piece may measure.
        overlap: the most that two neighbours may share, less than ``size``. It is less where no sentence is that short.
        count: how a piece is measured: characters, or tokens with ``lambda part: len(tokenizer(part).input_ids)``.

    Raises:
        ValueError: ``size`` below 1, ``overlap`` not in 0 to ``size - 1``, or one character that measures more than
            ``size``.

    Cost: each piece is measured once for every sentence in it.
    """
    if size < 1 or not 0 <= overlap < size:
        raise ValueError(f"size={size}, overlap={overlap}: expected size >= 1 and 0 <= overlap < size")
    parts = [part for span in sentence_spans(text) for part in _fitting(text, span, size, count)]

    def measure(first: int, last: int) -> int:
        return count(text[parts[first][0] : parts[last][1]].strip())

    pieces: list[Chunk] = []
    first = 0
    while first < len(parts):
        behind = first + 1
        while behind < len(parts) and measure(first, behind) <= size:
            behind += 1
        start, end = parts[first][0], parts[behind - 1][1]
        bare = text[start:end].strip()
        start += len(text[start:end]) - len(text[start:end].lstrip())
        pieces.append(Chunk(start, start + len(bare), bare))
        if behind == len(parts):
            break
        before, first = first, behind
        # one more part may be read again if the shared end stays short enough and the next part still fits behind it
        while first - 1 > before and measure(first - 1, behind - 1) <= overlap and measure(first - 1, behind) <= size:
            first -= 1
    return pieces


def _fitting(text: str, span: tuple[int, int], size: int, count: Callable[[str], int]) -> list[tuple[int, int]]:
    """The span itself if it fits, else its words, and the characters of a word that does not fit."""
    start, end = span
    if count(text[start:end].strip()) <= size:
        return [span] if text[start:end].strip() else []
    words = [(start + m.start(), start + m.end()) for m in re.finditer(r"\s*\S+\s*", text[start:end])]
    if len(words) > 1:
        return [part for word in words for part in _fitting(text, word, size, count)]
    letters = [(at, at + 1) for at in range(start, end) if not text[at].isspace()]
    if worst := next((text[a:b] for a, b in letters if count(text[a:b]) > size), ""):
        raise ValueError(f"the character {worst!r} alone measures {count(worst)}, more than size={size}")
    return letters


def token_windows(length: int, size: int, overlap: int = 0) -> list[tuple[int, int]]:
    """The windows (start, end) that slide over ``length`` tokens: every token is in one, the last may be short.

    A text shorter than ``size`` gives one window, an empty one none. About ``length / (size - overlap)`` in all: with
    a step of one token nearly one window a token.

    Raises:
        ValueError: a negative length, ``size`` below 1, or ``overlap`` not in 0 to ``size - 1``.
    """
    if length < 0 or size < 1 or not 0 <= overlap < size:
        raise ValueError(f"length={length}, size={size}, overlap={overlap}: expected 0 <= overlap < size, length >= 0")
    step = size - overlap
    count = 0 if length == 0 else 1 + max(0, -(-(length - size) // step))
    return [(i * step, min(i * step + size, length)) for i in range(count)]
