"""How sure a number is: intervals for one model, a paired test for two."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["PairedTest", "bootstrap_interval", "mcnemar", "wilson_interval"]


def wilson_interval(right: int, total: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """The Wilson score interval for a share, 95 % by default.

    Unlike share ± z·s.e. it never leaves [0, 1], and it has a width even when all answers are right.

    Raises:
        ValueError: not 0 <= right <= total with total >= 1.

    Source: Wilson, 1927, JASA 22; Brown, Cai and DasGupta, 2001, Statistical Science 16.
    """
    if not 0 <= right <= total or total < 1:
        raise ValueError(f"right={right}, total={total}: expected 0 <= right <= total and total >= 1")
    share = right / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    # At the edges the formula gives 0 or 1 up to rounding.
    return (0.0 if right == 0 else centre - half), (1.0 if right == total else centre + half)


def bootstrap_interval(
    statistic: Callable[[np.ndarray], float], size: int, *, rounds: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """The percentile bootstrap interval of any number computed from a test set.

    Args:
        statistic: gets the indices of a resampled test set (drawn with replacement) and returns the number.
        size: number of test examples.
        rounds: how many resampled sets.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13. Cost: ``rounds`` evaluations.
    """
    if size < 1 or rounds < 1 or not 0 < level < 1:
        raise ValueError(f"size={size}, rounds={rounds}, level={level}: expected size, rounds >= 1 and 0 < level < 1")
    rng = np.random.default_rng(seed)
    values = [statistic(rng.integers(0, size, size)) for _ in range(rounds)]
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


class PairedTest(NamedTuple):
    """What McNemar's test found: how often only one of two models was right, and the p-value."""

    only_first: int
    only_second: int
    p: float


def mcnemar(first_right: ArrayLike, second_right: ArrayLike) -> PairedTest:
    """McNemar's exact test: are two models equally often right on the same examples?

    Examples on which both are right, or both wrong, say nothing about the difference. Of the others, if the models
    were equally good, each would win half: a two-sided binomial test.

    Args:
        first_right: one truth value an example.
        second_right: the same for the other model, in the same order.

    Raises:
        ValueError: not two boolean lists of one length.

    Source: McNemar, 1947, Psychometrika 12; Dietterich, 1998, Neural Computation 10, recommends it for one test set.
    """
    a, b = np.asarray(first_right), np.asarray(second_right)
    if a.dtype != bool or b.dtype != bool or a.shape != b.shape or a.ndim != 1:
        raise ValueError(
            f"got {a.dtype} of shape {a.shape} and {b.dtype} of shape {b.shape}: expected two boolean lists of one "
            "length (predicted == labels)"
        )
    wins, losses = int(np.sum(a & ~b)), int(np.sum(b & ~a))
    return PairedTest(wins, losses, _binomial_half(min(wins, losses), wins + losses))


def _binomial_half(k: int, n: int) -> float:
    """Two-sided p of k or fewer out of n fair coin tosses; logarithms keep it exact enough for large n."""
    if n == 0:
        return 1.0
    logs = [math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) - n * math.log(2) for i in range(k + 1)]
    top = max(logs)
    return min(1.0, 2 * math.exp(top) * math.fsum(math.exp(value - top) for value in logs))
