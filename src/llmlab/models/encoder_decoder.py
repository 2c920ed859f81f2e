"""The encoder-decoder: one text is read, another is written, each new token looking at both.

The Transformer as it was published, for translation; ``pre_norm`` moves the norms to the front, which trains without a
long warm-up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from llmlab.attention.cache import ContiguousCache
from llmlab.models.decoder import positions_of
from llmlab.nn.blocks import PostNormBlock, PreNormBlock
from llmlab.nn.cross import CrossAttention
from llmlab.nn.feedforward import FeedForward
from llmlab.nn.heads import MultiHeadAttention
from llmlab.nn.positions import sinusoidal_positions

__all__ = ["CrossBlock", "EncoderDecoder", "EncoderDecoderConfig", "Memory", "Writer"]


@dataclass(frozen=True)
class EncoderDecoderConfig:
    """The sizes of an encoder-decoder; one vocabulary serves both sides.

    Attributes:
        vocabulary: number of tokens.
        d, heads: width of the stream, heads.
        layers: blocks of the encoder, and as many of the decoder.
        hidden: width inside the feed-forward networks; None is ``4 * d``.
        context: positions that exist, on each side.
        activation: one of :data:`llmlab.nn.feedforward.ACTIVATIONS`.
        pre_norm: the norm before each part and one at the end of each stack, instead of one after each sum.
        dropout: after the embeddings, on the attention weights, and on what each part of a block returns.
    """

    vocabulary: int
    d: int
    layers: int
    heads: int
    hidden: int | None = None
    context: int = 512
    activation: str = "relu"
    pre_norm: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("vocabulary", "d", "layers", "heads", "context"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: expected 1 or more")


class Memory(NamedTuple):
    """What the decoder keeps of a text that was read: keys and values for each layer, and which tokens are real."""

    pairs: list[tuple[Tensor, Tensor]]
    mask: Bool[Tensor, "batch source"] | None


class CrossBlock(nn.Module):
    """Self-attention, cross-attention, feed-forward, each with its norm, before it (``pre_norm``) or after the sum."""

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__()
        d, heads, rate = config.d, config.heads, config.dropout
        self.attend = MultiHeadAttention(d, heads, causal=True, dropout=rate)
        self.cross = CrossAttention(d, heads, dropout=rate)
        self.feedforward = FeedForward(d, config.hidden or 4 * d, config.activation)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(d), nn.LayerNorm(d), nn.LayerNorm(d)
        self.pre_norm, self.dropout = config.pre_norm, nn.Dropout(rate)

    def forward(
        self,
        x: Float[Tensor, "batch target d"],
        memory: tuple[Tensor, Tensor],
        memory_mask: Bool[Tensor, "batch source"] | None,
        mask: Bool[Tensor, "batch 1 1 keys"] | None,
        cache: ContiguousCache | None,
    ) -> Float[Tensor, "batch target d"]:
        """Mix the tokens written so far, then look at what was read, then think about each token."""
        x = self._join(x, lambda y: self.attend(y, mask=mask, cache=cache), self.norm1)
        x = self._join(x, lambda y: self.cross(y, memory, memory_mask), self.norm2)
        return self._join(x, self.feedforward, self.norm3)

    def _join(self, x: Tensor, part: Callable[[Tensor], Tensor], norm: nn.Module) -> Tensor:
        if self.pre_norm:
            return x + self.dropout(part(norm(x)))
        return norm(x + self.dropout(part(x)))


class EncoderDecoder(nn.Module):
    """A Transformer for text to text.

    The token table is scaled by √d on its way in and is the head on the way out. Positions are a buffer: sinusoids.

    Args:
        config: see :class:`EncoderDecoderConfig`.

    Raises:
        ValueError: sizes that do not fit each other; an odd ``d``.

    Source: Vaswani et al., 2017 (arXiv:1706.03762), section 3; pre-norm: Xiong et al., 2020 (arXiv:2002.04745).
    """

    positions: Tensor

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.token, self.dropout = nn.Embedding(config.vocabulary, config.d), nn.Dropout(config.dropout)
        self.register_buffer("positions", sinusoidal_positions(config.context, config.d), persistent=False)
        self.encoder = nn.ModuleList(_encoder_block(config) for _ in range(config.layers))
        self.decoder = nn.ModuleList(CrossBlock(config) for _ in range(config.layers))
        self.encoder_norm = nn.LayerNorm(config.d) if config.pre_norm else nn.Identity()
        self.decoder_norm = nn.LayerNorm(config.d) if config.pre_norm else nn.Identity()
        for name, weight in self.named_parameters():
            if name == "token.weight":
                nn.init.normal_(weight, std=config.d**-0.5)  # of size 1 after the scaling, as the positions are
            elif weight.ndim == 2:
                nn.init.xavier_uniform_(weight)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)

    def forward(
        self,
        source: Int[Tensor, "batch source"],
        target: Int[Tensor, "batch target"],
        source_mask: Bool[Tensor, "batch source"] | None = None,
    ) -> Float[Tensor, "batch target vocabulary"]:
        """Logits of the token after each of ``target``, which begins with a start token (teacher forcing).

        Args:
            source: the text to be read.
            target: the text to be written. Padding stands right: causal tokens do not see it, and the loss ignores it.
            source_mask: True where a token of ``source`` is real.

        Raises:
            ValueError: a text longer than ``config.context``, or a mask that does not fit.
        """
        return self.decode(target, self.encode(source, source_mask))

    def encode(self, source: Int[Tensor, "batch source"], mask: Bool[Tensor, "batch source"] | None = None) -> Memory:
        """Read a text, once for all steps of writing."""
        if mask is not None and (mask.shape != source.shape or mask.dtype != torch.bool):
            raise ValueError(
                f"mask is {mask.dtype} of shape {tuple(mask.shape)}: expected torch.bool of shape "
                f"{tuple(source.shape)}, True where a token is real"
            )
        x = self.encode_states(source, mask)
        return Memory([block.cross.remember(x) for block in self.decoder], mask)  # type: ignore[operator, union-attr]

    def encode_states(
        self, source: Int[Tensor, "batch source"], mask: Bool[Tensor, "batch source"] | None = None
    ) -> Float[Tensor, "batch source d"]:
        """The encoder's last states."""
        x = self._embed(source, 0, mask)
        keys = None if mask is None else mask[:, None, None, :]
        for block in self.encoder:
            x = block(x, mask=keys)
        return self.encoder_norm(x)

    def decode(
        self,
        target: Int[Tensor, "batch target"],
        memory: Memory,
        mask: Bool[Tensor, "batch keys"] | None = None,
        cache: Sequence[ContiguousCache] | None = None,
        *,
        last: int | None = None,
    ) -> Float[Tensor, "batch target vocabulary"]:
        """Logits after each token of ``target``; mask, cache, ``last`` as in :class:`llmlab.models.decoder.Decoder`."""
        x = self._embed(target, cache[0].length if cache else 0, mask)
        keys = None if mask is None else mask[:, None, None, :]
        for layer, block in enumerate(self.decoder):
            x = block(x, memory.pairs[layer], memory.mask, keys, None if cache is None else cache[layer])
        x = self.decoder_norm(x if last is None else x[:, -last:])
        return F.linear(x, self.token.weight)

    def new_cache(self, capacity: int = 0) -> list[ContiguousCache]:
        """An empty cache for each layer of the decoder."""
        return [ContiguousCache(capacity) for _ in self.decoder]

    def _embed(self, ids: Tensor, past: int, mask: Tensor | None) -> Float[Tensor, "batch time d"]:
        end = past + ids.shape[1]
        if end > self.config.context:
            raise ValueError(f"{end} tokens, but config.context={self.config.context}: shorten the text")
        places = torch.arange(past, end, device=ids.device) if mask is None else positions_of(mask)[:, past:]
        return self.dropout(self.token(ids) * self.config.d**0.5 + self.positions[places])


