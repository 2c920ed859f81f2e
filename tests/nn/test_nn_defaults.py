"""What a layer does when an argument is left out: the value of a counterpart of torch or transformers, or of the paper.

Each row names where the value is from. A default that moved would change every model built without the argument.
"""

import inspect

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import BertConfig, GPT2Config, LlamaConfig, Qwen3Config, SwinConfig

from llmlab.nn import blocks, dropout, encoder, feedforward, heads, latent, norms, positions, rotary


def default(function, name):
    return inspect.signature(function).parameters[name].default


BERT, GPT2, LLAMA = BertConfig(), GPT2Config(), LlamaConfig()
D, TIME = 8, 5
X = torch.randn(2, TIME, D, generator=torch.Generator().manual_seed(0))
SMALL = X / 1000  # its variance is of the size of every eps
IDS = torch.arange(2 * TIME).view(2, TIME)
REAL = torch.ones(2, TIME, dtype=torch.bool)


def layer(kind, *sizes, x=X):
    return lambda **options: kind(*sizes, **options)(x)


def block(kind):
    def call(**options):
        whole = kind(nn.Linear(D, D), nn.Linear(D, D), nn.LayerNorm(D), nn.LayerNorm(D), **options)
        whole.load_state_dict({"gain": torch.ones(())}, strict=False)  # ReZero's, which would let nothing in
        return whole(X)

    return call


def batch_norm(**options):
    norm = norms.SequenceBatchNorm(D, **options)
    return norm(SMALL) + norm.running_mean


def latent_attention(**options):
    made = latent.LatentAttention(D, 2, rank=3, plain_size=2, rope_size=0, value_size=2)
    calls = []
    made.up_kv.register_forward_hook(lambda *_: calls.append(1.0))
    made(X, **options)
    return torch.tensor(calls)  # how often keys and values were made; the result is the same


#: A call of each with small arguments.
CALLS = {
    norms.layer_norm: lambda **o: norms.layer_norm(SMALL, **o),
    norms.layer_norm_backward: lambda **o: norms.layer_norm_backward(X, SMALL, X[0, 0], **o)[0],
    norms.LayerNorm: layer(norms.LayerNorm, D, x=SMALL),
    norms.rms_norm: lambda **o: norms.rms_norm(SMALL, **o),
    norms.RMSNorm: layer(norms.RMSNorm, D, x=SMALL),
    norms.QKNorm: lambda **o: norms.QKNorm(D, **o)(SMALL[None], SMALL[None])[0],
    norms.SequenceBatchNorm: batch_norm,
    norms.DynamicTanh: layer(norms.DynamicTanh, D),
    dropout.dropout: lambda **o: dropout.dropout(X, 0.5, **o),
    dropout.drop_tokens: lambda **o: dropout.drop_tokens(IDS, 0.5, 99, **o),
    dropout.Dropout: layer(dropout.Dropout),
    dropout.StochasticDepth: layer(dropout.StochasticDepth),
    dropout.DropConnectLinear: layer(dropout.DropConnectLinear, D, D),
    dropout.EmbeddingDropout: lambda **o: dropout.EmbeddingDropout(nn.Embedding(10, D), **o)(IDS),
    feedforward.FeedForward: layer(feedforward.FeedForward, D, 12),
    feedforward.SwiGLU: layer(feedforward.SwiGLU, D, 12),
    heads.MultiHeadAttention: layer(heads.MultiHeadAttention, D, 2),
    encoder.MultiHeadSelfAttention: lambda **o: encoder.MultiHeadSelfAttention(D, 2, **o)(X, REAL),
    encoder.EncoderBlock: lambda **o: encoder.EncoderBlock(D, 2, 12, **o)(X, REAL),
    blocks.PreNormBlock: block(blocks.PreNormBlock),
    blocks.PostNormBlock: block(blocks.PostNormBlock),
    blocks.ReZeroBlock: block(blocks.ReZeroBlock),
    blocks.PlainBlock: block(blocks.PlainBlock),
    blocks.ReluAfterSumBlock: block(blocks.ReluAfterSumBlock),
    latent.LatentAttention.forward: latent_attention,
    positions.sinusoidal_positions: lambda **o: positions.sinusoidal_positions(TIME, D, **o),
    positions.SinusoidalPositions: layer(positions.SinusoidalPositions, D),
    positions.SinusoidalPositions.forward: lambda **o: positions.SinusoidalPositions(D)(X, **o),
    positions.LearnedPositions: layer(positions.LearnedPositions, TIME, D),
    positions.LearnedPositions.forward: lambda **o: positions.LearnedPositions(9, D)(X, **o),
    rotary.rope_frequencies: lambda **o: rotary.rope_frequencies(D, **o),
    rotary.yarn_frequencies: lambda **o: rotary.yarn_frequencies(64, 10_000.0, 4.0, 2048, **o),
    rotary.llama3_frequencies: lambda **o: rotary.llama3_frequencies(64, 10_000.0, 4.0, 2048, **o),
    rotary.apply_rope: lambda **o: rotary.apply_rope(
        X[None], *rotary.rope_tables(torch.arange(TIME), rotary.rope_frequencies(D)), **o
    ),
}

