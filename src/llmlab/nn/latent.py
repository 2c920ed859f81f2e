"""Multi-head latent attention: the cache holds one short vector a token, from which all keys and values are made."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmlab.attention import attention
from llmlab.attention.cache import ContiguousCache
from llmlab.nn.heads import Rotate, merge_heads, split_heads

__all__ = ["LatentAttention"]


class LatentAttention(nn.Module):
    """Causal self-attention whose keys and values are two linear maps of a latent of ``rank`` numbers a token.

    A rotation between the latent and the keys would spoil the trick below, so positions travel in ``rope_size`` extra
    features: a part of every query, and one key for all heads ("decoupled RoPE").

    Args:
        d: width of a token's vector.
        heads: number of heads.
        rank: size of the latent that is cached.
        plain_size: features of a query and a key that carry no position.
        rope_size: features that carry the position; 0 for none (a cache needs 1 or more).
        value_size: features of a value.
        q_rank: size of the queries' own latent; None makes them from the token directly.
        rotate: turns the rope features by their positions.

    Raises:
        ValueError: a size that is not positive.

    Cost: rank + rope_size numbers are kept a token, whatever the number of heads. Source: DeepSeek-V2 (DeepSeek-AI,
    2024, arXiv:2405.04434), section 2.1.
    """

    def __init__(
        self,
        d: int,
        heads: int,
        *,
        rank: int,
        plain_size: int,
        rope_size: int,
        value_size: int,
        q_rank: int | None = None,
        rotate: Rotate | None = None,
    ) -> None:
        super().__init__()
        sizes = {"d": d, "heads": heads, "rank": rank, "plain_size": plain_size, "value_size": value_size}
        sizes |= {} if q_rank is None else {"q_rank": q_rank}
        if bad := {name: size for name, size in sizes.items() if size < 1}:
            raise ValueError(f"{bad}: expected 1 or more of each")
        if rope_size < 0:
            raise ValueError(f"rope_size={rope_size}: expected 0, for no positions, or more")
        self.heads, self.rank, self.rotate = heads, rank, rotate
        self.plain_size, self.rope_size, self.value_size = plain_size, rope_size, value_size
        width = heads * (plain_size + rope_size)
        self.down_q = None
        if q_rank is not None:
            self.down_q = nn.Sequential(nn.Linear(d, q_rank, bias=False), nn.RMSNorm(q_rank, 1e-6))
        self.up_q = nn.Linear(d if q_rank is None else q_rank, width, bias=False)
        self.down_kv = nn.Linear(d, rank + rope_size, bias=False)
        self.norm_kv = nn.RMSNorm(rank, 1e-6)
        self.up_kv = nn.Linear(rank, heads * (plain_size + value_size), bias=False)
        self.out = nn.Linear(heads * value_size, d, bias=False)

    def forward(
        self,
        x: Float[Tensor, "batch time d"],
        *,
        mask: Tensor | None = None,
        positions: Int[Tensor, " time"] | None = None,
        cache: ContiguousCache | None = None,
        absorbed: bool = False,
    ) -> Float[Tensor, "batch time d"]:
        """Mix the tokens' vectors.

        Args:
            mask, positions, cache: as in :class:`llmlab.nn.heads.MultiHeadAttention`.
            absorbed: never make keys and values: work in the latent space. The same result; less work when few
                queries meet many cached tokens, more when there are as many of each.
        """
        q = split_heads(self.up_q(x if self.down_q is None else self.down_q(x)), self.heads)
        q, q_rope = q.split([self.plain_size, self.rope_size], dim=-1)
        latent, k_rope = self.down_kv(x)[:, None].split([self.rank, self.rope_size], dim=-1)  # one head
        latent = self.norm_kv(latent)
        if self.rotate is not None:
            start = 0 if cache is None else cache.length
            positions = torch.arange(start, start + x.shape[1], device=x.device) if positions is None else positions
            q_rope, k_rope = self.rotate(q_rope, k_rope, positions)
        if cache is not None:
            cache.append(latent, k_rope)
            latent, k_rope, _ = cache.view()
        mix = self._absorbed if absorbed else self._expanded
        return self.out(merge_heads(mix(q, q_rope, latent, k_rope, mask)))

    def _expanded(self, q: Tensor, q_rope: Tensor, latent: Tensor, k_rope: Tensor, mask: Tensor | None) -> Tensor:
        """As written in the paper: every head's keys and values are made, then attention as usual."""
        k, v = split_heads(self.up_kv(latent[:, 0]), self.heads).split([self.plain_size, self.value_size], dim=-1)
        k_rope = k_rope.expand(-1, self.heads, -1, -1)
        return attention(torch.cat([q, q_rope], -1), torch.cat([k, k_rope], -1), v, causal=True, mask=mask)

    def _absorbed(self, q: Tensor, q_rope: Tensor, latent: Tensor, k_rope: Tensor, mask: Tensor | None) -> Tensor:
        """q · (W c) = (Wᵀq) · c: the queries move into the latent space, where one key head serves all of them."""
        up_k, up_v = self.up_kv.weight.unflatten(0, (self.heads, -1)).split([self.plain_size, self.value_size], dim=1)
        queries, keys = torch.cat([q @ up_k, q_rope], -1), torch.cat([latent, k_rope], -1)
        scale = (self.plain_size + self.rope_size) ** -0.5  # of the keys that are never made
        if q.shape[2] == 1 and mask is None:  # one newest token: its heads are so many queries of one key head
            mixed = attention(queries.transpose(1, 2), keys, latent, scale=scale).transpose(1, 2)
        else:
            mixed = attention(queries, keys, latent, causal=True, mask=mask, scale=scale, enable_gqa=True)
        return mixed @ up_v.mT
