"""The encoder of the BERT family: every token sees every real token, left and right.

Post-norm blocks, learned positions, a vector for each of two segments, and, where wanted, the two heads that BERT was
trained with: one that guesses masked words, one that pools a text at its first token.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from llmlab.nn.blocks import PostNormBlock
from llmlab.nn.feedforward import ACTIVATIONS, FeedForward
from llmlab.nn.heads import MultiHeadAttention
from llmlab.nn.positions import LearnedPositions

__all__ = ["Encoder", "EncoderConfig", "MaskedWordHead", "Pooler"]


@dataclass(frozen=True)
class EncoderConfig:
    """The sizes of an encoder; the defaults are BERT's.

    Attributes:
        vocabulary: number of tokens.
        d, layers, heads: width of the stream, number of blocks, heads.
        hidden: width inside the feed-forward network; None is ``4 * d``.
        context: positions that exist.
        types: kinds of segment, such as first and second sentence.
        activation: one of :data:`llmlab.nn.feedforward.ACTIVATIONS`.
        norm_eps: added inside the root of every LayerNorm.
        dropout: after the embedding, on the attention weights, and on what each part of a block returns.
        masked_words: whether there is a head for masked words.
        pooler: whether there is BERT's pooler.
    """

    vocabulary: int
    d: int
    layers: int
    heads: int
    hidden: int | None = None
    context: int = 512
    types: int = 2
    activation: str = "gelu"
    norm_eps: float = 1e-12
    dropout: float = 0.0
    masked_words: bool = False
    pooler: bool = False

    def __post_init__(self) -> None:
        for name in ("vocabulary", "d", "layers", "heads", "context", "types"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: expected 1 or more")


class MaskedWordHead(nn.Module):
    """A dense layer, the activation, a LayerNorm; then the product with every token's vector, plus a bias each.

    Source: Devlin et al., 2018 (arXiv:1810.04805), section 3.1; the dense layer is in the authors' code.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.activation = config.activation
        self.dense, self.norm = nn.Linear(config.d, config.d), nn.LayerNorm(config.d, config.norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocabulary))

    def forward(
        self, states: Float[Tensor, "*batch d"], table: Float[Tensor, "vocabulary d"]
    ) -> Float[Tensor, "*batch vocabulary"]:
        """Logits; ``table`` holds the tokens' vectors, which the head shares with the input."""
        return F.linear(self.norm(ACTIVATIONS[self.activation](self.dense(states))), table, self.bias)


class Pooler(nn.Module):
    """tanh of a dense layer on the first token's state: BERT's vector of a text, trained to tell the next sentence.

    Sentence vectors are usually the mean of all states instead: :func:`llmlab.nn.pooling.masked_mean`.
    """

    def __init__(self, d: int) -> None:
        super().__init__()
        self.dense = nn.Linear(d, d)

    def forward(self, states: Float[Tensor, "batch time d"]) -> Float[Tensor, "batch d"]:
        """One vector a text."""
        return torch.tanh(self.dense(states[:, 0]))


class Encoder(nn.Module):
    """A BERT: from tokens to one state a token, each informed by the whole text.

    Args:
        config: see :class:`EncoderConfig`.

    Raises:
        ValueError: sizes that do not fit each other.

    Weights start as BERT's: normal with deviation 0.02, biases zero. Source: Devlin et al., 2018 (arXiv:1810.04805),
    section 3; the post-norm block is that of Vaswani et al., 2017 (arXiv:1706.03762).
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.token, self.segment = nn.Embedding(config.vocabulary, config.d), nn.Embedding(config.types, config.d)
        self.position = LearnedPositions(config.context, config.d)
        self.norm, self.dropout = nn.LayerNorm(config.d, config.norm_eps), nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(_block(config) for _ in range(config.layers))
        self.words = MaskedWordHead(config) if config.masked_words else None
        self.pooler = Pooler(config.d) if config.pooler else None
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                nn.init.normal_(weight, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)

    def forward(
        self,
        ids: Int[Tensor, "batch time"],
        mask: Bool[Tensor, "batch time"] | None = None,
        types: Int[Tensor, "batch time"] | None = None,
    ) -> Float[Tensor, "batch time d"]:
        """The last states.

        Args:
            ids: tokens. Positions are counted from the first column, so pad on the right.
            mask: True where a token is real; no token looks at the others. None: all are real.
            types: the segment of each token; None is the first segment throughout.

        Raises:
            ValueError: a text longer than the position table, or a mask or types that do not fit.

        Cost: O(layers · (time · d² + time² · d)) a text.
        """
        if mask is not None and (mask.shape != ids.shape or mask.dtype != torch.bool):
            raise ValueError(
                f"mask is {mask.dtype} of shape {tuple(mask.shape)}: expected torch.bool of shape {tuple(ids.shape)}, "
                "True where a token is real"
            )
        if types is not None and types.shape != ids.shape:
            raise ValueError(f"types have shape {tuple(types.shape)}: expected {tuple(ids.shape)}, one a token")
        x = self.token(ids) + self.segment(torch.zeros_like(ids) if types is None else types)
        x = self.dropout(self.norm(self.position(x)))
        keys = None if mask is None else mask[:, None, None, :]
        for block in self.blocks:
            x = block(x, mask=keys)
        return x

    def word_logits(self, states: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch vocabulary"]:
        """What word stands at each of these states. In training pass the masked ones alone: the table is large.

        Raises:
            ValueError: the model has no head for masked words.
        """
        if self.words is None:
            raise ValueError("this encoder has no head for masked words: make it with EncoderConfig(masked_words=True)")
        return self.words(states, self.token.weight)


def _block(config: EncoderConfig) -> PostNormBlock:
    attend = MultiHeadAttention(config.d, config.heads, dropout=config.dropout)
    feedforward = FeedForward(config.d, config.hidden or 4 * config.d, config.activation)
    norms = nn.LayerNorm(config.d, config.norm_eps), nn.LayerNorm(config.d, config.norm_eps)
    return PostNormBlock(attend, feedforward, *norms, dropout=config.dropout)
