"""Rotations changed inside a transformers decoder, the small models of notebook 02, and the records that ship with it."""

import hashlib
import json

import pytest
import torch
import torch.nn.functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from llmlab import assets
from llmlab.models.position_lm import PositionLM
from llmlab.models.rope_hooks import other_frequencies, rope_of, token_losses
from llmlab.nn.rotary import ntk_frequencies, rope_frequencies, yarn_attention_factor, yarn_frequencies
from llmlab.recipes import long_context, positions
from llmlab.tasks.classify.checkpoints import read_record

IDS = torch.arange(40) % 17
SCHEMES = ("none", "sinusoidal", "learned", "RoPE", "ALiBi", "batch-indexed")


def llama(**rope):
    torch.manual_seed(0)
    rope = {"rope_type": "default", "rope_theta": 1000.0, **rope}
    config = LlamaConfig(
        vocab_size=17,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=16,
        rope_parameters=rope,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def model():
    return llama()


def test_what_the_configuration_says(model):
    rope = rope_of(model)
    assert (rope.d, rope.base, rope.trained) == (16, 1000.0, 16)
    with pytest.raises(TypeError, match="no plain rotary"):
        rope_of(torch.nn.Linear(2, 2))
    with pytest.raises(TypeError, match="no plain rotary"):
        rope_of(llama(rope_type="linear", factor=2.0))


def test_losses_are_transformers_own_in_any_chunk(model):
    with torch.no_grad():
        logits = model(IDS[None]).logits[0, :-1]
    expected = F.cross_entropy(logits, IDS[1:], reduction="none")
    for chunk in (1, 7, 1024):
        torch.testing.assert_close(token_losses(model, IDS, chunk=chunk), expected, atol=1e-4, rtol=1e-4)
    for bad in (IDS[:1], IDS[None]):
        with pytest.raises(ValueError, match="two tokens or more"):
            token_losses(model, bad)


@pytest.mark.parametrize(
    ("kind", "rope", "frequencies", "factor"),
    [
        ("linear", {"factor": 4.0}, rope_frequencies(16, 1000.0) / 4, 1.0),
        ("dynamic", {"factor": 1.0}, ntk_frequencies(16, 1000.0, 40 / 16), 1.0),
        (
            "yarn",
            {"factor": 4.0, "original_max_position_embeddings": 16},
            yarn_frequencies(16, 1000.0, 4.0, 16),
            yarn_attention_factor(4.0),
        ),
    ],
)
def test_our_frequencies_put_in_make_transformers_scaled_model(model, kind, rope, frequencies, factor):
    theirs = llama(rope_type=kind, **rope)
    theirs.load_state_dict(model.state_dict())
    with other_frequencies(model, frequencies, factor):
        found = token_losses(model, IDS)
    torch.testing.assert_close(found, token_losses(theirs, IDS), atol=2e-3, rtol=1e-3)
    assert not torch.allclose(found, token_losses(model, IDS), atol=1e-2), "and the model is as before after the block"


def test_the_rotation_comes_back_after_an_error(model):
    before = token_losses(model, IDS)
    with pytest.raises(RuntimeError, match="mine"), other_frequencies(model, torch.zeros(8), 2.0):
        raise RuntimeError("mine")
    assert torch.equal(token_losses(model, IDS), before)
    with pytest.raises(ValueError, match=r"expected \(8,\)"), other_frequencies(model, torch.zeros(4)):
        pass


def test_positions_move_together_or_apart(model):
    plain, where = token_losses(model, IDS), torch.arange(40)
    torch.testing.assert_close(token_losses(model, IDS, where), plain)
    torch.testing.assert_close(token_losses(model, IDS, where + 500), plain, atol=1e-3, rtol=1e-3)
    gap = token_losses(model, IDS, where + 100 * (where >= 20))
    torch.testing.assert_close(gap[:19], plain[:19])
    assert not torch.allclose(gap[20:], plain[20:], atol=1e-2)
    alone = token_losses(model, IDS[20:])
    assert not torch.allclose(gap[20:], alone, atol=1e-2), "a gap between positions is no new text"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_schemes_differ_in_positions_alone(scheme):
    torch.manual_seed(0)
    plain = PositionLM(9, "none")
    torch.manual_seed(0)
    other = PositionLM(9, scheme)
    shared = {name: value for name, value in other.state_dict().items() if name != "learned.table"}
    assert all(torch.equal(shared[name], value) for name, value in plain.state_dict().items())
    ids = torch.arange(24).view(2, 12) % 9
    out = other(ids)
    changed = ids.clone()
    changed[:, -1] = 0
    torch.testing.assert_close(other(changed)[:, :-1], out[:, :-1])
    assert torch.equal(out, plain(ids)) == (scheme == "none")
    shuffled = ids[:, [3, 1, 0, 2, *range(4, 12)]]
    first_layer = [other.states(x)[1][:, -1] for x in (ids, shuffled)]
    blind = scheme in ("none", "batch-indexed")
    assert torch.allclose(*first_layer, atol=1e-5) == blind, "one causal layer without positions sees a set"


@pytest.mark.parametrize("scheme", ["RoPE", "ALiBi", "none"])
def test_relative_schemes_do_not_care_where_a_window_stands(scheme):
    torch.manual_seed(1)
    model = PositionLM(9, scheme, layers=1)
    ids = torch.randint(9, (1, 30))
    inside = model(ids[:, 10:], window=6)[:, 8:]
    torch.testing.assert_close(model(ids, window=6)[:, 18:], inside, atol=1e-4, rtol=1e-4)


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="scheme='xpos'"):
        PositionLM(9, "xpos")
    with pytest.raises(ValueError, match="multiple of heads"):
        PositionLM(9, "none", d=10, heads=4)


def test_the_recorded_models_score_what_the_record_says():
    record, data = read_record("positions"), positions.load_editorials()
    told = record["data"]
    assert (told["known"], told["train"], told["held"]) == (data.known, len(data.train), len(data.held))
    assert {(r["scheme"], r["seed"]) for r in record["runs"]} == {(s, seed) for s in SCHEMES for seed in (0, 1, 2)}
    models, windows = positions.load_models(data), data.windows()[:40]
    for run in record["runs"]:
        assert len(run["held_loss_by_position"]) == positions.LONGEST
        if run["seed"] == 0:
            found = positions.loss_by_position(models[run["scheme"]], windows).mean().item()
            assert found == pytest.approx(sum(run["held_loss_by_position"]) / 256, abs=0.12), run["scheme"]


@pytest.mark.parametrize("scheme", ["sinusoidal", "ALiBi"])
def test_the_recipe_repeats_its_first_steps(scheme):
    data = positions.load_editorials()
    _, losses = positions.train(data, scheme, 2, positions.Recipe(), steps=3)
    told = next(r for r in read_record("positions")["runs"] if (r["scheme"], r["seed"]) == (scheme, 2))
    assert losses == pytest.approx(told["first_losses"][:3], abs=2e-3)


def test_the_long_reading_is_of_the_text_here():
    _, tokenizer = assets.load_smollm2()
    ids, record = long_context.long_text(tokenizer), read_record("long_context")
    assert record["ids_sha256"] == hashlib.sha256(json.dumps(ids.tolist()).encode()).hexdigest()
    assert {len(line) for line in record["loss_by_bin"].values()} == {long_context.TOKENS // long_context.BIN}
    assert set(record["loss_by_bin"]) == {"as trained", "interpolation", "NTK", "YaRN", "cut at the trained length"}
