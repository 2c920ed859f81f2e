"""Naive Bayes against scikit-learn's, and languages that it must tell apart."""

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.naive_bayes import MultinomialNB

from llmlab import assets
from llmlab.text import NgramBayes
from llmlab.text.langid import character_ngrams

TRAIN = [
    "the cat sat",
    "a dog and a cat",
    "de kat zat",
    "een hond en een kat",
    "de hond",
    "el gato",
    "un perro y un gato",
]
LABELS = ["english", "english", "dutch", "dutch", "dutch", "spanish", "spanish"]
NEW = ["the dog", "hond", "gato", "xyz", "", "a  cat\n sat", "Katze und Hund", "el perro de la casa"]


def sentences():
    try:
        return assets.load_conversations()
    except assets.AssetMissing as error:
        pytest.skip(str(error))


def test_ngrams_by_hand():
    assert character_ngrams("abab", 1, 2) == {"a": 2, "b": 2, "ab": 2, "ba": 1}
    assert character_ngrams(" a \n b ", 3, 3) == {"a b": 1} and not character_ngrams("", 1, 3)
    with pytest.raises(ValueError, match="low=2, high=1"):
        character_ngrams("a", 2, 1)


@pytest.mark.parametrize("uniform", [True, False])
@pytest.mark.parametrize(("low", "high", "alpha"), [(1, 3, 0.5), (2, 2, 1.0), (1, 4, 0.01)])
def test_probabilities_are_those_of_scikit_learn(low, high, alpha, uniform):
    count = CountVectorizer(
        analyzer="char", ngram_range=(low, high), lowercase=False, preprocessor=lambda t: " ".join(t.split())
    )
    theirs = MultinomialNB(alpha=alpha, fit_prior=not uniform).fit(count.fit_transform(TRAIN), LABELS)
    ours = NgramBayes(low, high, alpha, uniform=uniform).fit(TRAIN, LABELS)
    assert ours.labels == list(theirs.classes_)
    np.testing.assert_allclose(
        ours.probabilities(NEW), theirs.predict_proba(count.transform(NEW)), rtol=1e-9, atol=1e-12
    )
    assert ours.predict(NEW) == list(theirs.predict(count.transform(NEW)))


def test_probabilities_are_those_of_scikit_learn_on_real_sentences():
    texts = [(line, language) for language, lines in sentences().items() for line in lines[:120]]
    train, test = texts[::2], texts[1::2]
    count = CountVectorizer(analyzer="char", ngram_range=(1, 3), lowercase=False)
    theirs = MultinomialNB(alpha=0.5, fit_prior=False).fit(
        count.fit_transform([t for t, _ in train]), [y for _, y in train]
    )
    ours = NgramBayes().fit([t for t, _ in train], [y for _, y in train])
    new = [t for t, _ in test]
    np.testing.assert_allclose(
        ours.probabilities(new), theirs.predict_proba(count.transform(new)), rtol=1e-6, atol=1e-9
    )


def test_languages_are_told_apart_and_better_the_longer_the_text():
    train, new = [], []
    for language, lines in sentences().items():
        train += [(line, language) for line in lines[::2]]
        new += [(line, language) for line in lines[1::2]]
    model = NgramBayes().fit(*zip(*train))
    right = {
        low: [y == p for (t, y), p in zip(new, model.predict([t for t, _ in new])) if low <= len(t) < 2 * low]
        for low in (10, 40)
    }
    assert 0.8 < np.mean(right[10]) < np.mean(right[40]) and np.mean(right[40]) > 0.95, {
        k: np.mean(v) for k, v in right.items()
    }


def test_an_empty_text_has_the_prior():
    assert NgramBayes(uniform=False).fit(TRAIN, LABELS).probabilities([""])[0] == pytest.approx([3 / 7, 2 / 7, 2 / 7])
    assert NgramBayes().fit(TRAIN, LABELS).probabilities(["", "@"]) == pytest.approx(np.full((2, 3), 1 / 3))


def test_a_long_text_does_not_overflow():
    assert NgramBayes().fit(TRAIN, LABELS).probabilities(["el gato " * 50_000]).sum() == pytest.approx(1)


def test_bad_input_is_a_sentence():
    with pytest.raises(ValueError, match="alpha=0: expected a number above 0"):
        NgramBayes(alpha=0)
    with pytest.raises(ValueError, match="2 texts, 2 labels, 1 of them different"):
        NgramBayes().fit(["a", "b"], ["x", "x"])
    with pytest.raises(ValueError, match="1 texts, 2 labels"):
        NgramBayes().fit(["a"], ["x", "y"])
    with pytest.raises(ValueError, match=r"call fit\(texts, labels\) first"):
        NgramBayes().scores(["a"])
    with pytest.raises(ValueError, match="low=0"):
        NgramBayes(low=0)
