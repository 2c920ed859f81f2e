"""A small causal language model that differs from its siblings in one thing: how it is told the order."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmlab.attention import attention
from llmlab.nn.positions import LearnedPositions, alibi_bias, sinusoidal_positions
from llmlab.nn.rotary import apply_rope, rope_frequencies, rope_tables

__all__ = ["PositionLM", "Scheme"]

#: "batch-indexed" is a popular fault: the sinusoid of the sequence's number in the batch, the same for all its tokens.
Scheme = Literal["none", "sinusoidal", "learned", "RoPE", "ALiBi", "batch-indexed"]


class PositionLM(nn.Module):
    """Embeddings, pre-norm blocks, one head; ``scheme`` alone decides where positions enter.

    Args:
        vocabulary: number of tokens.
        scheme: see :data:`Scheme`.
        d, heads, layers: sizes. Two models of one seed and one size start from the same weights, whatever the scheme.
        longest: rows of the learned table; those beyond the training length are never trained.

    Raises:
        ValueError: an unknown scheme, or ``d`` cannot be shared by the heads.
    """

    def __init__(
        self, vocabulary: int, scheme: Scheme, *, d: int = 64, heads: int = 4, layers: int = 2, longest: int = 256
    ) -> None:
        super().__init__()
        if scheme not in get_args(Scheme):
            raise ValueError(f"scheme={scheme!r}: expected one of {', '.join(get_args(Scheme))}")
        if d % heads:
            raise ValueError(f"d={d} cannot be shared by {heads} heads: choose d as a multiple of heads")
        self.scheme, self.heads = scheme, heads
        self.token = nn.Embedding(vocabulary, d)
        nn.init.normal_(self.token.weight, std=0.5)
        self.blocks = nn.ModuleList(Block(d, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, vocabulary)
        self.frequencies = rope_frequencies(d // heads)  # plain attribute: whoever stretches the context replaces it
        self.learned = LearnedPositions(longest, d, std=0.1) if scheme == "learned" else None

    def forward(
        self, ids: Int[Tensor, "batch time"], window: int | None = None
    ) -> Float[Tensor, "batch time vocabulary"]:
        """The logits of every next token. With ``window``, a token sees only that many: itself and those before."""
        return self.head(self.norm(self.states(ids, window)[-1]))

    def states(self, ids: Int[Tensor, "batch time"], window: int | None = None) -> list[Float[Tensor, "batch time d"]]:
        """The residual stream: after the embedding (positions included), then after every block."""
        stream = [self.embed(ids)]
        time = ids.shape[1]
        bias = alibi_bias(self.heads, time, time) if self.scheme == "ALiBi" else None
        tables = rope_tables(torch.arange(time), self.frequencies) if self.scheme == "RoPE" else None
        for block in self.blocks:
            stream.append(block(stream[-1], bias, tables, window))
        return stream

    def embed(self, ids: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time d"]:
        """Token vectors, with positions where the scheme adds them here."""
        x = self.token(ids)
        if self.learned is not None:
            return self.learned(x)
        if self.scheme == "sinusoidal":
            return x + sinusoidal_positions(ids.shape[1], x.shape[-1])
        if self.scheme == "batch-indexed":
            return x + sinusoidal_positions(len(ids), x.shape[-1])[:, None]
        return x

    def losses(
        self, windows: Int[Tensor, "batch time_and_one"], window: int | None = None
    ) -> Float[Tensor, "batch time"]:
        """Cross-entropy in nats of every token but the first of each window, given those before it."""
        return F.cross_entropy(self(windows[:, :-1], window).mT, windows[:, 1:], reduction="none")


class Block(nn.Module):
    """Attention, then a two-layer network, each added to its input after a LayerNorm (pre-norm)."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.up, self.down = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(
        self,
        x: Float[Tensor, "batch time d"],
        bias: Tensor | None,
        tables: tuple[Tensor, Tensor] | None,
        window: int | None,
    ) -> Float[Tensor, "batch time d"]:
        """``bias`` is added to the scores; with ``tables`` queries and keys are rotated."""
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(self.norm1(x)).chunk(3, dim=-1))
        if tables is not None:
            q, k = apply_rope(q, *tables), apply_rope(k, *tables)
        mixed = attention(q, k, v, causal=True, mask=bias, window=window)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))