class Writer:
    """An encoder-decoder that has read its sources: called as a decoder is, so that ``llmlab.generate`` can drive it.

    Args:
        model, source, mask: as in :meth:`EncoderDecoder.encode`; each source belongs to the prompt of the same row.
    """

    def __init__(
        self,
        model: EncoderDecoder,
        source: Int[Tensor, "batch source"],
        mask: Bool[Tensor, "batch source"] | None = None,
    ) -> None:
        with torch.no_grad():
            self.memory = model.encode(source, mask)
        self.model, self.config, self.token, self.new_cache = model, model.config, model.token, model.new_cache

    @property
    def training(self) -> bool:
        """Whether dropout is at work."""
        return self.model.training

    def __call__(
        self,
        ids: Int[Tensor, "batch time"],
        mask: Bool[Tensor, "batch keys"] | None = None,
        cache: Sequence[ContiguousCache] | None = None,
        *,
        last: int | None = None,
    ) -> Float[Tensor, "batch time vocabulary"]:
        """Logits after each token of ``ids``."""
        return self.model.decode(ids, self.memory, mask, cache, last=last)


def _encoder_block(config: EncoderDecoderConfig) -> nn.Module:
    d = config.d
    attend = MultiHeadAttention(d, config.heads, dropout=config.dropout)
    feedforward = FeedForward(d, config.hidden or 4 * d, config.activation)
    kind = PreNormBlock if config.pre_norm else PostNormBlock
    return kind(attend, feedforward, nn.LayerNorm(d), nn.LayerNorm(d), dropout=config.dropout)
