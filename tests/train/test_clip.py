"""Clipping: torch's numbers, the direction kept by one kind and not by the other, and no cure for vanishing."""

import math

import pytest
import torch
from torch import nn

from llmlab.train import clip_norm, clip_value, gradient_norm


def tensors(scale=1.0):
    generator = torch.Generator().manual_seed(0)
    made = [nn.Parameter(torch.zeros(shape)) for shape in ((5, 3), (4,), (2, 2))]
    for p in made[:2]:  # the third has no gradient
        p.grad = scale * torch.randn(p.shape, generator=generator)
    return made


@pytest.mark.parametrize("limit", [0.1, 1.0, 100.0])
def test_by_norm_is_torchs_to_the_bit(limit):
    ours, theirs = tensors(), tensors()
    assert clip_norm(ours, limit) == nn.utils.clip_grad_norm_(theirs, limit).item()
    assert all(torch.equal(p.grad, q.grad) for p, q in zip(ours[:2], theirs[:2]))


@pytest.mark.parametrize("limit", [0.1, 1.0, 100.0])
def test_by_value_is_torchs_to_the_bit(limit):
    ours, theirs = tensors(), tensors()
    assert clip_value(ours, limit) == gradient_norm(theirs).item()
    nn.utils.clip_grad_value_(theirs, limit)
    assert all(torch.equal(p.grad, q.grad) for p, q in zip(ours[:2], theirs[:2]))


def test_by_norm_keeps_the_direction_and_by_value_does_not():
    p = nn.Parameter(torch.zeros(2))
    p.grad = torch.tensor([10.0, 1.0])
    assert clip_norm([p], 1.0) == pytest.approx(math.sqrt(101))
    assert p.grad.tolist() == pytest.approx([10 / math.sqrt(101), 1 / math.sqrt(101)], rel=1e-5)
    p.grad = torch.tensor([10.0, 1.0])
    clip_value([p], 1.0)
    assert p.grad.tolist() == [1.0, 1.0]


def test_a_small_gradient_stays_small():
    made, before = tensors(1e-9), tensors(1e-9)
    clip_norm(made, 1.0)
    clip_value(made, 1.0)
    assert all(torch.equal(p.grad, q.grad) for p, q in zip(made[:2], before[:2]))


def test_no_limit_measures_only_and_no_gradient_is_length_zero():
    made, before = tensors(1e6), tensors(1e6)
    assert clip_norm(iter(made), math.inf) == pytest.approx(gradient_norm(before).item())
    assert torch.equal(made[0].grad, before[0].grad)
    assert clip_norm([nn.Parameter(torch.zeros(1))], 1.0) == 0


@pytest.mark.parametrize("clip", [clip_norm, clip_value])
@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan")])
def test_a_limit_of_nothing_is_refused(clip, limit):
    with pytest.raises(ValueError, match="expected more than 0"):
        clip(tensors(), limit)
