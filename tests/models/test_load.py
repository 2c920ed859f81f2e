"""Weights come in whole or not at all."""

import json
import subprocess
import sys

import pytest
import strangers
import torch
from transformers import GPT2LMHeadModel, LlamaConfig

from llmlab.models.decoder import DecoderConfig
from llmlab.models.load import (
    WeightsError,
    decoder_config,
    decoder_from,
    encoder_config,
    encoder_from,
    load_decoder,
    load_encoder,
)

torch.set_num_threads(1)


@pytest.mark.parametrize("make", [strangers.gpt2, strangers.llama, strangers.bert])
def test_a_folder_that_transformers_saved(make, tmp_path):
    theirs = make()
    theirs.save_pretrained(tmp_path)
    load = load_encoder if make is strangers.bert else load_decoder
    found, expected = load(tmp_path).state_dict(), strangers.ours(theirs).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert {p.dtype for p in load(tmp_path, torch.bfloat16).parameters()} == {torch.bfloat16}
    with pytest.raises(FileNotFoundError, match=r"has no config\.json"):
        load(tmp_path / "elsewhere")


def test_what_is_loaded_is_ready_and_our_own():
    theirs = strangers.llama()
    ours = strangers.ours(theirs)
    assert not ours.training
    assert all(p.requires_grad and p.device.type == "cpu" for p in ours.parameters())
    assert all(b.device.type == "cpu" for b in ours.buffers())
    before = theirs.model.norm.weight.clone()
    with torch.no_grad():
        for p in ours.parameters():
            p.zero_()
    assert torch.equal(theirs.model.norm.weight, before), "training ours would change theirs"


def test_the_base_model_alone_and_old_files_load_as_well():
    theirs = strangers.gpt2()
    bare = theirs.transformer.state_dict() | {"h.0.attn.bias": torch.ones(1, 1, 32, 32)}  # the mask, in old files
    found = decoder_from(theirs.config.to_dict(), bare)
    torch.testing.assert_close(found(strangers.ids()), strangers.ours(theirs)(strangers.ids()))
    bert = strangers.bert()
    old = bert.bert.state_dict() | {"embeddings.position_ids": torch.arange(24)[None]}
    assert encoder_from(bert.config.to_dict(), old).words is None


def test_llama_3s_stretched_rotation_equals_transformers():
    rope = {"rope_type": "llama3", "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 64}
    rope |= {"low_freq_factor": 1.5, "high_freq_factor": 9.0}  # not the defaults
    theirs = strangers.llama(rope_parameters=rope, head_dim=16, max_position_embeddings=128)
    ids = strangers.ids(batch=1, time=120)
    with torch.no_grad():
        found, expected = strangers.ours(theirs)(ids), theirs(ids, use_cache=False).logits
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)
        plain = decoder_from(
            theirs.config.to_dict() | {"rope_parameters": {"rope_theta": 10_000.0}}, theirs.state_dict()
        )
        assert (plain(ids) - expected).abs().max() > 0.1, "the stretch makes no difference here"


def test_older_configurations_name_the_base_by_itself():
    config = strangers.llama().config.to_dict()
    del config["rope_parameters"]
    assert decoder_config(config | {"rope_theta": 500_000.0}).rope_base == 500_000.0
    assert decoder_config(config).rope_base == 10_000.0
    assert decoder_config(config).context == 32
    for name in ("attention_bias", "mlp_bias"):
        del config[name]  # one of the two, then both
        assert not decoder_config(config).bias


def test_the_defaults_are_llamas():
    found = decoder_config(LlamaConfig().to_dict())  # 7 B
    sizes = {"hidden": 11008, "kv_heads": 32, "head_size": 128, "norm_eps": 1e-6, "tied": False}
    assert found == DecoderConfig(32000, 4096, 32, 32, **sizes)
    assert DecoderConfig(1, 1, 1, 1).norm_eps == 1e-5, "Llama 2's"


def test_sizes_of_the_published_gpt2():
    published = {"model_type": "gpt2", "vocab_size": 50257, "n_embd": 768, "n_layer": 12, "n_head": 12}
    published |= {"n_positions": 1024, "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new"}
    assert decoder_config(published) == DecoderConfig.gpt2(50257, 768, 12, 12)
    with torch.device("meta"):
        theirs = GPT2LMHeadModel(GPT2LMHeadModel.config_class(**published))
    with torch.device("meta"):
        from llmlab.models.decoder import Decoder

        ours = Decoder(decoder_config(published))
    count = sum(p.numel() for p in ours.parameters())
    assert count == sum(p.numel() for p in theirs.parameters()) == 124_439_808


def changed(weights, remove=(), **add):
    return {k: v for k, v in weights.items() if k not in remove} | {k.replace("__", "."): v for k, v in add.items()}


LLAMA = "model.layers.1.self_attn.k_proj.weight"


