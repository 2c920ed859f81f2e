"""Rotary positions (RoPE): turn queries and keys, so that their product knows only the distance; and how to stretch it.

A head of size d is cut into d / 2 pairs. Pair i of a token at position p is turned by the angle p · θ_i. The functions
named ``..._frequencies`` make the θ: :func:`rope_frequencies` as trained, the others for a text longer than that.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float, Num
from torch import Tensor

__all__ = [
    "Layout",
    "apply_rope",
    "llama3_frequencies",
    "ntk_frequencies",
    "rope_frequencies",
    "rope_tables",
    "yarn_attention_factor",
    "yarn_frequencies",
]

#: which numbers make pair i: x[i] and x[i + d/2] ("half": Llama in transformers), or x[2i] and x[2i + 1]
#: ("interleaved": the paper, GPT-J, Meta's own Llama code). Weights trained with one are nonsense under the other.
Layout = Literal["half", "interleaved"]


def rope_frequencies(d: int, base: float = 10_000.0) -> Float[Tensor, " pairs"]:
    """θ_i = base^(-2i/d), radians a token, for the d / 2 pairs of a head; the fastest pair first.

    ``rope_frequencies(d) / s`` is linear position interpolation by ``s`` (Chen et al., 2023, arXiv:2306.15595).

    Raises:
        ValueError: ``d`` is odd or below 2, or ``base`` is not above 0.

    Source: Su et al., 2021 (arXiv:2104.09864), section 3.2.2.
    """
    if d < 2 or d % 2:
        raise ValueError(f"d={d}: expected an even number of 2 or more, since numbers are turned in pairs")
    if base <= 0:
        raise ValueError(f"base={base}: expected a number above 0")
    return (base ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)).float()


def ntk_frequencies(d: int, base: float, factor: float) -> Float[Tensor, " pairs"]:
    """ "NTK-aware" scaling: a larger base, so that the slowest pair is slowed by ``factor`` and the fastest not at all.

    The base becomes base · factor^(d/(d-2)). "Dynamic NTK" calls this with a factor that grows with the text:
    s · length / trained - (s - 1), for a chosen s.

    Raises:
        ValueError: ``d`` is odd or below 4, ``factor`` is below 1.

    Source: named and described in Peng et al., 2023 (arXiv:2309.00071), section 3.1.
    """
    _check_factor(factor)
    if d < 4:
        raise ValueError(f"d={d}: expected 4 or more; with one pair there is no slowest and fastest")
    return rope_frequencies(d, base * factor ** (d / (d - 2)))


def yarn_frequencies(
    d: int, base: float, factor: float, trained: int, *, beta_fast: float = 32.0, beta_slow: float = 1.0
) -> Float[Tensor, " pairs"]:
    """YaRN's frequencies ("NTK by parts"): fast pairs stay, slow pairs are interpolated, a ramp between.

    A pair that turned more than ``beta_fast`` times within the trained length knows only relative distances and stays.
    One that turned less than ``beta_slow`` times has never completed a turn: it is divided by ``factor``, so that it
    meets no new angle. Multiply the tables by :func:`yarn_attention_factor` as well.

    Args:
        d: head size.
        trained: number of tokens of the training context.

    Raises:
        ValueError: a size or factor without meaning.

    Source: Peng et al., 2023 (arXiv:2309.00071), sections 3.2 and 3.4. The ramp is linear in the pair's number, its
    ends rounded outwards to whole pairs, as in the paper's own code.
    """
    _check_factor(factor)
    plain = rope_frequencies(d, base)

    def pair_with(turns: float) -> float:
        """The number (not whole) of the pair that turns this many times in the trained length."""
        return d / 2 * math.log(trained / (2 * math.pi * turns)) / math.log(base)

    low = max(math.floor(pair_with(beta_fast)), 0)
    high = min(math.ceil(pair_with(beta_slow)), d - 1)
    ramp = ((torch.arange(d // 2) - low) / max(high - low, 1e-3)).clamp(0, 1)
    return plain * (1 - ramp) + plain / factor * ramp


def yarn_attention_factor(factor: float) -> float:
    """0.1 ln(factor) + 1: what YaRN multiplies both rotated vectors with, so that scores grow by its square.

    The softmax over a longer text is flatter; this sharpens it again. Source: Peng et al., 2023 (arXiv:2309.00071),
    section 3.4, equation (22).
    """
    _check_factor(factor)
    return 0.1 * math.log(factor) + 1


def llama3_frequencies(
    d: int, base: float, factor: float, trained: int, *, low_turns: float = 1.0, high_turns: float = 4.0
) -> Float[Tensor, " pairs"]:
    """Llama 3.1's scaling: as YaRN's, with a ramp that is linear in the number of turns, and no change of the scores.

    Raises:
        ValueError: a size or factor without meaning, or no room for the ramp.

    Source: Meta's published Llama 3.1 code (``apply_scaling``; the model: Grattafiori et al., 2024, arXiv:2407.21783).
    """
    _check_factor(factor)
    if not low_turns < high_turns:
        raise ValueError(f"low_turns={low_turns}, high_turns={high_turns}: expected the first below the second")
    plain = rope_frequencies(d, base)
    turns = trained * plain / (2 * math.pi)
    kept = ((turns - low_turns) / (high_turns - low_turns)).clamp(0, 1)
    return plain * kept + plain / factor * (1 - kept)


def rope_tables(
    positions: Num[Tensor, "*batch time"], frequencies: Float[Tensor, " pairs"]
) -> tuple[Float[Tensor, "*batch time pairs"], Float[Tensor, "*batch time pairs"]]:
    """Cosine and sine of every position's angle in every pair, in float32 whatever the model's dtype.

    bfloat16 has 8 bits of precision: in it, positions 256 and 257 are one number. Positions may be fractions.

    Raises:
        TypeError: positions or frequencies in half precision.
    """
    for name, x in (("positions", positions), ("frequencies", frequencies)):
        if x.dtype in (torch.bfloat16, torch.float16):
            raise TypeError(f"{name} are {x.dtype}, in which neighbouring positions coincide: keep them in float32")
    angles = positions[..., None].float() * frequencies.float()
    return angles.cos(), angles.sin()


def apply_rope(
    x: Float[Tensor, "batch heads time d"],
    cos: Float[Tensor, "*any time pairs"],
    sin: Float[Tensor, "*any time pairs"],
    layout: Layout = "half",
) -> Float[Tensor, "batch heads time d"]:
    """Turn every pair of ``x`` by its angle. Queries and keys are turned, values never.

    With fewer pairs than d / 2 the first 2 · pairs numbers are turned and the rest pass ("partial rotary", as in GPT-J
    and GPT-NeoX). ``apply_rope(x, cos, -sin)`` turns back.

    Args:
        x: queries or keys.
        cos, sin: from :func:`rope_tables`, (time, pairs), or (batch, 1, time, pairs) where texts start elsewhere.
        layout: which numbers make a pair, see :data:`Layout`.

    Raises:
        ValueError: more pairs than ``x`` has, other positions than ``x`` has tokens, an unknown layout.

    Cost: O(batch · heads · time · d). Source: Su et al., 2021 (arXiv:2104.09864), section 3.4.2, equation (34).
    """
    pairs = cos.shape[-1]
    if 2 * pairs > x.shape[-1] or cos.shape[-2] != x.shape[-2] or cos.shape != sin.shape:
        raise ValueError(
            f"x has shape {tuple(x.shape)}, cos {tuple(cos.shape)}, sin {tuple(sin.shape)}: expected tables of "
            f"{x.shape[-2]} positions and at most {x.shape[-1] // 2} pairs"
        )
    turned, rest = x[..., : 2 * pairs], x[..., 2 * pairs :]
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    if layout == "half":
        a, b = turned.chunk(2, dim=-1)
        turned = torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)
    elif layout == "interleaved":
        a, b = turned[..., 0::2], turned[..., 1::2]
        turned = torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(-2)
    else:
        raise ValueError(f"layout={layout!r}: expected 'half' or 'interleaved'")
    return torch.cat([turned, rest], dim=-1)


def _check_factor(factor: float) -> None:
    if not factor >= 1:
        raise ValueError(f"factor={factor}: expected 1 or more, the new length divided by the trained one")
