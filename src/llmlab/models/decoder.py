"""One decoder for two families: what separates Llama from GPT-2 are a few fields of :class:`DecoderConfig`.

Both are: token vectors, a stack of pre-norm blocks (causal attention, then a feed-forward network), one last norm, and
a head that compares the result with every token's vector. Weights that others trained come in by
:mod:`llmlab.models.load`; text comes out by :mod:`llmlab.generate`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from llmlab.attention.cache import ContiguousCache
from llmlab.nn.blocks import PreNormBlock
from llmlab.nn.feedforward import FeedForward, SwiGLU
from llmlab.nn.heads import MultiHeadAttention
from llmlab.nn.norms import RMSNorm
from llmlab.nn.positions import LearnedPositions
from llmlab.nn.rotary import apply_rope, rope_frequencies, rope_tables

__all__ = ["Decoder", "DecoderConfig", "Rotary", "new_positions", "positions_of"]

Positions = Literal["learned", "rotary"]
Norm = Literal["layer", "rms"]


@dataclass(frozen=True)
class DecoderConfig:
    """The sizes of a decoder, and the choices in which the families differ. The defaults are Llama's.

    Attributes:
        vocabulary: number of tokens.
        d, layers, heads: width of the stream, number of blocks, query heads.
        kv_heads: key and value heads; None is ``heads``. Fewer is grouped-query attention.
        head_size: features a head; None is ``d / heads``.
        hidden: width inside the feed-forward network; None is ``4 * d``.
        context: positions that exist.
        positions: "learned" vectors added to the tokens', or "rotary", turning queries and keys.
        rope_base: the base of the rotary frequencies.
        norm, norm_eps: "layer" for LayerNorm, "rms" for RMSNorm, and what is added inside its root.
        activation: "swiglu", or one of :data:`llmlab.nn.feedforward.ACTIVATIONS` for a network without a gate.
        bias: whether the linear layers have one (the head never has).
        tied: the head's matrix is the token table.
        dropout: after the embedding, on the attention weights, and on what each part of a block returns.
    """

    vocabulary: int
    d: int
    layers: int
    heads: int
    kv_heads: int | None = None
    head_size: int | None = None
    hidden: int | None = None
    context: int = 2048
    positions: Positions = "rotary"
    rope_base: float = 10_000.0
    norm: Norm = "rms"
    norm_eps: float = 1e-5
    activation: str = "swiglu"
    bias: bool = False
    tied: bool = True
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("vocabulary", "d", "layers", "heads", "context"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: expected 1 or more")
        for name, kinds in (("positions", get_args(Positions)), ("norm", get_args(Norm))):
            if getattr(self, name) not in kinds:
                raise ValueError(f"{name}={getattr(self, name)!r}: expected one of {', '.join(kinds)}")
        if self.head_size is None and self.d % self.heads:
            raise ValueError(f"d={self.d} cannot be shared by {self.heads} heads: choose a multiple, or give head_size")

    @classmethod
    def gpt2(
        cls, vocabulary: int, d: int, layers: int, heads: int, *, context: int = 1024, **rest: Any
    ) -> DecoderConfig:
        """GPT-2's choices (Radford et al., 2019, section 2.3)."""
        family: dict[str, Any] = {"positions": "learned", "norm": "layer", "activation": "gelu_tanh", "bias": True}
        return cls(vocabulary, d, layers, heads, context=context, **(family | rest))


class Rotary(nn.Module):
    """Turns queries and keys by their positions, from tables made once for all layers and calls.

    Args:
        frequencies: radians a token of every pair, from :mod:`llmlab.nn.rotary`.
        context: positions that exist.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, frequencies: Float[Tensor, " pairs"], context: int) -> None:
        super().__init__()
        self.context = context
        self.set_frequencies(frequencies)

    def set_frequencies(self, frequencies: Float[Tensor, " pairs"]) -> None:
        """Turn by these from now on, as stretching a model's context does."""
        cos, sin = rope_tables(torch.arange(self.context, device=frequencies.device), frequencies)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(
        self,
        q: Float[Tensor, "batch heads time d"],
        k: Float[Tensor, "batch kv_heads time d"],
        positions: Int[Tensor, "*batch time"],
    ) -> tuple[Float[Tensor, "batch heads time d"], Float[Tensor, "batch kv_heads time d"]]:
        """``positions`` are one row for all texts, or one for each."""
        cos, sin = self.cos[positions], self.sin[positions]
        if positions.ndim == 2:
            cos, sin = cos[:, None], sin[:, None]  # the same for all heads
        return apply_rope(q, cos, sin), apply_rope(k, cos, sin)


def positions_of(mask: Bool[Tensor, "batch keys"]) -> Int[Tensor, "batch keys"]:
    """The place of every token among the real ones of its text; padding, which nobody looks at, gets any valid one."""
    return (mask.cumsum(dim=1) - 1).clamp(min=0)


def new_positions(
    ids: Int[Tensor, "batch time"], mask: Bool[Tensor, "batch keys"] | None, past: int, context: int
) -> Int[Tensor, "*batch time"]:
    """The positions of the tokens ``ids``, which follow ``past`` cached ones: one row for all texts, or one for each.

    Raises:
        ValueError: more tokens than the ``context`` has positions, ids or a mask of another kind.
    """
    if ids.ndim != 2 or ids.is_floating_point():
        raise ValueError(f"ids are {ids.dtype} of shape {tuple(ids.shape)}: expected whole numbers (batch, time)")
    keys = past + ids.shape[1]
    if keys > context:
        raise ValueError(
            f"{past} cached and {ids.shape[1]} new tokens, but config.context={context}: shorten the "
            "text (or, with rotary positions, load the model with a longer context than it was trained for)"
        )
    if mask is None:
        return torch.arange(past, keys, device=ids.device)
    if mask.shape != (len(ids), keys) or mask.dtype != torch.bool:
        raise ValueError(
            f"mask is {mask.dtype} of shape {tuple(mask.shape)}: expected torch.bool of shape {(len(ids), keys)}, "
            "one entry for each cached and each new token, True where it is real"
        )
    return positions_of(mask)[:, past:]


