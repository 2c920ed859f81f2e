"""The vocabulary of characters."""

from __future__ import annotations

import pytest

from llmlab.text.characters import CLS, MASK, PAD, SEP, SPECIAL, UNK, CharacterVocabulary


def test_learns_what_is_frequent_in_a_fixed_order() -> None:
    vocabulary = CharacterVocabulary.learn(["好好学习", "学好了"], at_least=2)
    assert vocabulary.known == "好学"
    assert CharacterVocabulary.learn(["乙甲"], at_least=1).known == "乙甲"  # by Unicode where counts are equal


def test_encodes_and_decodes() -> None:
    vocabulary = CharacterVocabulary("好学")
    assert len(vocabulary) == 7
    assert vocabulary.encode("学好吗") == [6, 5, UNK]
    assert vocabulary.decode([CLS, 6, 5, UNK, MASK, SEP, PAD]) == [
        "[CLS]",
        "学",
        "好",
        "[UNK]",
        "[MASK]",
        "[SEP]",
        "[PAD]",
    ]
    assert [SPECIAL[i] for i in (PAD, UNK, CLS, SEP, MASK)] == list(SPECIAL)
    assert vocabulary.encode("") == []


def test_refuses() -> None:
    with pytest.raises(ValueError, match="each character once"):
        CharacterVocabulary("好好")
    for number in (-1, 7):
        with pytest.raises(ValueError, match="0 to 6"):
            CharacterVocabulary("好学").decode([number])
