"""Dropout against torch's and transformers' on the same random numbers, and against its formulas."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers.models.convnext.modeling_convnext import ConvNextDropPath
from transformers.models.swin.modeling_swin import SwinDropPath

from llmlab.nn.dropout import (
    DropConnectLinear,
    Dropout,
    EmbeddingDropout,
    StochasticDepth,
    drop_tokens,
    dropout,
    mc_dropout,
)

P = 0.3


def seeded(function, *inputs):
    torch.manual_seed(11)
    return function(*inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_output_and_gradient_are_torchs_bit_for_bit(dtype):
    x = torch.randn(64, 33, dtype=dtype, requires_grad=True)
    ours, theirs = seeded(dropout, x, P), seeded(F.dropout, x, P)
    assert torch.equal(ours, theirs)
    above = torch.randn_like(x)
    ours, theirs = (torch.autograd.grad(y, x, above)[0] for y in (ours, theirs))
    assert torch.equal(ours, theirs)


def test_the_layer_is_torchs_in_both_modes():
    x = torch.randn(8, 9)
    ours, theirs = Dropout(P), nn.Dropout(P)
    assert torch.equal(seeded(ours, x), seeded(theirs, x))
    assert ours.eval()(x) is x
    assert repr(ours) == "Dropout(p=0.3)"


def test_the_gradient_passes_where_the_value_did():
    x = torch.ones(1000, requires_grad=True)
    y = dropout(x, P)
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(grad, y)  # both are mask / (1 - p)
    assert y.detach().unique().tolist() == pytest.approx([0.0, 1 / (1 - P)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.001, 0.1, 0.5])
def test_share_mean_and_variance_are_those_of_the_formula(dtype, p):
    n = 400_000
    y = seeded(dropout, torch.full((n,), 2.0, dtype=dtype), p).float()
    kept = 2 / (1 - p)
    standard_error = kept * math.sqrt(p * (1 - p) / n)
    assert (y == 0).float().mean().item() == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / n))
    rounding = 2 * torch.finfo(dtype).eps
    assert y.mean().item() == pytest.approx(2.0, abs=5 * standard_error + rounding)
    assert y.var().item() == pytest.approx(4 * p / (1 - p), rel=0.05 if p > 0.01 else 0.3)


def test_a_rate_of_zero_returns_the_input_itself_and_draws_no_number():
    """Else a model with p = 0 would not repeat the numbers of one without dropout."""
    table = nn.Embedding(5, 3)
    layer, whole = DropConnectLinear(4, 3, p=0.0), EmbeddingDropout(table, 0.0)
    x, ids = torch.randn(2, 4), torch.arange(4).view(2, 2)
    before = torch.get_rng_state()
    assert dropout(x, 0.0) is x
    assert Dropout(0.0)(x) is x
    assert StochasticDepth(0.0)(x) is x
    assert drop_tokens(ids, 0.0, 1) is ids
    assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))
    assert torch.equal(whole(ids), table(ids))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_dropped_nan_does_not_matter_only_if_it_is_dropped():
    x = torch.tensor([math.inf, 1.0])
    assert torch.equal(dropout(x, 0.0), x)
    assert dropout(x, P, training=False) is x


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, float("nan"), True, "0.1"])
def test_what_is_no_share_is_refused_everywhere(p):
    for make in (Dropout, StochasticDepth, lambda p: DropConnectLinear(2, 2, p=p), lambda p: dropout(torch.ones(2), p)):
        with pytest.raises(ValueError, match="0 <= p < 1"):
            make(p)


@pytest.mark.parametrize("theirs", [SwinDropPath, ConvNextDropPath])
def test_stochastic_depth_is_that_of_transformers_on_the_same_numbers(theirs):
    x = torch.randn(200, 4, 5, requires_grad=True)
    ours, theirs = StochasticDepth(P), theirs(P)
    a, b = seeded(ours, x), seeded(theirs, x)
    assert torch.equal(a, b)
    (ga,), (gb,) = (torch.autograd.grad(y.square().sum(), x) for y in (a, b))
    assert torch.allclose(ga, gb)
    assert ours.eval()(x) is x


def test_stochastic_depth_drops_whole_examples_at_the_rate_asked_in_bfloat16_too():
    y = seeded(StochasticDepth(0.001), torch.ones(300_000, 2, dtype=torch.bfloat16))
    assert torch.equal(y[:, 0], y[:, 1])
    assert (y[:, 0] == 0).float().mean().item() == pytest.approx(
        0.001, abs=0.0004
    )  # 256 uniform values would give 0.004


def test_dropconnect_is_torchs_dropout_on_the_weight():
    layer, x = DropConnectLinear(6, 4, p=P), torch.randn(3, 5, 6)
    expected = seeded(lambda: F.linear(x, F.dropout(layer.weight, P), layer.bias))
    found = seeded(layer, x)
    assert torch.equal(found, expected)
    found.square().sum().backward()
    dropped = seeded(F.dropout, torch.ones(4, 6), P) == 0
    assert (layer.weight.grad[dropped] == 0).all()
    assert (layer.weight.grad[~dropped] != 0).all()
    assert torch.equal(layer.eval()(x), F.linear(x, layer.weight, layer.bias))


def test_dropout_and_dropconnect_agree_in_variance_and_differ_in_covariance():
    torch.manual_seed(0)
    x, layer = torch.randn(1, 8), DropConnectLinear(8, 2, bias=False, p=0.5)
    weight = layer.weight.detach()
    by_unit = torch.cat([dropout(x, 0.5) @ weight.T for _ in range(20_000)])
    by_weight = torch.cat([layer(x).detach() for _ in range(20_000)])
    variance = (weight**2 * x**2).sum(-1)  # p / (1 - p) is 1
    for drawn in (by_unit, by_weight):
        assert torch.allclose(drawn.mean(0), (x @ weight.T)[0], atol=0.03)
        assert torch.allclose(drawn.var(0), variance, rtol=0.08)
    shared = (weight[0] * weight[1] * x[0] ** 2).sum().item()
    assert torch.cov(by_unit.T)[0, 1].item() == pytest.approx(shared, abs=0.02)
    assert torch.cov(by_weight.T)[0, 1].item() == pytest.approx(0, abs=0.02)


def test_embedding_dropout_drops_a_word_wherever_it_stands():
    table = nn.Embedding(50, 3, padding_idx=0)
    layer, ids = EmbeddingDropout(table, 0.5), torch.randint(1, 50, (20, 30))
    y = seeded(layer, ids)
    gone = (y == 0).all(-1)
    for word in ids.unique():
        assert gone[ids == word].unique().numel() == 1
    assert 0.2 < gone.float().mean() < 0.8
    assert torch.allclose(y[~gone], 2 * table(ids)[~gone])
    assert torch.equal(layer.eval()(ids), table(ids))


def test_tokens_are_replaced_at_the_rate_asked_and_never_in_the_padding():
    ids, real = torch.full((200, 500), 7), torch.arange(500).expand(200, 500) < 400
    found = seeded(lambda: drop_tokens(ids, 0.2, 1, real=real))
    assert (found[~real] == 7).all()
    assert (found[real] == 1).float().mean().item() == pytest.approx(0.2, abs=0.01)
    assert set(found.unique().tolist()) == {1, 7}
    assert drop_tokens(ids, 0.2, 1, training=False) is ids
    with pytest.raises(ValueError, match="one entry a token"):
        drop_tokens(ids, 0.2, 1, real=real[:, :3])


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
        self.last = DropConnectLinear(8, 2, p=0.5)

    def forward(self, x):
        return self.last(self.first(x))


def test_mc_dropout_switches_on_dropout_and_nothing_else():
    model, x = Net().eval(), torch.randn(16, 4)
    model.last.train()  # a mode of its own, to be put back
    before = {name: module.training for name, module in model.named_modules()}
    with mc_dropout(model) as inside:
        assert inside is model
        assert [m.training for m in (model, model.first, model.first[1], model.first[2], model.last)] == [
            False, False, False, True, True,
        ]  # fmt: skip
        mean = model.first[1].running_mean.clone()
        assert not torch.equal(model(x), model(x))
        assert torch.equal(model.first[1].running_mean, mean)
    assert {name: module.training for name, module in model.named_modules()} == before


def test_mc_dropout_keeps_the_statistics_of_a_model_that_is_being_trained():
    model, x = Net(), torch.randn(16, 4) + 5
    norm = model.first[1]
    with mc_dropout(model):
        assert not norm.training
        model(x)
    assert torch.equal(norm.running_mean, torch.zeros(8))
    assert norm.num_batches_tracked == 0
    assert all(module.training for module in model.modules())


def test_mc_dropout_puts_modes_back_after_an_error_and_wants_something_random():
    model = Net()
    with pytest.raises(RuntimeError), mc_dropout(model):
        raise RuntimeError
    assert all(m.training for m in model.modules())
    with pytest.raises(ValueError, match="nothing is random"), mc_dropout(nn.Sequential(nn.Dropout(0.0))):
        pass


def test_the_mean_over_draws_is_the_mean_over_all_subnetworks():
    weight, x = torch.randn(5, generator=torch.Generator().manual_seed(0)), torch.ones(5)
    masks = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 5)
    exact = torch.sigmoid(masks * 2 @ weight).mean()  # all 32 networks at p = 0.5
    model = nn.Sequential(Dropout(0.5))
    with mc_dropout(model):
        drawn = torch.sigmoid(model(x.expand(100_000, 5)) @ weight).mean()
    assert drawn.item() == pytest.approx(exact.item(), abs=0.005)
