"""The plain baselines: count pairs of characters, or remember every text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from llmlab.tasks.classify.data import normalise

__all__ = ["LinearClassifier", "LookupClassifier"]

Unit = Literal["char", "word"] | Callable[[str], list[str]]


class LinearClassifier:
    """TF-IDF of n-grams, then logistic regression. About two seconds for twelve thousand reviews.

    Args:
        unit: what is counted: ``"char"`` (for Chinese: no word segmentation needed), ``"word"``, or a function from a
            text to its list of words.
        ngrams: shortest and longest run of units.
        c: inverse strength of the L2 penalty.

    Attributes:
        features, head: scikit-learn's ``TfidfVectorizer`` and ``LogisticRegression``, fitted.

    Source: Wang and Manning, Baselines and Bigrams, ACL 2012 (P12-2018), show how far such models go.
    """

    def __init__(self, unit: Unit = "char", ngrams: tuple[int, int] = (1, 2), c: float = 5.0) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression

        by_hand = (
            {"analyzer": "word", "tokenizer": unit, "token_pattern": None} if callable(unit) else {"analyzer": unit}
        )
        self.features = TfidfVectorizer(
            ngram_range=ngrams, min_df=2, sublinear_tf=True, preprocessor=normalise, **by_hand
        )
        self.head = LogisticRegression(C=c, max_iter=300)

    def fit(self, texts: Sequence[str], labels: Sequence[int]) -> LinearClassifier:
        """Learn one weight an n-gram.

        Raises:
            ValueError: not one label a text, or only one class among them.
        """
        if len(texts) != len(labels) or len(set(labels)) < 2:
            raise ValueError(
                f"{len(texts)} texts, {len(labels)} labels of {len(set(labels))} class(es): give one label a text and "
                "examples of both classes"
            )
        self.head.fit(self.features.fit_transform(texts), labels)
        return self

    def predict_proba(self, texts: Sequence[str]) -> np.ndarray:
        """Probabilities of (negative, positive), shape (n, 2)."""
        return self.head.predict_proba(self.features.transform(list(texts)))

    def influence(self, text: str, count: int = 6) -> list[tuple[str, float]]:
        """The n-grams of this text that move its log-odds most, with what each adds (positive: towards positive).

        For a linear model this is no estimate: all contributions and the intercept add up to the log-odds.
        """
        row = self.features.transform([text])
        added = row.data * self.head.coef_[0][row.indices]
        names = self.features.get_feature_names_out()
        order = np.argsort(-np.abs(added), kind="stable")[:count]
        return [(str(names[row.indices[i]]), float(added[i])) for i in order]


class LookupClassifier:
    """Remembers every training text with its label and understands none: what leaks from train to test, measured.

    A text never seen gets the share of positive training labels.
    """

    def __init__(self) -> None:
        self.seen: dict[str, float] = {}
        self.prior = 0.5

    def fit(self, texts: Sequence[str], labels: Sequence[int]) -> LookupClassifier:
        """Write every text into the book, with the mean of the labels it came with."""
        book = defaultdict(list)
        for text, label in zip(texts, labels, strict=True):
            book[text].append(label)
        self.seen = {text: float(np.mean(found)) for text, found in book.items()}
        self.prior = float(np.mean(labels))
        return self

    def predict_proba(self, texts: Sequence[str]) -> np.ndarray:
        """Probabilities of (negative, positive), shape (n, 2)."""
        positive = np.array([self.seen.get(text, self.prior) for text in texts])
        return np.stack([1 - positive, positive], axis=1)
