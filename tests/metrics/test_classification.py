"""Our numbers against scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from llmlab.metrics import accuracy, brier_score, confusion, f1_score, log_loss, roc_auc

pairs = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(pairs)
def test_counts_agree_with_sklearn(rows):
    y, p = map(list, zip(*rows))
    assert accuracy(y, p) == pytest.approx(sk.accuracy_score(y, p))
    assert f1_score(y, p) == pytest.approx(sk.f1_score(y, p, zero_division=0))
    assert list(confusion(y, p)) == sk.confusion_matrix(y, p, labels=[0, 1]).ravel().tolist()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5)), min_size=2, max_size=60))
def test_roc_auc_agrees_with_sklearn_even_with_ties(rows):
    y, s = map(list, zip(*rows))
    if len(set(y)) == 1:
        with pytest.raises(ValueError, match="both classes"):
            roc_auc(y, s)
    else:
        assert roc_auc(y, s) == pytest.approx(sk.roc_auc_score(y, s))


def test_scores_of_probabilities_agree_with_sklearn():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 200)
    p = rng.uniform(size=200)
    both = np.stack([1 - p, p], 1)
    assert log_loss(y, both) == pytest.approx(sk.log_loss(y, p))
    assert brier_score(y, both) == pytest.approx(sk.brier_score_loss(y, p))


@pytest.mark.parametrize("bad", [([1, 0], [1]), ([], []), ([[1]], [[1]])])
def test_lists_that_do_not_match_are_refused(bad):
    with pytest.raises(ValueError, match="two lists of one length"):
        accuracy(*bad)


def test_probabilities_where_labels_belong_are_refused():
    with pytest.raises(ValueError, match="turn probabilities into labels"):
        confusion([0, 1], [0.2, 0.9])


def test_logits_where_probabilities_belong_are_refused():
    with pytest.raises(ValueError, match="softmax"):
        log_loss([0, 1], [[2.0, -1.0], [0.3, 0.9]])
