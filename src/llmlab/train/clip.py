"""Gradient clipping: by the norm of all gradients together, which keeps their direction, and by value, which does not.

Both tame a gradient that explodes. Neither does anything for one that vanishes: they only ever make numbers smaller.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["clip_norm", "clip_value", "gradient_norm"]


def _gradients(parameters: Iterable[Tensor]) -> list[Tensor]:
    return [p.grad for p in parameters if p.grad is not None]


def _check(limit: float) -> None:
    if not limit > 0:
        raise ValueError(f"limit={limit}: expected more than 0 (math.inf measures and clips nothing)")


def gradient_norm(parameters: Iterable[Tensor]) -> Float[Tensor, ""]:
    """The Euclidean length of all gradients laid end to end; 0 where there is none. O(parameters)."""
    gradients = _gradients(parameters)
    if not gradients:
        return torch.zeros(())
    device = gradients[0].device
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g).to(device) for g in gradients]))


@torch.no_grad()
def clip_norm(parameters: Iterable[Tensor], limit: float) -> float:
    """Scale all gradients, in place, so that their common norm is at most ``limit``; returns the norm before.

    One factor for all: the step is shorter, its direction the same. Clip what the optimizer will see: after the
    gradients of all micro-batches have been added, and after a loss scale has been taken out again.

    Raises:
        ValueError: ``limit`` is not above 0.

    Source: Pascanu, Mikolov and Bengio, 2013 (arXiv:1211.5063), algorithm 1; the 1e-6 is torch's.
    """
    _check(limit)
    parameters = list(parameters)
    norm = gradient_norm(parameters)
    if not math.isinf(limit):
        factor = (limit / (norm + 1e-6)).clamp(max=1.0)
        for gradient in _gradients(parameters):
            gradient.mul_(factor.to(gradient.device))
    return norm.item()


@torch.no_grad()
def clip_value(parameters: Iterable[Tensor], limit: float) -> float:
    """Cut every number of the gradients to ``[-limit, limit]``, in place; returns their common norm before.

    Each number is cut by itself, so the direction changes: (10, 1) clipped at 1 points along (1, 1).

    Raises:
        ValueError: ``limit`` is not above 0.
    """
    _check(limit)
    parameters = list(parameters)
    norm = gradient_norm(parameters)
    for gradient in _gradients(parameters):
        gradient.clamp_(-limit, limit)
    return norm.item()
