"""Has the test been seen? The share of a test text that stands, word for word, in the training texts."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

__all__ = ["NgramIndex", "Overlap"]

Unit = Literal["words", "characters"]


@dataclass(frozen=True)
class Overlap:
    """How much of a text the index has seen.

    Attributes:
        share: units inside a seen n-gram over all units, 0 to 1; None if the text is shorter than an n-gram, which
            proves nothing either way.
        longest: units in the longest run of seen n-grams; 0 if none.
        passage: that run, as compared.
    """

    share: float | None
    longest: int
    passage: str


class NgramIndex:
    """All runs of ``n`` units of the training texts.

    Words (what stands between blanks and punctuation) suit English, characters Chinese, where 13 words are about 20
    characters. Case, width, punctuation and blanks do not count. GPT-3 used 13 words (Brown et al. 2020,
    arXiv:2005.14165, appendix C).

    Args:
        texts: the training texts.
        n: units in a run. Small n finds common phrases, large n misses edited copies.
        unit: "words" or "characters".

    Raises:
        ValueError: ``n`` below 1, or another unit.

    Cost: memory of one 8-byte hash a run; a test text takes a pass.
    """

    def __init__(self, texts: Iterable[str], n: int = 13, unit: Unit = "words"):
        if n < 1:
            raise ValueError(f"n={n}: expected 1 or more")
        if unit not in ("words", "characters"):
            raise ValueError(f"unit={unit!r}: expected words or characters")
        self.n, self.unit = n, unit
        self._seen = {run for text in texts for run in self._runs(self.units(text))}

    def units(self, text: str) -> list[str]:
        """``text`` as it is compared: its words or its characters."""
        plain = unicodedata.normalize("NFKC", text).casefold()
        words = "".join(c if c.isalnum() else " " for c in plain).split()
        return words if self.unit == "words" else list("".join(words))

    def overlap(self, text: str) -> Overlap:
        """How much of ``text`` stands in the training texts."""
        units = self.units(text)
        if len(units) < self.n:
            return Overlap(None, 0, "")
        covered, best, start = 0, (0, 0), None
        end = 0  # one behind the last covered unit
        for place, run in enumerate(self._runs(units)):
            if run not in self._seen:
                continue
            if start is None or place > end:
                start = place
            covered += place + self.n - max(end, place)
            end = place + self.n
            best = max(best, (end - start, start))
        length, first = best
        glue = " " if self.unit == "words" else ""
        return Overlap(covered / len(units), length, glue.join(units[first : first + length]))

    def _runs(self, units: list[str]) -> Iterable[int]:
        # The hash of a tuple, not the tuple: a corpus has as many runs as words. It is not the same in two processes,
        # and need not be. Two runs of one hash are expected once in 2⁶⁴ comparisons.
        return (hash(tuple(units[i : i + self.n])) for i in range(len(units) - self.n + 1))
