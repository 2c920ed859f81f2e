"""The feed-forward network of a Transformer block: the part that thinks about each token alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["ACTIVATIONS", "FeedForward", "SwiGLU"]

#: ``gelu`` is exact, by the error function; ``gelu_tanh`` the approximation of GPT-2, called gelu_new in transformers.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "silu": F.silu,
}


def _check_widths(d: int, hidden: int) -> None:
    for name, size in (("d", d), ("hidden", hidden)):
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"{name}={size!r}: expected a whole number of 1 or more")


class FeedForward(nn.Module):
    """Two matrices with a non-linearity between: ``down(activation(up(x)))``, each token by itself.

    Args:
        d: width of a token's vector.
        hidden: width inside, usually ``4 * d``.
        activation: a name in :data:`ACTIVATIONS`.
        bias: whether both matrices have one.
        dropout: rate after the activation, while training.

    Raises:
        ValueError: a width below 1, or another activation.

    Cost: 2 · d · hidden parameters, 4 · d · hidden operations a token. Source: Vaswani et al., 2017
    (arXiv:1706.03762), section 3.3; GELU from Hendrycks and Gimpel, 2016 (arXiv:1606.08415).
    """

    def __init__(self, d: int, hidden: int, activation: str = "gelu", bias: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        _check_widths(d, hidden)
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation={activation!r}: expected one of {', '.join(ACTIVATIONS)}")
        self.activation = activation
        self.up, self.down = nn.Linear(d, hidden, bias=bias), nn.Linear(hidden, d, bias=bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """The network's answer to each vector. The residual is the block's business, not added here."""
        return self.down(self.dropout(ACTIVATIONS[self.activation](self.up(x))))


class SwiGLU(nn.Module):
    """A gated feed-forward network: ``down(silu(gate(x)) * up(x))``. Llama, SmolLM2 and most since use it.

    Three matrices instead of two: at the same number of parameters ``hidden`` is two thirds of the ungated one.

    Args:
        d: width of a token's vector.
        hidden: width inside; 1536 at d = 576 in SmolLM2.
        bias: whether the three matrices have one; the models named above have none.

    Raises:
        ValueError: a width below 1.

    Cost: 3 · d · hidden parameters, 6 · d · hidden operations a token. Source: Shazeer, 2020 (arXiv:2002.05202),
    equation 6.
    """

    def __init__(self, d: int, hidden: int, bias: bool = False) -> None:
        super().__init__()
        _check_widths(d, hidden)
        self.gate, self.up = nn.Linear(d, hidden, bias=bias), nn.Linear(d, hidden, bias=bias)
        self.down = nn.Linear(hidden, d, bias=bias)

    def forward(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """The network's answer to each vector, without the residual."""
        return self.down(F.silu(self.gate(x)) * self.up(x))
