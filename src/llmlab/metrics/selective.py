"""When may a model keep silent: uncertainty scores, and what refusing the uncertain cases is worth."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["RiskCoverage", "Uncertainty", "ensemble_uncertainty", "risk_coverage"]


class RiskCoverage(NamedTuple):
    """The error among the most certain answers, by the share that is answered, and the mean of that curve."""

    coverage: np.ndarray
    risk: np.ndarray
    area: float


def risk_coverage(wrong: ArrayLike, uncertainty: ArrayLike) -> RiskCoverage:
    """Answer the most certain cases first: the error among those answered, at every share answered.

    ``coverage[k] = (k + 1) / n`` and ``risk[k]`` is the share of errors among the k + 1 most certain; ``area``, the
    mean of ``risk``, is small where the errors are the uncertain ones. Tied cases share their errors evenly, as if the
    tie were broken at random.

    Args:
        wrong: one truth value a case.
        uncertainty: one number a case, larger is less certain.

    Raises:
        ValueError: empty, or of different lengths, or a number that is NaN.

    Cost: O(n log n). Source: Geifman and El-Yaniv, 2017 (arXiv:1705.08500), section 2; the area from Geifman et al.,
    2018 (arXiv:1805.08206).
    """
    errors, scores = np.asarray(wrong, dtype=float), np.asarray(uncertainty, dtype=float)
    if errors.ndim != 1 or errors.shape != scores.shape or not errors.size or np.isnan(scores).any():
        raise ValueError(
            f"wrong {errors.shape}, uncertainty {scores.shape}: expected two lists of one length >= 1, without NaN"
        )
    _, tie, size = np.unique(scores, return_inverse=True, return_counts=True)
    shared = (np.bincount(tie, errors) / size)[tie]
    n = np.arange(1, errors.size + 1)
    risk = np.cumsum(shared[np.argsort(scores, kind="stable")]) / n
    return RiskCoverage(n / errors.size, risk, float(risk.mean()))


class Uncertainty(NamedTuple):
    """Of every case, in nats: the entropy of the mean prediction, and the part of it that is disagreement."""

    total: np.ndarray
    disagreement: np.ndarray


def ensemble_uncertainty(draws: ArrayLike) -> Uncertainty:
    """Split the uncertainty of an ensemble (or of Monte Carlo dropout).

    ``total`` is the entropy of the mean of the predictions. It is the mean of their entropies (each member is unsure)
    plus their mutual information with the member (the members disagree), which is never negative.

    Args:
        draws: (members, cases, classes) probabilities.

    Raises:
        ValueError: another number of axes, or rows that do not add up to 1.

    Source: Houlsby et al., 2011 (arXiv:1112.5745), equation 2; for dropout Gal, Islam and Ghahramani, 2017
    (arXiv:1703.02910), section 4.
    """
    p = np.asarray(draws, dtype=float)
    if p.ndim != 3 or not p.size or not np.allclose(p.sum(-1), 1, atol=1e-4) or p.min() < 0:
        raise ValueError(f"draws has shape {p.shape}: expected (members, cases, classes), each row adding up to 1")
    total, each = _entropy(p.mean(0)), _entropy(p).mean(0)
    return Uncertainty(total, np.maximum(total - each, 0.0))


def _entropy(p: np.ndarray) -> np.ndarray:
    return -np.sum(p * np.log(np.maximum(p, 1e-12)), axis=-1)
