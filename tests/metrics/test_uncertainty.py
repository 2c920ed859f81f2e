"""Our intervals and tests against scipy's."""

import numpy as np
import pytest
from scipy.stats import binomtest

from llmlab.metrics import bootstrap_interval, mcnemar, wilson_interval


@pytest.mark.parametrize(("right", "total"), [(0, 7), (7, 7), (1, 1), (83, 100), (2859, 3430)])
def test_wilson_is_scipys_wilson(right, total):
    theirs = binomtest(right, total).proportion_ci(method="wilson")
    assert wilson_interval(right, total) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize(("right", "total"), [(8, 7), (-1, 7), (0, 0)])
def test_impossible_counts_are_refused(right, total):
    with pytest.raises(ValueError, match="0 <= right <= total"):
        wilson_interval(right, total)


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (1, 0), (5, 5), (3, 12), (204, 137), (4000, 4100)])
def test_mcnemar_is_a_binomial_test(wins, losses):
    first = np.array([True] * wins + [False] * losses + [True] * 10 + [False] * 5)
    second = np.array([False] * wins + [True] * losses + [True] * 10 + [False] * 5)
    found = mcnemar(first, second)
    expected = binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert (found.only_first, found.only_second) == (wins, losses)
    assert found.p == pytest.approx(expected, rel=1e-9)
    assert mcnemar(second, first).p == found.p


def test_mcnemar_wants_truth_values():
    with pytest.raises(ValueError, match="boolean"):
        mcnemar([1, 0], [0, 1])


def test_bootstrap_of_a_share_is_close_to_wilson_and_repeats():
    right = np.arange(1000) < 850
    found = bootstrap_interval(lambda i: right[i].mean(), len(right))
    assert found == pytest.approx(wilson_interval(850, 1000), abs=0.004)
    assert found == bootstrap_interval(lambda i: right[i].mean(), len(right))


@pytest.mark.parametrize(
    "bad", [{"size": 0}, {"rounds": 0}, {"level": 0}, {"level": 1}, {"level": 1.5}, {"level": -0.5}]
)
def test_bootstrap_refuses_what_is_no_interval(bad):
    with pytest.raises(ValueError, match="expected size, rounds >= 1 and 0 < level < 1"):
        bootstrap_interval(lambda i: 0.0, **{"size": 5, **bad})


def test_bootstrap_of_one_example_in_one_round():
    assert bootstrap_interval(lambda i: float(i.sum()), 1, rounds=1) == (0, 0)


def test_the_bootstrap_draws_whole_test_sets_and_takes_the_percentiles():
    drawn = []
    found = bootstrap_interval(lambda i: drawn.append(i) or i.mean(), 50, rounds=200, level=0.5, seed=3)
    means = [i.mean() for i in drawn]
    assert len(drawn) == 200 and {len(i) for i in drawn} == {50}
    assert set(np.concatenate(drawn).tolist()) == set(range(50)) and any(len(set(i)) < 50 for i in drawn)
    assert found == pytest.approx(np.quantile(means, [0.25, 0.75]))
    counted = []
    bootstrap_interval(lambda i: counted.append(1) or 0.0, 3)
    assert len(counted) == 1000


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([True], [1]), ([1], [True]), ([True, False], [True]), ([[True]], [[True]]), (True, False), ([True], ["yes"]),
    ],
)  # fmt: skip
def test_mcnemar_wants_two_lists_of_truth_values(first, second):
    with pytest.raises(ValueError, match="expected two boolean lists of one length"):
        mcnemar(first, second)
