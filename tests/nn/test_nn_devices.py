"""Every layer and function of ``nn`` on tensors of another device: nothing may be made on the CPU or in another dtype.

The other device is torch's "meta", which computes shapes alone and refuses to mix with the CPU, as a GPU would.
"""

import pytest
import torch
from torch import nn

from llmlab.attention.cache import ContiguousCache, RollingCache
from llmlab.nn import blocks, dropout, encoder, feedforward, heads, latent, norms, pooling, positions, rotary

MODULES = [blocks, dropout, encoder, feedforward, heads, latent, norms, pooling, positions, rotary]
D, TIME = 8, 5
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])


def data(dtype):
    return torch.empty(2, TIME, D, device="meta", dtype=dtype)


def here(module, dtype):
    return module.to("meta", dtype)


def ids():
    return torch.empty(2, TIME, device="meta", dtype=torch.long)


def mask():
    return torch.empty(2, TIME, device="meta", dtype=torch.bool)


def block(kind):
    def run(dtype):
        parts = heads.MultiHeadAttention(D, 2), feedforward.FeedForward(D, 12), norms.LayerNorm(D), norms.RMSNorm(D)
        return here(kind(*parts, dropout=0.1), dtype)(data(dtype))

    return run


def layer(make, **options):
    """A call of the layer; each option is made when it is called, as a cache serves once."""
    return lambda dtype: here(make(), dtype)(data(dtype), **{name: value() for name, value in options.items()})


def rotate(q, k, at):
    """As RoPE does; the positions must stand where q does."""
    assert at.device == q.device
    cos, sin = rotary.rope_tables(at, rotary.rope_frequencies(q.shape[-1]).to(q.device))
    return rotary.apply_rope(q, cos, sin), rotary.apply_rope(k, cos, sin)


def latent_layer():
    return latent.LatentAttention(D, 2, rank=6, plain_size=4, rope_size=2, value_size=3, q_rank=5, rotate=rotate)


def batch_norm(training, with_mask):
    def run(dtype):
        norm = here(norms.SequenceBatchNorm(D), dtype).train(training)
        return norm(data(dtype), mask() if with_mask else None)

    return run


def embedding(dtype):
    return here(dropout.EmbeddingDropout(nn.Embedding(9, D), 0.5), dtype)(ids())


