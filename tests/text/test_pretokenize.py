"""Pieces: nothing lost, and cut where published tokenizers cut."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from llmlab.text import PATTERNS, as_printed, pieces
from llmlab.text.pretokenize import BYTE_ORDER, from_printed

# Without characters that are new to Unicode: whether they are letters depends on the version that an engine knows.
unicode = st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=60) | st.text(
    "a'sS ll9\r\n\t.中é", max_size=40
)


@settings(max_examples=200, deadline=None)
@given(unicode, st.sampled_from(sorted(PATTERNS)))
def test_nothing_is_lost(text, pattern):
    assert "".join(pieces(text, pattern)) == text


@settings(max_examples=200, deadline=None)
@given(unicode)
def test_gpt2_cuts_where_tokenizers_cuts(text):
    theirs = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(text)
    assert [as_printed(piece.encode()) for piece in pieces(text)] == [piece for piece, _ in theirs]


@settings(max_examples=100, deadline=None)
@given(unicode, st.sampled_from(["cl100k", "qwen"]))
def test_the_other_patterns_agree_with_tokenizers_engine(text, pattern):
    theirs = pre_tokenizers.Split(Regex(PATTERNS[pattern]), "isolated").pre_tokenize_str(text)
    assert pieces(text, pattern) == [piece for piece, _ in theirs]


@pytest.mark.parametrize(
    ("pattern", "text", "cut"),
    [
        ("gpt2", "It's 12345, ok", ["It", "'s", " 12345", ",", " ok"]),
        ("gpt2", "IT'S", ["IT", "'", "S"]),
        ("cl100k", "IT'S 12345", ["IT", "'S", " ", "123", "45"]),
        ("qwen", "IT'S 123", ["IT", "'S", " ", "1", "2", "3"]),
        ("gpt2", "a  b\n\nc", ["a", " ", " b", "\n", "\n", "c"]),
        ("cl100k", "x.\n\ny", ["x", ".\n\n", "y"]),
        ("gpt2", "中国人民站起来了。", ["中国人民站起来了", "。"]),
        ("qwen", "，中国", ["，中国"]),
    ],
)
def test_known_cuts(pattern, text, cut):
    assert pieces(text, pattern) == cut


def test_bytes_have_printed_forms():
    printed = [as_printed(byte) for byte in BYTE_ORDER]
    assert len(set(printed)) == 256 and all(len(c) == 1 and c.isprintable() for c in printed)
    assert set(printed) == set(pre_tokenizers.ByteLevel.alphabet())
    assert as_printed(b" the") == "Ġthe" and as_printed(b"\n") == "Ċ"
    assert from_printed(as_printed(bytes(range(256)))) == bytes(range(256))
    with pytest.raises(ValueError, match="' ' stands for no byte"):
        from_printed("a b")


def test_a_pattern_of_ones_own_must_take_everything():
    assert pieces("ab1", r"\p{L}+|\p{N}") == ["ab", "1"]
    with pytest.raises(ValueError, match="leaves characters out"):
        pieces("ab 1", r"\p{L}+|\p{N}")
    with pytest.raises(TypeError, match="decode bytes first"):
        pieces(b"ab")
