"""A vocabulary of single characters with BERT's five special tokens, as Chinese BERT reads Chinese."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

__all__ = ["CLS", "MASK", "PAD", "SEP", "SPECIAL", "UNK", "CharacterVocabulary"]

PAD, UNK, CLS, SEP, MASK = range(5)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True)
class CharacterVocabulary:
    """Numbers for characters: 0 to 4 are :data:`SPECIAL`, then those of ``known`` in order.

    Raises:
        ValueError: ``known`` has a character twice.
    """

    known: str
    _number: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        number = {c: i + len(SPECIAL) for i, c in enumerate(self.known)}
        if len(number) != len(self.known):
            twice = sorted(c for c, n in Counter(self.known).items() if n > 1)
            raise ValueError(f"known has {''.join(twice[:5])!r} more than once: expected each character once")
        object.__setattr__(self, "_number", number)

    @classmethod
    def learn(cls, texts: Iterable[str], at_least: int = 2) -> CharacterVocabulary:
        """The characters that occur ``at_least`` so often, the most frequent first, then in the order of Unicode."""
        counts = Counter(c for text in texts for c in text)
        return cls("".join(sorted((c for c, n in counts.items() if n >= at_least), key=lambda c: (-counts[c], c))))

    def __len__(self) -> int:
        return len(SPECIAL) + len(self.known)

    def encode(self, text: str) -> list[int]:
        """A number for each character, ``[UNK]`` for those not known; no special tokens are put around it."""
        return [self._number.get(c, UNK) for c in text]

    def decode(self, ids: Sequence[int]) -> list[str]:
        """The character or the special token of each number.

        Raises:
            ValueError: a number that is none of the vocabulary's.
        """
        names = [*SPECIAL, *self.known]
        for i in ids:
            if not 0 <= i < len(names):
                raise ValueError(f"number {i}: the vocabulary has 0 to {len(names) - 1}")
        return [names[i] for i in ids]
