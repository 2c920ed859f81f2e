"""The stream that is read is the one that flowed, and layers can be left out without the rest noticing."""

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from llmlab.models.depth_lm import DepthLM, gradient_by_block
from llmlab.models.stream import lens, residual_stream, run_layers, token_losses

IDS = torch.arange(24).view(2, 12) * 7 % 50


@pytest.fixture(scope="module", params=["eager", "sdpa"])
def model(request):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        attn_implementation=request.param,
    )
    made = LlamaForCausalLM(config).eval()
    for p in made.parameters():
        nn.init.normal_(p, std=0.2)
    return made


def test_the_stream_is_what_transformers_reports(model):
    with torch.no_grad():
        theirs = model(IDS, output_hidden_states=True, use_cache=False)
    stream = residual_stream(model, IDS)
    assert len(stream) == 4
    for ours, other in zip(stream[:-1], theirs.hidden_states):  # theirs ends after the last norm
        torch.testing.assert_close(ours, other)
    torch.testing.assert_close(lens(model, stream[-1]), theirs.logits)


def test_losses_are_the_models_own(model):
    with torch.no_grad():
        theirs = model(IDS, labels=IDS, use_cache=False).loss
    ours = token_losses(model, residual_stream(model, IDS)[-1], IDS)
    assert ours.shape == (2, 11)
    torch.testing.assert_close(ours.mean(), theirs)


def test_a_layer_left_out_is_a_model_without_it(model):
    stream = residual_stream(model, IDS)
    ours = lens(model, run_layers(model, stream[1], [2]))
    kept = model.model.layers
    model.model.layers = nn.ModuleList([kept[0], kept[2]])
    model.config.num_hidden_layers = 2
    try:
        with torch.no_grad():
            theirs = model(IDS, use_cache=False).logits
    finally:
        model.model.layers = kept
        model.config.num_hidden_layers = 3
    torch.testing.assert_close(ours, theirs)


def test_no_position_sees_a_later_token(model):
    changed = IDS.clone()
    changed[:, -1] += 1
    for a, b in zip(residual_stream(model, IDS), residual_stream(model, changed)):
        assert torch.equal(a[:, :-1], b[:, :-1])


def test_layers_that_do_not_exist_are_named(model):
    with pytest.raises(IndexError, match="layers 0 to 2"):
        run_layers(model, torch.zeros(1, 2, 32), [3])
    with pytest.raises(TypeError, match="no decoder of the Llama family"):
        residual_stream(nn.Linear(2, 2), IDS)


def windows(seed=0):
    return torch.randint(0, 20, (4, 17), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "wiring",
    ["no residual, no norm", "no residual", "ReLU after the sum", "post-norm", "DeepNorm", "pre-norm", "ReZero"],
)
def test_every_wiring_is_causal_and_reports_its_gradients(wiring):
    torch.manual_seed(0)
    model = DepthLM(20, wiring, 3, d=16, longest=16)
    ids, changed = windows()[:, :16], windows()[:, :16].clone()
    changed[:, -1] = (changed[:, -1] + 1) % 20
    assert torch.equal(model(ids)[:, :-1], model(changed)[:, :-1])
    found = gradient_by_block(model, windows())
    model.loss(windows()).backward()
    total = torch.stack([p.grad.norm() for p in model.blocks[1].parameters() if p.grad is not None]).norm()
    assert found[1] == pytest.approx(total.item(), rel=1e-5)


def test_wirings_start_from_the_same_weights():
    def weights(wiring):
        torch.manual_seed(0)
        return DepthLM(20, wiring, 2, d=16).blocks[1].feedforward.up.weight

    assert torch.equal(weights("pre-norm"), weights("post-norm"))
    assert torch.equal(weights("pre-norm"), weights("no residual"))
    ratio = weights("DeepNorm") / weights("pre-norm")
    torch.testing.assert_close(ratio, torch.full_like(ratio, 16**-0.25))


def test_deepnorm_weighs_the_stream_and_shrinks_only_what_it_should():
    def block(wiring):
        torch.manual_seed(0)
        return DepthLM(20, wiring, 2, d=16).blocks[1]

    deep, plain = block("DeepNorm"), block("post-norm")
    assert (deep.alpha, plain.alpha) == (pytest.approx(4**0.25), 1.0)
    for ours, other, factor in zip(
        deep.attend.qkv.weight.chunk(3), plain.attend.qkv.weight.chunk(3), (1, 1, 16**-0.25)
    ):
        torch.testing.assert_close(ours, factor * other)


def test_only_a_stream_that_is_not_normed_gets_a_last_norm():
    last = {w: type(DepthLM(20, w, 2, d=16).norm) for w in ("pre-norm", "no residual", "post-norm", "DeepNorm")}
    assert list(last.values()) == [nn.LayerNorm, nn.LayerNorm, nn.Identity, nn.Identity]


def test_depth_and_wiring_are_checked():
    with pytest.raises(ValueError, match="expected one of no residual"):
        DepthLM(20, "norm", 2)
    with pytest.raises(ValueError, match="layers=0"):
        DepthLM(20, "pre-norm", 0)
