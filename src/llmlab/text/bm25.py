"""BM25: the plain baseline of every search."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

__all__ = ["BM25"]


class BM25:
    """Score documents against a query by the terms that they share.

    score(d) = sum over query terms of idf(t) · f·(k1 + 1) / (f + k1·(1 - b + b·|d|/mean |d|)), where f counts t in d
    and idf(t) = ln(1 + (N - n + 0.5)/(n + 0.5)) for a term in n of N documents, which is never negative. Robertson and
    Zaragoza, 2009, The Probabilistic Relevance Framework, section 3.

    Building costs one pass over all terms; a query costs the number of documents that hold each of its terms.

    Args:
        documents: each a sequence of terms; words, n-grams, or whatever the caller compares.
        k1: how fast repeating a term stops helping; 0 counts presence only.
        b: how much a long document is held against itself, from 0 to 1.

    Raises:
        ValueError: ``k1`` is negative or ``b`` lies outside 0 to 1.
    """

    def __init__(self, documents: Iterable[Sequence[Hashable]], *, k1: float = 1.5, b: float = 0.75) -> None:
        if k1 < 0 or not 0 <= b <= 1:
            raise ValueError(f"k1={k1}, b={b}: expected k1 >= 0 and 0 <= b <= 1")
        self.k1, self.b = k1, b
        self.lengths: list[int] = []
        self.postings: dict[Hashable, list[tuple[int, int]]] = {}
        for i, document in enumerate(documents):
            self.lengths.append(len(document))
            for term, count in Counter(document).items():
                self.postings.setdefault(term, []).append((i, count))
        self.mean = sum(self.lengths) / len(self.lengths) if self.lengths else 0.0

    def idf(self, term: Hashable) -> float:
        """How much a term tells; a term that is in every document still tells a little."""
        holding = len(self.postings.get(term, ()))
        return math.log1p((len(self.lengths) - holding + 0.5) / (holding + 0.5))

    def scores(self, query: Iterable[Hashable]) -> dict[int, float]:
        """The score of every document that shares a term with the query, by its index. Repeated terms count again."""
        found: dict[int, float] = {}
        for term, times in Counter(query).items():
            weight = times * self.idf(term)
            for i, count in self.postings.get(term, ()):
                damped = count + self.k1 * (1 - self.b + self.b * self.lengths[i] / self.mean)
                found[i] = found.get(i, 0.0) + weight * count * (self.k1 + 1) / damped
        return found
