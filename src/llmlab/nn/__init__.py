"""The layers: an encoder block and pooling, each small enough to read in a minute."""

from llmlab.nn.blocks import PostNormBlock, PreNormBlock
from llmlab.nn.cross import CrossAttention
from llmlab.nn.dropout import DropConnectLinear, Dropout, EmbeddingDropout, StochasticDepth, drop_tokens, mc_dropout
from llmlab.nn.encoder import EncoderBlock, MultiHeadSelfAttention
from llmlab.nn.feedforward import FeedForward, SwiGLU
from llmlab.nn.heads import MultiHeadAttention, merge_heads, split_heads
from llmlab.nn.latent import LatentAttention
from llmlab.nn.norms import DynamicTanh, LayerNorm, QKNorm, RMSNorm, SequenceBatchNorm
from llmlab.nn.pooling import masked_mean
from llmlab.nn.positions import LearnedPositions, SinusoidalPositions, alibi_bias, alibi_slopes, sinusoidal_positions
from llmlab.nn.rotary import apply_rope, rope_frequencies, rope_tables

__all__ = [
    "CrossAttention",
    "DropConnectLinear",
    "Dropout",
    "DynamicTanh",
    "EmbeddingDropout",
    "EncoderBlock",
    "FeedForward",
    "LatentAttention",
    "LayerNorm",
    "LearnedPositions",
    "MultiHeadAttention",
    "MultiHeadSelfAttention",
    "PostNormBlock",
    "PreNormBlock",
    "QKNorm",
    "RMSNorm",
    "SequenceBatchNorm",
    "SinusoidalPositions",
    "StochasticDepth",
    "SwiGLU",
    "alibi_bias",
    "alibi_slopes",
    "apply_rope",
    "drop_tokens",
    "masked_mean",
    "mc_dropout",
    "merge_heads",
    "rope_frequencies",
    "rope_tables",
    "sinusoidal_positions",
    "split_heads",
]
