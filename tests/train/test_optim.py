"""Each optimizer makes torch's steps, remembers what it says it does, and refuses what makes no sense."""

import copy
import math

import pytest
import torch
from torch import nn

from llmlab.train import decay_groups, optim, state_bytes

# A large eps shows where it stands; the defaults are compared as well.
PAIRS = {
    "sgd": (optim.SGD, torch.optim.SGD, {"lr": 0.1}, 0),
    "sgd_decay": (optim.SGD, torch.optim.SGD, {"lr": 0.1, "weight_decay": 0.1}, 0),
    "momentum": (optim.SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}, 4),
    "nesterov": (optim.SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}, 4),
    "adagrad": (optim.AdaGrad, torch.optim.Adagrad, {"lr": 0.1, "weight_decay": 0.1, "eps": 0.1}, 4),
    "rmsprop": (optim.RMSProp, torch.optim.RMSprop, {"lr": 0.01, "weight_decay": 0.1, "alpha": 0.9, "eps": 0.1}, 4),
    "adam": (optim.Adam, torch.optim.Adam, {"lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.95), "eps": 0.1}, 8),
    "adamw": (optim.AdamW, torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.95), "eps": 0.1}, 8),
    "muon": (optim.Muon, torch.optim.Muon, {"lr": 0.01, "weight_decay": 0.1}, 4),
    "defaults_adamw": (optim.AdamW, torch.optim.AdamW, {}, 8),
    "defaults_adam": (optim.Adam, torch.optim.Adam, {}, 8),
    "defaults_adagrad": (optim.AdaGrad, torch.optim.Adagrad, {}, 4),
    "defaults_rmsprop": (optim.RMSProp, torch.optim.RMSprop, {}, 4),
    "defaults_sgd": (optim.SGD, torch.optim.SGD, {}, 0),
    "defaults_muon": (optim.Muon, torch.optim.Muon, {}, 4),
}


def matrices(seed=0):
    """Two matrices, tall and wide, and a loss that pulls some numbers hard and some hardly at all."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((7, 4), (3, 6))
    weights = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    pulls = [torch.randn(shape, generator=generator).exp() / 3 for shape in shapes]
    return weights, lambda: sum((pull * (w - 1).square()).sum() for w, pull in zip(weights, pulls))


@pytest.mark.parametrize("name", PAIRS)
def test_each_step_is_torchs(name):
    ours, theirs, options, _ = PAIRS[name]
    (mine, my_loss), (other, other_loss) = matrices(), matrices()
    a, b = ours(mine, **options), theirs(other, **options)
    for step in range(12):
        for optimizer, loss in ((a, my_loss), (b, other_loss)):
            for group in optimizer.param_groups:
                group["lr"] *= 0.9 if step else 1.0  # a schedule acts at once, on the decay as well
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
        for p, q in zip(mine, other):
            torch.testing.assert_close(p, q, rtol=2e-6, atol=1e-6)
    moved = max((p - q).abs().max() for p, q in zip(mine, matrices()[0]))
    assert moved > 5 * a.param_groups[0]["lr"]


@pytest.mark.parametrize("name", [name for name in PAIRS if not name.startswith("defaults")])
def test_state_is_what_the_table_says(name):
    ours, _, options, size = PAIRS[name]
    weights, loss = matrices()
    optimizer = ours(weights, **options)
    assert state_bytes(optimizer) == 0
    loss().backward()
    optimizer.step()
    assert state_bytes(optimizer) == size * sum(w.numel() for w in weights)


@pytest.mark.parametrize("name", ["momentum", "adam", "muon"])
def test_a_saved_state_goes_on_to_the_bit(name):
    ours, _, options, _ = PAIRS[name]
    weights, loss = matrices()
    optimizer = ours(weights, **options)

    def step(optimizer, loss):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    for _ in range(3):
        step(optimizer, loss)
    again, again_loss = matrices()
    with torch.no_grad():
        for p, q in zip(again, weights):
            p.copy_(q)
    fresh = ours(again, **options)
    fresh.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for _ in range(3):
        step(optimizer, loss)
        step(fresh, again_loss)
    assert all(torch.equal(p, q) for p, q in zip(weights, again))


def test_adagrads_rate_falls_as_one_over_root_t():
    p = nn.Parameter(torch.zeros(1))
    optimizer, before = optim.AdaGrad([p], lr=1.0), 0.0
    for t in range(1, 30):
        p.grad = torch.full((1,), 5.0)
        optimizer.step()
        assert before - p.item() == pytest.approx(1 / math.sqrt(t), rel=1e-4)
        before = p.item()


def test_decay_is_decoupled_in_adamw_and_nearly_lost_in_adam():
    def left(kind):
        p = nn.Parameter(torch.full((1,), 1.0))
        optimizer = kind([p], lr=0.01, weight_decay=0.5)
        for step in range(100):
            p.grad = torch.full((1,), 1000.0 * (-1) ** step)  # large, and 0 on the whole
            optimizer.step()
        return p.item()

    none = optim.Adam
    free = left(lambda params, lr, weight_decay: none(params, lr=lr))
    assert left(optim.AdamW) == pytest.approx((1 - 0.005) ** 100 * 1.0 + (free - 1), abs=0.02)
    assert left(optim.Adam) == pytest.approx(free, abs=2e-3)


def test_orthogonalise_brings_singular_values_near_one_and_keeps_the_directions():
    x = torch.randn(20, 12, generator=torch.Generator().manual_seed(0))
    y = optim.orthogonalise(x, dtype=torch.float32)
    u, s, vt = torch.linalg.svd(x, full_matrices=False)
    kept = u.T @ y @ vt.T  # diagonal: y has the singular vectors of x
    assert (kept - kept.diag().diag()).abs().max() < 1e-4
    assert kept.diag().min() > 0.65 and kept.diag().max() < 1.25
    assert (s / s[0]).min() < 0.35  # they were not near one another before
    torch.testing.assert_close(optim.orthogonalise(x.T, dtype=torch.float32), y.T, rtol=1e-4, atol=1e-4)


def test_matrices_decay_and_vectors_do_not():
    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    model[1].weight.requires_grad_(False)
    first, second = decay_groups(model.parameters(), 0.1)
    assert [p.dim() for p in first["params"]] == [2] and first["weight_decay"] == 0.1
    assert [p.dim() for p in second["params"]] == [1, 1] and second["weight_decay"] == 0.0
    assert decay_groups([], 0.1) == []


def test_what_has_no_gradient_stays_and_a_closure_is_asked():
    p, q = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = optim.AdamW([p, q], lr=0.1)

    def closure():
        loss = p.sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2
    assert torch.equal(q, torch.ones(2)) and not torch.equal(p, torch.ones(2))


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (optim.SGD, {"lr": -1.0}, "lr=-1.0"),
        (optim.SGD, {"nesterov": True}, "momentum above 0"),
        (optim.SGD, {"momentum": 1.0}, "momentum=1.0"),
        (optim.Adam, {"betas": (0.9, 1.0)}, "beta2=1.0"),
        (optim.AdamW, {"weight_decay": float("nan")}, "weight_decay=nan"),
        (optim.RMSProp, {"alpha": -0.1}, "alpha=-0.1"),
        (optim.AdaGrad, {"eps": -1e-8}, "eps=-1e-08"),
    ],
)
def test_nonsense_is_refused(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind([nn.Parameter(torch.ones(1))], **options)


def test_muon_sends_vectors_to_adamw():
    with pytest.raises(ValueError, match=r"shape \(3,\): give that to AdamW"):
        optim.Muon([nn.Parameter(torch.ones(3))])
