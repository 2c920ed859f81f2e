"""Which language is it? Naive Bayes over the characters that stand together.

The same model tells languages apart, and "text as I want it" from "text as it comes": see :mod:`llmlab.text.quality`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

__all__ = ["NgramBayes", "character_ngrams"]


def character_ngrams(text: str, low: int = 1, high: int = 3) -> Counter[str]:
    """How often each run of ``low`` to ``high`` characters occurs; a run of blanks counts as one blank."""
    if not 1 <= low <= high:
        raise ValueError(f"low={low}, high={high}: expected 1 <= low <= high")
    text = " ".join(text.split())
    return Counter(text[i : i + n] for n in range(low, high + 1) for i in range(len(text) - n + 1))


class NgramBayes:
    """Multinomial naive Bayes: log P(label | text) = log P(label) + Σ count(g) · log P(g | label), less what makes the
    labels sum to 1; g runs over the text's n-grams, and P(g | label) is (count + alpha) / (total + alpha · kinds).

    N-grams that no training text has are passed over. The n-grams of a text overlap and are counted as independent,
    so the probabilities of a long text are far too near 0 and 1; their order is what one may trust.
    Sources: Manning, Raghavan and Schütze, 2008, Introduction to Information Retrieval, section 13.2; for languages by
    n-grams, Cavnar and Trenkle, 1994, N-Gram-Based Text Categorization.

    Args:
        low, high: lengths of the n-grams, in characters.
        alpha: added to every count, above 0.
        uniform: every label is as likely before the text is seen; otherwise as often as in the training texts.
    """

    def __init__(self, low: int = 1, high: int = 3, alpha: float = 0.5, *, uniform: bool = True) -> None:
        if not alpha > 0:
            raise ValueError(f"alpha={alpha}: expected a number above 0, or an unseen n-gram rules a language out")
        character_ngrams("", low, high)  # refuses bad lengths
        self.low, self.high, self.alpha, self.uniform = low, high, alpha, uniform
        self.labels: list[str] = []

    def fit(self, texts: Sequence[str], labels: Sequence[str]) -> NgramBayes:
        """Count. Cost: O(characters · lengths).

        Raises:
            ValueError: fewer than two labels, or not one for each text.
        """
        if len(texts) != len(labels) or len(set(labels)) < 2:
            raise ValueError(
                f"{len(texts)} texts, {len(labels)} labels, {len(set(labels))} of them different: expected a label for "
                "each text, and two or more different ones"
            )
        self.labels = sorted(set(labels))
        counts: dict[str, Counter[str]] = {label: Counter() for label in self.labels}
        for text, label in zip(texts, labels):
            counts[label].update(character_ngrams(text, self.low, self.high))
        self.row = {gram: i for i, gram in enumerate(dict.fromkeys(g for found in counts.values() for g in found))}
        table = np.full((len(self.row), len(self.labels)), self.alpha)
        for column, label in enumerate(self.labels):
            for gram, count in counts[label].items():
                table[self.row[gram], column] += count
        self.log_likelihood = np.log(table) - np.log(table.sum(0))
        share = Counter(labels)
        self.log_prior = np.log([1 if self.uniform else share[label] / len(labels) for label in self.labels])
        return self

    def scores(self, texts: Sequence[str]) -> Float[np.ndarray, "texts labels"]:
        """log P(label) + log P(text | label), up to a constant; columns as in ``labels``.

        Raises:
            ValueError: :meth:`fit` was not called.
        """
        if not self.labels:
            raise ValueError("nothing is known of any language yet: call fit(texts, labels) first")
        out = np.tile(self.log_prior.astype(float), (len(texts), 1))
        for i, text in enumerate(texts):
            known = [(self.row[g], n) for g, n in character_ngrams(text, self.low, self.high).items() if g in self.row]
            if known:
                rows, counts = np.array(known).T
                out[i] += counts @ self.log_likelihood[rows]
        return out

    def probabilities(self, texts: Sequence[str]) -> Float[np.ndarray, "texts labels"]:
        """P(label | text); each row sums to 1. An empty text has the prior."""
        scores = self.scores(texts)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        return scores / scores.sum(-1, keepdims=True)

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The most probable label of each text; the first in the alphabet where several are."""
        return [self.labels[i] for i in self.scores(texts).argmax(-1)]
