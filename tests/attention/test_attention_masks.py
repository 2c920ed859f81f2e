"""Mask builders, drawn by hand."""

from __future__ import annotations

import itertools

import pytest
import torch
from attention_cases import may_look

from llmlab.attention import allowed_mask, causal_mask, padding_mask, window_mask
from llmlab.attention.masks import all_visible, key_range


def draw(mask: torch.Tensor) -> list[str]:
    return ["".join("x" if look else "." for look in row) for row in mask]


def test_causal_is_aligned_at_the_bottom_right():
    assert draw(causal_mask(3, 3)) == ["x..", "xx.", "xxx"]
    assert draw(causal_mask(2, 5)) == ["xxxx.", "xxxxx"]
    assert draw(causal_mask(4, 2)) == ["..", "..", "x.", "xx"]
    assert causal_mask(0, 3).shape == (0, 3)


def test_window():
    assert draw(window_mask(4, 4, 2, causal=True)) == ["x...", "xx..", ".xx.", "..xx"]
    assert draw(window_mask(4, 4, 2)) == ["xx..", "xxx.", ".xxx", "..xx"]
    assert draw(window_mask(2, 5, 2)) == ["..xxx", "...xx"]
    assert draw(window_mask(3, 3, 1)) == ["x..", ".x.", "..x"]


def test_padding():
    lengths = torch.tensor([2, 0, 3])
    assert draw(padding_mask(lengths, 3)[:, 0, 0]) == ["xx.", "...", "xxx"]
    assert draw(padding_mask(lengths, 3, side="left")[:, 0, 0]) == [".xx", "...", "xxx"]
    with pytest.raises(ValueError, match="side='top': expected 'right' or 'left'"):
        padding_mask(lengths, 3, side="top")


def test_allowed_joins_by_and_and_leaves_a_bias_alone():
    assert allowed_mask(2, 3) is None
    assert allowed_mask(2, 3, mask=torch.zeros(2, 3)) is None
    padding = padding_mask(torch.tensor([2]), 3)
    assert draw(allowed_mask(3, 3, causal=True, mask=padding)[0, 0]) == ["x..", "xx.", "xx."]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [None, 1, 3, 8])
def test_what_tiles_may_skip_and_need_not_mask(causal, window):
    for queries, keys in itertools.product((1, 4, 7), (0, 1, 5, 9)):
        for i, last in itertools.combinations_with_replacement(range(queries), 2):
            seen = [
                j
                for j in range(keys)
                if any(may_look(r, j, queries, keys, causal=causal, window=window) for r in range(i, last + 1))
            ]
            start, stop = key_range(i + keys - queries, last + keys - queries, keys, causal=causal, window=window)
            assert list(range(start, stop)) == seen, "the range is not exactly the keys that some query sees"
            for a, b in itertools.combinations(range(keys + 1), 2):
                everyone = all(
                    may_look(r, j, queries, keys, causal=causal, window=window)
                    for r in range(i, last + 1)
                    for j in range(a, b)
                )
                assert (
                    all_visible(i + keys - queries, last + keys - queries, slice(a, b), causal=causal, window=window)
                    == everyone
                )