@pytest.mark.parametrize(
    ("make", "config", "change", "says"),
    [
        ("Llama, GQA", {}, lambda w: changed(w, [LLAMA]), rf"{LLAMA} is missing: .* 30 tensors, the weights have 29"),
        ("Llama, GQA", {}, lambda w: changed(w, [k for k in w if "k_proj" in k]), r"k_proj\.weight are missing"),
        ("Llama, GQA", {}, lambda w: changed(w, [k for k in w if "mlp" in k]), "and 6 more are missing"),
        ("GPT-2", {}, lambda w: changed(w, [k for k in w if "h.1.ln" in k]), "ln_2.bias and 1 more are missing"),
        ("Llama, GQA", {}, lambda w: changed(w, extra__weight=torch.ones(1)), r"extra\.weight is not known"),
        ("Llama, GQA", {"num_hidden_layers": 2}, dict, r"model\.layers\.2\.input_layernorm\.weight, .* 6 more are not"),
        ("Llama, GQA", {"num_key_value_heads": 3}, dict, r"k_proj\.weight \(16, 36\).*: expected \(96, 36\) in all"),
        ("Llama, GQA", {"hidden_size": 40}, dict, r"model\.embed_tokens\.weight \(61, 36\): expected \(61, 40\)"),
        ("Llama, GQA", {"tie_word_embeddings": True}, dict, r"the head is tied, but lm_head\.weight differs"),
        (
            "Llama, tied",
            {"tie_word_embeddings": False},
            lambda w: changed(w, ["lm_head.weight"]),
            "lm_head.weight is m",
        ),
        (
            "Llama, GQA",
            {"hidden_act": "gelu"},
            dict,
            "hidden_act='gelu' in the configuration: our model only has 'silu'",
        ),
        ("Llama, GQA", {"mlp_bias": True}, dict, "mlp_bias=True"),
        ("Llama, GQA", {"rope_parameters": {"rope_type": "yarn"}}, dict, "rope_type='yarn'"),
        ("Llama, GQA", {"model_type": "mamba"}, dict, "model_type='mamba': expected 'gpt2' or 'llama'"),
        ("GPT-2", {"n_inner": 100}, dict, r"mlp\.c_fc\.weight \(32, 128\): expected \(32, 100\) in all"),
        ("GPT-2", {"activation_function": "tanh"}, dict, "activation_function='tanh'"),
        ("GPT-2", {"scale_attn_by_inverse_layer_idx": True}, dict, "scale_attn_by_inverse_layer_idx=True"),
        ("GPT-2", {"scale_attn_weights": False}, dict, "scale_attn_weights=False"),
        ("GPT-2", {"n_positions": 64}, dict, r"wpe\.weight \(32, 32\): expected \(64, 32\)"),
    ],
)
def test_a_decoders_weights_that_do_not_fit_get_a_sentence(make, config, change, says):
    theirs = strangers.DECODERS[make]()
    with pytest.raises(WeightsError, match=says):
        decoder_from(theirs.config.to_dict() | config, change(theirs.state_dict()))


@pytest.mark.parametrize(
    ("config", "change", "says"),
    [
        ({}, lambda w: changed(w, ["bert.pooler.dense.bias"]), r"pooler\.dense\.bias is missing"),
        ({}, lambda w: changed(w, ["cls.predictions.bias", "cls.predictions.decoder.bias"]), "are not known"),
        ({}, lambda w: changed(w, cls__predictions__decoder__bias=torch.ones(61)), r"decoder\.bias differs from"),
        ({"type_vocab_size": 3}, dict, r"token_type_embeddings\.weight \(2, 32\): expected \(3, 32\)"),
        ({"position_embedding_type": "relative_key"}, dict, "position_embedding_type='relative_key'"),
        ({"is_decoder": True}, dict, "is_decoder=True"),
        ({"hidden_act": "swish"}, dict, "hidden_act='swish'"),
        ({"model_type": "roberta"}, dict, "expected 'bert'"),
    ],
)
def test_an_encoders_weights_that_do_not_fit_get_a_sentence(config, change, says):
    theirs = strangers.bert()
    with pytest.raises(WeightsError, match=says):
        encoder_from(theirs.config.to_dict() | config, change(theirs.state_dict()))


def test_the_head_for_the_next_sentence_is_left_out():
    theirs = strangers.bert()
    assert "cls.seq_relationship.weight" in theirs.state_dict()
    assert strangers.ours(theirs).words is not None
    assert encoder_config(theirs.config.to_dict()).layers == 3


def test_transformers_is_not_needed():
    code = """
import json, sys, torch
torch.set_num_threads(1)
from llmlab.models.load import minilm, smollm2
from llmlab.generate import generate
model = smollm2()
ids = torch.arange(5)[None]
print(json.dumps([sum(p.numel() for p in model.parameters()), sum(p.numel() for p in minilm().parameters()),
    len(generate(model, [[1, 2]], 2)[0]), "transformers" in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [134_515_008, 22_713_216, 2, False]
