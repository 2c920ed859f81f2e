"""What ships is what its record says: bytes, size, score, and the first steps of the run that made it."""

import numpy as np
import pytest

from llmlab import assets
from llmlab.metrics import accuracy, roc_auc
from llmlab.recipes import film, review_char
from llmlab.tasks.classify import (
    load_char_classifier,
    load_film_classifier,
    load_review_classifiers,
    read_record,
    split,
)
from llmlab.tasks.classify.checkpoints import FOLDER, read_weights

WEIGHTS = ("review_char", "film_head", "film_biases")


@pytest.fixture(scope="module")
def parts():
    reviews = assets.load_reviews()
    return split(reviews.texts, reviews.labels)


@pytest.mark.parametrize("name", WEIGHTS)
def test_bytes_and_counts_are_those_of_the_record(name):
    state = read_weights(name)
    assert sum(tensor.numel() for tensor in state.values()) == read_record(name)["parameters"]
    assert (FOLDER / f"{name}.safetensors").stat().st_size < 3e6


def test_the_data_of_the_record_are_the_data_here(parts):
    told = read_record("review_char")["data"]
    assert {name: told[name] for name in parts} == {name: len(part) for name, part in parts.items()}
    told = read_record("film_biases")["data"]
    assert {n: told[n] for n in ("train", "test")} == {
        n: len(p) for n, p in film.film_parts().items() if n in told and n != "validation"
    }


def test_no_text_stands_on_both_sides(parts):
    assert not set(parts["train"].texts) & set(parts["test"].texts)
    assert sum(map(len, parts.values())) == len(set().union(*(p.texts for p in parts.values())))


def test_the_transformer_scores_what_its_record_says(parts):
    held = parts["validation"]
    found = accuracy(held.labels, load_char_classifier().predict_proba(held.texts).argmax(1))
    assert found == pytest.approx(read_record("review_char")["validation"]["accuracy"], abs=0.002)


def test_both_classifiers_of_reviews_know_good_from_bad():
    for model in load_review_classifiers():
        bad, good = model.predict_proba(["房间很差，非常失望。", "房间很好，非常满意。"])[:, 1]
        assert bad < 0.2
        assert good > 0.8


def test_the_recipe_repeats_its_first_steps(parts):
    _, history = review_char.train(parts["train"], None, review_char.Recipe(max_steps=3))
    assert history.losses == pytest.approx(read_record("review_char")["first_losses"][:3], abs=2e-3)


def test_minilm_tuned_on_films_knows_good_from_bad():
    for kind in ("head", "biases"):
        texts = ["A wonderful, moving film.", "Dull, lazy and far too long."]
        good, bad = load_film_classifier(kind).predict_proba(texts)[:, 1]
        assert bad < 0.3
        assert good > 0.7


@pytest.mark.parametrize(("name", "part"), [("film_prompts", None), ("review_prompts", film.short_reviews)])
def test_recorded_prompts_belong_to_the_texts_here(name, part):
    import hashlib

    texts = part().texts if part else film.film_parts()["test"].sample(film.TEST_SAMPLE).texts
    record = read_record(name)
    assert record["texts_sha256"] == hashlib.sha256("\n".join(texts).encode()).hexdigest()
    assert (record["prompt"], tuple(record["words"])) == (film.PROMPT, film.WORDS)
    logs = np.array(record["logprobs"])
    assert logs.shape == (len(texts), len(film.WORDS))
    assert (logs < 0).all()


def test_the_recorded_ranking_of_films_is_good():
    labels = film.film_parts()["test"].sample(film.TEST_SAMPLE).labels
    logs = np.array(read_record("film_prompts")["logprobs"])
    assert roc_auc(labels, logs[:, 1] - logs[:, 0]) > 0.85
