"""Counting instead of training: an n-gram model with Kneser-Ney smoothing, the baseline of every language model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

__all__ = ["KneserNey"]


class KneserNey:
    """Interpolated Kneser-Ney: what followed the last ``order - 1`` tokens, mixed with what followed fewer of them.

    At each order k a discount D_k is taken off every count, and what that frees goes to the order below:

        p_k(w | h) = max(c(h w) - D_k, 0) / c(h) + D_k · types(h) / c(h) · p_{k-1}(w | h without its first token)

    The highest order counts how often ``h w`` stands in the text, all others *behind how many different tokens* it
    stands; below order 1 every token is as likely as any other. A history that was never seen hands over to the order
    below.

    Args:
        tokens: the training text, numbers from 0 to ``vocabulary - 1``.
        order: tokens in a run, 1 for the unigram model.
        vocabulary: number of tokens.
        discounts: D_1, D_2, … in [0, 1]; by default n1 / (n1 + 2 · n2) of each order, n1 and n2 being the runs counted
            once and twice, and 1/2 where none was counted once.

    Raises:
        ValueError: an order below 1, a text shorter than that, a token outside the vocabulary, another number of
            discounts than orders, or runs too long to be numbered in 63 bits.

    Cost: a sort of the text for each order, and 24 bytes a different run; a token is scored by two binary searches an
    order. Sources: Kneser and Ney, 1995; Chen and Goodman, 1998, section 4.1.6; the
    discount: Ney, Essen and Kneser, 1994.
    """

    def __init__(
        self,
        tokens: Int[ndarray, " time"] | Sequence[int],
        order: int,
        vocabulary: int,
        discounts: Sequence[float] | None = None,
    ) -> None:
        text = np.asarray(tokens, dtype=np.int64)
        if order < 1 or text.ndim != 1 or len(text) < order:
            raise ValueError(f"order={order} and a text of shape {text.shape}: expected one row of at least order >= 1")
        if vocabulary**order >= 2**63:
            raise ValueError(f"{order} tokens of {vocabulary} cannot be numbered in 63 bits: lower order or vocabulary")
        self.order, self.vocabulary = order, vocabulary
        _check_tokens(text, vocabulary)
        if discounts is not None and len(discounts) != order:
            raise ValueError(f"{len(discounts)} discounts for {order} orders: give one for each, the unigram's first")
        self._levels: list[tuple[ndarray, ndarray, ndarray, ndarray, ndarray]] = []
        self.discounts: list[float] = []
        runs, counts = np.unique(_numbered(text, order, vocabulary), return_counts=True)
        for k in range(order, 0, -1):
            if k < order:  # a run of k is counted once for each different token before it
                runs, counts = np.unique(runs % vocabulary**k, return_counts=True)
            histories, first = np.unique(runs // vocabulary, return_index=True)
            types = np.diff(first, append=len(runs))
            self._levels.insert(0, (runs, counts, histories, np.add.reduceat(counts, first), types))
            self.discounts.insert(0, _discount(counts) if discounts is None else discounts[k - 1])

    def probabilities(self, tokens: Int[ndarray, " time"] | Sequence[int]) -> Float[ndarray, " time"]:
        """The probability of every token of a text, given those before it; the first ones have short histories."""
        text = np.asarray(tokens, dtype=np.int64)
        _check_tokens(text, self.vocabulary)
        p = np.full(len(text), 1 / self.vocabulary)
        for k in range(1, min(self.order, len(text)) + 1):
            p[k - 1 :] = self._mixed(k, _numbered(text, k, self.vocabulary), p[k - 1 :])
        return p

    def distribution(self, history: Int[ndarray, " time"] | Sequence[int]) -> Float[ndarray, " vocabulary"]:
        """The probability of each token of the vocabulary after ``history``, of which the last few count."""
        past = np.asarray(history, dtype=np.int64)
        _check_tokens(past, self.vocabulary)
        p = np.full(self.vocabulary, 1 / self.vocabulary)
        for k in range(1, min(self.order, len(past) + 1) + 1):
            start = _numbered(past[len(past) - k + 1 :], k - 1, self.vocabulary)[0] if k > 1 else 0
            p = self._mixed(k, start * self.vocabulary + np.arange(self.vocabulary), p)
        return p

    def _mixed(self, k: int, runs: ndarray, lower: ndarray) -> ndarray:
        """The probabilities of order k of the last tokens of ``runs``, given those of the order below."""
        known, counts, histories, totals, types = self._levels[k - 1]
        place, seen = _find(histories, runs // self.vocabulary)
        at, met = _find(known, runs)
        discount, total = self.discounts[k - 1], totals[place]
        kept = np.where(met, np.maximum(counts[at] - discount, 0), 0)
        return np.where(seen, (kept + discount * types[place] * lower) / total, lower)


def _numbered(text: ndarray, k: int, vocabulary: int) -> ndarray:
    """Every run of k tokens as one number, in base ``vocabulary``."""
    number = np.zeros(len(text) - k + 1, dtype=np.int64)
    for i in range(k):
        number = number * vocabulary + text[i : len(text) - k + 1 + i]
    return number


def _find(table: ndarray, wanted: ndarray) -> tuple[ndarray, ndarray]:
    """Where each of ``wanted`` stands in the sorted ``table``, and whether it does."""
    place = np.searchsorted(table, wanted).clip(max=len(table) - 1)
    return place, table[place] == wanted


def _discount(counts: ndarray) -> float:
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    return once / (once + 2 * twice) if once else 0.5


def _check_tokens(text: ndarray, vocabulary: int) -> None:
    if len(text) and not 0 <= text.min() <= text.max() < vocabulary:
        raise ValueError(f"tokens from {text.min()} to {text.max()}: expected 0 to {vocabulary - 1}, the vocabulary")
