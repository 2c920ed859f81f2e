"""nn.Linear by oneDNN against nn.Linear: forward, backward, and what goes the usual way."""

import copy

import pytest
import torch
from torch import nn

from llmlab.nn import onednn
from llmlab.nn.onednn import OneDnnLinear, with_onednn

torch.set_num_threads(1)


def pair(bias=True, d=20, out=13, dtype=torch.float32):
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(d, out, bias=bias)).to(dtype)
    other = copy.deepcopy(plain)
    assert with_onednn(other) == 1 and type(other[0]) is OneDnnLinear
    return plain, other


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(20,), (1, 20), (5, 20), (2, 7, 20), (2, 3, 4, 20)])
def test_values_and_gradients_equal_linears(bias, shape):
    plain, other = pair(bias)
    found = []
    for model in (plain, other):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
        y = model(x)
        y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(2)))
        found.append([y, x.grad, *(p.grad for p in model.parameters())])
    assert found[0][0].shape == found[1][0].shape and len(found[0]) == (4 if bias else 3)
    for a, b in zip(*found):
        torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("frozen", ["x", "weight", "bias"])
def test_what_needs_no_gradient_gets_none(frozen):
    _, model = pair()
    x = torch.randn(5, 20).requires_grad_(frozen != "x")
    model[0].weight.requires_grad_(frozen != "weight")
    model[0].bias.requires_grad_(frozen != "bias")
    model(x).sum().backward()
    grads = {"x": x.grad, "weight": model[0].weight.grad, "bias": model[0].bias.grad}
    assert [name for name, grad in grads.items() if grad is None] == [frozen]


def test_turned_and_cut_inputs_and_gradients():
    plain, other = pair()
    x = torch.randn(20, 6).T, torch.randn(6, 40)[:, ::2], torch.randn(6, 25)[:, 3:23], torch.randn(1, 20).expand(6, 20)
    for one in x:
        found = []
        for model in (plain, other):
            y = model(one)
            for dy in (torch.ones(1).expand_as(y), torch.randn(13, 6, generator=torch.Generator().manual_seed(3)).T):
                found.append([y, *torch.autograd.grad(y, list(model.parameters()), dy, retain_graph=True)])
        for a, b in zip(sum(found[:2], []), sum(found[2:], [])):
            torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-5)


def test_a_second_derivative_is_refused():
    x = torch.randn(3, 20, requires_grad=True)
    (first,) = torch.autograd.grad(pair()[1](x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_the_rest_goes_the_usual_way(monkeypatch):
    monkeypatch.setattr(onednn, "product", None)
    for dtype in (torch.bfloat16, torch.float64):
        plain, other = pair(dtype=dtype)
        x = torch.randn(3, 20, dtype=dtype)
        assert torch.equal(other(x), plain(x))
    plain, other = pair()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert other(torch.randn(3, 20)).dtype == torch.bfloat16
    assert other(torch.randn(0, 20)).shape == (0, 13)
    assert other.to("meta")(torch.empty(3, 20, device="meta")).shape == (3, 13)
    with pytest.raises(TypeError, match="NoneType"):
        pair()[1](torch.randn(3, 20))
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    plain, other = pair()
    x = torch.randn(3, 20)
    assert torch.equal(other(x), plain(x))


def test_one_number_goes_through_onednn(monkeypatch):
    monkeypatch.setattr(onednn, "product", lambda x, weight, bias: x + 5)
    assert OneDnnLinear(1, 1)(torch.ones(1, 1)).item() == 6


def test_only_plain_linear_layers_are_turned_and_names_stay():
    class Special(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(3, 3), Special(3, 3), nn.Sequential(nn.Linear(3, 2, bias=False)), nn.LayerNorm(2))
    names = list(model.state_dict())
    assert with_onednn(model) == 2 and list(model.state_dict()) == names
    assert [type(m) for m in (model[0], model[1], model[2][0])] == [OneDnnLinear, Special, OneDnnLinear]
    assert with_onednn(model) == 0
