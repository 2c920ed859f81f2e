"""The feed-forward networks against those of transformers and torch, with copied weights."""

import pytest
import torch
from torch import nn
from transformers import GPT2Config, LlamaConfig
from transformers.models.gpt2.modeling_gpt2 import GPT2MLP
from transformers.models.llama.modeling_llama import LlamaMLP

from llmlab.nn.feedforward import ACTIVATIONS, FeedForward, SwiGLU

DTYPES = [torch.float32, torch.bfloat16]


def same(ours, theirs, pairs, dtype, d=12):
    """Outputs, the input's gradient and every pair of weight gradients agree."""
    x = torch.randn(3, 5, d, generator=torch.Generator().manual_seed(1)).to(dtype)
    mine, other = (x.clone().requires_grad_() for _ in range(2))
    a, b = ours(mine), theirs(other)
    a.float().square().sum().backward()
    b.float().square().sum().backward()
    close = {torch.float32: {"rtol": 1e-4, "atol": 1e-5}, torch.bfloat16: {"rtol": 0.03, "atol": 0.03}}[dtype]
    torch.testing.assert_close(a, b, **close)
    torch.testing.assert_close(mine.grad, other.grad, **close)
    for p, q in pairs():
        torch.testing.assert_close(p, q, **close)


@pytest.mark.parametrize("dtype", DTYPES)
def test_swiglu_is_llamas(dtype):
    torch.manual_seed(0)
    theirs = LlamaMLP(LlamaConfig(hidden_size=12, intermediate_size=20, num_attention_heads=4)).to(dtype)
    ours = SwiGLU(12, 20).to(dtype)
    names = {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}
    for a, b in names.items():
        getattr(ours, a).load_state_dict(getattr(theirs, b).state_dict())
    same(
        ours,
        theirs,
        lambda: [(getattr(ours, a).weight.grad, getattr(theirs, b).weight.grad) for a, b in names.items()],
        dtype,
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_gelu_tanh_is_gpt2s(dtype):
    torch.manual_seed(0)
    theirs = GPT2MLP(20, GPT2Config(n_embd=12, resid_pdrop=0.0)).to(dtype)
    ours = FeedForward(12, 20, "gelu_tanh").to(dtype)
    for a, b in (("up", "c_fc"), ("down", "c_proj")):  # GPT-2 keeps its matrices the other way round
        getattr(ours, a).weight.data = getattr(theirs, b).weight.data.T.contiguous()
        nn.init.normal_(getattr(theirs, b).bias)
        getattr(ours, a).bias.data = getattr(theirs, b).bias.data.clone()
    same(ours, theirs, lambda: [(ours.up.weight.grad, theirs.c_fc.weight.grad.T)], dtype)


@pytest.mark.parametrize(("name", "module"), [("relu", nn.ReLU()), ("gelu", nn.GELU()), ("silu", nn.SiLU())])
def test_plain_activations_are_torchs(name, module):
    torch.manual_seed(0)
    ours = FeedForward(12, 20, name, bias=False)
    theirs = nn.Sequential(ours.up, module, ours.down)
    x = torch.randn(4, 12)
    torch.testing.assert_close(ours(x), theirs(x))


def test_the_two_gelus_are_two_functions():
    x = torch.linspace(-3, 3, 101)
    gap = (ACTIVATIONS["gelu"](x) - ACTIVATIONS["gelu_tanh"](x)).abs().max()
    assert 1e-4 < gap < 1e-3


def test_a_third_of_the_width_less_gives_equal_parameters():
    count = lambda module: sum(p.numel() for p in module.parameters())  # noqa: E731
    assert count(SwiGLU(12, 32)) == count(FeedForward(12, 48, bias=False))


def test_dropout_acts_only_while_training():
    ours = FeedForward(12, 400, dropout=0.5)
    x = torch.randn(2, 12)
    assert not torch.equal(ours(x), ours(x))
    ours.eval()
    assert torch.equal(ours(x), ours(x))


def test_bad_sizes_and_names_are_refused():
    with pytest.raises(ValueError, match="hidden=0"):
        FeedForward(8, 0)
    with pytest.raises(ValueError, match=r"hidden=1\.5"):
        SwiGLU(8, 1.5)
    with pytest.raises(ValueError, match="d=0"):
        SwiGLU(0, 8)
    with pytest.raises(ValueError, match="d=True"):
        SwiGLU(True, 8)
    with pytest.raises(ValueError, match="expected one of relu, gelu"):
        FeedForward(8, 8, "gleu")
    assert FeedForward(1, 1)(torch.zeros(2, 1)).shape == (2, 1), "a width of one is allowed"
