"""What an explanation must be, whoever computes it; and the sentences that bad input gets."""

from __future__ import annotations

import numpy as np
import pytest

from llmlab.explain import (
    Units,
    cut,
    deletion_curve,
    exact_lime,
    explain,
    fit,
    highlight,
    jaccard,
    leave_one_out,
    local_fidelity,
    sample_masks,
    shapley,
    stability,
)
from llmlab.explain.exact import outcomes, subset_odds
from llmlab.explain.lime import all_masks, weighted_r2

TEXT = "abcdefgh"


def linear(**weights: float):
    """P(class 1) = 0.4 + the weights of the characters that are there: what LIME must find again."""

    def predict(texts: list[str]) -> np.ndarray:
        p = np.array([0.4 + sum(w for c, w in weights.items() if c in text) for text in texts])
        return np.stack([1 - p, p], axis=1)

    return predict


def both(a: str, b: str):
    """P(class 1) is 0.9 with either letter, 0.1 without both: what leave-one-out cannot see."""

    def predict(texts: list[str]) -> np.ndarray:
        p = np.array([0.9 if a in text or b in text else 0.1 for text in texts])
        return np.stack([1 - p, p], axis=1)

    return predict


def test_recovers_a_linear_model() -> None:
    """Signs, order and, with enough samples, sizes (the ridge shrinks them a little)."""
    truth = {"a": 0.20, "c": -0.15, "e": 0.10, "g": -0.05}
    found = explain(TEXT, linear(**truth), n_samples=3000)
    assert [name for name, _ in found.top(4)] == ["a", "c", "e", "g"]
    for name, weight in found.top(4):
        assert weight == pytest.approx(truth[name], rel=0.03)
    assert found.r2 > 0.999
    assert found.surrogate == pytest.approx(found.prediction, abs=0.002)
    assert local_fidelity(found, linear(**truth)) > 0.999


def test_the_other_label_turns_the_signs() -> None:
    model = linear(a=0.2, c=-0.15)
    positive, negative = explain(TEXT, model, label=1), explain(TEXT, model, label=0)
    np.testing.assert_allclose(positive.weights, -negative.weights, atol=1e-12)
    assert positive.weights[0] > 0.15 and positive.weights[2] < -0.1


def test_a_unit_that_the_model_ignores_gets_nothing() -> None:
    model = linear(a=0.2, c=-0.15)
    units = cut(TEXT)
    exact = exact_lime(units, model, n_samples=100_000)
    ignored = [1, 3, 4, 5, 6, 7]
    assert np.abs(exact.weights[ignored]).max() < 1e-4
    assert np.abs(shapley(units, model)[ignored]).max() < 1e-12
    assert np.abs(leave_one_out(units, model)[ignored]).max() < 1e-12
    assert np.abs(explain(TEXT, model, n_samples=2000).weights[ignored]).max() < 0.005


def test_units_in_the_same_role_get_the_same_weight() -> None:
    model, units = both("b", "f"), cut(TEXT)
    for weights in (exact_lime(units, model).weights, shapley(units, model)):
        assert weights[1] == pytest.approx(weights[5], abs=1e-12)
        assert weights[1] > 0.05
    assert np.abs(leave_one_out(units, model)).max() < 1e-12, "either letter is enough, so one alone is never missed"


def test_shapley_values_are_efficient_and_match_the_average_over_orders() -> None:
    import itertools
    import math

    units = cut("abcd")

    def model(texts: list[str]) -> np.ndarray:
        p = np.array([0.1 + 0.3 * ("a" in t and "c" in t) + 0.2 * ("b" in t) + 0.05 * len(t) for t in texts])
        return np.stack([1 - p, p], axis=1)

    values = shapley(units, model)
    y = outcomes(units, model)
    assert values.sum() == pytest.approx(y[0] - y[-1])
    slow = np.zeros(4)
    for order in itertools.permutations(range(4)):
        for i, unit in enumerate(order):
            here, before = [units.without(set(range(4)) - set(order[:n])) for n in (i + 1, i)]
            slow[unit] += (model([here]) - model([before]))[0, 1] / math.factorial(4)
    np.testing.assert_allclose(values, slow, atol=1e-12)


