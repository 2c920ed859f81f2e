"""The loop: every example once an epoch, the schedule's corners, the same seed the same run."""

import random

import pytest
import torch
from torch import nn

from llmlab.train import bucket_by_length, fit, warmup_cosine


def test_buckets_hold_every_index_once_and_little_padding():
    rng = random.Random(0)
    lengths = [rng.randint(1, 200) for _ in range(1000)]
    batches = list(bucket_by_length(lengths, 16, random.Random(1)))
    assert sorted(i for batch in batches for i in batch) == list(range(1000))
    padded = sum(max(lengths[i] for i in b) * len(b) for b in batches)
    assert padded < 1.1 * sum(lengths)
    again = list(bucket_by_length(lengths, 16, random.Random(1)))
    assert batches == again != list(bucket_by_length(lengths, 16, random.Random(2)))


def test_short_batches_do_not_all_come_first():
    firsts = [batch[0] for batch in bucket_by_length(range(800), 16, random.Random(0))]  # one pool, sorted inside
    assert firsts != sorted(firsts)


def test_batch_size_zero_is_refused_and_one_is_not():
    with pytest.raises(ValueError, match="batch_size=0"):
        list(bucket_by_length([1], 0, random.Random(0)))
    assert sorted(bucket_by_length([1, 2, 3], 1, random.Random(0))) == [[0], [1], [2]]


def test_schedule_rises_to_one_and_falls_to_zero():
    values = [warmup_cosine(step, 100, 10) for step in range(101)]
    assert values[0] == pytest.approx(0.1)
    assert values[9] == values[10] == 1
    assert values[100] == pytest.approx(0)
    assert values[55] == pytest.approx(0.5)
    assert all(a >= b for a, b in zip(values[10:], values[11:]))


def test_schedule_after_warmup_is_torchs_cosine():
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 90)
    for step in range(10, 100):
        assert warmup_cosine(step, 100, 10) == pytest.approx(theirs.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        theirs.step()


def line(seed=0, **more):
    torch.manual_seed(7)
    model = nn.Linear(3, 1)
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(1))
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]])
    chosen = {"epochs": 30, "lr": 0.1, "batch_size": 16, "weight_decay": 0.0, **more}
    history = fit(model, lambda b: (model(x[b]) - y[b]).square().mean(), [1] * 64, seed=seed, **chosen)
    return model, history


def test_it_learns_a_line_and_leaves_the_model_in_evaluation_mode():
    model, history = line()
    assert history.losses[-1] < 1e-2 * history.losses[0]
    assert len(history.losses) == 30 * 4
    assert not model.training


def test_the_same_seed_is_the_same_run():
    assert line(3)[1].losses == line(3)[1].losses != line(4)[1].losses


def test_max_steps_is_the_beginning_of_the_whole_run():
    assert line(max_steps=10)[1].losses == line()[1].losses[:10]


def test_evaluate_is_asked_after_every_epoch():
    scores = iter(range(100))
    assert line(epochs=3, evaluate=lambda: float(next(scores)))[1].scores == [0.0, 1.0, 2.0]


def test_a_loss_that_is_no_number_stops_the_run():
    model = nn.Linear(1, 1)
    with pytest.raises(FloatingPointError, match="lower lr"):
        fit(model, lambda b: model.weight.sum() * float("nan"), [1, 1], epochs=1)


def test_nothing_to_train_is_said():
    model = nn.Linear(1, 1).requires_grad_(False)
    with pytest.raises(ValueError, match="0 tensors that require gradients"):
        fit(model, lambda b: model.weight.sum(), [1], epochs=1)


def test_frozen_parameters_do_not_move():
    model = nn.Linear(2, 2)
    model.weight.requires_grad = False
    before = model.weight.clone()
    fit(model, lambda b: model(torch.ones(len(b), 2)).square().mean(), [1] * 8, epochs=2)
    assert torch.equal(model.weight, before)
