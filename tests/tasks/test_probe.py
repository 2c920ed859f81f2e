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


def test_classes_that_the_training_part_lacks_have_a_row() -> None:
    x, y = data(50)
    assert LinearProbe(rounds=5).fit(x, y, 5).logits(x).shape == (50, 5)


def test_refuses() -> None:
    x, y = data(20)
    for bad in (y[:-1], y[:0]):
        with pytest.raises(ValueError, match=r"expected \(n, d\)"):
            LinearProbe().fit(x, bad)
    with pytest.raises(ValueError, match="expected 0 to 1"):
        LinearProbe().fit(x, y, 2)
    with pytest.raises(ValueError, match="expected 0 to"):
        LinearProbe().fit(x, y - 1)
