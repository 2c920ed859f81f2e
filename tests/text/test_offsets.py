"""Places of tokens against those of the tokenizers package."""

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from llmlab import assets
from llmlab.text import as_printed, load_bpe, offsets, tokens_in

TEXTS = [
    "",
    "a",
    " two  blanks\n\tand a tab ",
    "今天天气很好。",
    "龘靐 and 𠮷野家",
    "👍🏽 👨‍👩‍👧 🇨🇳",
    "cafe\u0301 naïve Ａ１ ²",
    "mixed 中文 text，１９９８年 🙂!",
]


@cache
def gpt2():
    """Our encoder, and the same vocabulary in tokenizers."""
    try:
        ours = load_bpe("gpt2")
    except assets.AssetMissing as error:
        pytest.skip(str(error))
    vocabulary = {as_printed(token): number for token, number in ours.ranks.items()}
    theirs = Tokenizer(models.BPE(vocabulary, [tuple(map(as_printed, pair)) for pair in ours.merges()]))
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return ours, theirs


def agree(text):
    ours, theirs = gpt2()
    plain = theirs.encode(text)
    assert ours.encode(text) == plain.ids
    assert offsets(ours.tokens(text)) == plain.offsets, text
    return ours.tokens(text)


@pytest.mark.parametrize("text", TEXTS)
def test_places_are_those_of_tokenizers(text):
    agree(text)


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=30) | st.text("a 中é👍🏽\u200d\n", max_size=20))
def test_places_are_those_of_tokenizers_on_any_text(text):
    agree(text)


def test_real_chinese():
    gpt2()
    try:
        lines = assets.load_peoples_daily().texts()[:100]
    except assets.AssetMissing as error:
        pytest.skip(str(error))
    split = sum(len(set(found)) < len(found) for found in (offsets(agree(line)) for line in lines))
    assert split == len(lines), "in every line some character has more than one token"


@pytest.mark.parametrize("text", ["two words", " a  b", "中文 和 字", "tail  ", "\n x"])
def test_trimmed_places_are_those_of_tokenizers(text):
    ours, theirs = gpt2()
    theirs.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=True)
    try:
        want = theirs.encode(text).offsets
    finally:
        theirs.post_processor = processors.ByteLevel(trim_offsets=False)
    got = offsets(ours.tokens(text), trim=True)
    for (a, b), (c, d) in zip(got, want, strict=True):
        assert (a, b) == (c, d) or (a == b and c == d), (text, got, want)  # an empty place has no one place


def test_a_character_in_parts():
    tokens = [b"a", b"\xe4\xb8", b"\xad", b"\xe6\x96\x87b", b"!"]
    assert offsets(tokens) == [(0, 1), (1, 2), (1, 2), (2, 4), (4, 5)]
    assert offsets([b"\xe4", b"\xb8", b"\xad"]) == [(0, 1)] * 3
    assert offsets([b"x\xe4", b"\xb8\xad\xe4", b"\xb8\xad"]) == [(0, 2), (1, 3), (2, 3)]
    assert offsets([]) == [] and offsets([b"a", b"", b"b"]) == [(0, 1), (1, 1), (1, 2)]


def test_the_tokens_of_a_span():
    places = [(0, 1), (1, 2), (1, 2), (2, 4), (4, 5)]
    assert tokens_in(places, 1, 2) == range(1, 3)
    assert tokens_in(places, 3, 4) == range(3, 4)
    assert tokens_in(places, 0, 5) == range(5)
    assert list(tokens_in(places, 2, 2)) == [] == list(tokens_in([], 0, 0))
    for start, end in ((-1, 2), (3, 2), (0, 6)):
        with pytest.raises(ValueError, match="expected 0 <= start <= end <= 5"):
            tokens_in(places, start, end)


def test_a_name_finds_its_tokens():
    ours, _ = gpt2()
    text = "在北京 Beijing 和东京"
    tokens = ours.tokens(text)
    place = text.index("东京")
    found = tokens_in(offsets(tokens), place, place + 2)
    assert "东京" in b"".join(tokens[i] for i in found).decode("utf-8", "ignore")
    assert "京" not in b"".join(tokens[: found.start]).decode("utf-8", "ignore").split("和")[-1]


def test_what_is_no_text_is_a_sentence():
    with pytest.raises(TypeError, match="token 1 is str, expected bytes"):
        offsets([b"a", "b"])
    with pytest.raises(TypeError, match="token 0 is int"):
        offsets([3])
    for part in ([b"\xe4\xb8"], [b"\xad", b"a"]):
        with pytest.raises(ValueError, match="no whole text"):
            offsets(part)
