"""A head that is knocked out says nothing, alone or in company, and the short way round gives what the long one gives."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from llmlab.attention import attention, attention_weights
from llmlab.models.hooks import replaced_attention
from llmlab.models.knockout import head_means, knockout_losses, previous_matching, token_losses, without_heads


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, initializer_range=0.3,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


IDS = torch.arange(24).view(2, 12) * 7 % 50


def test_token_losses_are_transformers_loss(model):
    with torch.no_grad():
        expected = model(IDS, labels=IDS).loss
    torch.testing.assert_close(token_losses(model, IDS).mean(), expected)


@pytest.mark.parametrize("off", [[(1, 2)], [(0, 0), (0, 3), (2, 1)]])
def test_zeros_stand_where_the_heads_output_stood(model, off):
    def silenced(call):
        out = attention(call.q, call.k, call.v, causal=True, scale=call.scale, enable_gqa=True).clone()
        for layer, head in off:
            if layer == call.layer:
                out[:, head] = 0
        return out

    before = token_losses(model, IDS)
    with replaced_attention(model, silenced):
        expected = token_losses(model, IDS)
    with without_heads(model, off):
        found = token_losses(model, IDS)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert (found - before).abs().max() > 1e-3
    assert torch.equal(token_losses(model, IDS), before), "the model must be as it was after the block"


def test_the_short_way_equals_whole_passes(model):
    for fill in (None, head_means(model, IDS)):
        found = {(layer, head): losses for layer, head, losses in knockout_losses(model, IDS, fill)}
        assert len(found) == 12
        for where in ((0, 1), (2, 3)):
            with without_heads(model, [where], fill):
                torch.testing.assert_close(found[where], token_losses(model, IDS))
    assert [x[:2] for x in knockout_losses(model, IDS, layers=[1])] == [(1, h) for h in range(4)]


def test_a_fill_stands_where_the_heads_output_stood(model):
    fill = head_means(model, IDS)

    def constant(call):
        out = attention(call.q, call.k, call.v, causal=True, scale=call.scale, enable_gqa=True).clone()
        if call.layer == 1:
            out[:, 2] = fill[1, 2]
        return out

    with replaced_attention(model, constant):
        expected = token_losses(model, IDS)
    with without_heads(model, [(1, 2)], fill):
        found = token_losses(model, IDS)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    with without_heads(model, [(1, 2)]):
        assert (token_losses(model, IDS) - found).abs().max() > 1e-3, "zeros are something else"


def test_means_are_those_of_the_outputs(model):
    outputs = []

    def listen(call):
        outputs.append(attention(call.q, call.k, call.v, causal=True, scale=call.scale, enable_gqa=True))
        return outputs[-1]

    with torch.no_grad(), replaced_attention(model, listen):
        model(IDS)
    expected = torch.stack([o[:, :, 1:].mean((0, 2)) for o in outputs])
    torch.testing.assert_close(head_means(model, IDS), expected, rtol=1e-4, atol=1e-5)


def test_matching_is_read_off_the_maps(model):
    maps = []

    def listen(call):
        maps.append(attention_weights(call.q, call.k, causal=True, scale=call.scale, enable_gqa=True))
        return attention(call.q, call.k, call.v, causal=True, scale=call.scale, enable_gqa=True)

    with torch.no_grad(), replaced_attention(model, listen):
        model(IDS)
    found = previous_matching(model, IDS, back=3)
    expected = torch.stack([sum(m[:, :, i, i - 3] for i in range(4, 12)).mean(0) / 8 for m in maps])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_heads_that_do_not_exist_are_refused(model):
    with pytest.raises(ValueError, match="below 3"), without_heads(model, [(3, 0)]):
        pass
    with pytest.raises(ValueError, match="below 4"), without_heads(model, [(0, 4)]):
        pass
    with pytest.raises(ValueError, match="within the 12"):
        previous_matching(model, IDS, back=12)
