"""Our LIME against the package by the authors of the paper: the same seed and settings give the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
from lime.lime_text import IndexedString, LimeTextExplainer
from sklearn.linear_model import Ridge

from llmlab.explain import chinese_words, cut, explain, kernel, sample_masks, weighted_ridge

ENGLISH = "The room was clean, the staff was kind; but the breakfast was cold and the bill was wrong."
CHINESE = "房间很干净，早餐很丰富，就是前台的服务很慢，退房等了很久。"
SHORT = "还好 还好"


def model(texts: list[str]) -> np.ndarray:
    """Not linear, sensitive to order, length and position: three classes."""
    rows = []
    for text in texts:
        score = sum(((ord(c) * 37) % 23 - 11) / (8 + i) for i, c in enumerate(text))
        pairs = sum((ord(a) + 3 * ord(b)) % 17 - 8 for a, b in zip(text, text[1:])) / (20 + len(text))
        e = np.exp([score, pairs, 0.1 * np.sin(len(text))])
        rows.append(e / e.sum())
    return np.array(rows)


def package(text: str, seed: int, num_features: int, **settings: object) -> tuple[np.ndarray, float, float, float]:
    explainer = LimeTextExplainer(random_state=seed, **settings)
    split = {k: settings[k] for k in ("split_expression", "bow", "mask_string") if k in settings}
    count = IndexedString(text, **split).num_words()
    found = explainer.explain_instance(text, model, labels=(2,), num_features=num_features, num_samples=120)
    weights = np.zeros(count)
    for unit, weight in found.local_exp[2]:
        weights[unit] = weight
    return weights, found.intercept[2], found.score, found.local_pred[0]


CUTS = [
    pytest.param(ENGLISH, r"\W+", True, None, id="english-words"),
    pytest.param(ENGLISH, r"\W+", False, None, id="english-places-UNKWORDZ"),
    pytest.param(ENGLISH, r"[aeiou ]+", True, None, id="own-pattern"),
    pytest.param(CHINESE, list, True, None, id="characters"),
    pytest.param(CHINESE, list, False, "", id="character-places"),
    pytest.param(CHINESE, list, False, None, id="character-places-UNKWORDZ"),
    pytest.param(CHINESE, chinese_words, True, None, id="jieba"),
    pytest.param(CHINESE, chinese_words, False, "□", id="jieba-places"),
    pytest.param(SHORT, list, False, "", id="three-units"),
    pytest.param("a\nb  c\n", r"\W+", False, "", id="newlines"),
]


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize(("text", "split", "bow", "mask"), CUTS)
def test_equals_the_package(text: str, split: object, bow: bool, mask: str | None, seed: int) -> None:
    """All units: the weights, the intercept, the score and the local prediction."""
    ours_mask = "" if bow else "UNKWORDZ" if mask is None else mask
    mine = explain(text, model, label=2, split=split, bow=bow, mask_string=ours_mask, n_samples=120, seed=seed)
    settings = {"split_expression": split, "bow": bow, "mask_string": mask, "feature_selection": "none"}
    weights, intercept, score, local = package(text, seed, 10, **settings)
    np.testing.assert_allclose(mine.weights, weights, atol=1e-10)
    np.testing.assert_allclose([mine.intercept, mine.r2, mine.surrogate], [intercept, score, local], atol=1e-10)


@pytest.mark.parametrize("k", [1, 4, 6, 7, 12, 100])
@pytest.mark.parametrize("text", [ENGLISH, CHINESE])
def test_feature_selection_auto_equals_the_package(text: str, k: int) -> None:
    """Forward selection up to 6 units, the highest weights beyond: as the package's 'auto'."""
    split = r"\W+" if text == ENGLISH else list
    mine = explain(text, model, label=2, split=split, n_samples=120, seed=3, n_features=k)
    weights, intercept, score, _ = package(text, 3, k, split_expression=split)
    np.testing.assert_allclose(mine.weights, weights, atol=1e-8)
    np.testing.assert_allclose([mine.intercept, mine.r2], [intercept, score], atol=1e-8)


@pytest.mark.parametrize("width", [1.0, 25.0, 400.0])
def test_kernel_width_equals_the_package(width: float) -> None:
    mine = explain(CHINESE, model, label=2, n_samples=120, width=width, seed=1)
    weights, *_ = package(CHINESE, 1, 10, split_expression=list, feature_selection="none", kernel_width=width)
    np.testing.assert_allclose(mine.weights, weights, atol=1e-10)


def test_perturbed_texts_are_those_of_the_package() -> None:
    """The model is asked about the same strings in the same order."""
    asked: list[list[str]] = []

    def spy(texts: list[str]) -> np.ndarray:
        asked.append(list(texts))
        return model(texts)

    LimeTextExplainer(split_expression=list, random_state=5).explain_instance(CHINESE, spy, num_samples=50)
    explain(CHINESE, spy, n_samples=50, seed=5)
    assert asked[0] == asked[1]


def test_kernel_has_the_values_of_the_formula() -> None:
    """The numbers that a wrong constant changes: 100 x cosine distance, width 25, square root."""
    masks = np.array([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]], float)
    by_hand = [1.0, 0.8663, 0.5034, 0.1353, 0.000335]
    np.testing.assert_allclose(kernel(masks), by_hand, rtol=2e-3)
    from sklearn.metrics.pairwise import cosine_distances

    d = 100 * cosine_distances(masks, np.ones((1, 4))).ravel()
    np.testing.assert_allclose(kernel(masks, 10.0), np.sqrt(np.exp(-(d**2) / 100)), rtol=1e-9)


def test_weighted_ridge_equals_scikit_learn() -> None:
    random = np.random.RandomState(0)
    x, y, weight = random.rand(40, 6), random.rand(40), random.rand(40)
    for alpha in (1.0, 0.01, 0.0):
        w, b = weighted_ridge(x, y, weight, alpha)
        theirs = Ridge(alpha=alpha).fit(x, y, sample_weight=weight)
        np.testing.assert_allclose(w, theirs.coef_, atol=1e-9)
        assert b == pytest.approx(theirs.intercept_, abs=1e-9)


def test_units_are_those_of_the_package() -> None:
    for text, split, bow, _ in (p.values for p in CUTS):
        theirs = IndexedString(text, split_expression=split, bow=bow)
        mine = cut(text, split, bow=bow)
        assert list(mine.names) == list(theirs.inverse_vocab)
        assert mine.text == text
        gone = list(range(0, len(mine), 2))
        if bow:
            assert mine.without(gone) == theirs.inverse_removing(gone)


def test_masks_have_uniform_sizes() -> None:
    masks = sample_masks(10, 4001, np.random.RandomState(0))
    assert np.all(masks[0] == 1)
    counts = np.bincount(masks[1:].sum(axis=1).astype(int), minlength=11)
    assert counts[10] == 0, "no draw is the whole text"
    assert np.all(np.abs(counts[:10] - 400) < 90), counts
