"""The loop: a plain one's numbers, accumulation that is the large batch, callbacks, early stopping."""

import math
import random
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from llmlab.train import (
    EarlyStopping,
    bucket_by_length,
    clip_value,
    fit,
    optim,
    train_model,
    warmup_cosine,
)

N = 44
X = torch.randn(N, 6, generator=torch.Generator().manual_seed(0))
Y = torch.randint(0, 3, (N,), generator=torch.Generator().manual_seed(1))
LENGTHS = [random.Random(i).randint(1, 9) for i in range(N)]


def net(dropout=0.0):
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 3))


def run(model=None, optimizer=None, loss_of=None, lengths=LENGTHS, **options):
    model = model or net()
    optimizer = optimizer or optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    loss_of = loss_of or (lambda b: F.cross_entropy(model(X[b]), Y[b]))
    return model, train_model(model, loss_of, lengths, optimizer, **({"epochs": 3, "batch_size": 8} | options))


def test_fit_is_a_plain_loop_of_torch_to_the_bit():
    """What is recorded in the package's checkpoints was made by these lines: not a digit may change."""
    model = net(dropout=0.3)

    def loss_of(batch):
        return F.cross_entropy(model(X[batch]), Y[batch])

    chosen = {"epochs": 3, "batch_size": 8, "lr": 0.02, "clip": 0.3, "evaluate": lambda: float(model.training)}
    ours = fit(model, loss_of, LENGTHS, **chosen)
    plain = net(dropout=0.3)
    parameters = list(plain.parameters())
    matrices = {"params": [p for p in parameters if p.dim() > 1], "weight_decay": 0.01}
    vectors = {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0}
    optimizer, rng, losses = torch.optim.AdamW([matrices, vectors], lr=0.02), random.Random(0), []
    torch.manual_seed(0)
    for _ in range(3):
        for batch in bucket_by_length(LENGTHS, 8, rng):
            for group in optimizer.param_groups:
                group["lr"] = 0.02 * warmup_cosine(len(losses), 18, 1)
            loss = F.cross_entropy(plain(X[batch]), Y[batch])
            losses.append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 0.3)
            optimizer.step()
    assert ours.losses == losses and max(ours.norms) > 0.3 and ours.scores == [0, 0, 0]
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), parameters))


@pytest.mark.parametrize("pieces", [2, 3, 8, 50])
def test_accumulation_is_the_large_batch(pieces):
    whole, history = run()
    parts, same = run(accumulate=pieces)
    assert same.losses == pytest.approx(history.losses, rel=1e-6)
    for p, q in zip(whole.parameters(), parts.parameters()):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-6)


def test_accumulation_of_a_mean_over_tokens_needs_their_number():
    """Micro-batches with 1 and with 9 tokens do not weigh the same; taking them as equal is the well-known fault."""

    def build(**options):
        model = net()

        def loss_of(batch):
            repeated = [i for i in batch for _ in range(LENGTHS[i])]
            return F.cross_entropy(model(X[repeated]), Y[repeated])

        return run(model, loss_of=loss_of, **options)[0]

    whole = build()
    right = build(accumulate=4, weight_of=lambda batch: sum(LENGTHS[i] for i in batch))
    wrong = build(accumulate=4)
    apart = [
        max((p - q).abs().max().item() for p, q in zip(whole.parameters(), m.parameters())) for m in (right, wrong)
    ]
    assert apart[0] < 2e-6 and apart[1] > 1e-3


def test_micro_batches_are_as_small_as_promised():
    sizes = []
    model = net()

    def loss_of(batch):
        sizes.append(len(batch))
        return F.cross_entropy(model(X[batch]), Y[batch])

    run(model, loss_of=loss_of, accumulate=4, epochs=1)
    assert max(sizes) == 2 and sum(sizes) == N


def test_clipping_by_a_function_and_not_at_all():
    norms, moved = [], []
    for clip in (None, 1e-3, partial(clip_value, limit=1e-3)):
        model = net()
        history = run(model, optim.SGD(model.parameters(), lr=0.5), clip=clip, max_steps=1)[1]
        norms += history.norms
        moved.append(math.dist(nn.utils.parameters_to_vector(model.parameters()).tolist(),
                               nn.utils.parameters_to_vector(net().parameters()).tolist()))  # fmt: skip
    assert norms[0] == norms[1] == norms[2] > 0.1  # the norm before clipping, whoever clips
    assert moved[:2] == pytest.approx([0.5 * norms[0], 0.5 * 1e-3], rel=1e-3)
    assert moved[1] < moved[2] < 0.5 * 1e-3 * math.sqrt(100)


def test_callbacks_see_every_step_and_the_schedule():
    seen = []
    model, history = run(callbacks=[seen.append], schedule=lambda step: 0.5**step, evaluate=lambda: 7.0)
    assert [s.step for s in seen] == list(range(1, 19)) and [s.loss for s in seen] == history.losses
    assert [s.factor for s in seen] == [0.5**n for n in range(18)] and [s.norm for s in seen] == history.norms
    assert [s.epoch for s in seen] == [0] * 6 + [1] * 6 + [2] * 6
    assert [s.step for s in seen if s.score == 7.0] == history.scored_at == [6, 12, 18]
    assert all(s.model is model for s in seen)


