"""Our Kneser-Ney model against what nltk 3.10.4 answered (nltk_says.json), and against the definition, by counting."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from llmlab.models.ngram import KneserNey

SAID = json.loads((Path(__file__).parent / "nltk_says.json").read_text(encoding="utf-8"))
TEXT = np.random.default_rng(0).integers(0, 5, 400) ** 2 // 3  # 0, 1, 3, 5 of 7 tokens; 2, 4 and 6 never come


@pytest.mark.parametrize("order", [2, 3])
def test_equals_nltk(order):
    words = SAID["words"]
    text = [words.index(w) for w in SAID["text"]]
    ours = KneserNey(text, order, len(words), [0.0] + [SAID["discount"]] * (order - 1))  # nltk's unigrams are not mixed
    for history, scores in SAID["orders"][str(order)]:
        assert ours.distribution([words.index(w) for w in history[1 - order :]]) == pytest.approx(scores, abs=1e-12), (
            history
        )


def by_definition(text, history, token, vocabulary, order, discounts):
    """The formula, with every count counted again."""
    if len(history) == 0 and order == 0:
        return 1 / vocabulary
    runs = Counter(tuple(text[i : i + order]) for i in range(len(text) - order + 1))
    if order < len(discounts):
        longer = {tuple(text[i : i + order + 1]) for i in range(len(text) - order)}
        runs = Counter(run[1:] for run in longer)
    total = sum(c for run, c in runs.items() if run[:-1] == history)
    lower = by_definition(text, history[1:], token, vocabulary, order - 1, discounts) if order > 1 else 1 / vocabulary
    if not total:
        return lower
    types = sum(run[:-1] == history for run in runs)
    d = discounts[order - 1]
    return max(runs[(*history, token)] - d, 0) / total + d * types / total * lower


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_equals_the_definition(order):
    text = TEXT.tolist()
    ours = KneserNey(text, order, 7)
    probe = [3, 5, 0, 1, 6, 1, 1, 3, 3, 0, 2, 5]
    found = ours.probabilities(probe)
    for i, token in enumerate(probe):
        k = min(order, i + 1)
        want = by_definition(text, tuple(probe[i - k + 1 : i]), token, 7, k, ours.discounts)
        assert found[i] == pytest.approx(want, abs=1e-12), i


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_sum_to_one_and_score_the_same_text(order):
    ours = KneserNey(TEXT, order, 7)
    for history in ([], [3], [5, 0], [6, 6, 6, 6], [0, 1, 3, 5, 0, 1]):
        p = ours.distribution(history)
        assert p.sum() == pytest.approx(1, abs=1e-12)
        assert p.min() > 0, "a token that never came must not be impossible"
        last = [ours.probabilities([*history, w])[-1] for w in range(7)]
        assert p == pytest.approx(last, abs=1e-15)


def test_discounts_come_from_the_counts_of_counts():
    ours = KneserNey([0, 0, 0, 1, 1, 2, 3], 1, 5)
    assert ours.discounts == [2 / (2 + 2 * 1)]  # 2 and 3 come once, 1 twice
    assert KneserNey([0, 0, 1, 1], 1, 2).discounts == [0.5]


def test_longer_histories_help_on_a_text_that_has_them():
    cycle = [0, 0, 1, 0, 1, 1] * 50  # after (0, 1) comes 0 or 1, by what stood before
    cost = [-np.log2(KneserNey(cycle, order, 2).probabilities(cycle)).mean() for order in (1, 2, 4)]
    assert cost[0] == pytest.approx(1, abs=0.01) and cost[0] > cost[1] > cost[2] and cost[2] < 0.1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (([0, 1], 3, 2), "at least order"),
        (([0, 1], 0, 2), "at least order"),
        (([[0, 1]], 1, 2), "one row"),
        (([0, 2], 1, 2), "tokens from 0 to 2"),
        (([-1, 1], 1, 2), "tokens from -1"),
        (([0, 1], 2, 2, [0.5]), "1 discounts for 2"),
        (([0] * 9, 7, 1024), "63 bits"),
    ],
)
def test_bad_input_is_named(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        KneserNey(*arguments)


def test_a_token_outside_is_refused_when_scored_too():
    ours = KneserNey([0, 1, 0], 2, 2)
    for call in (ours.probabilities, ours.distribution):
        with pytest.raises(ValueError, match="expected 0 to 1"):
            call([0, 2])
    assert len(ours.probabilities([])) == 0
