"""Texts with labels, and a split that stays the same whatever is added, removed or reordered."""

from __future__ import annotations

import hashlib
import random
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Labelled", "fingerprint", "from_ratings", "normalise", "part_of", "split"]

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Labelled:
    """Texts and their labels, in one order. Label 1 is positive, 0 negative."""

    texts: list[str]
    labels: list[int]

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.labels):
            raise ValueError(f"{len(self.texts)} texts but {len(self.labels)} labels: give one label a text")

    def __len__(self) -> int:
        return len(self.texts)

    def sample(self, count: int, seed: int = 0) -> Labelled:
        """``count`` rows drawn without replacement, the same for the same seed; all rows if there are no more."""
        rows = list(range(len(self)))
        random.Random(seed).shuffle(rows)
        return self.take(rows[:count])

    def take(self, indices: Iterable[int]) -> Labelled:
        """The rows at these positions."""
        rows = list(indices)
        return Labelled([self.texts[i] for i in rows], [self.labels[i] for i in rows])


def normalise(text: str) -> str:
    """Full-width forms to ordinary ones (Unicode NFKC), lower case, no space at the ends: ``Ｔhe`` becomes ``the``."""
    return unicodedata.normalize("NFKC", text).lower().strip()


def fingerprint(text: str) -> str:
    """The text's letters and digits alone: copies that differ in punctuation, width or case share it."""
    return "".join(c for c in normalise(text) if c.isalnum())


def part_of(text: str) -> str:
    """``train`` (70 %), ``validation`` (10 %) or ``test`` (20 %), decided by the SHA-256 of the text's fingerprint.

    A text keeps its part for ever, whatever happens to the rest of the corpus, and near copies that share a
    fingerprint cannot stand on both sides of the line.
    """
    number = int(hashlib.sha256(fingerprint(text).encode()).hexdigest()[:8], 16) % 100
    return "test" if number < 20 else "validation" if number < 30 else "train"


def split(texts: Sequence[str], labels: Sequence[int]) -> dict[str, Labelled]:
    """The three parts, each in the order of the input. Duplicates are not removed here: do that first.

    Raises:
        ValueError: not one label a text.
    """
    whole = Labelled(list(texts), list(labels))
    rows: dict[str, list[int]] = {name: [] for name in PARTS}
    for i, text in enumerate(whole.texts):
        rows[part_of(text)].append(i)
    return {name: whole.take(indices) for name, indices in rows.items()}


def from_ratings(texts: Sequence[str], ratings: Sequence[float], margin: float = 0.5) -> Labelled:
    """Labels derived from mean human ratings: above ``margin`` positive, below ``-margin`` negative, the rest left out.

    Repeated texts keep their first place. Derived labels are clearer than the ratings they come from: say so.
    """
    rows = {text: rating for text, rating in reversed(list(zip(texts, ratings, strict=True))) if abs(rating) > margin}
    kept = [text for text in dict.fromkeys(texts) if text in rows]
    return Labelled(kept, [int(rows[text] > 0) for text in kept])
