"""Positions that are added: a sinusoid or a learned table on the embeddings, ALiBi's penalty on the scores.

Rotary positions, which turn the queries and keys instead, stand in :mod:`llmlab.nn.rotary`.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

__all__ = ["LearnedPositions", "SinusoidalPositions", "alibi_bias", "alibi_slopes", "sinusoidal_positions"]


def sinusoidal_positions(
    length: int, d: int, *, offset: int = 0, base: float = 10_000.0, device: torch.device | str | None = None
) -> Float[Tensor, "length d"]:
    """The sinusoidal codes of positions ``offset`` .. ``offset + length - 1``, in float32.

    Pair i of the d / 2 pairs turns at θ_i = base^(-2i/d) radians a position; column 2i holds the sine of the angle,
    column 2i + 1 the cosine of the *same* angle. So the code of position p + n is a fixed rotation of that of p.

    Raises:
        ValueError: ``d`` is odd or below 2 (a sine would have no cosine), or a length, offset or base has no meaning.

    Cost: O(length · d). Source: Vaswani et al., 2017 (arXiv:1706.03762), section 3.5.
    """
    if d < 2 or d % 2:
        raise ValueError(f"d={d}: expected an even number of 2 or more; every sine has a cosine of the same angle")
    if length < 0 or offset < 0 or base <= 0:
        raise ValueError(f"length={length}, offset={offset}, base={base}: expected 0 or more, and a base above 0")
    exact = torch.float32 if torch.device(device or "cpu").type == "mps" else torch.float64  # MPS has no float64
    positions = torch.arange(offset, offset + length, dtype=exact, device=device)
    theta = base ** (-torch.arange(0, d, 2, dtype=exact, device=device) / d)
    angles = positions[:, None] * theta
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2).float()


class SinusoidalPositions(nn.Module):
    """Adds the sinusoidal codes to the embeddings of a batch. Nothing is learned, and no length is too long for it.

    Args:
        d: width of a token's vector, even.
        base: of the wavelengths, which run from 2π to 2π · base tokens.

    Raises:
        ValueError: ``d`` is odd.

    Source: Vaswani et al., 2017 (arXiv:1706.03762), section 3.5.
    """

    def __init__(self, d: int, base: float = 10_000.0) -> None:
        super().__init__()
        sinusoidal_positions(0, d, base=base)  # complain now, not at the first batch
        self.d, self.base = d, base

    def forward(self, x: Float[Tensor, "batch time d"], offset: int = 0) -> Float[Tensor, "batch time d"]:
        """``x`` plus the code of each token's position; the first stands at ``offset``, after a cache."""
        _check_width(x, self.d)
        codes = sinusoidal_positions(x.shape[1], self.d, offset=offset, base=self.base, device=x.device)
        return x + codes.to(x.dtype)


class LearnedPositions(nn.Module):
    """Adds one learned vector a position, as GPT-2 and BERT do.

    Args:
        max_length: number of positions that exist. There is no vector for any later one.
        d: width of a token's vector.
        std: spread of the vectors before training.

    Raises:
        ValueError: a size below 1.

    Source: Gehring et al., 2017 (arXiv:1705.03122), section 3.1; Devlin et al., 2018 (arXiv:1810.04805).
    """

    def __init__(self, max_length: int, d: int, std: float = 0.02) -> None:
        super().__init__()
        if max_length < 1 or d < 1:
            raise ValueError(f"max_length={max_length}, d={d}: expected 1 or more of each")
        self.table = nn.Parameter(torch.randn(max_length, d) * std)

    def forward(
        self, x: Float[Tensor, "batch time d"], offset: int = 0, *, positions: Int[Tensor, "*batch time"] | None = None
    ) -> Float[Tensor, "batch time d"]:
        """``x`` plus the vector of each token's position: ``positions``, or counted from ``offset``.

        Raises:
            ValueError: a token stands beyond the table (IndexError, if ``positions`` say so).
        """
        _check_width(x, self.table.shape[1])
        if positions is not None:
            return x + self.table[positions].to(x.dtype)
        end = offset + x.shape[1]
        if offset < 0 or end > len(self.table):
            raise ValueError(
                f"positions {offset} to {end - 1}, but the table has 0 to {len(self.table) - 1}: nothing was learned "
                "for the others. Shorten the text, or train a longer table"
            )
        return x + self.table[offset:end].to(x.dtype)


def alibi_slopes(heads: int) -> Float[Tensor, " heads"]:
    """The penalty a token of distance in each head: 2^(-8/n), 2^(-16/n), ... 2^(-8) for n heads, n a power of two.

    For other counts: the slopes of the next smaller power of two, then every second one of twice as many heads.

    Raises:
        ValueError: fewer than one head.

    Source: Press et al., 2021 (arXiv:2108.12409), section 3; the rule for other counts is in the paper's own code.
    """
    if heads < 1:
        raise ValueError(f"heads={heads}: expected 1 or more")
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    between = [2 ** (-4 * (i + 1) / power) for i in range(0, 2 * power, 2)]
    return torch.tensor(slopes + between[: heads - power])


def alibi_bias(
    heads: int, queries: int, keys: int, device: torch.device | str | None = None
) -> Float[Tensor, "heads queries keys"]:
    """What ALiBi adds to the scores: minus slope times distance. Hand it to ``attention(mask=...)`` with ``causal``.

    Queries stand at the last positions (bottom-right), as in :func:`llmlab.attention.attention`. Keys on the other
    side of the query get the same penalty by distance, so that an encoder can use it too.

    Raises:
        ValueError: fewer than one head.

    Cost: O(heads · queries · keys). Source: Press et al., 2021 (arXiv:2108.12409), section 3.
    """
    distance = torch.arange(keys - queries, keys, device=device)[:, None] - torch.arange(keys, device=device)
    return -alibi_slopes(heads).to(device)[:, None, None] * distance.abs()


def _check_width(x: Tensor, d: int) -> None:
    if x.ndim != 3 or x.shape[-1] != d:
        raise ValueError(f"x has shape {tuple(x.shape)}: expected (batch, time, {d})")
