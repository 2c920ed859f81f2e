"""Cross-attention: the queries come from one text, the keys and values from another."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn

from llmlab.attention import attention
from llmlab.nn.heads import merge_heads, split_heads

__all__ = ["CrossAttention"]


class CrossAttention(nn.Module):
    """Every token of ``x`` looks at every real token of a memory, which may have another length.

    Keys and values depend on the memory alone: :meth:`remember` makes them once, and each step of decoding reads them.

    Args:
        d: width of a token's vector, here and there.
        heads: number of heads.
        bias: whether the projections have one.
        dropout: share of the attention weights dropped while training.

    Raises:
        ValueError: ``d`` cannot be divided by ``heads``.

    Cost: O(queries · keys · d) and O((queries + keys) · d²). Source: Vaswani et al., 2017 (arXiv:1706.03762),
    section 3.2.3.
    """

    def __init__(self, d: int, heads: int, *, bias: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        if heads < 1 or d % heads:
            raise ValueError(f"d={d} cannot be shared by {heads} heads: choose d as a multiple of heads")
        self.heads, self.dropout = heads, dropout
        self.q, self.kv, self.out = nn.Linear(d, d, bias), nn.Linear(d, 2 * d, bias), nn.Linear(d, d, bias)

    def remember(
        self, memory: Float[Tensor, "batch keys d"]
    ) -> tuple[Float[Tensor, "batch heads keys size"], Float[Tensor, "batch heads keys size"]]:
        """The keys and values of a memory."""
        k, v = self.kv(memory).chunk(2, dim=-1)
        return split_heads(k, self.heads), split_heads(v, self.heads)

    def forward(
        self,
        x: Float[Tensor, "batch queries d"],
        kv: tuple[Float[Tensor, "batch heads keys size"], Float[Tensor, "batch heads keys size"]],
        mask: Bool[Tensor, "batch keys"] | None = None,
    ) -> Float[Tensor, "batch queries d"]:
        """Mix the memory's values into ``x``; ``mask`` is True where a token of the memory is real."""
        keys = None if mask is None else mask[:, None, None, :]
        rate = self.dropout if self.training else 0.0
        return self.out(merge_heads(attention(split_heads(self.q(x), self.heads), *kv, mask=keys, dropout_p=rate)))
