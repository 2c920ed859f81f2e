"""Early stopping."""

from __future__ import annotations

import math
from typing import Any, Literal

from torch import Tensor, nn

__all__ = ["EarlyStopping"]


class EarlyStopping:
    """Stop when the validation score has not improved for a while, and go back to the weights of the best one.

    A score counts as better when it beats the best by more than ``min_delta``. The ``patience``-th score in a row that
    does not ends the run; ``patience=1`` stops at the first bad one, which noise alone will bring about.

    Args:
        patience: how many scores without improvement it takes.
        min_delta: what an improvement must exceed, in units of the score.
        mode: "max" for an accuracy, "min" for a loss.

    Attributes:
        best: the best score, None before the first.
        best_at: which score that was, from 0.
        bad: scores since the best.

    Raises:
        ValueError: ``patience`` below 1, a negative ``min_delta``, another mode.

    Memory: one copy of the model's weights. Source: Prechelt, 1998, "Early stopping - but when?".
    """

    def __init__(self, patience: int = 3, min_delta: float = 0.0, mode: Literal["max", "min"] = "max") -> None:
        if patience < 1:
            raise ValueError(f"patience={patience}: expected 1 or more scores")
        if not 0 <= min_delta < math.inf:
            raise ValueError(f"min_delta={min_delta}: expected 0 or more; mode says which direction is better")
        if mode not in ("max", "min"):
            raise ValueError(f"mode={mode!r}: expected 'max' or 'min'")
        self.patience, self.min_delta, self.mode = patience, min_delta, mode
        self.best: float | None = None
        self.best_at: int | None = None
        self.bad = self.seen = 0
        self.weights: dict[str, Tensor] = {}

    def update(self, score: float, model: nn.Module) -> bool:
        """Take in the next score; True means stop.

        Raises:
            FloatingPointError: the score is not a number, and would never count as worse than anything.
        """
        if math.isnan(score):
            raise FloatingPointError(f"score {self.seen} is {score}: look at what evaluate() computes")
        gain = math.inf if self.best is None else (score - self.best) * (1 if self.mode == "max" else -1)
        if gain > self.min_delta:
            self.best, self.best_at, self.bad = score, self.seen, 0
            self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
        else:
            self.bad += 1
        self.seen += 1
        return self.bad >= self.patience

    def restore(self, model: nn.Module) -> None:
        """Give ``model`` the weights of the best score; nothing where there was no score."""
        if self.weights:
            model.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {key: getattr(self, key) for key in ("best", "best_at", "bad", "seen", "weights")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict()``."""
        for key, value in state.items():
            setattr(self, key, value)
