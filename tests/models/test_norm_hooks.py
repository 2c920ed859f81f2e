"""Another function in the place of a decoder's norms: the same logits when it is the same, and nothing left behind."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from llmlab.models.norm_hooks import replaced_norms
from llmlab.nn.norms import rms_norm

SIZES = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
IDS = torch.tensor([[3, 1, 4, 1, 5]])


def small(kind=LlamaForCausalLM, config=LlamaConfig, **more):
    torch.manual_seed(0)
    return kind(config(**SIZES, **more)).eval()


@torch.no_grad()
def test_our_rms_norm_in_every_place_gives_the_models_own_logits():
    model, seen = small(rms_norm_eps=0.03), []
    for parameter in model.parameters():
        if parameter.dim() == 1:
            parameter.normal_()
    before = model(IDS).logits
    with replaced_norms(model, lambda c: (seen.append((c.name, c.layer)), rms_norm(c.x, c.weight, c.eps))[1]):
        inside = model(IDS).logits
    assert torch.allclose(inside, before, atol=1e-6)
    assert [layer for _, layer in seen] == [0, 0, 1, 1, None]
    assert seen[-1][0] == "model.norm"


@torch.no_grad()
def test_the_change_shows_and_ends_with_the_block_even_after_an_error():
    model = small()
    before = model(IDS).logits
    with replaced_norms(model, lambda c: c.x):
        assert not torch.allclose(model(IDS).logits, before, atol=1e-3)
    assert torch.equal(model(IDS).logits, before)
    with pytest.raises(ValueError, match="expected \\(1, 5, 16\\)"), replaced_norms(model, lambda c: c.x[..., :3]):
        model(IDS)
    assert torch.equal(model(IDS).logits, before)


@torch.no_grad()
def test_norms_of_heads_are_left_alone():
    model, widths = small(Qwen3ForCausalLM, Qwen3Config, head_dim=8, num_key_value_heads=1), set()
    with replaced_norms(model, lambda c: (widths.add(c.x.shape[-1]), rms_norm(c.x, c.weight, c.eps))[1]):
        model(IDS)
    assert widths == {16}


def test_a_model_without_such_norms_is_refused():
    class Other(torch.nn.Module):
        config = LlamaConfig(**SIZES)

    with pytest.raises(TypeError, match="Other has no RMSNorm of width 16"), replaced_norms(Other(), lambda c: c.x):
        pass
