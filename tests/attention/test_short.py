"""Attention by two products against the contract's, forward and backward; and what it hands on."""

import pytest
import torch

from llmlab.attention import attention, short
from llmlab.attention.short import LONGEST, short_attention

torch.set_num_threads(1)


def make(*, dtype=torch.float32, batch=2, heads=3, time=37, d=8, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, heads, time, d, generator=g).to(dtype).requires_grad_() for _ in range(3)]


def padding(time=37, batch=2, real=(30, 1)):
    return (torch.arange(time) < torch.tensor(real)[:batch, None])[:, None, None]


def both(function, inputs, dtype, causal=True, **options):
    """Output and gradients, in float64."""
    output = function(*(x.to(dtype) for x in inputs), causal=causal, **options)
    direction = torch.randn(output.shape, generator=torch.Generator().manual_seed(9)).to(output.dtype)
    gradients = torch.autograd.grad(output, inputs, direction)
    return [x.double() for x in (output, *gradients)]


@pytest.mark.parametrize("time", [1, 2, 37])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_float32_equals_the_contract(monkeypatch, time, causal, masked):
    inputs, options = make(time=time), {"causal": causal, "mask": padding(time) if masked else None}
    expected = both(attention, inputs, torch.float32, **options)
    monkeypatch.setattr(short, "attention", None)  # it is not what gives the result
    for mine, other in zip(both(short_attention, inputs, torch.float32, **options), expected):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


def test_bfloat16_is_as_near_to_the_truth_as_twice_the_fused_kernel():
    inputs = make(dtype=torch.bfloat16, time=100, d=32)
    exact = both(attention, inputs, torch.float64)
    for mine, fused, true in zip(
        both(short_attention, inputs, torch.bfloat16), both(attention, inputs, torch.bfloat16), exact
    ):
        assert (mine - true).norm() < 2 * (fused - true).norm()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert short_attention(*make(), causal=True).dtype == torch.bfloat16


@pytest.mark.parametrize(
    "what",
    [
        {"mask": torch.ones(37, dtype=torch.bool)},
        {"mask": torch.ones(2, 1, 37, 37, dtype=torch.bool)},
        {"mask": torch.ones(2, 1, 1, 37)},
        {"mask": padding(real=(3, 0))},
        {"dropout_p": 1e-3},
        {"dtypes": True},
        {"keys": 20},
        {"grouped": True},
        {"long": True},
    ],
    ids=str,
)
def test_what_is_not_plain_is_handed_on(monkeypatch, what):
    seen = []
    monkeypatch.setattr(short, "attention", lambda *args, **options: seen.append((args, options)) or args[0])
    what = dict(what)
    q, k, v = make(time=LONGEST + 1, d=2) if what.pop("long", False) else make()
    if keys := what.pop("keys", None):
        k, v = k[:, :, :keys], v[:, :, :keys]
    if what.pop("dtypes", False):
        v = v.double()
    if what.pop("grouped", False):
        q = torch.cat([q, q], dim=1)
    options = {"causal": True, "mask": None, "enable_gqa": True, "dropout_p": 0.0} | what
    assert short_attention(q, k, v, **options) is q
    assert seen == [((q, k, v), options)]


def test_what_is_plain_is_not(monkeypatch):
    monkeypatch.setattr(short, "attention", None)
    for time in (3, LONGEST):
        short_attention(*make(time=time, d=2), causal=True)
