"""Overlap with training texts against a definition that spells everything out."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.text import NgramIndex, Overlap

words = st.lists(st.sampled_from("abcd"), max_size=14).map(" ".join)


def spelled_out(train, text, n):
    """Which words of ``text`` stand in a run of n words that some training text has."""
    units = text.split()
    seen = [row.split()[i : i + n] for row in train for i in range(len(row.split()) - n + 1)]
    inside = [False] * len(units)
    for i in range(len(units) - n + 1):
        if units[i : i + n] in seen:
            inside[i : i + n] = [True] * n
    longest = max(map(len, "".join("x" if seen else " " for seen in inside).split()), default=0)
    return (sum(inside) / len(units) if len(units) >= n else None), longest


@settings(max_examples=200, deadline=None)
@given(st.lists(words, max_size=3), words, st.integers(1, 4))
def test_shares_are_as_spelled_out(train, text, n):
    found = NgramIndex(train, n).overlap(text)
    assert (found.share, found.longest) == spelled_out(train, text, n)


def test_a_planted_passage_is_found_and_shown():
    train = ["Completely different.", "He said: The quick  brown fox, jumps over the LAZY dog today!"]
    index = NgramIndex(train, n=5)
    found = index.overlap("Q: the quick brown fox jumps over the lazy dog?")
    assert found == Overlap(9 / 10, 9, "the quick brown fox jumps over the lazy dog")
    assert index.overlap("the brown quick fox over jumps the dog lazy") == Overlap(0.0, 0, "")


def test_a_run_never_crosses_two_texts():
    assert NgramIndex(["a b", "c d"], n=3).overlap("a b c d").share == 0


def test_chinese_is_compared_by_characters():
    index = NgramIndex(["床前明月光，疑是地上霜。"], n=8, unit="characters")
    assert index.overlap("题：床前明月光疑是地上霜").share == pytest.approx(10 / 11)
    assert index.overlap("举头望明月，低头思故乡").share == 0
    assert NgramIndex(["ＡＢＣ１２３"], 6, "characters").overlap("abc 123").share == 1


def test_thirteen_words_are_a_run_unless_told():
    text = " ".join("abcdefghijklm")
    assert NgramIndex([text]).overlap(text) == Overlap(1, 13, text) and NgramIndex([text]).unit == "words"
    assert NgramIndex([text]).overlap(text[:-2]) == Overlap(None, 0, "")


def test_a_text_too_short_proves_nothing():
    assert NgramIndex(["a b c"], n=4).overlap("a b c") == Overlap(None, 0, "")
    assert NgramIndex([], n=1).overlap("a") == Overlap(0.0, 0, "")


def test_bad_input_is_a_sentence():
    with pytest.raises(ValueError, match="n=0"):
        NgramIndex([], 0)
    with pytest.raises(ValueError, match="'tokens': expected words or characters"):
        NgramIndex([], 3, "tokens")
