"""Does 0.8 mean right four times out of five? Measured, drawn and mended."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

__all__ = [
    "Reliability",
    "brier_score",
    "expected_calibration_error",
    "fit_temperature",
    "log_loss",
    "reliability",
    "with_temperature",
]


class Reliability(NamedTuple):
    """One entry a filled bin: the mean confidence, the share that was right, how many examples."""

    confidence: np.ndarray
    accuracy: np.ndarray
    size: np.ndarray


def _checked(labels: ArrayLike, probabilities: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    y, p = np.asarray(labels), np.asarray(probabilities, dtype=float)
    if p.ndim != 2 or y.shape != p.shape[:1] or not y.size:
        raise ValueError(f"labels {y.shape}, probabilities {p.shape}: expected (n,) and (n, classes) with n >= 1")
    if not np.allclose(p.sum(1), 1, atol=1e-4) or p.min() < 0:
        raise ValueError("the rows of probabilities do not add up to 1: apply a softmax to logits first")
    return y.astype(int), p


def reliability(labels: ArrayLike, probabilities: ArrayLike, bins: int = 10) -> Reliability:
    """Group predictions by their confidence (the largest probability) in equal bins of [0, 1]; empty bins are left out.

    Args:
        labels: (n,) integers.
        probabilities: (n, classes), each row adding up to 1.

    Source: Guo et al., 2017 (arXiv:1706.04599), section 2.
    """
    y, p = _checked(labels, probabilities)
    sure, right = p.max(1), p.argmax(1) == y
    which = np.minimum((sure * bins).astype(int), bins - 1)
    filled = [which == b for b in range(bins) if np.any(which == b)]
    return Reliability(
        np.array([sure[b].mean() for b in filled]),
        np.array([right[b].mean() for b in filled]),
        np.array([int(b.sum()) for b in filled]),
    )


def expected_calibration_error(labels: ArrayLike, probabilities: ArrayLike, bins: int = 10) -> float:
    """Mean distance between confidence and accuracy over the bins, weighted by their size. 0 is perfect.

    It depends on the bins and is biased upwards for small n. Source: Guo et al., 2017 (arXiv:1706.04599), equation 3.
    """
    r = reliability(labels, probabilities, bins)
    return float(np.sum(r.size * np.abs(r.confidence - r.accuracy)) / r.size.sum())


def log_loss(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean of -ln(probability of the true class), in nats. Probabilities are kept above 1e-12."""
    y, p = _checked(labels, probabilities)
    return float(-np.log(np.maximum(p[np.arange(len(y)), y], 1e-12)).mean())


def brier_score(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean squared error of the probability of class 1, for two classes (Brier, 1950)."""
    y, p = _checked(labels, probabilities)
    if p.shape[1] != 2:
        raise ValueError(f"{p.shape[1]} classes: this score is for two")
    return float(np.mean((p[:, 1] - y) ** 2))


def with_temperature(probabilities: ArrayLike, temperature: float) -> np.ndarray:
    """The probabilities with their logits divided by ``temperature``: above 1 less sure, below 1 surer, same answers.

    Raises:
        ValueError: the temperature is not above 0.
    """
    if not temperature > 0:
        raise ValueError(f"temperature={temperature}: expected a number above 0")
    logits = np.log(np.maximum(np.asarray(probabilities, dtype=float), 1e-12)) / temperature
    scaled = np.exp(logits - logits.max(-1, keepdims=True))
    return scaled / scaled.sum(-1, keepdims=True)


def fit_temperature(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """The one number that makes probabilities fit held-out labels best (least log loss), found to 1e-4 relative.

    Fit it on validation data: on the training set a model looks surer than it may be.
    Source: Guo et al., 2017 (arXiv:1706.04599), section 4.2. The log loss is convex in 1/T, so a golden-section search
    finds the least.
    """
    y, p = _checked(labels, probabilities)
    low, high, ratio = np.log(0.05), np.log(20.0), (np.sqrt(5) - 1) / 2
    while high - low > 1e-4:
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        if log_loss(y, with_temperature(p, np.exp(a))) < log_loss(y, with_temperature(p, np.exp(b))):
            high = b
        else:
            low = a
    return float(np.exp((low + high) / 2))