def test_sampling_tends_to_the_exact_answer() -> None:
    model, units = both("b", "f"), cut(TEXT)
    exact = exact_lime(units, model, n_samples=20_000).weights
    gaps = [np.abs(explain(units, model, n_samples=n).weights - exact).max() for n in (50, 20_000)]
    assert gaps[1] < 0.02 < gaps[0]


def test_the_odds_of_a_subset_are_those_of_the_sampler() -> None:
    masks = all_masks(4)
    odds = subset_odds(masks)
    assert odds.sum() == pytest.approx(1.0)
    drawn = sample_masks(4, 40_001, np.random.RandomState(0))[1:]
    key = drawn @ [8, 4, 2, 1]
    for mask, chance in zip(masks, odds):
        assert np.mean(key == mask @ [8, 4, 2, 1]) == pytest.approx(chance, abs=0.01)


def test_a_narrow_kernel_is_leave_one_out_and_a_wide_one_almost_shapley() -> None:
    """The dial of the notebook, on a model with pairs."""

    def model(texts: list[str]) -> np.ndarray:
        s = np.array([1.5 * ("ab" in t) - 1.2 * ("cd" in t) + 0.8 * ("e" in t) + 0.5 * ("h" in t) for t in texts])
        p = 1 / (1 + np.exp(-s))
        return np.stack([1 - p, p], axis=1)

    units = cut(TEXT)
    narrow = exact_lime(units, model, width=1.0, alpha=1e-12).weights
    np.testing.assert_allclose(narrow, leave_one_out(units, model), atol=1e-4)
    wide = exact_lime(units, model, width=1e4, alpha=1e-12).weights
    assert np.corrcoef(wide, shapley(units, model))[0, 1] > 0.99
    assert np.abs(exact_lime(units, model, width=1.0).weights).max() < 0.01, "the ridge wins where no sample has weight"


def test_deletion_curve_follows_its_order() -> None:
    units, model = cut("abc"), linear(a=0.3, b=0.2, c=0.0)
    np.testing.assert_allclose(deletion_curve(units, [0, 1, 2], model), [0.9, 0.6, 0.4, 0.4])
    np.testing.assert_allclose(deletion_curve(units, [2, 1, 0], model), [0.9, 0.9, 0.7, 0.4])
    with pytest.raises(ValueError, match="each of the 3 units once"):
        deletion_curve(units, [0, 1], model)


def test_stability_is_one_for_equal_and_low_for_noise() -> None:
    model = linear(a=0.2, c=-0.15, e=0.1)
    same = [explain(TEXT, model, n_samples=200, seed=0) for _ in range(3)]
    assert stability(same, 3) == 1.0
    steady = stability([explain(TEXT, model, n_samples=1000, seed=s) for s in range(4)], 3)
    shaky = stability([explain(TEXT, model, n_samples=6, seed=s) for s in range(4)], 3)
    assert steady == 1.0 > shaky
    assert jaccard([1, 2, 3], [2, 3, 4]) == 0.5
    with pytest.raises(ValueError, match="expected 2 or more"):
        stability(same[:1])
    with pytest.raises(ValueError, match="differ in their units"):
        stability([same[0], explain(TEXT + "i", model, n_samples=20)])


def test_r2_of_a_constant_is_no_number() -> None:
    """scikit-learn says 1.0 there, and the package repeats it; we do not call an empty explanation perfect."""
    ones = np.ones(5)
    assert np.isnan(weighted_r2(ones, ones, ones))

    def sure(texts: list[str]) -> np.ndarray:
        return np.tile([0.0, 1.0], (len(texts), 1))

    found = explain(TEXT, sure, allow_labels=True, n_samples=50)
    assert np.isnan(found.r2) and not found.weights.any()


def test_fit_serves_another_target_without_asking_again() -> None:
    units = cut(TEXT)
    masks = sample_masks(len(units), 500, np.random.RandomState(0))
    score = masks @ np.array([2.0, 0, -1, 0, 0, 0, 0, 0.5]) - 1
    found = fit(units, masks, score, alpha=1e-9)
    np.testing.assert_allclose(found.weights[[0, 2, 7]], [2, -1, 0.5], atol=1e-6)
    with pytest.raises(ValueError, match="first row"):
        fit(units, masks[1:], score[1:])


