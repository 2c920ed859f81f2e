"""The formulas against published figures, our own modules and SmolLM2's real tensors."""

import pytest
import torch

from llmlab import assets
from llmlab.estimate import (
    attention_parameters,
    kv_cache_bytes,
    latent_attention_parameters,
    latent_cache_bytes,
)
from llmlab.nn.heads import MultiHeadAttention
from llmlab.nn.latent import LatentAttention


def size(module):
    return sum(p.numel() for p in module.parameters())


def test_smollm2s_real_cache_and_weights():
    model, _ = assets.load_smollm2()
    c = model.config
    with torch.no_grad():
        cache = model(torch.arange(10)[None], use_cache=True).past_key_values
    real = sum(t.numel() * t.element_size() for layer in cache.layers for t in (layer.keys, layer.values))
    sizes = {"layers": c.num_hidden_layers, "kv_heads": c.num_key_value_heads, "head_size": c.head_dim}
    assert kv_cache_bytes(**sizes, tokens=10, dtype="float32") == real == 30 * 2 * 3 * 64 * 10 * 4
    expected = attention_parameters(d=c.hidden_size, heads=c.num_attention_heads, kv_heads=c.num_key_value_heads)
    assert expected == size(model.model.layers[0].self_attn)


@pytest.mark.parametrize("heads", [1, 2, 4, 8])
@pytest.mark.parametrize("bias", [False, True])
def test_parameters_are_those_of_our_module(heads, bias):
    for kv_heads in {1, heads}:
        module = MultiHeadAttention(32, heads, kv_heads=kv_heads, bias=bias)
        assert attention_parameters(d=32, heads=heads, kv_heads=kv_heads, bias=bias) == size(module)
    wide = MultiHeadAttention(32, heads, head_size=12, bias=bias)
    assert attention_parameters(d=32, heads=heads, head_size=12, bias=bias) == size(wide)
    torchs = torch.nn.MultiheadAttention(32, heads, bias=bias)
    assert attention_parameters(d=32, heads=heads, bias=bias) == size(torchs)


@pytest.mark.parametrize("q_rank", [None, 10])
def test_latent_parameters_are_those_of_our_module(q_rank):
    sizes = {"d": 32, "heads": 4, "rank": 12, "plain_size": 6, "rope_size": 4, "value_size": 8, "q_rank": q_rank}
    assert latent_attention_parameters(**sizes) == size(LatentAttention(**sizes))


def test_published_figures():
    """Llama 2 70B: 80 layers, 64 query and 8 key heads of 128 (arXiv:2307.09288)."""
    llama = {"layers": 80, "head_size": 128}
    assert kv_cache_bytes(**llama, kv_heads=8) == 327_680
    assert kv_cache_bytes(**llama, kv_heads=64) == 8 * 327_680
    assert kv_cache_bytes(**llama, kv_heads=8, tokens=131_072, batch=4) == 4 * 40 * 2**30
    deepseek = latent_cache_bytes(layers=60, rank=512, rope_size=64, dtype="bfloat16")
    assert deepseek == 60 * 576 * 2
    # arXiv:2405.04434, table 1: MLA's cache equals that of GQA with 2.25 groups, at a head size of 128
    one_group = kv_cache_bytes(layers=60, kv_heads=1, head_size=128)
    assert deepseek / one_group == 2.25


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: kv_cache_bytes(layers=0, kv_heads=1, head_size=1), "layers"),
        (lambda: kv_cache_bytes(layers=1, kv_heads=1, head_size=1, dtype="bf16"), "bfloat16"),
        (lambda: attention_parameters(d=10, heads=3), "multiple"),
        (lambda: attention_parameters(d=12, heads=4, kv_heads=3), "divisor"),
        (lambda: latent_cache_bytes(layers=1, rank=0, rope_size=1), "rank"),
    ],
)
def test_senseless_sizes_are_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()
