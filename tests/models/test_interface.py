"""Models that we did not write, with our attention: the same logits and the same text as with their own."""

import os
import subprocess
import sys

import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    DynamicCache,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    StaticCache,
)

from llmlab.assets import load_minilm, load_smollm2
from llmlab.attention import BackendError, flex
from llmlab.models import interface

torch.set_num_threads(1)
HERE = ("llmlab_naive", "llmlab_tiled", "llmlab_sdpa", "llmlab_flex", "llmlab_auto")
SIZE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
PROMPTS = ["The capital of France is", "Water boils at a temperature of one hundred degrees, and ice", "Hello"]


@pytest.fixture(autouse=True)
def not_compiled(monkeypatch):
    """The compiled kernel has a test of its own; here it would be compiled once for every model."""
    monkeypatch.setattr(flex, "uncompiled_because", lambda q, mask: "a test")


@pytest.fixture(scope="module")
def llama():
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(vocab_size=50, num_key_value_heads=2, **SIZE)).eval()


def padded(side: str, batch: int = 3, time: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and their attention mask: no padding, two of it, five of it."""
    ids = torch.randint(0, 50, (batch, time), generator=torch.Generator().manual_seed(1))
    real = torch.arange(time) >= torch.tensor([0, 2, 5])[:, None]
    return ids, (real if side == "left" else real.flip(-1)).long()


def logits(model, name, *args, **kwargs):
    model.set_attn_implementation(name)
    with torch.no_grad():
        found = model(*args, **kwargs)
    return found.logits if hasattr(found, "logits") else found.last_hidden_state


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("theirs", ["eager", "sdpa"])
@pytest.mark.parametrize("side", ["left", "right", None])
def test_logits_of_a_decoder(llama, name, theirs, side):
    ids, mask = padded(side or "left")
    chosen = {} if side is None else {"attention_mask": mask}
    real = torch.ones_like(mask).bool() if side is None else mask.bool()
    expected = logits(llama, theirs, ids, **chosen)
    found = logits(llama, name, ids, **chosen)
    torch.testing.assert_close(found[real], expected[real], rtol=1e-4, atol=1e-5)
    assert torch.isfinite(found).all(), "padding that sees nothing must not become NaN"


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_a_cache_filled_in_pieces(llama, name, cache):
    ids, mask = padded("left")
    expected = logits(llama, "eager", ids, attention_mask=mask)
    past = DynamicCache() if cache == "dynamic" else StaticCache(llama.config, max_cache_len=14)
    pieces = [
        logits(llama, name, ids[:, a:b], attention_mask=mask[:, :b], past_key_values=past)
        for a, b in ((0, 6), (6, 8), (8, 9))
    ]
    real = mask.bool()
    torch.testing.assert_close(torch.cat(pieces, 1)[real], expected[real], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", HERE)
def test_rules_that_only_a_table_can_say(name):
    torch.manual_seed(0)
    mistral = MistralForCausalLM(MistralConfig(vocab_size=50, num_key_value_heads=2, sliding_window=3, **SIZE)).eval()
    ids, mask = padded("left")
    expected = logits(mistral, "eager", ids, attention_mask=mask)
    torch.testing.assert_close(
        logits(mistral, name, ids, attention_mask=mask)[mask.bool()], expected[mask.bool()], rtol=1e-4, atol=1e-5
    )
    # Two sequences in one row, told apart by positions that begin again.
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4]])
    expected = logits(mistral, "eager", ids[:1], position_ids=positions)
    found = logits(mistral, name, ids[:1], position_ids=positions)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert (found - logits(mistral, name, ids[:1])).abs().max() > 1e-3, "the two sequences ran together"
    # The caller's own four-dimensional mask.
    own = torch.rand(1, 1, 9, 9, generator=torch.Generator().manual_seed(2)) > 0.5
    own |= torch.eye(9, dtype=torch.bool)
    added = torch.zeros(own.shape).masked_fill(~own, torch.finfo(torch.float32).min)
    expected = logits(mistral, "eager", ids[:1], attention_mask=added)
    torch.testing.assert_close(logits(mistral, name, ids[:1], attention_mask=own), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("padding", [False, True])
def test_a_decoder_turned_into_an_encoder(name, padding):
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=50, num_key_value_heads=2, is_causal=False, **SIZE)).eval()
    ids, mask = padded("right")
    chosen = {"attention_mask": mask} if padding else {}
    real = mask.bool() if padding else torch.ones_like(mask).bool()
    expected = logits(model, "eager", ids, **chosen)
    torch.testing.assert_close(logits(model, name, ids, **chosen)[real], expected[real], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("side", ["left", "right", None])
def test_an_encoder(name, side):
    torch.manual_seed(0)
    bert = BertModel(BertConfig(vocab_size=50, **SIZE), add_pooling_layer=False).eval()
    ids, mask = padded(side or "left")
    chosen = {} if side is None else {"attention_mask": mask}
    real = torch.ones_like(mask).bool() if side is None else mask.bool()
    expected = logits(bert, "eager", ids, **chosen)
    torch.testing.assert_close(logits(bert, name, ids, **chosen)[real], expected[real], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["llmlab_naive", "llmlab_tiled", "llmlab_sdpa"])
def test_gradients_of_every_parameter(llama, name):
    ids, mask = padded("right")  # with padding on the left, what is no row of ours predicts the first token

    def gradients(name):
        llama.set_attn_implementation(name)
        loss = llama(ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100)).loss
        return torch.autograd.grad(loss, list(llama.parameters()))

    torch.testing.assert_close(gradients(name), gradients("eager"), rtol=1e-4, atol=1e-5)


def test_padding_alone_is_handed_on(llama, monkeypatch):
    seen = []
    original = interface.attention

    def spy(*args, **kwargs):
        seen.append((kwargs["causal"], None if kwargs["mask"] is None else tuple(kwargs["mask"].shape)))
        return original(*args, **kwargs)

    monkeypatch.setattr(interface, "attention", spy)
    ids, mask = padded("left")
    logits(llama, "llmlab_tiled", ids)
    logits(llama, "llmlab_tiled", ids, attention_mask=torch.ones_like(mask))
    logits(llama, "llmlab_tiled", ids, attention_mask=mask)
    assert seen == [(True, None)] * 4 + [(True, (3, 1, 1, 9))] * 2


@pytest.fixture(scope="module")
def smollm2():
    model, tokenizer = load_smollm2()
    tokenizer.padding_side = "left"
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    batch = tokenizer(PROMPTS, return_tensors="pt", padding=True)
    return model, tokenizer, batch, greedy(model, "sdpa", batch)


def greedy(model, name, batch, new=8):
    model.set_attn_implementation(name)
    return model.generate(
        **batch, max_new_tokens=new, do_sample=False, output_logits=True, return_dict_in_generate=True, pad_token_id=0
    )


@pytest.mark.parametrize("name", HERE)
def test_smollm2_says_the_same(smollm2, name):
    model, tokenizer, batch, expected = smollm2
    found = greedy(model, name, batch)
    assert tokenizer.batch_decode(found.sequences) == tokenizer.batch_decode(expected.sequences)
    assert "Paris" in tokenizer.decode(found.sequences[0])
    torch.testing.assert_close(torch.stack(found.logits), torch.stack(expected.logits), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("side", ["left", "right"])
def test_minilm_embeds_the_same(name, side):
    model, tokenizer = load_minilm()
    tokenizer.padding_side = side
    batch = tokenizer(PROMPTS, return_tensors="pt", padding=True)
    real = batch["attention_mask"].bool()
    expected = logits(model, "eager", **batch)
    torch.testing.assert_close(logits(model, name, **batch)[real], expected[real], rtol=1e-4, atol=1e-5)


INTERPRETED = """
import torch
from llmlab.assets import load_smollm2
import llmlab.models.interface
torch.set_num_threads(1)
model, tokenizer = load_smollm2()
model.model.layers = model.model.layers[:2]
model.config.num_hidden_layers = 2
tokenizer.padding_side = "left"
tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
batch = tokenizer(["The capital of France is", "Hello"], return_tensors="pt", padding=True)
def run(name):
    model.set_attn_implementation(name)
    return model.generate(
        **batch, max_new_tokens=3, do_sample=False, output_logits=True, return_dict_in_generate=True, pad_token_id=0
    )
expected, found = run("sdpa"), run("llmlab_triton")
assert torch.equal(expected.sequences, found.sequences)
torch.testing.assert_close(torch.stack(found.logits), torch.stack(expected.logits), rtol=1e-4, atol=1e-3)
print("the same")
"""


@pytest.mark.slow
def test_two_layers_of_smollm2_through_the_triton_kernels_interpreted():
    pytest.importorskip("triton", reason="triton is an optional extra and is not installed")
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    run = subprocess.run([sys.executable, "-c", INTERPRETED], env=environment, capture_output=True, text=True)
    assert run.stdout.strip().endswith("the same"), run.stderr[-3000:]


def test_what_cannot_be_done_gets_a_sentence(llama):
    ids, _ = padded("left")
    with pytest.raises(ValueError, match="keeps no attention weights: set attn_implementation='eager'"):
        llama.set_attn_implementation("llmlab_tiled")
        llama(ids, output_attentions=True)
    module, x = llama.model.layers[0].self_attn, torch.zeros(1, 2, 3, 4)
    for name, what in (("softcap", "Gemma 2"), ("s_aux", "gpt-oss"), ("position_bias", "T5"), ("cache", "paged")):
        with pytest.raises(ValueError, match=f"LlamaAttention asks for {name}, .*{what}.*use 'eager'"):
            interface._attend(module, x, x, x, None, backend="tiled", **{name: 1.0})
    llama.set_attn_implementation("llmlab_flex")
    with pytest.raises(BackendError, match="no backward on the CPU; take backend='tiled' or 'sdpa'"):
        llama(ids, labels=ids).loss.backward()
    if os.environ.get("TRITON_INTERPRET") != "1" and not torch.cuda.is_available():
        llama.set_attn_implementation("llmlab_triton")
        with pytest.raises(BackendError, match="backend='triton' cannot do this: .*backend='auto' takes 'sdpa'"):
            llama(ids)


def test_registering_twice_does_no_harm(llama):
    assert interface.register() == interface.register() == interface.NAMES
    assert set(interface.NAMES) == {f"llmlab_{b}" for b in ("naive", "tiled", "sdpa", "flex", "triton", "auto")}
