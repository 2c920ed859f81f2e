"""The records of notebook 06 are what their recipe makes: the first steps again, and the data they name."""

import hashlib

import numpy as np
import pytest

from llmlab.recipes import dropout as recipe
from llmlab.tasks.classify import load_char_classifier, read_record


def first(runs, **wanted):
    return next(r for r in runs if all(r[k] == v for k, v in wanted.items()))


@pytest.mark.parametrize(
    ("share", "p", "method"), [("few", 0.5, ""), ("few", 0.0, "DropConnect 0.5"), ("all", 0.3, "")]
)
def test_the_reviews_recipe_repeats_its_first_steps(share, p, method):
    record = read_record("dropout_reviews")
    assert record["data"] == {name: len(part) for name, part in recipe.review_parts().items()}
    told = first(record["runs"], share=share, p=p, method=method, seed=0)["first_losses"]
    _, history, _ = recipe.train_review(share, p, 0, method, max_steps=3)
    assert history.losses == pytest.approx(told[:3], abs=2e-3)


@pytest.mark.parametrize(("regime", "p"), [("fresh", 0.0), ("repeated", 0.2)])
def test_the_language_model_recipe_repeats_its_first_steps(regime, p):
    record = read_record("dropout_lm")
    train, held, vocabulary = recipe.film_windows()
    assert record["data"] == {"train": len(train), "held": len(held), "vocabulary": vocabulary}
    told = first(record["runs"], regime=regime, p=p, seed=0)
    _, history = recipe.train_lm(regime, p, 0, max_steps=3)
    assert history.losses == pytest.approx(told["first_losses"][:3], abs=2e-3)
    assert len(told["held_loss"]) == recipe.PASSES[regime]


def test_windows_follow_each_other_without_sharing_a_target():
    train, held, _ = recipe.film_windows()
    assert train.shape[1] == held.shape[1] == recipe.CONTEXT + 1
    together = np.concatenate([train.numpy(), held.numpy()])
    assert len(np.unique(together, axis=0)) > 0.999 * len(together)


def test_every_regime_of_the_language_model_takes_as_many_steps():
    steps = {r["regime"]: r["steps"] for r in read_record("dropout_lm")["runs"]}
    assert abs(steps["fresh"] - steps["repeated"]) <= recipe.PASSES["repeated"]


def test_recorded_draws_belong_to_the_texts_here_and_to_the_shipped_model():
    record = read_record("dropout_mc")
    texts = recipe.review_parts()["test"].sample(record["texts"]).texts
    assert record["texts_sha256"] == hashlib.sha256("\n".join(texts).encode()).hexdigest()
    model = load_char_classifier()
    few = texts[: record["slice"]]
    assert model.predict_proba(few)[:, 1] == pytest.approx(record["off"][: len(few)], abs=1e-3)
    again = recipe.mc_probabilities(model, few, record["draws"])
    assert again.mean(0) == pytest.approx(record["slice_mean"], abs=1e-3)
    assert (again.std(0) > 0).all()


def test_the_fault_scales_nothing():
    import torch

    torch.manual_seed(0)
    layer = recipe.Unscaled(0.5)
    assert set(layer(torch.ones(100)).unique().tolist()) == {0.0, 1.0}
    x = torch.randn(5)
    assert layer.eval()(x) is x
