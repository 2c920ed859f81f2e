"""Calibration: against scikit-learn's curve, a grid search and cases with a known answer."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.calibration import calibration_curve

from llmlab.metrics import expected_calibration_error, fit_temperature, log_loss, reliability, with_temperature


@pytest.fixture
def sample():
    """Labels drawn from true probabilities; the claimed ones are too sure by a temperature of 2."""
    rng = np.random.default_rng(1)
    logit = rng.normal(0, 1.5, 20_000)
    true = 1 / (1 + np.exp(-logit))
    y = (rng.uniform(size=logit.size) < true).astype(int)
    sure = 1 / (1 + np.exp(-2 * logit))
    return y, np.stack([1 - true, true], 1), np.stack([1 - sure, sure], 1)


def test_bins_agree_with_sklearn(sample):
    y, honest, _ = sample
    found = reliability(y, honest)
    share, mean = calibration_curve(honest.argmax(1) == y, honest.max(1), n_bins=10)
    assert found.accuracy == pytest.approx(share)
    assert found.confidence == pytest.approx(mean)
    assert found.size.sum() == len(y)


def test_honest_probabilities_have_a_small_error_and_sure_ones_a_large(sample):
    y, honest, sure = sample
    assert expected_calibration_error(y, honest) < 0.01
    assert expected_calibration_error(y, sure) > 0.07


def test_the_temperature_that_was_put_in_is_found(sample):
    y, honest, sure = sample
    t = fit_temperature(y, sure)
    best = minimize_scalar(lambda x: log_loss(y, with_temperature(sure, x)), bounds=(0.1, 10), method="bounded").x
    assert t == pytest.approx(best, rel=1e-3)
    assert t == pytest.approx(2, rel=0.05)
    assert with_temperature(sure, 2) == pytest.approx(honest, abs=1e-9)


def test_a_temperature_never_changes_an_answer(sample):
    _, _, sure = sample
    assert np.array_equal(with_temperature(sure, 3.7).argmax(1), sure.argmax(1))


def test_a_certain_wrong_answer_is_costly_but_finite():
    assert 20 < log_loss([0], [[0.0, 1.0]]) < 40


def test_a_temperature_of_zero_is_refused():
    with pytest.raises(ValueError, match="above 0"):
        with_temperature([[0.5, 0.5]], 0)


@pytest.mark.parametrize(
    ("labels", "probabilities", "says"),
    [
        ([0, 1], [0.5, 0.5], r"expected \(n,\) and \(n, classes\)"),
        ([[0]], [[[0.5, 0.5]]], r"expected \(n,\) and \(n, classes\)"),
        ([0], [[0.5, 0.5], [0.5, 0.5]], r"expected \(n,\)"),
        ([[0], [1]], [[0.5, 0.5], [0.5, 0.5]], r"expected \(n,\)"),
        ([], np.zeros((0, 2)), "with n >= 1"),
        ([0], [[0.5, 0.5003]], "do not add up to 1"),
        ([0], [[0.5, 0.4997]], "do not add up to 1"),
        ([0, 0], [[0.5, 0.5], [2.0, 1.0]], "do not add up to 1"),
        ([0], [[1.1, -0.1]], "do not add up to 1"),
    ],
)
def test_what_are_no_probabilities_of_labels_is_refused(labels, probabilities, says):
    for function in (reliability, log_loss, expected_calibration_error):
        with pytest.raises(ValueError, match=says):
            function(labels, probabilities)


def test_one_example_rounding_and_zeros_are_accepted():
    found = reliability([1], [[0.0, 1.0]])
    assert (found.confidence.tolist(), found.accuracy.tolist(), found.size.tolist()) == ([1.0], [1.0], [1])
    reliability([1], [[0.5, 0.50009]])
    reliability([1], [[0.5, 0.49991]])


def test_the_edges_of_the_bins():
    p = np.array([0.5, 0.59, 0.6, 0.75, 1.0])
    found = reliability([0, 1, 0, 0, 0], np.stack([p, 1 - p], 1), bins=5)
    assert found.size.tolist() == [2, 2, 1] and found.accuracy.tolist() == [0.5, 1.0, 1.0]
    assert found.confidence.tolist() == pytest.approx([0.545, 0.675, 1.0])
