"""The four carriers: equal in size, causal, and the linear one equal to its own recurrence step by step."""

from typing import get_args

import pytest
import torch

from llmlab.models.recall import DIGITS, LETTERS, QUERY, DiagonalSSM, Kind, Recall, recall_batch


def test_the_letter_stands_where_it_should():
    ids, letter = recall_batch(50, 7, 12, torch.Generator().manual_seed(0))
    assert ids.shape == (50, 12) and (ids[:, -1] == QUERY).all()
    assert (ids[:, -8] == DIGITS + letter).all() and letter.unique().tolist() == list(range(LETTERS))
    rest = torch.cat([ids[:, :4], ids[:, 5:-1]], 1)
    assert (rest < DIGITS).all() and (rest >= 0).all(), "one letter alone"
    for distance in (0, 12):
        with pytest.raises(ValueError, match=f"distance={distance}, length=12"):
            recall_batch(2, distance, 12, torch.Generator())


def test_all_kinds_are_of_one_size():
    sizes = [sum(p.numel() for p in Recall(kind).parameters()) for kind in get_args(Kind)]
    assert max(sizes) < 1.1 * min(sizes)
    with pytest.raises(ValueError, match="'GRU': expected one of RNN, LSTM"):
        Recall("GRU")


def test_the_convolution_is_the_recurrence():
    torch.manual_seed(0)
    layer = DiagonalSSM(6, 5, longest=50).double()
    x = torch.randn(2, 40, 6, dtype=torch.float64)
    inputs, gate = layer.into(layer.norm(x)).chunk(2, dim=-1)
    decay = torch.exp(-layer.log_rate.exp())
    state, out = torch.zeros(2, 5, dtype=torch.float64), []
    for t in range(40):
        state = decay * state - inputs[:, t] * decay.log()
        out.append(x[:, t] + layer.out(state * gate[:, t].sigmoid()))
    assert layer(x).allclose(torch.stack(out, 1), atol=1e-9)


@pytest.mark.parametrize("kind", get_args(Kind))
def test_gradients_reach_the_vectors_that_were_given(kind):
    torch.manual_seed(0)
    model = Recall(kind)
    ids, _ = recall_batch(3, 5, 9, torch.Generator().manual_seed(1))
    assert model(ids).shape == (3, LETTERS)
    x = model.vectors(ids).detach().requires_grad_()
    assert model.last(ids, x).allclose(model.last(ids), atol=1e-6)
    model.head(model.last(ids, x))[:, 0].sum().backward()
    assert x.grad.shape == x.shape and x.grad.abs().sum(-1).min() > 0


def test_the_forget_gate_begins_by_remembering():
    body = Recall("LSTM").body
    forget = (body.bias_ih_l0 + body.bias_hh_l0)[64:128]
    assert forget.sigmoid().allclose(torch.tensor(0.7311), atol=1e-3)
