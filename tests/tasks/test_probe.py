"""The probe equals scikit-learn's softmax regression."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llmlab.tasks.probe import LinearProbe


def data(n: int = 300) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 6, generator=generator) * torch.tensor([1, 10, 0.1, 1, 1, 1.0]) + 3
    score = x[:, 0] - 3 + 0.1 * (x[:, 1] - 3) + torch.randn(n, generator=generator)
    return x, torch.bucketize(score, torch.tensor([-0.5, 0.5]))


def test_equals_sklearn() -> None:
    from sklearn.linear_model import LogisticRegression

    x, y = data()
    probe = LinearProbe(penalty=0.01, rounds=200).fit(x, y)
    scaled = ((x - x.mean(0)) / x.std(0, correction=0)).numpy()
    theirs = LogisticRegression(C=1 / (0.01 * len(y)), max_iter=2000, tol=1e-8).fit(scaled, y.numpy())
    ours = probe.logits(x).softmax(-1).numpy()
    np.testing.assert_allclose(ours, theirs.predict_proba(scaled), atol=2e-3)
    assert (probe.predict(x).numpy() == theirs.predict(scaled)).mean() > 0.99


def test_a_constant_feature_changes_nothing() -> None:
    x, y = data(100)
    more = torch.cat([x, torch.full((100, 1), 7.0)], 1)
    torch.testing.assert_close(
        LinearProbe().fit(more, y).logits(more), LinearProbe().fit(x, y).logits(x), rtol=1e-3, atol=1e-3
    )


def test_what_never_changed_while_learning_counts_for_nothing_later() -> None:
    x, y = data(100)
    probe = LinearProbe().fit(torch.cat([x, torch.full((100, 1), 7.0)], 1), y)
    seven, eight = (probe.logits(torch.cat([x, torch.full((100, 1), value)], 1)) for value in (7.0, 8.0))
    assert torch.equal(seven, eight)


def objective(probe: LinearProbe, x: torch.Tensor, y: torch.Tensor, penalty: float = 1e-4) -> torch.Tensor:
    """What is to be least, spelled out with the deviation of a population."""
    scaled = (x - x.mean(0)) / x.std(0, correction=0)
    scores = scaled @ probe.weight.T + probe.bias
    loss = -(scores[torch.arange(len(y)), y] - scores.logsumexp(1)).mean()
    return loss + penalty / 2 * (probe.weight**2).sum()


def test_the_defaults_end_where_the_objective_is_flat() -> None:
    x, y = data(12)
    probe = LinearProbe().fit(x, y)
    probe.weight.requires_grad_()
    (slope,) = torch.autograd.grad(objective(probe, x, y), probe.weight)
    assert slope.abs().max() < 3e-5
    (other,) = torch.autograd.grad(objective(probe, x, y, 2e-4), probe.weight)
    assert other.abs().max() > 1e-4, "a slope that tells one penalty from another"


def test_each_round_gets_nearer_and_no_more_are_made_than_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = data()
    values = [float(objective(LinearProbe(rounds=n).fit(x, y), x, y)) for n in (1, 2, 4, 8, 16)]
    assert values == sorted(values, reverse=True) and values[0] > values[-1] + 0.01
    made: list[int] = []
    step = torch.optim.LBFGS.step
    monkeypatch.setattr(
        torch.optim.LBFGS, "step", lambda self, f: made.append(self.param_groups[0]["max_iter"]) or step(self, f)
    )
    LinearProbe().fit(x, y)
    LinearProbe(rounds=7).fit(x, y)
    assert made == [100, 7]


def test_features_of_any_size_are_learned_from() -> None:
    """Without a search along the line the first step of such a problem leads away."""
    x, y = data()
    x = torch.cat([x, x[:, :1].repeat(1, 60)], 1)
    values = [float(objective(LinearProbe(rounds=n).fit(x, y), x, y)) for n in (1, 2, 3, 4)]
    assert values == sorted(values, reverse=True) and values[0] < 1.0


def test_classes_that_the_training_part_lacks_have_a_row() -> None:
    x, y = data(50)
    probe = LinearProbe(rounds=5).fit(x, y, 5)
    assert probe.logits(x).shape == (50, 5) and probe.predict(x).shape == (50,)


def test_refuses() -> None:
    x, y = data(20)
    for bad in (y[:-1], y[:0]):
        with pytest.raises(ValueError, match=r"expected \(n, d\)"):
            LinearProbe().fit(x, bad)
    with pytest.raises(ValueError, match="expected 0 to 1"):
        LinearProbe().fit(x, y, 2)
    with pytest.raises(ValueError, match="expected 0 to"):
        LinearProbe().fit(x, y - 1)
