"""One letter among digits, to be named at the end: four ways to carry it there, at equal numbers of parameters.

An RNN and an LSTM hand a state from token to token, a diagonal state space model does so linearly, attention looks
back. All end in the same head, read at the last token.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmlab.models.position_lm import PositionLM

__all__ = ["DIGITS", "LETTERS", "DiagonalSSM", "Kind", "Recall", "recall_batch"]

Kind = Literal["RNN", "LSTM", "SSM", "attention"]

DIGITS, LETTERS = 10, 8
QUERY = DIGITS + LETTERS

#: widths that give each kind about 25,000 parameters: what a token is, then what is handed on
WIDTHS = {"RNN": (32, 139), "LSTM": (32, 64), "SSM": (44, 88)}


def recall_batch(
    batch: int, distance: int, length: int, generator: torch.Generator
) -> tuple[Int[Tensor, "batch time"], Int[Tensor, " batch"]]:
    """Texts of ``length`` tokens and the letter in each: digits, one letter, ``distance - 1`` digits, the question.

    Raises:
        ValueError: not 1 <= distance < length.
    """
    if not 1 <= distance < length:
        raise ValueError(f"distance={distance}, length={length}: expected 1 <= distance < length")
    ids = torch.randint(DIGITS, (batch, length), generator=generator)
    letter = torch.randint(LETTERS, (batch,), generator=generator)
    ids[:, -1 - distance] = DIGITS + letter
    ids[:, -1] = QUERY
    return ids, letter


class DiagonalSSM(nn.Module):
    """A linear recurrence with a decay of its own in every channel: h_t = a h_(t-1) - x_t ln a, read out and gated.

    The decays begin spread between memories of 1 and ``longest`` tokens and are learned; they do not depend on the
    token (Mamba's do). Without a non-linearity between two steps all steps are one convolution: O(n log n) here,
    O(1) memory a token when run step by step. Source: Gu et al., 2022 (arXiv:2206.11893), S4D-Real.
    """

    def __init__(self, width: int, state: int, longest: int = 1000) -> None:
        super().__init__()
        self.norm, self.into, self.out = nn.LayerNorm(width), nn.Linear(width, 2 * state), nn.Linear(state, width)
        self.log_rate = nn.Parameter(-torch.linspace(0, math.log(longest), state))

    def forward(self, x: Float[Tensor, "batch time width"]) -> Float[Tensor, "batch time width"]:
        """``x`` plus what the recurrence makes of it."""
        inputs, gate = self.into(self.norm(x)).chunk(2, dim=-1)
        time = x.shape[1]
        rate = self.log_rate.exp()
        decay = torch.exp(-rate * torch.arange(time, device=x.device)[:, None]) * rate.clamp(max=1)  # (time, state)
        size = 2 * time  # so that the circle of the transform does not close
        states = torch.fft.irfft(torch.fft.rfft(inputs, size, 1) * torch.fft.rfft(decay, size, 0), size, 1)[:, :time]
        return x + self.out(states * gate.sigmoid())


class Recall(nn.Module):
    """Reads a text and says which letter was in it: logits over the letters at the last token.

    Raises:
        ValueError: an unknown kind.
    """

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        if kind not in get_args(Kind):
            raise ValueError(f"kind={kind!r}: expected one of {', '.join(get_args(Kind))}")
        self.kind = kind
        if kind == "attention":  # no positions: the causal mask gives order enough, and the task asks for none
            self.body: nn.Module = PositionLM(QUERY + 1, "none", d=32, heads=2)
            width = 32
        else:
            width, state = WIDTHS[kind]
            self.token = nn.Embedding(QUERY + 1, width)
            if kind == "SSM":
                self.body = nn.Sequential(DiagonalSSM(width, state), DiagonalSSM(width, state))
            else:
                self.body = (nn.RNN if kind == "RNN" else nn.LSTM)(width, state, batch_first=True)
                width = state
            if isinstance(self.body, nn.LSTM):  # begin by remembering: the forget gate near 0.73
                nn.init.constant_(self.body.get_parameter("bias_ih_l0")[state : 2 * state], 1.0)
                nn.init.zeros_(self.body.get_parameter("bias_hh_l0")[state : 2 * state])
        self.head = nn.Linear(width, LETTERS)

    def forward(self, ids: Int[Tensor, "batch time"]) -> Float[Tensor, "batch letters"]:
        """The logits of the letters."""
        return self.head(self.last(ids))

    def last(self, ids: Int[Tensor, "batch time"], x: Tensor | None = None) -> Float[Tensor, "batch width"]:
        """The state at the last token; ``x`` replaces the token vectors, to ask for gradients with respect to them."""
        if isinstance(self.body, PositionLM):
            stream = self.body.embed(ids) if x is None else x
            for block in self.body.blocks:
                stream = block(stream, None, None, None)
            return self.body.norm(stream)[:, -1]
        x = self.token(ids) if x is None else x
        states = self.body(x)
        return (states if self.kind == "SSM" else states[0])[:, -1]

    def vectors(self, ids: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time width"]:
        """The token vectors, before anything is handed on."""
        return self.body.embed(ids) if isinstance(self.body, PositionLM) else self.token(ids)