class Decoder(nn.Module):
    """A causal language model of the GPT-2 or Llama family.

    Args:
        config: see :class:`DecoderConfig`.

    Raises:
        ValueError: sizes that do not fit each other.

    Weights start as GPT-2's: normal with deviation 0.02, biases zero, and the two matrices of a block that write into
    the stream divided by √(2 · layers), since so many of them are added up (Radford et al., 2019, section 2.3).
    Sources: GPT-2, Radford et al., 2019; Llama, Touvron et al., 2023 (arXiv:2302.13971), section 2.2.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.token = nn.Embedding(config.vocabulary, config.d)
        learned = config.positions == "learned"
        self.position = LearnedPositions(config.context, config.d) if learned else None
        self.rotary = None if learned else Rotary(rotary_frequencies(config), config.context)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(_block(config, self.rotary) for _ in range(config.layers))
        self.norm = _norm(config)
        self.head = None if config.tied else nn.Linear(config.d, config.vocabulary, bias=False)
        _initialise(self, config.layers)

    def forward(
        self,
        ids: Int[Tensor, "batch time"],
        mask: Bool[Tensor, "batch keys"] | None = None,
        cache: Sequence[ContiguousCache] | None = None,
        *,
        last: int | None = None,
    ) -> Float[Tensor, "batch time vocabulary"]:
        """The logits of the token after each one.

        Args:
            ids: tokens; with a cache only the new ones.
            mask: True where a token is real, for the cached tokens and the new ones together. Padding may stand left or
                right: a text's own tokens are counted, so its logits are those it has alone. None: all are real.
            cache: from :meth:`new_cache`; it takes in the new tokens. For inference.
            last: give the logits of so many last tokens only, 1 or more: a small model's head is its largest matrix.

        Raises:
            ValueError: more tokens than there are positions, or a mask or cache that does not fit.

        Cost: 2 · parameters operations a token, and 4 · d · keys more in the attention of each layer.
        """
        for x in self.stream(ids, mask, cache):
            final = x
        return self.logits(final if last is None else final[:, -last:])

    def stream(
        self,
        ids: Int[Tensor, "batch time"],
        mask: Bool[Tensor, "batch keys"] | None = None,
        cache: Sequence[ContiguousCache] | None = None,
    ) -> Iterator[Float[Tensor, "batch time d"]]:
        """What flows between the blocks: ``layers + 1`` tensors, the embedding first. Arguments as :meth:`forward`."""
        if cache is not None and len(cache) != len(self.blocks):
            raise ValueError(f"{len(cache)} caches for {len(self.blocks)} layers: make them with model.new_cache()")
        positions = new_positions(ids, mask, cache[0].length if cache else 0, self.config.context)
        x = self.token(ids)
        if self.position is not None:
            x = self.position(x, positions=positions)
        x = self.dropout(x)
        yield x
        keys = None if mask is None else mask[:, None, None, :]
        for layer, block in enumerate(self.blocks):
            x = block(x, mask=keys, positions=positions, cache=None if cache is None else cache[layer])
            yield x

    def logits(self, x: Float[Tensor, "batch time d"]) -> Float[Tensor, "batch time vocabulary"]:
        """The last norm and the head. At an earlier point of the stream this is the logit lens."""
        return F.linear(self.norm(x), self.token.weight if self.head is None else self.head.weight)

    def loss(self, windows: Int[Tensor, "batch time_and_one"]) -> Float[Tensor, ""]:
        """Mean cross-entropy in nats a token, each predicted from those before it. No padding."""
        return F.cross_entropy(self(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())

    def new_cache(self, capacity: int = 0) -> list[ContiguousCache]:
        """An empty cache for each layer, with room for ``capacity`` tokens."""
        return [ContiguousCache(capacity) for _ in self.blocks]


def rotary_frequencies(config: DecoderConfig) -> Float[Tensor, " pairs"]:
    """The frequencies that this model is trained with."""
    return rope_frequencies(config.head_size or config.d // config.heads, config.rope_base)


def _norm(config: DecoderConfig) -> nn.Module:
    # torch's LayerNorm is one kernel; nn.norms.LayerNorm, the one to read, computes the same in seven.
    return (RMSNorm if config.norm == "rms" else nn.LayerNorm)(config.d, config.norm_eps)


def _block(config: DecoderConfig, rotary: Rotary | None) -> PreNormBlock:
    hidden = 4 * config.d if config.hidden is None else config.hidden
    attend = MultiHeadAttention(
        config.d,
        config.heads,
        kv_heads=config.kv_heads,
        head_size=config.head_size,
        bias=config.bias,
        causal=True,
        dropout=config.dropout,
        rotate=rotary,
    )
    feedforward: nn.Module
    if config.activation == "swiglu":
        feedforward = SwiGLU(config.d, hidden, config.bias)
    else:
        feedforward = FeedForward(config.d, hidden, config.activation, config.bias)
    return PreNormBlock(attend, feedforward, _norm(config), _norm(config), dropout=config.dropout)


@torch.no_grad()
def _initialise(model: nn.Module, layers: int) -> None:
    for name, weight in model.named_parameters():
        if weight.ndim == 2:
            writes = name.endswith(("attend.out.weight", "feedforward.down.weight"))
            nn.init.normal_(weight, std=0.02 / (2 * layers) ** 0.5 if writes else 0.02)
        elif name.endswith("bias"):
            nn.init.zeros_(weight)
