"""Schedules: transformers' curves, the corners, and what is refused. Warm-up is one step ahead of theirs, on purpose."""

from functools import partial

import pytest
import torch
import transformers
from torch import nn

from llmlab.train import constant, inverse_sqrt, step_decay, warmup_cosine, warmup_linear, wsd

TOTAL, WARMUP = 60, 7


def theirs(make, **options):
    """transformers' factors at steps 0 to TOTAL."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = make(optimizer, **options)
    factors = []
    for _ in range(TOTAL + 1):
        factors.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return factors


@pytest.mark.parametrize(
    ("ours", "make", "options"),
    [
        (partial(constant, warmup=WARMUP), transformers.get_constant_schedule_with_warmup, {}),
        (
            partial(warmup_linear, total=TOTAL, warmup=WARMUP),
            transformers.get_linear_schedule_with_warmup,
            {"num_training_steps": TOTAL},
        ),
        (
            partial(warmup_cosine, total=TOTAL, warmup=WARMUP),
            transformers.get_cosine_schedule_with_warmup,
            {"num_training_steps": TOTAL},
        ),
        *(
            (
                partial(wsd, total=TOTAL, warmup=WARMUP, decay=15, shape=shape, floor=0.1),
                transformers.get_wsd_schedule,
                {
                    "num_training_steps": TOTAL,
                    "num_decay_steps": 15,
                    "decay_type": name,
                    "min_lr_ratio": 0.1,
                },
            )
            for shape, name in (("linear", "linear"), ("cosine", "cosine"), ("sqrt", "1-sqrt"))
        ),
    ],
)
def test_after_the_warmup_the_curve_is_transformers(ours, make, options):
    expected = theirs(make, num_warmup_steps=WARMUP, **options)
    assert [ours(step) for step in range(WARMUP, TOTAL + 1)] == pytest.approx(expected[WARMUP:], abs=1e-12)
    assert [ours(step) for step in range(WARMUP)] == pytest.approx([(n + 1) / WARMUP for n in range(WARMUP)])


def test_inverse_sqrt_is_transformers_one_step_on():
    expected = theirs(transformers.get_inverse_sqrt_schedule, num_warmup_steps=WARMUP)
    assert [inverse_sqrt(step, WARMUP) for step in range(TOTAL)] == pytest.approx(expected[1:], abs=1e-12)


def test_floors_are_reached_and_kept():
    for schedule in (warmup_linear, warmup_cosine):
        assert schedule(WARMUP, TOTAL, WARMUP, floor=0.1) == 1
        assert schedule(TOTAL, TOTAL, WARMUP, floor=0.1) == schedule(10 * TOTAL, TOTAL, WARMUP, floor=0.1) == 0.1
    assert wsd(TOTAL - 16, TOTAL, 5, 15) == 1.0 > wsd(TOTAL - 14, TOTAL, 5, 15)
    assert wsd(10 * TOTAL, TOTAL, 5, 15) == 0


def test_the_staircase():
    assert [step_decay(step, 2, 0.5) for step in range(6)] == [1, 1, 0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: constant(-1), "step=-1"),
        (lambda: warmup_cosine(0, 10, -2), "warmup=-2"),
        (lambda: warmup_linear(0, -1), "total=-1"),
        (lambda: wsd(0, 10, 6, 5), "longer than the run"),
        (lambda: wsd(0, 10, 1, 5, shape="steep"), "shape='steep'"),
        (lambda: inverse_sqrt(3, 0), "warmup=0"),
        (lambda: step_decay(3, 0), "every=0"),
    ],
)
def test_nonsense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_smallest_counts_are_taken():
    assert [inverse_sqrt(step, warmup=1) for step in (0, 3)] == [1.0, 0.5]
    assert [step_decay(step, every=1, factor=0.5) for step in (0, 1, 2)] == [1.0, 0.5, 0.25]
    assert [warmup_cosine(step, total=2, warmup=1) for step in (0, 1, 2)] == pytest.approx([1.0, 1.0, 0.0])