#: Which default, its value, another value, and who says so.
ROWS = [
    (norms.layer_norm, "eps", default(F.layer_norm, "eps"), 1e-4, "torch"),
    (norms.layer_norm_backward, "eps", default(F.layer_norm, "eps"), 1e-4, "torch"),
    (norms.LayerNorm, "eps", default(nn.LayerNorm, "eps"), 1e-4, "torch"),
    (norms.rms_norm, "eps", LLAMA.rms_norm_eps, 1e-4, "Llama"),
    (norms.RMSNorm, "eps", LLAMA.rms_norm_eps, 1e-4, "Llama"),
    (norms.QKNorm, "eps", Qwen3Config().rms_norm_eps, 1e-4, "Qwen3"),
    (norms.SequenceBatchNorm, "eps", default(nn.BatchNorm1d, "eps"), 1e-4, "torch"),
    (norms.SequenceBatchNorm, "momentum", default(nn.BatchNorm1d, "momentum"), 0.9, "torch"),
    (norms.DynamicTanh, "alpha", 0.5, 0.8, "Zhu et al., 2025"),
    (dropout.dropout, "training", default(F.dropout, "training"), False, "torch"),
    (dropout.drop_tokens, "training", default(F.dropout, "training"), False, "torch"),
    (dropout.Dropout, "p", BERT.hidden_dropout_prob, 0.5, "BERT, and the first Transformer"),
    (dropout.StochasticDepth, "p", SwinConfig().drop_path_rate, 0.5, "Swin"),
    (dropout.DropConnectLinear, "bias", default(nn.Linear, "bias"), False, "torch"),
    (dropout.DropConnectLinear, "p", default(dropout.Dropout, "p"), 0.5, "Dropout beside it"),
    (dropout.EmbeddingDropout, "p", 0.1, 0.5, "Merity et al., 2017"),
    (feedforward.FeedForward, "activation", BERT.hidden_act, "relu", "BERT"),
    (feedforward.FeedForward, "bias", default(nn.TransformerEncoderLayer, "bias"), False, "torch"),
    (feedforward.SwiGLU, "bias", LLAMA.mlp_bias, True, "Llama"),
    (heads.MultiHeadAttention, "bias", default(nn.MultiheadAttention, "bias"), False, "torch"),
    (heads.MultiHeadAttention, "dropout", default(nn.MultiheadAttention, "dropout"), 0.5, "torch"),
    (heads.MultiHeadAttention, "causal", False, True, "torch, where every token is seen unless a mask says otherwise"),
    (encoder.MultiHeadSelfAttention, "dropout", default(nn.MultiheadAttention, "dropout"), 0.5, "torch"),
    *((kind, "dropout", 0.0, 0.5, "none unless asked for") for kind in (
        encoder.EncoderBlock, feedforward.FeedForward, blocks.PreNormBlock, blocks.PostNormBlock, blocks.ReZeroBlock,
        blocks.PlainBlock, blocks.ReluAfterSumBlock,
    )),
    (blocks.PostNormBlock, "alpha", 1.0, 2.0, "Vaswani et al., 2017: x + Sublayer(x)"),
    (latent.LatentAttention.forward, "absorbed", False, True, "the paper's equations as written"),
    (positions.sinusoidal_positions, "base", 10_000.0, 500.0, "Vaswani et al., 2017"),
    (positions.sinusoidal_positions, "offset", 0, 1, "a text begins at position 0"),
    (positions.SinusoidalPositions, "base", 10_000.0, 500.0, "Vaswani et al., 2017"),
    (positions.SinusoidalPositions.forward, "offset", 0, 1, "a text begins at position 0"),
    (positions.LearnedPositions, "std", GPT2.initializer_range, 1.0, "GPT-2"),
    (positions.LearnedPositions.forward, "offset", 0, 1, "a text begins at position 0"),
    (rotary.rope_frequencies, "base", LLAMA.rope_parameters["rope_theta"], 500.0, "Llama"),
    (rotary.yarn_frequencies, "beta_fast", 32.0, 8.0, "Peng et al., 2023, section 3.2"),
    (rotary.yarn_frequencies, "beta_slow", 1.0, 4.0, "Peng et al., 2023, section 3.2"),
    (rotary.llama3_frequencies, "low_turns", 1.0, 2.0, "Llama 3.1's low_freq_factor"),
    (rotary.llama3_frequencies, "high_turns", 4.0, 8.0, "Llama 3.1's high_freq_factor"),
    (rotary.apply_rope, "layout", "half", "interleaved", "Llama in transformers"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("function", "name", "value", "other"),
    [row[:4] for row in ROWS],
    ids=[f"{function.__qualname__} {name}: {who}" for function, name, *_, who in ROWS],
)
def test_what_is_left_out_has_the_published_value(function, name, value, other):
    def call(**options):
        torch.manual_seed(0)  # the same weights and the same draws
        return CALLS[function](**options)

    assert default(function, name) == value
    assert torch.equal(call(), call(**{name: value}))
    left, right = call(), call(**{name: other})
    assert left.shape != right.shape or not torch.equal(left, right), "the argument does nothing"


def test_no_default_of_a_number_or_a_switch_is_left_out():
    """``None`` says "made from the others" and is not in the table."""
    named = {(function, name) for function, name, *_ in ROWS}
    for module in (blocks, dropout, encoder, feedforward, heads, latent, norms, positions, rotary):
        for public in (getattr(module, name) for name in module.__all__):
            if not (inspect.isclass(public) or inspect.isfunction(public)):
                continue
            for call in (public, public.forward) if inspect.isclass(public) else (public,):
                for name, parameter in inspect.signature(call).parameters.items():
                    if isinstance(parameter.default, int | float | str):
                        assert (call, name) in named, f"{call.__qualname__}({name}={parameter.default!r}) has no row"
