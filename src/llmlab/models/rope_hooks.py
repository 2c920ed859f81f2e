"""Give a transformers decoder other rotary frequencies: stretched for a longer text, or zero for no positions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["Rope", "other_frequencies", "rope_of", "token_losses"]


@dataclass(frozen=True)
class Rope:
    """How a decoder rotates: head size, base, and the length it was trained for, in tokens."""

    d: int
    base: float
    trained: int


def rope_of(model: Any) -> Rope:
    """What the configuration of a Llama-like decoder says about its rotation.

    Raises:
        TypeError: the model has no rotary embedding of the plain kind.
    """
    config = getattr(model, "config", None)
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") != "default":
        raise TypeError(f"{type(model).__name__} has no plain rotary embedding (rope_type 'default'); it has {rope}")
    d = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads  # type: ignore[union-attr]
    return Rope(d, float(rope["rope_theta"]), config.max_position_embeddings)  # type: ignore[union-attr]


@contextmanager
def other_frequencies(
    model: Any, frequencies: Float[Tensor, " pairs"], attention_factor: float = 1.0
) -> Iterator[None]:
    """Within the block, pair i of every head turns at ``frequencies[i]`` radians a token; nothing is retrained.

    A frequency of zero leaves its pair unturned: zeros alone make a model without positions.

    Args:
        model: a transformers decoder of the Llama family.
        frequencies: one for each pair, for example from :func:`llmlab.nn.rotary.yarn_frequencies`.
        attention_factor: multiplies rotated queries and keys (YaRN).

    Raises:
        ValueError: another number of pairs than the model's heads have. TypeError: see :func:`rope_of`.
    """
    rope, rotary = rope_of(model), model.model.rotary_emb
    if frequencies.shape != (rope.d // 2,):
        raise ValueError(f"frequencies have shape {tuple(frequencies.shape)}: expected ({rope.d // 2},), one a pair")
    before = rotary.inv_freq, rotary.attention_scaling
    rotary.inv_freq, rotary.attention_scaling = frequencies.to(before[0]), attention_factor
    try:
        yield
    finally:
        rotary.inv_freq, rotary.attention_scaling = before


@torch.inference_mode()
def token_losses(
    model: Any, ids: Int[Tensor, " tokens"], positions: Int[Tensor, " tokens"] | None = None, chunk: int = 1024
) -> Float[Tensor, " tokens_less_one"]:
    """The loss in nats of every token but the first, given all before it.

    The logits are made ``chunk`` tokens at a time: for 16,384 tokens of SmolLM2 they would take 3 GB at once.

    Args:
        model: a transformers decoder.
        ids: one text.
        positions: of the tokens, if not 0, 1, 2, ...

    Raises:
        ValueError: fewer than two tokens.
    """
    if ids.ndim != 1 or len(ids) < 2:
        raise ValueError(f"ids has shape {tuple(ids.shape)}: expected one text of two tokens or more, as (tokens,)")
    where, one_text = None, None
    if positions is not None:  # without a mask transformers takes a gap between positions for the start of a new text
        where, one_text = positions[None], torch.ones_like(ids[None])
    states = model.model(ids[None], attention_mask=one_text, position_ids=where, use_cache=False)
    states = states.last_hidden_state[0, :-1]
    return torch.cat(
        [
            F.cross_entropy(model.lm_head(states[i : i + chunk]).float(), ids[1:][i : i + chunk], reduction="none")
            for i in range(0, len(states), chunk)
        ]
    )
