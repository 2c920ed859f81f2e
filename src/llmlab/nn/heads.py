"""Attention in several heads: multi-head, grouped-query and multi-query attention are one module.

They differ in one number, how many heads the keys and values have. The heads share out the *features* of a token, never
the tokens: every head sees the whole text.
"""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float, Int
from torch import Tensor, arange, nn

from llmlab.attention import attention
from llmlab.attention.cache import ContiguousCache, RollingCache

__all__ = ["MultiHeadAttention", "Rotate", "compute_with", "merge_heads", "split_heads"]

#: Turns queries and keys by their positions: ``rotate(q, k, positions) -> (q, k)``, positions (time,) or (batch, time).
Rotate = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def split_heads(x: Float[Tensor, "batch time width"], heads: int) -> Float[Tensor, "batch heads time d"]:
    """Give each head its own consecutive features of every token. A view: nothing is copied.

    Raises:
        ValueError: the width cannot be divided by ``heads``. A ``view(batch, -1, heads, width // heads)`` would not
            notice: it may invent tokens instead.
    """
    if heads < 1 or x.shape[-1] % heads:
        raise ValueError(f"width {x.shape[-1]} cannot be shared by {heads} heads: choose a multiple of heads")
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x: Float[Tensor, "batch heads time d"]) -> Float[Tensor, "batch time width"]:
    """Put the features of all heads of a token side by side again: the inverse of :func:`split_heads`."""
    return x.transpose(1, 2).flatten(2)  # heads must stand beside d before the two become one axis


class MultiHeadAttention(nn.Module):
    """Self-attention in ``heads`` heads, whose keys and values come in ``kv_heads`` heads.

    Args:
        d: width of a token's vector.
        heads: number of query heads.
        kv_heads: number of key and value heads; ``heads`` (the default) is multi-head attention, fewer is grouped-query
            attention, where each serves ``heads / kv_heads`` consecutive query heads, and 1 is multi-query attention.
        head_size: features a head; ``d / heads`` by default.
        bias: whether the two projections have one.
        causal: a token sees itself and what came before it.
        dropout: share of the attention weights dropped while training.
        rotate: turns queries and keys by their positions, as RoPE does; none by default.

    Raises:
        ValueError: ``d`` cannot be divided by ``heads``, or ``heads`` by ``kv_heads``.

    Cost: O(time² · heads · head_size) and O(time · d · (heads + kv_heads) · head_size) a text; with a cache
    2 · kv_heads · head_size numbers are kept a token. Sources: Vaswani et al., 2017 (arXiv:1706.03762), section 3.2.2;
    Shazeer, 2019 (arXiv:1911.02150) for one key head; Ainslie et al., 2023 (arXiv:2305.13245) for groups.
    """

    def __init__(
        self,
        d: int,
        heads: int,
        *,
        kv_heads: int | None = None,
        head_size: int | None = None,
        bias: bool = True,
        causal: bool = False,
        dropout: float = 0.0,
        rotate: Rotate | None = None,
    ) -> None:
        super().__init__()
        kv_heads = heads if kv_heads is None else kv_heads
        if heads < 1 or (head_size is None and d % heads):
            raise ValueError(f"d={d} cannot be shared by {heads} heads: choose d as a multiple of heads")
        if kv_heads < 1 or heads % kv_heads:
            raise ValueError(f"{heads} query heads cannot share {kv_heads} key heads evenly: choose a divisor of heads")
        size = d // heads if head_size is None else head_size
        self.heads, self.kv_heads, self.causal, self.dropout, self.rotate = heads, kv_heads, causal, dropout, rotate
        self.compute: Callable[..., Tensor] = attention  # another way to compute the same: see compute_with
        self.widths = [heads * size, kv_heads * size, kv_heads * size]
        self.qkv = nn.Linear(d, sum(self.widths), bias=bias)  # one product for all three
        self.out = nn.Linear(heads * size, d, bias=bias)

    def forward(
        self,
        x: Float[Tensor, "batch time d"],
        *,
        mask: Tensor | None = None,
        positions: Int[Tensor, "*batch time"] | None = None,
        cache: ContiguousCache | RollingCache | None = None,
    ) -> Float[Tensor, "batch time d"]:
        """Mix the tokens' vectors.

        Args:
            mask: True where a query may look, or a float bias; broadcast to (batch, heads, queries, keys).
            positions: of the tokens of ``x``, for ``rotate``; by default they go on from the cache.
            cache: holds the earlier tokens, and takes in those of ``x``. For inference. A rolling one takes no mask.
        """
        q, k, v = self.qkv(x).split(self.widths, dim=-1)
        q, k, v = split_heads(q, self.heads), split_heads(k, self.kv_heads), split_heads(v, self.kv_heads)
        if self.rotate is not None:
            start = 0 if cache is None else cache.length
            positions = arange(start, start + x.shape[1], device=x.device) if positions is None else positions
            q, k = self.rotate(q, k, positions)
        if cache is not None:
            cache.append(k, v)
            if mask is None and self.causal:
                return self.out(merge_heads(cache.attend(q)))
            if not isinstance(cache, ContiguousCache):
                raise ValueError(f"a {type(cache).__name__} with a mask or without causal: expected a ContiguousCache")
            k, v, _ = cache.view()
        rate = self.dropout if self.training else 0.0
        mixed = self.compute(q, k, v, causal=self.causal, mask=mask, enable_gqa=True, dropout_p=rate)
        return self.out(merge_heads(mixed))


def compute_with(model: nn.Module, compute: Callable[..., Tensor]) -> int:
    """Let every attention layer of ``model`` that keeps no cache compute by ``compute``; returns how many there are.

    Args:
        compute: takes what :func:`llmlab.attention.attention` takes and gives the same up to rounding, such as
            :func:`llmlab.attention.short.short_attention`.

    Raises:
        ValueError: the model has no such layer.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, MultiHeadAttention)]
    if not layers:
        raise ValueError(f"{type(model).__name__} has no MultiHeadAttention: nothing would change")
    for layer in layers:
        layer.compute = compute
    return len(layers)
