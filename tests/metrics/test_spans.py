"""Spans, tags and their score."""

from __future__ import annotations

import itertools

import pytest

from llmlab.metrics.spans import bio_tags, score_spans, spans_of


def test_there_and_back() -> None:
    spans = [(0, 2, "PER"), (2, 3, "LOC"), (4, 6, "LOC")]
    tags = bio_tags(spans, 7)
    assert tags == ["B-PER", "I-PER", "B-LOC", "O", "B-LOC", "I-LOC", "O"]
    assert spans_of(tags) == spans
    assert spans_of([]) == []
    assert spans_of(["B-X"]) == [(0, 1, "X")]


def test_tags_that_no_gold_has_are_read_as_by_conlleval() -> None:
    assert spans_of(["I-PER", "I-PER", "O"]) == [(0, 2, "PER")]
    assert spans_of(["B-PER", "I-LOC", "I-LOC"]) == [(0, 1, "PER"), (1, 3, "LOC")]
    assert spans_of(["O", "I-LOC", "B-LOC", "O", "I-PER"]) == [(1, 2, "LOC"), (2, 3, "LOC"), (4, 5, "PER")]


def test_every_short_tagging_spells_spans_that_spell_it_again() -> None:
    for tags in itertools.product(("O", "B-A", "I-A", "B-B", "I-B"), repeat=4):
        spans = spans_of(tags)
        assert [t != "O" for t in bio_tags(spans, 4)] == [t != "O" for t in tags]
        assert spans_of(bio_tags(spans, 4)) == spans
        assert {i for i, t in enumerate(tags) if t[0] == "B"} <= {start for start, _, _ in spans}


def test_the_score_by_hand() -> None:
    gold = [[(0, 2, "PER"), (3, 4, "LOC")], [(0, 1, "ORG")]]
    found = [[(0, 2, "PER"), (3, 5, "LOC")], [(0, 1, "LOC")]]
    score = score_spans(gold, found)
    assert score.precision == pytest.approx(1 / 3)
    assert score.recall == pytest.approx(1 / 3)
    assert score_spans(gold, [[], [(0, 1, "ORG")]]) == pytest.approx((1.0, 1 / 3, 0.5))
    assert score_spans([[]], [[]]) == (0, 0, 0)


def test_refuses() -> None:
    for span in ((0, 0, "A"), (-1, 2, "A"), (2, 4, "A")):
        with pytest.raises(ValueError, match="expected 0 <= start"):
            bio_tags([span], 3)
    with pytest.raises(ValueError, match="no overlap"):
        bio_tags([(0, 2, "A"), (1, 3, "B")], 3)
    with pytest.raises(ValueError, match="one list of spans"):
        score_spans([[]], [])
