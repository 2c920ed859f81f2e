"""Counted pairs."""

from __future__ import annotations

import pytest
import torch

from llmlab.models.bigram import Bigrams


def test_by_hand() -> None:
    text = torch.tensor([0, 1, 0, 1, 2])  # pairs: 01 10 01 12
    model = Bigrams(text, 3, prior=2.0)
    alone = torch.tensor([2.5, 2.5, 1.5]) / 6.5
    torch.testing.assert_close(model.alone.exp(), alone)
    torch.testing.assert_close(model.after(torch.tensor([0]))[0].exp(), (torch.tensor([0, 2.0, 0]) + 2 * alone) / 4)
    torch.testing.assert_close(model.after(torch.tensor([2]))[0].exp(), alone)  # never seen before another


def test_everything_adds_up_to_one_and_between_is_bayes() -> None:
    text = torch.randint(7, (500,), generator=torch.Generator().manual_seed(0))
    model = Bigrams(text, 7)
    left, right = torch.tensor([0, 3, 6]), torch.tensor([1, 1, 5])
    between = model.between(left, right)
    for table in (model.alone[None], model.after(left), between):
        torch.testing.assert_close(table.exp().sum(-1), torch.ones(len(table)))
    p = model.table.exp()
    for i, (a, b) in enumerate(zip(left, right)):
        joint = torch.stack([p[a, x] * p[x, b] for x in range(7)])
        torch.testing.assert_close(between[i].exp(), joint / joint.sum())


def test_refuses() -> None:
    for text in (torch.tensor([1]), torch.tensor([0, 3]), torch.tensor([-1, 0])):
        with pytest.raises(ValueError, match="two or more, all below"):
            Bigrams(text, 3)
