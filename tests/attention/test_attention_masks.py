"""Mask builders, drawn by hand."""

from __future__ import annotations

import itertools

import pytest
import torch
from attention_cases import may_look

from llmlab.attention import allowed_mask, attention, causal_mask, padding_mask, window_mask
from llmlab.attention.masks import all_visible, key_ranges


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


def test_sinks_stay_in_sight_but_never_from_the_future():
    assert draw(window_mask(5, 5, 2, causal=True, sinks=1)) == ["x....", "xx...", "xxx..", "x.xx.", "x..xx"]
    assert draw(window_mask(5, 5, 1, causal=True, sinks=3)) == ["x....", "xx...", "xxx..", "xxxx.", "xxx.x"]
    assert draw(window_mask(2, 5, 1, sinks=2)) == ["xx.x.", "xx..x"]
    assert draw(window_mask(4, 2, 1, causal=True, sinks=9)) == ["..", "..", "x.", "xx"]


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
@pytest.mark.parametrize("window, sinks", [(None, 0), (1, 0), (3, 0), (8, 0), (1, 2), (3, 1), (3, 20)])
def test_what_tiles_may_skip_and_need_not_mask(causal, window, sinks):
    rule = {"causal": causal, "window": window, "sinks": sinks}
    for queries, keys in itertools.product((1, 4, 7), (0, 1, 5, 9)):
        for i, last in itertools.combinations_with_replacement(range(queries), 2):
            seen = [j for j in range(keys) if any(may_look(r, j, queries, keys, **rule) for r in range(i, last + 1))]
            first, stop = i + keys - queries, last + keys - queries
            ranges = key_ranges(first, stop, keys, **rule)
            found = [j for a, b in ranges for j in range(a, b)]
            assert found == seen, "the ranges are not exactly the keys that some query sees"
            assert all(before[1] < after[0] for before, after in itertools.pairwise(ranges)), "two ranges that touch"
            for a, b in itertools.combinations(range(keys + 1), 2):
                everyone = all(may_look(r, j, queries, keys, **rule) for r in range(i, last + 1) for j in range(a, b))
                assert all_visible(first, stop, slice(a, b), **rule) == everyone


def test_masks_are_made_where_the_lengths_or_the_caller_say(monkeypatch):
    """torch refuses to mix the meta device with the CPU, so it stands for a GPU."""
    lengths = torch.empty(2, dtype=torch.long, device="meta")
    rule = {"causal": True, "window": 2, "sinks": 1, "device": "meta"}
    made = [padding_mask(lengths, 5), padding_mask(lengths, 5, side="left"), causal_mask(2, 3, device="meta")]
    made += [window_mask(2, 3, 2, device="meta"), allowed_mask(2, 3, **rule), allowed_mask(2, 5, mask=made[0], **rule)]
    assert {mask.device.type for mask in made} == {"meta"}
    q, k = torch.empty(2, 4, 3, 8, device="meta"), torch.empty(2, 4, 5, 8, device="meta")
    generator = torch.Generator()  # the meta device has none
    monkeypatch.setattr(torch, "Generator", lambda device: generator)
    for backend in ("naive", "sdpa", "tiled"):
        for chosen in (
            {"causal": True},
            {"window": 2, "mask": made[1]},
            {"causal": True, "mask": torch.zeros(3, 5, device="meta")},
        ):
            assert attention(q, k, k, backend=backend, **chosen).device.type == "meta"
