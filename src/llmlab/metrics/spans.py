"""Names in a text as spans and as tags, and how many of them were found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

__all__ = ["Span", "SpanScore", "bio_tags", "score_spans", "spans_of"]

#: First token, one behind the last, kind.
Span = tuple[int, int, str]


def bio_tags(spans: Iterable[Span], length: int) -> list[str]:
    """A tag for each token: B-kind begins a name, I-kind goes on with it, O is none.

    Raises:
        ValueError: a span that is empty, reaches out of the text, or overlaps another.
    """
    tags = ["O"] * length
    for start, end, kind in spans:
        if not 0 <= start < end <= length or any(tag != "O" for tag in tags[start:end]):
            raise ValueError(f"span {(start, end, kind)}: expected 0 <= start < end <= {length}, and no overlap")
        tags[start:end] = [f"B-{kind}"] + [f"I-{kind}"] * (end - start - 1)
    return tags


def spans_of(tags: Sequence[str]) -> list[Span]:
    """The names that the tags spell, in order.

    A tagger may write what no gold tag is: an I without its B, or of another kind than the one before. As in the
    CoNLL script, such an I begins a name.
    """
    found: list[Span] = []
    start = 0
    for i, tag in enumerate([*tags, "O"]):
        before = tags[i - 1] if i else "O"
        mark, _, kind = tag.partition("-")
        if before != "O" and (mark != "I" or kind != before.partition("-")[2]):
            found.append((start, i, before.partition("-")[2]))
            before = "O"
        if tag != "O" and before == "O":
            start = i
    return found


class SpanScore(NamedTuple):
    """Share of the found names that are right, share of the gold names found, and their harmonic mean."""

    precision: float
    recall: float
    f1: float


def score_spans(gold: Sequence[Sequence[Span]], found: Sequence[Sequence[Span]]) -> SpanScore:
    """Micro-averaged over all texts; a name is right where both ends and the kind are.

    Nothing found gives a precision of 0, no gold name a recall of 0. Source: Tjong Kim Sang and De Meulder, CoNLL 2003.

    Raises:
        ValueError: not as many texts in one as in the other.
    """
    if len(gold) != len(found):
        raise ValueError(f"{len(gold)} gold texts, {len(found)} found: give one list of spans a text")
    right = sum(len(set(a) & set(b)) for a, b in zip(gold, found))
    wanted, told = sum(map(len, gold)), sum(map(len, found))
    return SpanScore(right / max(told, 1), right / max(wanted, 1), 2 * right / max(wanted + told, 1))
