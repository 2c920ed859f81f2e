"""Chinese words: cut a sentence by a dictionary, by its most probable path, and score the cuts against gold.

Chinese is written without blanks, so "word" is a convention. Here it is that of a hand-cut corpus; another convention,
jieba's say, loses points by disagreeing as well as by erring.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, NamedTuple

__all__ = [
    "Disagreement",
    "Score",
    "UnigramSegmenter",
    "count_words",
    "disagreements",
    "maximum_match",
    "score_segmentation",
]


def count_words(sentences: Iterable[Sequence[str]]) -> Counter[str]:
    """How often each word occurs: the dictionary for what follows."""
    return Counter(word for sentence in sentences for word in sentence)


def maximum_match(
    text: str, words: Collection[str], *, longest: int | None = None, backward: bool = False
) -> list[str]:
    """Take the longest word of ``words`` at the present place, again and again; a character if none begins there.

    ``backward`` goes from the end to the start, which errs less in Chinese: 研究生命 is 研究|生命, not 研究生|命.
    ``longest``: characters in the longest word; counted if not given, which takes a pass over ``words``.

    Cost: O(characters · longest). ``words`` should be a set or a mapping.
    """
    longest = longest or max(map(len, words), default=1)
    out: list[str] = []
    rest = text
    while rest:
        for size in range(min(longest, len(rest)), 0, -1):
            word = rest[-size:] if backward else rest[:size]
            if size == 1 or word in words:
                break
        out.append(word)
        rest = rest[: len(rest) - size] if backward else rest[size:]
    return out[::-1] if backward else out


class UnigramSegmenter:
    """The most probable way to cut a sentence, if words follow each other independently.

    A word's probability is its count over all counts; a character that is no word counts once. The best path through
    all words that could stand in the sentence is found from its end, as in jieba without its hidden Markov model.

    Args:
        counts: word -> how often; zero counts as absent.

    Raises:
        ValueError: no word has a count.

    Cost: O(characters · longest word) a sentence.
    """

    def __init__(self, counts: Mapping[str, int]):
        total = sum(counts.values())
        if total <= 0:
            raise ValueError("counts is empty: count the words of a corpus first, with count_words")
        self._log = {word: math.log(count / total) for word, count in counts.items() if count > 0}
        self._unknown = math.log(1 / total)
        self._longest = max(map(len, self._log))

    def segment(self, text: str) -> list[str]:
        """The words of ``text``; joined, they are the text. On a tie the longer word comes first."""
        size = len(text)
        best: list[tuple[float, int]] = [(0.0, size)] * (size + 1)  # from here on: log-probability, end of first word
        for start in range(size - 1, -1, -1):
            step, end = self._log.get(text[start], self._unknown), start + 1
            choice = (step + best[end][0], end)
            for end in range(start + 2, min(start + self._longest, size) + 1):
                log = self._log.get(text[start:end])
                if log is not None:
                    choice = max(choice, (log + best[end][0], end))
            best[start] = choice
        out, start = [], 0
        while start < size:
            out.append(text[start : best[start][1]])
            start = best[start][1]
        return out


@dataclass(frozen=True)
class Score:
    """Of the words found, the share that is right (precision); of the gold words, the share found (recall); their F1.

    ``unseen_recall``: recall of the gold words that the dictionary lacks, nan if there are none; ``unseen``: their
    share among the gold words.
    """

    precision: float
    recall: float
    f1: float
    unseen_recall: float
    unseen: float


def score_segmentation(
    gold: Sequence[Sequence[str]], found: Sequence[Sequence[str]], known: Collection[str] | None = None
) -> Score:
    """Compare word by word: a word is right where both its ends are. ``known``: the dictionary, for the unseen words.

    Source: the SIGHAN bake-off (Sproat and Emerson, 2003).

    Raises:
        ValueError: the two are not cuts of the same sentences; the message names the first that differs.
    """
    if len(gold) != len(found):
        raise ValueError(f"{len(gold)} gold sentences, {len(found)} found: give one cut a sentence")
    right = gold_words = found_words = unseen = unseen_right = 0
    for number, (gold_row, found_row) in enumerate(zip(gold, found)):
        if "".join(gold_row) != "".join(found_row):
            raise ValueError(
                f"sentence {number} is {''.join(gold_row)[:20]!r} in gold, {''.join(found_row)[:20]!r} found"
            )
        spans = _spans(found_row)
        gold_words += len(gold_row)
        found_words += len(found_row)
        for word, span in zip(gold_row, _spans_in_order(gold_row)):
            right += span in spans
            if known is not None and word not in known:
                unseen += 1
                unseen_right += span in spans
    precision, recall = right / max(found_words, 1), right / max(gold_words, 1)
    f1 = 2 * right / max(found_words + gold_words, 1)
    return Score(precision, recall, f1, unseen_right / unseen if unseen else math.nan, unseen / max(gold_words, 1))


class Disagreement(NamedTuple):
    """Two cuts share the ends of ``text`` and nothing between. ``kind``: what the first does, seen by the second.

    "splits": the first cuts a word of the second further; "joins": the other way; "crosses": each cuts within a word of
    the other, so that no difference of grain explains it.
    """

    text: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    kind: Literal["splits", "joins", "crosses"]


def disagreements(first: Sequence[str], second: Sequence[str]) -> list[Disagreement]:
    """The shortest stretches in which two cuts of one sentence differ, in order.

    Raises:
        ValueError: the two are not cuts of the same sentence.
    """
    text = "".join(first)
    if text != "".join(second):
        raise ValueError(f"{text[:20]!r} and {''.join(second)[:20]!r} are not the same sentence")
    ends = [{0, *accumulate(map(len, words))} for words in (first, second)]
    shared = sorted(ends[0] & ends[1])
    out: list[Disagreement] = []
    for start, end in zip(shared, shared[1:]):
        inner = [sorted(place for place in row if start < place < end) for row in ends]
        if inner[0] or inner[1]:
            a, b = (tuple(text[x:y] for x, y in zip([start, *row], [*row, end])) for row in inner)
            out.append(
                Disagreement(text[start:end], a, b, "joins" if len(a) == 1 else "splits" if len(b) == 1 else "crosses")
            )
    return out


def _spans_in_order(words: Sequence[str]) -> list[tuple[int, int]]:
    ends = list(accumulate(map(len, words)))
    return list(zip([0, *ends], ends))


def _spans(words: Sequence[str]) -> set[tuple[int, int]]:
    return set(_spans_in_order(words))
