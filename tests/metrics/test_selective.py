"""Refusing the uncertain, against scikit-learn, SciPy and counting by hand."""

import numpy as np
import pytest
from scipy.stats import entropy
from sklearn.metrics import accuracy_score

from llmlab.metrics import ensemble_uncertainty, risk_coverage


def test_risk_is_the_error_of_the_most_certain_by_scikit_learn():
    rng = np.random.default_rng(0)
    labels, predicted, doubt = rng.integers(0, 2, 50), rng.integers(0, 2, 50), rng.random(50)
    found = risk_coverage(labels != predicted, doubt)
    order = np.argsort(doubt)
    by_hand = [1 - accuracy_score(labels[order[:k]], predicted[order[:k]]) for k in range(1, 51)]
    assert found.risk == pytest.approx(by_hand)
    assert found.coverage == pytest.approx(np.arange(1, 51) / 50)
    assert found.area == pytest.approx(np.mean(by_hand))


def test_the_best_and_the_worst_order():
    wrong = [False, True, False, True]
    assert risk_coverage(wrong, [0, 2, 1, 3]).risk == pytest.approx([0, 0, 1 / 3, 1 / 2])
    assert risk_coverage(wrong, [2, 0, 3, 1]).risk == pytest.approx([1, 1, 2 / 3, 1 / 2])


def test_ties_share_their_errors_whatever_the_order():
    wrong = np.array([True, False, False, True])
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2]):
        assert risk_coverage(wrong[order], [0.5] * 4).risk == pytest.approx([0.5] * 4)


def test_entropies_are_scipys_and_add_up():
    p = np.random.default_rng(0).dirichlet([0.5] * 3, size=(7, 20))
    found = ensemble_uncertainty(p)
    assert found.total == pytest.approx(entropy(p.mean(0), axis=-1))
    assert found.disagreement == pytest.approx(entropy(p.mean(0), axis=-1) - entropy(p, axis=-1).mean(0))
    assert (found.disagreement >= 0).all()


def test_members_that_agree_disagree_by_nothing_and_opposite_ones_by_one_bit():
    agree = np.tile([[0.5, 0.5]], (4, 3, 1))
    assert ensemble_uncertainty(agree).disagreement == pytest.approx([0] * 3)
    opposite = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    assert ensemble_uncertainty(opposite).disagreement == pytest.approx([np.log(2)])
    assert ensemble_uncertainty(opposite).total == pytest.approx([np.log(2)])


@pytest.mark.parametrize(("wrong", "doubt"), [([], []), ([True], [0, 1]), ([True, False], [0.1, float("nan")])])
def test_bad_lists_are_refused(wrong, doubt):
    with pytest.raises(ValueError, match="two lists of one length"):
        risk_coverage(wrong, doubt)


@pytest.mark.parametrize("draws", [[[0.5, 0.5]], [[[2.0, 3.0]]], [[[-0.5, 1.5]]]])
def test_what_is_no_ensemble_is_refused(draws):
    with pytest.raises(ValueError, match="members, cases, classes"):
        ensemble_uncertainty(draws)