#: What each gives has the dtype of what it got.
SAME_DTYPE = {
    "PlainBlock": block(blocks.PlainBlock),
    "PostNormBlock": block(blocks.PostNormBlock),
    "PreNormBlock": block(blocks.PreNormBlock),
    "ReZeroBlock": block(blocks.ReZeroBlock),
    "ReluAfterSumBlock": block(blocks.ReluAfterSumBlock),
    "dropout": lambda dtype: dropout.dropout(data(dtype), 0.5),
    "Dropout": layer(lambda: dropout.Dropout(0.5)),
    "StochasticDepth": layer(lambda: dropout.StochasticDepth(0.5)),
    "DropConnectLinear": layer(lambda: dropout.DropConnectLinear(D, 3, p=0.5)),
    "EmbeddingDropout": embedding,
    "EncoderBlock": lambda dtype: here(encoder.EncoderBlock(D, 2, 12), dtype)(data(dtype), mask()),
    "MultiHeadSelfAttention": lambda dtype: here(encoder.MultiHeadSelfAttention(D, 2), dtype)(data(dtype), mask()),
    "FeedForward": layer(lambda: feedforward.FeedForward(D, 12, dropout=0.5)),
    "SwiGLU": layer(lambda: feedforward.SwiGLU(D, 12)),
    "MultiHeadAttention": layer(lambda: heads.MultiHeadAttention(D, 2, causal=True, dropout=0.5)),
    "MultiHeadAttention rotated": layer(lambda: heads.MultiHeadAttention(D, 2, causal=True, rotate=rotate)),
    "MultiHeadAttention cached": layer(
        lambda: heads.MultiHeadAttention(D, 2, causal=True, rotate=rotate).requires_grad_(False), cache=ContiguousCache
    ),
    "split_heads": lambda dtype: heads.split_heads(data(dtype), 2),
    "merge_heads": lambda dtype: heads.merge_heads(data(dtype)[:, None]),
    "LatentAttention": layer(latent_layer),
    "LatentAttention absorbed": layer(latent_layer, absorbed=lambda: True),
    "LatentAttention cached": layer(lambda: latent_layer().requires_grad_(False), cache=ContiguousCache),
    "DynamicTanh": layer(lambda: norms.DynamicTanh(D)),
    "LayerNorm": layer(lambda: norms.LayerNorm(D)),
    "RMSNorm": layer(lambda: norms.RMSNorm(D)),
    "QKNorm": lambda dtype: here(norms.QKNorm(D), dtype)(data(dtype)[:, None], data(dtype)[:, None]),
    "SequenceBatchNorm": batch_norm(training=True, with_mask=False),
    "SequenceBatchNorm in use": batch_norm(training=False, with_mask=True),
    "layer_norm": lambda dtype: norms.layer_norm(data(dtype)),
    "layer_norm_backward": lambda dtype: norms.layer_norm_backward(data(dtype), data(dtype), data(dtype)[0, 0]),
    "rms_norm": lambda dtype: norms.rms_norm(data(dtype)),
    "masked_mean": lambda dtype: pooling.masked_mean(data(dtype), mask()),
    "SinusoidalPositions": layer(lambda: positions.SinusoidalPositions(D)),
    "LearnedPositions": layer(lambda: positions.LearnedPositions(TIME, D)),
    "LearnedPositions given": layer(lambda: positions.LearnedPositions(9, D), positions=ids),
    "apply_rope": lambda dtype: rotary.apply_rope(
        data(dtype)[:, None], *rotary.rope_tables(ids()[0], torch.empty(D // 2, device="meta"))
    ),
}

#: What these give has a dtype of its own.
OWN_DTYPE = {
    "drop_tokens": (lambda: dropout.drop_tokens(ids(), 0.5, 1, real=mask()), torch.long),
    "alibi_bias": (lambda: positions.alibi_bias(2, 3, 4, device="meta"), torch.float32),
    "sinusoidal_positions": (lambda: positions.sinusoidal_positions(TIME, D, device="meta"), torch.float32),
    "rope_tables": (lambda: rotary.rope_tables(ids(), torch.empty(4, device="meta")), torch.float32),
}

#: What takes numbers and no tensor, is a table or a type, or only sets switches.
WITHOUT_TENSORS = {
    "ACTIVATIONS", "Layout", "Rotate", "alibi_slopes", "compute_with", "deepnorm_constants", "llama3_frequencies",
    "mc_dropout", "ntk_frequencies", "rope_frequencies", "yarn_attention_factor", "yarn_frequencies",
}  # fmt: skip


def test_none_is_left_out():
    public = {name for module in MODULES for name in module.__all__}
    tested = {name.partition(" ")[0] for name in SAME_DTYPE} | set(OWN_DTYPE)
    assert tested | WITHOUT_TENSORS == public


@DTYPES
@pytest.mark.parametrize("name", SAME_DTYPE)
def test_the_result_stays_on_the_device_and_in_the_dtype(name, dtype):
    found = SAME_DTYPE[name](dtype)
    for x in found if isinstance(found, tuple) else (found,):
        assert (x.device.type, x.dtype) == ("meta", dtype)


@pytest.mark.parametrize("name", OWN_DTYPE)
def test_what_has_a_dtype_of_its_own_stays_on_the_device_too(name):
    make, dtype = OWN_DTYPE[name]
    found = make()
    for x in found if isinstance(found, tuple) else (found,):
        assert (x.device.type, x.dtype) == ("meta", dtype)


def test_a_tensor_left_on_the_cpu_would_be_noticed():
    with pytest.raises(RuntimeError, match="not on the expected device"):
        data(torch.float32) * torch.ones(D)


def test_a_rolling_cache_counts_its_positions_where_the_keys_are():
    layer = heads.MultiHeadAttention(D, 2, causal=True, rotate=rotate).to("meta").requires_grad_(False)
    cache = RollingCache(3)
    assert layer(data(torch.float32), cache=cache).device.type == "meta"
    assert cache.length == TIME
