"""The layers: an encoder block and pooling, each small enough to read in a minute."""

from llmlab.nn.encoder import EncoderBlock, MultiHeadSelfAttention
from llmlab.nn.pooling import masked_mean

__all__ = ["EncoderBlock", "MultiHeadSelfAttention", "masked_mean"]
