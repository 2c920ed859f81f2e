"""Is an explanation true of the model? Three tests that need no person and no gold label.

Deletion: take the units away in the order of their weights; a true order makes the probability fall early (Samek et al.
2015, arXiv:1509.06321; Petsiuk et al. 2018, arXiv:1806.07421). Stability: explain again with another seed. Fidelity:
does the surrogate predict the model on perturbations that it has not seen?
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float

from llmlab.explain.lime import Explanation, PredictProba, Units, ask, kernel, sample_masks, weighted_r2

__all__ = ["deletion_curve", "jaccard", "local_fidelity", "stability"]


def deletion_curve(
    units: Units, order: Iterable[int], predict_proba: PredictProba, label: int = 1
) -> Float[np.ndarray, " units_and_one"]:
    """The probability of ``label`` for the text, then with the first unit of ``order`` gone, with the first two, ...

    ``order`` runs from the unit that speaks most *for* the label: sort signed weights, not absolute ones.

    Raises:
        ValueError: ``order`` does not name every unit once.
    """
    order = [int(u) for u in order]
    if sorted(order) != list(range(len(units))):
        raise ValueError(f"order must name each of the {len(units)} units once; got {order[:12]}")
    return ask(predict_proba, [units.without(order[:k]) for k in range(len(order) + 1)], label)


def jaccard(a: Iterable[int], b: Iterable[int]) -> float:
    """Size of the intersection over size of the union; 1.0 for two empty sets."""
    a, b = set(a), set(b)
    return len(a & b) / len(a | b) if a | b else 1.0


def stability(explanations: Sequence[Explanation], k: int = 5) -> float:
    """Mean Jaccard@k over all pairs of explanations: 1.0 if all name the same k units as their most important.

    Raises:
        ValueError: fewer than two explanations, or explanations of different texts.
    """
    if len(explanations) < 2:
        raise ValueError(
            f"stability compares explanations with one another: got {len(explanations)}, expected 2 or more"
        )
    if len({e.units for e in explanations}) > 1:
        raise ValueError("stability compares explanations of one text, cut in one way; these differ in their units")
    tops = [e.order()[:k].tolist() for e in explanations]
    return float(np.mean([jaccard(a, b) for a, b in itertools.combinations(tops, 2)]))


def local_fidelity(
    explanation: Explanation, predict_proba: PredictProba, *, n_samples: int = 1000, seed: int = 1
) -> float:
    """Weighted R^2 of the surrogate on perturbations it was not fitted to. Below zero: worse than a constant."""
    units = explanation.units
    masks = sample_masks(len(units), n_samples, np.random.RandomState(seed))
    y = ask(predict_proba, units.texts(masks), explanation.label)
    return weighted_r2(y, masks @ explanation.weights + explanation.intercept, kernel(masks, explanation.width))