def test_cut() -> None:
    assert cut("很好，很好").names == ("很", "好", "，")
    assert cut("很好，很好").without([0]) == "好，好"
    places = cut("很好，很好", bow=False, mask_string="□")
    assert len(places) == 5 and places.without([0, 4]) == "□好，很□"
    assert cut("one two", r"\W+").texts(np.array([[1, 0], [0, 0]])) == ["one ", " "]
    assert isinstance(cut("ab"), Units)


@pytest.mark.parametrize(
    ("text", "settings", "sentence"),
    [
        ("", {}, "has 0"),
        ("好", {}, "has 1"),
        ("好好好", {}, "has 1"),
        ("整句都没有空格", {"split": r"\W+"}, "split=list cuts into characters"),
        ("Good Food", {"split": lambda t: t.lower().split()}, "cut the text, not change it"),
        ("ab", {"mask_string": "□"}, "bow=False only"),
    ],
)
def test_a_text_that_cannot_be_cut_gets_a_sentence(text: str, settings: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        cut(text, **settings)


def test_a_list_of_texts_gets_a_sentence() -> None:
    with pytest.raises(TypeError, match="one text at a time"):
        explain(["a b"], linear(a=0.1))  # type: ignore[arg-type]


class Estimator:
    """Has the method, is not the function."""

    def predict_proba(self, texts: list[str]) -> np.ndarray:
        return linear(a=0.1)(texts)


GOOD = linear(a=0.1)
BAD = [
    ("labels", lambda t: np.array([int("a" in x) for x in t]), "not predict"),
    ("one-hot labels", lambda t: np.eye(2)[[int("a" in x) for x in t]], "one-hot"),
    ("strings", lambda t: np.array([["no", "yes"]] * len(t)), "not all finite numbers"),
    ("one column", lambda t: GOOD(t)[:, 1:], r"shape \(50, 1\)"),
    ("one text only", lambda t: GOOD(t[:1]), r"shape \(1, 2\)"),
    ("classes first", lambda t: GOOD(t).T, r"shape \(2, 50\)"),
    ("logits", lambda t: np.log(GOOD(t)), "softmax"),
    ("not normalised", lambda t: 2 * GOOD(t), "sums to 2"),
    ("nan", lambda t: GOOD(t) * np.nan, "not all finite"),
    ("no such class", GOOD, "classes 0 to 1"),
]


@pytest.mark.parametrize(("name", "model", "sentence"), BAD, ids=[b[0] for b in BAD])
def test_a_wrong_model_function_gets_a_sentence(name: str, model: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        explain(TEXT, model, n_samples=50, label=5 if name == "no such class" else 1)


def test_an_estimator_instead_of_its_method_gets_a_sentence() -> None:
    with pytest.raises(TypeError, match="give its method"):
        explain(TEXT, Estimator())  # type: ignore[arg-type]
    assert explain(TEXT, Estimator().predict_proba, n_samples=50).weights[0] > 0


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"n_samples": 1}, "two or more"),
        ({"width": 0.0}, "positive number"),
        ({"n_features": 0}, "1 or more"),
        ({"select": "lasso_path"}, "highest_weights"),
    ],
)
def test_wrong_settings_get_a_sentence(settings: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        explain(TEXT, GOOD, **settings)


def test_enumeration_refuses_long_texts() -> None:
    with pytest.raises(ValueError, match="2\\^13 = 8,192"):
        exact_lime(cut("abcdefghijklm"), GOOD)


def test_highlight_says_what_it_colours() -> None:
    units = cut("a<b")
    shown = highlight(units, [0.5, 0.0, -0.25], title="why?", kept=[True, False, True])
    assert "+0.50" in shown and "-0.25" in shown and "&lt;" in shown and "off" in shown and "why?" in shown
    with pytest.raises(ValueError, match="2 weights for 3 units"):
        highlight(units, [0.1, 0.2])
