"""GloVe is read without a parquet reader, and the sentences of two senses are what they say."""

import contextlib

import pytest
import torch

from llmlab import assets
from llmlab.assets import glove


def real(name: str) -> None:
    with contextlib.suppress(assets.AssetMissing):
        assets.path(name)
        return
    pytest.skip(f"{name} is not in the cache; fetch it with: python3 course.py assets fetch {name}")


def test_snappy_copies_may_reach_into_themselves():
    # 11 bytes: the literal "abc", then a copy of 8 from 3 back (one-byte offset)
    assert glove._unsnappy(bytes([11, 2 << 2]) + b"abc" + bytes([(8 - 4) << 2 | 1, 3])) == b"abcabcabcab"
    # the same with an offset of two bytes, and of four
    assert glove._unsnappy(bytes([11, 2 << 2]) + b"abc" + bytes([7 << 2 | 2, 3, 0])) == b"abcabcabcab"
    assert glove._unsnappy(bytes([11, 2 << 2]) + b"abc" + bytes([7 << 2 | 3, 3, 0, 0, 0])) == b"abcabcabcab"
    long = bytes(range(256)) * 2  # a literal whose length needs two bytes of its own
    assert glove._unsnappy(bytes([0x80, 4, 61 << 2, 0xFF, 1]) + long) == long
    with pytest.raises(ValueError, match="a Snappy block of 12 bytes gave 3"):
        glove._unsnappy(bytes([12, 2 << 2]) + b"abc")


def test_another_file_is_no_dictionary():
    with pytest.raises(ValueError, match="does not begin with the dictionary"):
        glove._first_dictionary(b"PAR1" + bytes([0x15, 0, 0x15, 2, 0x15, 2, 0x15, 2]))


def test_glove_is_the_published_table():
    real("glove")
    table = assets.load_glove()
    assert len(table.words) == len(set(table.words)) == 50_000 and table.vectors.shape == (50_000, 50)
    assert table.words[:6] == ["the", ",", ".", "of", "to", "and"] and table.words[-1] == "nanda"
    # glove.6B.50d.txt begins: the 0.418 0.24968 -0.41242 0.1217 0.34527
    assert table["The"][:5].allclose(torch.tensor([0.418, 0.24968, -0.41242, 0.1217, 0.34527]), rtol=1e-3)
    assert table.vectors.dtype == torch.float32 and (table.vectors == 0).sum() == 0
    with pytest.raises(KeyError, match="'qwxz' is not among the 50,000 words"):
        table["qwxz"]


def test_nearest_is_by_cosine():
    real("glove")
    table = assets.load_glove()
    found = table.nearest(3 * table["king"], 3)
    assert found[0][0] == "king" and found[0][1] == pytest.approx(1) and found[1][0] == "prince"
    assert found[1][1] == pytest.approx(torch.cosine_similarity(table["king"], table["prince"], 0).item(), abs=1e-5)


def test_every_sense_has_ten_sentences_and_every_sentence_its_word():
    entries = assets.load_senses()
    assert len(entries) == len({entry.text for entry in entries}) == 160
    words = list(dict.fromkeys(entry.word for entry in entries))
    assert words == ["bank", "bat", "club", "court", "organ", "pitch", "seal", "spring"]
    for word in words:
        own = [entry for entry in entries if entry.word == word]
        senses = sorted({entry.sense for entry in own})
        assert len(senses) == 2 and [sum(e.sense == s for e in own) for s in senses] == [10, 10]
    for entry in entries:
        assert entry.text[entry.start :].startswith(entry.word)
        assert entry.text.lower().split().count(entry.word) <= 1