def test_the_schedule_moves_every_groups_own_rate_and_gives_it_back():
    model = net()
    groups = [{"params": model[0].parameters(), "lr": 1.0}, {"params": model[4].parameters(), "lr": 0.01}]
    optimizer, rates = optim.SGD(groups), []
    run(model, optimizer, callbacks=[lambda s: rates.append([g["lr"] for g in optimizer.param_groups])], max_steps=2,
        schedule=lambda step: 0.5 ** (step + 1))  # fmt: skip
    assert rates == [[0.5, 0.005], [0.25, 0.0025]]
    assert [g["lr"] for g in optimizer.param_groups] == [1.0, 0.01]


def test_evaluation_by_steps_happens_without_dropout():
    modes = []
    model = net(0.5)

    def evaluate():
        modes.append(model.training)
        return 0.0

    history = run(model, evaluate=evaluate, evaluate_every=4)[1]
    assert history.scored_at == [4, 8, 12, 16] and modes == [False] * 4 and not model.training


def test_patience_waits_and_the_best_weights_come_back():
    scores = iter([0.5, 0.7, 0.6, 0.705, 0.6, 0.9])
    kept = {}

    def keep(step):
        if step.score is not None:
            kept[step.score] = [p.detach().clone() for p in step.model.parameters()]

    stopping = EarlyStopping(patience=3, min_delta=0.01)
    model, history = run(epochs=10, evaluate=lambda: next(scores), stopping=stopping, callbacks=[keep])
    assert history.scores == [0.5, 0.7, 0.6, 0.705, 0.6]  # 0.705 is no improvement: 0.01 is asked for
    assert (stopping.best, stopping.best_at, stopping.bad) == (0.7, 1, 3)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), kept[0.7]))
    assert not any(torch.equal(p, q) for p, q in zip(model.parameters(), kept[0.6]))


def test_the_best_comes_back_without_an_early_stop_and_for_losses():
    scores = iter([3.0, 1.0, 2.0])
    kept = []
    stopping = EarlyStopping(patience=5, mode="min")
    model, _ = run(evaluate=lambda: next(scores), stopping=stopping,
                   callbacks=[lambda s: kept.append(s.model[0].weight.detach().clone())])  # fmt: skip
    assert stopping.best == 1.0
    assert torch.equal(model[0].weight, kept[11])


def test_an_equal_score_is_no_improvement_and_patience_one_stops_at_the_first():
    stopping, model = EarlyStopping(patience=1), nn.Linear(1, 1)
    assert not stopping.update(0.5, model)
    assert stopping.update(0.5, model)


def test_the_bar_counts_steps(capsys):
    run(bar=True)
    assert "18/18" in capsys.readouterr().err
    run(bar=True, max_steps=5)
    assert "5/5" in capsys.readouterr().err


def test_a_loss_that_is_no_number_is_caught_before_the_weights_are_touched():
    model = net()
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(FloatingPointError, match="step 1: lower lr"):
        run(model, loss_of=lambda b: model(X[b]).sum() * math.nan)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lengths": []}, "0 examples"),
        ({"accumulate": 0}, "accumulate=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"epochs": -1}, "epochs=-1"),
        ({"evaluate": lambda: 0.0, "evaluate_every": 0}, "evaluate_every=0"),
        ({"stopping": EarlyStopping()}, "need scores"),
        ({"evaluate_every": 3}, "need scores"),
        ({"clip": 0.0}, "limit=0.0"),
        ({"accumulate": 2, "weight_of": lambda b: 0}, "weight_of gave"),
    ],
)
def test_nonsense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        run(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"patience": 0}, "patience=0"), ({"min_delta": -1.0}, "min_delta=-1.0"), ({"mode": "up"}, "mode='up'")],
)
def test_early_stopping_refuses_nonsense(options, message):
    with pytest.raises(ValueError, match=message):
        EarlyStopping(**options)


def test_a_score_that_is_no_number_is_said():
    with pytest.raises(FloatingPointError, match="score 0 is nan"):
        EarlyStopping().update(math.nan, nn.Linear(1, 1))


@pytest.mark.parametrize(("mode", "scores"), [("max", (0.5, 0.58, 0.61)), ("min", (0.5, 0.42, 0.39))])
def test_an_improvement_must_exceed_min_delta_as_it_is(mode, scores):
    stopping, model = EarlyStopping(patience=9, min_delta=0.1, mode=mode), nn.Linear(1, 1)
    seen = []
    for score in scores:  # 0.08 is not enough, 0.11 is
        stopping.update(score, model)
        seen.append(stopping.best)
    assert seen == [scores[0], scores[0], scores[2]]
    with pytest.raises(ValueError, match="min_delta=inf"):
        EarlyStopping(min_delta=math.inf)
