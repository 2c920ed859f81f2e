"""Explanations without sampling: what LIME's random draws are an estimate of, and its two neighbours.

A text of n units has 2^n subsets of them. For n <= 12 we ask the model about every one. Then nothing is random, and
three explanations can be compared that differ in one thing only, the weight of each subset:

    leave-one-out   only the n subsets that lack one unit
    LIME            all; the closer to the whole text, the more (:func:`llmlab.explain.kernel`)
    Shapley         all; as the order in which the units arrive is equally often each one (arXiv:1705.07874)
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Shaped

from llmlab.explain.lime import (
    Explanation,
    PredictProba,
    Units,
    all_masks,
    ask,
    kernel,
    weighted_r2,
    weighted_ridge,
)

__all__ = ["MAX_UNITS", "exact_lime", "leave_one_out", "outcomes", "shapley", "subset_odds"]

#: 2^12 = 4,096 calls of the model.
MAX_UNITS = 12


def leave_one_out(units: Units, predict_proba: PredictProba, label: int = 1) -> Float[np.ndarray, " units"]:
    """How much the probability of ``label`` falls when each unit alone is taken away: n + 1 calls of the model."""
    p = ask(predict_proba, [units.text, *(units.without([u]) for u in range(len(units)))], label)
    return p[0] - p[1:]


def outcomes(units: Units, predict_proba: PredictProba, label: int = 1) -> Float[np.ndarray, " two_to_the_units"]:
    """The probability of ``label`` for every subset of the units, in the order of :func:`lime.all_masks`.

    Raises:
        ValueError: more than ``MAX_UNITS`` units: the number of calls doubles with each.
    """
    if len(units) > MAX_UNITS:
        raise ValueError(
            f"{len(units)} units have 2^{len(units)} = {2 ** len(units):,} subsets; enumeration is for "
            f"{MAX_UNITS} or fewer. Cut the text coarser (split=jieba.lcut), or sample with explain()"
        )
    return ask(predict_proba, units.texts(all_masks(len(units))), label)


def subset_odds(masks: Shaped[np.ndarray, "n units"]) -> Float[np.ndarray, " n"]:
    """The chance that one draw of :func:`llmlab.explain.sample_masks` is this subset: ``1 / (n * C(n, removed))``."""
    n = masks.shape[1]
    by_size = np.array([0.0, *(1 / (n * math.comb(n, r)) for r in range(1, n + 1))])
    return by_size[n - np.asarray(masks).sum(axis=1).astype(int)]


def exact_lime(
    units: Units,
    predict_proba: PredictProba,
    *,
    label: int = 1,
    width: float = 25.0,
    alpha: float = 1.0,
    n_samples: int = 5000,
    answers: Float[np.ndarray, " two_to_the_units"] | None = None,
) -> Explanation:
    """LIME's answer if its ``n_samples`` draws fell exactly in proportion to their odds: no luck involved.

    The text itself counts once, every other subset ``(n_samples - 1) * odds`` times, all times the kernel.

    Args:
        answers: the result of :func:`outcomes`, if it is known already.
    """
    masks = all_masks(len(units)).astype(float)
    y = outcomes(units, predict_proba, label) if answers is None else answers
    times = (n_samples - 1) * subset_odds(masks)
    times[0] = 1.0
    weight = times * kernel(masks, width)
    w, b = weighted_ridge(masks, y, weight, alpha)
    r2 = weighted_r2(y, masks @ w + b, weight)
    return Explanation(units, w, b, label, float(y[0]), r2, width, n_samples)


def shapley(
    units: Units,
    predict_proba: PredictProba,
    *,
    label: int = 1,
    answers: Float[np.ndarray, " two_to_the_units"] | None = None,
) -> Float[np.ndarray, " units"]:
    """The exact Shapley value of every unit; they sum to ``p(text) - p(nothing left)``.

    ``phi_u = sum over S without u of |S|! (n - |S| - 1)! / n! * (f(S and u) - f(S))`` (Shapley 1953).
    """
    n = len(units)
    masks = all_masks(n)
    y = outcomes(units, predict_proba, label) if answers is None else answers
    size = masks.sum(axis=1)
    share = np.array([math.factorial(k) * math.factorial(n - k - 1) / math.factorial(n) for k in range(n)])
    index = np.arange(len(masks))
    values = np.zeros(n)
    for u in range(n):
        without = index[~masks[:, u]]
        with_u = without - (1 << (n - 1 - u))  # all_masks counts in binary, a kept unit is a 0: one bit apart
        values[u] = share[size[without]] @ (y[with_u] - y[without])
    return values
