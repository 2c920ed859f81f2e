"""``nn.Linear`` through oneDNN instead of MKL, for float32 on processors that MKL treats as strangers.

torch's CPU builds take float32 products from MKL, which gives an AMD processor its AVX2 code. oneDNN, which is part of
the same torch and computes its bfloat16 products, uses AVX-512 wherever it is: at the sizes of a small Transformer the
same product took less than half of the time. The operator has no derivative in torch; here it gets one.
``llmlab bench train`` and ``encode`` measure it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = ["OneDnnLinear", "product", "with_onednn"]


class OneDnnLinear(nn.Linear):
    """As ``nn.Linear``; what is not float32 on a CPU goes the usual way, and so does everything under autocast."""

    def forward(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        """Equal to ``nn.Linear`` up to the order of sums, forward and backward."""
        plain = x.dtype == self.weight.dtype == torch.float32 and x.device.type == "cpu" and x.numel() > 0
        if not plain or torch.is_autocast_enabled("cpu") or not torch.backends.mkldnn.is_available():
            return F.linear(x, self.weight, self.bias)
        y: Tensor = _Linear.apply(x.reshape(-1, x.shape[-1]), self.weight, self.bias)
        return y.view(*x.shape[:-1], -1)


class _Linear(torch.autograd.Function):
    """y = x Wᵀ + b; its gradients are two more products of the same kind: dx = dy W and dW = dyᵀ x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        (x, weight), (for_x, for_weight, for_bias) = ctx.saved_tensors, ctx.needs_input_grad
        return (
            product(dy, weight.T) if for_x else None,
            product(dy.T, x.T) if for_weight else None,
            dy.sum(0) if for_bias else None,
        )


def product(
    x: Float[Tensor, "rows in"], weight: Float[Tensor, "out in"], bias: Float[Tensor, " out"] | None = None
) -> Float[Tensor, "rows out"]:
    """x Wᵀ + b by oneDNN's operator, float32 on a CPU. It has no derivative: for one, use :class:`OneDnnLinear`."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return y


def with_onednn(model: nn.Module) -> int:
    """Turn every ``nn.Linear`` of ``model`` into an :class:`OneDnnLinear`, in place; returns how many there were.

    Parameters and their names stay. Subclasses of ``nn.Linear`` are left alone.
    """
    layers = [layer for layer in model.modules() if type(layer) is nn.Linear]
    for layer in layers:
        layer.__class__ = OneDnnLinear
    return len(layers)
