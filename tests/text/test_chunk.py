"""Chunks are held to their contract by random texts, and to sentences a reader would see."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.text.chunk import chunk, sentence_spans, token_windows

TEXT = (
    'Mr. Darcy bowed. "You are late!" she said; J. Austen laughed.  Then\n\nthey went home. Why? 他来了。她走了！好 end'
)


def test_sentences_are_those_a_reader_sees():
    found = [TEXT[a:b].strip() for a, b in sentence_spans(TEXT)]
    assert found == [
        "Mr. Darcy bowed.",
        '"You are late!"',
        "she said; J. Austen laughed.",
        "Then",
        "they went home.",
        "Why?",
        "他来了。",
        "她走了！",
        "好 end",
    ]
    assert "".join(TEXT[a:b] for a, b in sentence_spans(TEXT)) == TEXT
    assert sentence_spans("") == [] and sentence_spans("one. ") == [(0, 5)]


def test_whole_sentences_are_packed_and_shared():
    text = "One two. Three four. Five six. Seven."
    assert [c.text for c in chunk(text, 20)] == ["One two. Three four.", "Five six. Seven."]
    # "Three four. Five six." has 21 characters: at 20 the overlap gives way, or nothing new would fit
    assert [c.text for c in chunk(text, 20, 12)] == ["One two. Three four.", "Five six. Seven."]
    assert [c.text for c in chunk(text, 21, 12)] == [
        "One two. Three four.",
        "Three four. Five six.",
        "Five six. Seven.",
    ]
    assert [c.text for c in chunk(text, 21, 10)] == ["One two. Three four.", "Five six. Seven."]


def test_a_long_sentence_is_cut_between_words_and_a_long_word_between_characters():
    assert [c.text for c in chunk("aaa bbb ccc ddd", 7)] == ["aaa bbb", "ccc ddd"]
    assert [c.text for c in chunk("aaa bbb ccc ddd", 7, 3)] == ["aaa bbb", "bbb ccc", "ccc ddd"]
    pieces = [c.text for c in chunk("abcdefgh ij", 3)]
    assert "".join(pieces) == "abcdefghij" and max(map(len, pieces)) <= 3


def test_the_measure_may_be_tokens_or_bytes():
    words = lambda part: len(part.split())  # noqa: E731
    text = "a b c d e f g. h i j k."
    assert [c.text for c in chunk(text, 4, 2, count=words)] == ["a b c d", "c d e f", "e f g.", "h i j k."]
    with pytest.raises(ValueError, match="the character '好' alone measures 3, more than size=2"):
        chunk("好", 2, count=lambda part: len(part.encode()))


texts = st.text(st.sampled_from("ab .!?。\n好"), max_size=60)


@settings(max_examples=300, deadline=None)
@given(texts, st.integers(1, 12), st.integers(0, 11))
def test_the_contract(text, size, overlap):
    overlap = min(overlap, size - 1)
    pieces = chunk(text, size, overlap)
    covered = set()
    for piece in pieces:
        assert text[piece.start : piece.end] == piece.text == piece.text.strip() and 0 < len(piece.text) <= size
        covered |= set(range(piece.start, piece.end))
    assert all(text[i].isspace() for i in set(range(len(text))) - covered)
    for one, two in zip(pieces, pieces[1:]):
        assert one.start < two.start and one.end < two.end, "a piece inside another"
        assert one.end - two.start <= overlap
        if not overlap:
            assert one.end <= two.start
    assert bool(pieces) == bool(text.strip())


@settings(max_examples=100, deadline=None)
@given(texts)
def test_sentences_are_never_lost(text):
    spans = sentence_spans(text)
    assert "".join(text[a:b] for a, b in spans) == text and all(b > a for a, b in spans)


def test_overlap_is_used_where_it_can_be():
    text = " ".join(f"Word{i} is here." for i in range(40))
    pieces = chunk(text, 90, 40)
    assert all(one.end - two.start >= 10 for one, two in zip(pieces, pieces[1:]))
    assert all(re.match(r"Word\d+ is here\.", piece.text) for piece in pieces), "every piece begins with a sentence"


@pytest.mark.parametrize(
    ("length", "size", "overlap"), [(1000, 50, 49), (20, 50, 0), (100, 50, 25), (101, 50, 0), (0, 5, 0)]
)
def test_windows_hold_every_token_once_and_the_overlap_twice(length, size, overlap):
    windows = token_windows(length, size, overlap)
    assert sorted({i for a, b in windows for i in range(a, b)}) == list(range(length))
    assert all(b - a <= size for a, b in windows)
    assert all(one[1] - two[0] == overlap and one[1] - one[0] == size for one, two in zip(windows, windows[1:]))
    assert len(windows) == {(1000, 49): 951, (20, 0): 1, (100, 25): 3, (101, 0): 3, (0, 0): 0}[length, overlap]


@pytest.mark.parametrize(("size", "overlap"), [(0, 0), (5, 5), (5, -1), (-1, 0)])
def test_sizes_that_cannot_be_are_refused(size, overlap):
    with pytest.raises(ValueError, match=f"size={size}, overlap={overlap}: expected"):
        chunk("text", size, overlap)
    with pytest.raises(ValueError, match=f"size={size}, overlap={overlap}: expected"):
        token_windows(10, size, overlap)
    with pytest.raises(ValueError, match="length=-1"):
        token_windows(-1, 5)
