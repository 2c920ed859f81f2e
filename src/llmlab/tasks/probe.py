"""A linear probe: what can be read off frozen features by one matrix, and no more."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmlab.nn.onednn import OneDnnLinear

__all__ = ["LinearProbe"]


class LinearProbe:
    """Softmax regression on standardised features, with an L2 penalty on the matrix.

    Args:
        penalty: weight of half the squared matrix beside the mean loss. The constants are not punished.
        rounds: of L-BFGS.

    The problem is convex: two runs, or two libraries, find the same probe. Source: Alain and Bengio, 2016
    (arXiv:1610.01644). Cost: about ``rounds`` products with the features.
    """

    def __init__(self, penalty: float = 1e-4, rounds: int = 100) -> None:
        self.penalty, self.rounds = penalty, rounds

    def fit(self, features: Float[Tensor, "n d"], labels: Int[Tensor, " n"], classes: int | None = None) -> LinearProbe:
        """Learn; features that never change are left out.

        Raises:
            ValueError: not one label a row, or a label that is none of ``classes``.
        """
        if features.ndim != 2 or labels.shape != features.shape[:1] or not len(labels):
            raise ValueError(
                f"features {tuple(features.shape)}, labels {tuple(labels.shape)}: expected (n, d) and (n,) with n >= 1"
            )
        count = int(labels.max()) + 1 if classes is None else classes
        if int(labels.min()) < 0 or int(labels.max()) >= count:
            raise ValueError(f"labels go from {int(labels.min())} to {int(labels.max())}: expected 0 to {count - 1}")
        self.mean, deviation = features.mean(0), features.std(0, correction=0)
        self.scale = torch.where(deviation > 1e-6, 1 / deviation.clamp(min=1e-6), 0.0)
        x = (features - self.mean) * self.scale
        matrix = OneDnnLinear(x.shape[1], count)  # few columns and many rows: half of F.linear's time
        for part in matrix.parameters():
            nn.init.zeros_(part)
        optimizer = torch.optim.LBFGS(
            matrix.parameters(), max_iter=self.rounds, history_size=10, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(matrix(x), labels) + self.penalty / 2 * matrix.weight.square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        self.weight, self.bias = matrix.weight.detach(), matrix.bias.detach()
        return self

    def logits(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n classes"]:
        """Of each class, for each row."""
        return F.linear((features - self.mean) * self.scale, self.weight, self.bias)

    def predict(self, features: Float[Tensor, "n d"]) -> Int[Tensor, " n"]:
        """The most likely class of each row."""
        return self.logits(features).argmax(-1)
