"""A Transformer block in five wirings: the same attention, feed-forward and norms, joined in another order.

Each block is handed its parts and owns only the way they are joined, which is one line, ``join``. What follows ``x``
in a call (a mask, positions, a cache) goes to the attention as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["PlainBlock", "PostNormBlock", "PreNormBlock", "ReZeroBlock", "ReluAfterSumBlock", "deepnorm_constants"]


class _Block(nn.Module):
    """Attention, then feed-forward, each joined to the stream by :meth:`join`.

    Args:
        attend: any module that maps (batch, time, d) to the same shape; the arguments after ``x`` are passed to it.
        feedforward: any module of one argument and the same shape.
        norm1, norm2: the norms of the two parts; ``nn.Identity()`` for none.
        dropout: rate on what each part returns, while training.

    Raises:
        TypeError: a part is not a module.
    """

    def __init__(
        self, attend: nn.Module, feedforward: nn.Module, norm1: nn.Module, norm2: nn.Module, *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        parts = {"attend": attend, "feedforward": feedforward, "norm1": norm1, "norm2": norm2}
        for name, part in parts.items():
            if not isinstance(part, nn.Module):
                raise TypeError(f"{name} is {type(part).__name__}: expected a torch module, nn.Identity() for none")
        self.norm1, self.attend, self.norm2, self.feedforward = norm1, attend, norm2, feedforward
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "batch time d"], *args: Any, **kwargs: Any) -> Float[Tensor, "batch time d"]:
        """Mix the tokens, then think about each."""
        x = self.join(x, lambda y: self.attend(y, *args, **kwargs), self.norm1)
        return self.join(x, self.feedforward, self.norm2)

    def join(self, x: Tensor, part: Callable[[Tensor], Tensor], norm: nn.Module) -> Tensor:
        """How one part, its norm and the stream ``x`` are joined."""
        raise NotImplementedError


class PreNormBlock(_Block):
    """``x + F(norm(x))``: nothing stands on the path from the first layer to the last.

    The Jacobian of each part is ``I + J``, whatever the norm does. The stream itself is never normalised, so a model
    needs one norm after its last block. Source: Xiong et al., 2020 (arXiv:2002.04745), table 1, right.
    """

    def join(self, x: Tensor, part: Callable[[Tensor], Tensor], norm: nn.Module) -> Tensor:
        """The part reads a normalised copy; the stream goes on untouched."""
        return x + self.dropout(part(norm(x)))


class PostNormBlock(_Block):
    """``norm(alpha * x + F(x))``: the original order. The norm stands on the path, once a part.

    Args:
        alpha: weight of the stream; 1 is the original. :func:`deepnorm_constants` gives DeepNorm's.

    Source: Vaswani et al., 2017 (arXiv:1706.03762), section 3.1; alpha from Wang et al., 2022 (arXiv:2203.00555).
    """

    def __init__(
        self,
        attend: nn.Module,
        feedforward: nn.Module,
        norm1: nn.Module,
        norm2: nn.Module,
        *,
        dropout: float = 0.0,
        alpha: float = 1.0,
    ) -> None:
        super().__init__(attend, feedforward, norm1, norm2, dropout=dropout)
        if not alpha > 0:
            raise ValueError(f"alpha={alpha}: the stream's weight must be above 0; 1 is the original Transformer's")
        self.alpha = alpha

    def join(self, x: Tensor, part: Callable[[Tensor], Tensor], norm: nn.Module) -> Tensor:
        """The sum is normalised, and with it the stream."""
        return norm(self.alpha * x + self.dropout(part(x)))


class PlainBlock(_Block):
    """``F(norm(x))``: a stack without residual connections, the baseline of every comparison."""

    def join(self, x: Tensor, part: Callable[[Tensor], Tensor], norm: nn.Module) -> Tensor:
        """What the part does not pass on is gone."""
        return self.dropout(part(norm(x)))


class ReluAfterSumBlock(_Block):
    """``relu(x + F(norm(x)))``: the order of the first ResNet, wrong in a Transformer, kept to be measured.

    The stream can no longer hold a negative number. Source: He et al., 2016 (arXiv:1603.05027), figure 4 (a), who
    moved the ReLU away.
    """

    def join(self, x: Tensor, part: Callable[[Tensor], Tensor], norm: nn.Module) -> Tensor:
        """Every sum is cut off at zero."""
        return torch.relu(x + self.dropout(part(norm(x))))


class ReZeroBlock(_Block):
    """``x + gain * F(norm(x))`` with one learned gain, zero at first: the block begins as the identity.

    The source uses no norm: hand over ``nn.Identity()``. Source: Bachlechner et al., 2020 (arXiv:2003.04887),
    equation 2.
    """

    def __init__(
        self, attend: nn.Module, feedforward: nn.Module, norm1: nn.Module, norm2: nn.Module, *, dropout: float = 0.0
    ) -> None:
        super().__init__(attend, feedforward, norm1, norm2, dropout=dropout)
        self.gain = nn.Parameter(torch.zeros(()))

    def join(self, x: Tensor, part: Callable[[Tensor], Tensor], norm: nn.Module) -> Tensor:
        """The part is let in as far as the gain says."""
        return x + self.gain * self.dropout(part(norm(x)))


def deepnorm_constants(layers: int) -> tuple[float, float]:
    """DeepNorm's ``(alpha, beta)`` for a stack of one kind, encoder or decoder alone: (2N)^¼ and (8N)^-¼.

    ``alpha`` weighs the stream in :class:`PostNormBlock`; ``beta`` is the Xavier gain of the feed-forward matrices and
    of the attention's value and output matrices (query and key keep a gain of 1).

    Raises:
        ValueError: ``layers`` is below 1.

    Source: Wang et al., 2022 (arXiv:2203.00555), figure 2.
    """
    if layers < 1:
        raise ValueError(f"layers={layers}: expected 1 or more")
    return (2 * layers) ** 0.25, (8 * layers) ** -0.25
