"""Counts of right and wrong, and what is made of them, for two classes (1 is positive)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["Confusion", "accuracy", "confusion", "f1_score", "roc_auc"]


class Confusion(NamedTuple):
    """How often each label met each prediction."""

    true_negative: int
    false_positive: int
    false_negative: int
    true_positive: int


def _pair(labels: ArrayLike, other: ArrayLike, name: str) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.asarray(labels), np.asarray(other)
    if y.ndim != 1 or y.shape != x.shape or not y.size:
        raise ValueError(f"labels of shape {y.shape}, {name} of shape {x.shape}: expected two lists of one length >= 1")
    return y, x


def accuracy(labels: ArrayLike, predicted: ArrayLike) -> float:
    """The share of predictions that equal their label; any number of classes.

    Raises:
        ValueError: empty, or of different lengths. Probabilities must be turned into labels first.
    """
    y, p = _pair(labels, predicted, "predicted")
    return float(np.mean(y == p))


def confusion(labels: ArrayLike, predicted: ArrayLike) -> Confusion:
    """The four counts for labels 0 and 1.

    Raises:
        ValueError: empty, of different lengths, or with other values than 0 and 1.
    """
    y, p = _pair(labels, predicted, "predicted")
    strange = sorted(set(np.unique(y).tolist() + np.unique(p).tolist()) - {0, 1})
    if strange:
        raise ValueError(f"found {strange[:5]}, expected 0 and 1 only: turn probabilities into labels first")
    return Confusion(*(int(np.sum((y == a) & (p == b))) for a in (0, 1) for b in (0, 1)))


def f1_score(labels: ArrayLike, predicted: ArrayLike) -> float:
    """Harmonic mean of precision and recall of class 1; 0 when class 1 is neither there nor predicted."""
    c = confusion(labels, predicted)
    found = 2 * c.true_positive + c.false_positive + c.false_negative
    return 2 * c.true_positive / found if found else 0.0


def roc_auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """The chance that a positive scores above a negative, ties counting half: ranking, free of any threshold.

    Raises:
        ValueError: empty, of different lengths, or only one class among the labels.

    Cost: O(n log n), by the rank sum of Mann and Whitney.
    """
    y, s = _pair(labels, scores, "scores")
    positive = y == 1
    n1, n0 = int(positive.sum()), int((~positive).sum())
    if not n1 or not n0:
        raise ValueError(f"{n1} positive and {n0} negative labels: both classes are needed")
    values, place, count = np.unique(s, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]  # ties share their mean rank
    return float((ranks[positive].sum() - n1 * (n1 + 1) / 2) / (n1 * n0))
