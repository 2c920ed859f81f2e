"""Each filter against the logits processor of transformers that does the same."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from llmlab.generate import Sampling, min_p, temperature, top_k, top_p

FILTERS = {
    "temperature": (temperature, TemperatureLogitsWarper, [0.1, 0.7, 1.0, 1.9]),
    "top_k": (top_k, TopKLogitsWarper, [1, 2, 7, 50, 400]),
    "top_p": (top_p, TopPLogitsWarper, [0.01, 0.3, 0.9, 0.999]),
    "min_p": (min_p, MinPLogitsWarper, [0.0, 0.01, 0.1, 0.7, 1.0]),
}


def rows(spread=3.0, seed=0):
    return torch.randn(64, 300, generator=torch.Generator().manual_seed(seed)) * spread


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("spread", [0.1, 3.0, 30.0])
def test_each_filter_equals_transformers(name, spread):
    ours, theirs, values = FILTERS[name]
    logits, kept = rows(spread), set()
    for value in values:
        found = ours(logits, value)
        assert torch.equal(found, theirs(value)(None, logits.clone())), value
        assert torch.equal(logits, rows(spread)), "the argument was changed"
        kept.add(int(found.isfinite().sum()))
    assert name == "temperature" or len(kept) > 2, "the values make no difference"


def test_all_together_in_transformers_order():
    chain = LogitsProcessorList([TemperatureLogitsWarper(1.7), TopKLogitsWarper(60), TopPLogitsWarper(0.9)])
    chain.append(MinPLogitsWarper(0.15))
    found = Sampling(1.7, 60, 0.9, 0.15).logits(rows())
    assert torch.equal(found, chain(None, rows()))
    counts = found.isfinite().sum(-1)
    assert counts.min() >= 1
    assert counts.max() < 60


@pytest.mark.parametrize("shape", [(300,), (2, 3, 300)])
def test_any_number_of_axes_in_front(shape):
    logits = rows()[:6].flatten()[: torch.Size(shape).numel()].view(shape)
    for ours, _, values in FILTERS.values():
        expected = torch.stack([ours(row, values[1]) for row in logits.view(-1, 300).split(1)]).view(shape)
        assert torch.equal(ours(logits, values[1]), expected)


def test_by_default_nothing_is_filtered():
    assert torch.equal(Sampling().logits(rows()), rows())
    assert Sampling().logits(rows().bfloat16()).dtype == torch.float32


def test_a_nucleus_of_everything_is_everything():
    logits = rows(30.0)  # rounded, the likely ones add up to 1 already
    assert torch.equal(top_p(logits, 1.0), logits)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**20), st.floats(0.01, 1.0), st.integers(1, 40), st.floats(0, 1))
def test_what_every_filter_promises(seed, p, k, share):
    logits = rows(2.0, seed)[:4, :40]
    best = logits.argmax(-1, keepdim=True)
    probabilities = logits.softmax(-1)
    for found in (top_k(logits, k), top_p(logits, p), min_p(logits, share)):
        kept = found.isfinite()
        assert kept.gather(-1, best).all(), "the likeliest stays"
        assert torch.equal(found[kept], logits[kept]), "what stays is as it was"
        lost = probabilities.masked_fill(kept, 0).amax(-1)
        assert (lost <= probabilities.masked_fill(~kept, 1).amin(-1)).all(), "nothing likelier than what stays was lost"
    assert (top_k(logits, k).isfinite().sum(-1) == k).all()
    nucleus = top_p(logits, p).isfinite()
    mass = probabilities.masked_fill(~nucleus, 0)
    assert (mass.sum(-1) >= p - 1e-5).all()
    smallest = probabilities.masked_fill(~nucleus, 2).amin(-1)
    assert (mass.sum(-1) - smallest < p + 1e-5).all(), "one token fewer would not have been enough"


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda x: temperature(x, 0.0), "temperature=0.0: .* take the largest logit"),
        (lambda x: temperature(x, float("nan")), "temperature=nan"),
        (lambda x: top_k(x, 0), "top_k=0"),
        (lambda x: top_p(x, 0.0), "top_p=0.0"),
        (lambda x: top_p(x, 1.1), "top_p=1.1"),
        (lambda x: min_p(x, -0.1), "min_p=-0.1"),
        (lambda x: min_p(x, 1.5), "min_p=1.5"),
    ],
)
def test_values_without_meaning_get_a_sentence(call, says):
    with pytest.raises(ValueError, match=says):
        call(rows())
