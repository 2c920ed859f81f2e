"""What is read out of a model is what flowed in it; what is put in is what runs."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from llmlab.attention import attention
from llmlab.models.hooks import capture_attention, perplexity, replaced_attention


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return LlamaForCausalLM(config).eval()


IDS = torch.arange(12).view(1, 12) % 50


def right(call):
    return attention(call.q, call.k, call.v, causal=True, scale=call.scale, enable_gqa=True)


def test_our_attention_in_every_layer_changes_nothing(model):
    with torch.no_grad():
        before = model(IDS).logits
        with replaced_attention(model, right):
            inside = model(IDS).logits
        after = model(IDS).logits
    torch.testing.assert_close(inside, before, rtol=1e-4, atol=1e-5)
    assert torch.equal(after, before), "the model must be as it was after the block"


def test_another_attention_changes_the_model_even_after_an_error(model):
    before = perplexity(model, IDS)
    with replaced_attention(model, lambda call: torch.zeros_like(call.q)):
        assert perplexity(model, IDS) != before
    with (
        pytest.raises(RuntimeError, match="mine"),
        replaced_attention(model, lambda call: (_ for _ in ()).throw(RuntimeError("mine"))),
    ):
        perplexity(model, IDS)
    assert perplexity(model, IDS) == before


def test_captured_values_are_the_layers_own_projections(model):
    calls = capture_attention(model, IDS)
    assert [c.layer for c in calls] == [0, 1, 2]
    for call, layer in zip(calls, model.model.layers):
        with torch.no_grad():
            v = layer.self_attn.v_proj(call.x).view(1, 12, 2, 8).transpose(1, 2)
        torch.testing.assert_close(call.v, v)
        assert call.q.shape == (1, 4, 12, 8) and call.scale == 8**-0.5
        k, v = call.shared
        assert torch.equal(k[:, 1], call.k[:, 0]) and torch.equal(v[:, 2], call.v[:, 1])


def test_a_wrong_shape_is_said(model):
    with (
        pytest.raises(ValueError, match=r"returned \(1, 2, 12, 8\); expected \(1, 4, 12, 8\)"),
        replaced_attention(model, lambda c: c.k),
    ):
        perplexity(model, IDS)


def test_a_model_without_such_attention_is_refused():
    with pytest.raises(TypeError, match="Llama family"), replaced_attention(torch.nn.Linear(2, 2), right):
        pass


def test_perplexity_is_transformers_own_loss(model):
    with torch.no_grad():
        loss = model(IDS, labels=IDS).loss
    assert perplexity(model, IDS) == pytest.approx(loss.exp().item(), rel=1e-5)
    with pytest.raises(ValueError, match="two or more"):
        perplexity(model, IDS[:, :1])
