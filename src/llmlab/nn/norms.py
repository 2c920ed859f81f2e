"""Normalisation: LayerNorm with its backward, RMSNorm, BatchNorm over sequences, QK-norm, and a tanh instead.

They differ in the numbers that share one statistic. In a tensor (batch, time, d), LayerNorm and RMSNorm take the d
numbers of one token; BatchNorm takes one channel over all tokens of all texts.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

__all__ = [
    "DynamicTanh",
    "LayerNorm",
    "QKNorm",
    "RMSNorm",
    "SequenceBatchNorm",
    "layer_norm",
    "layer_norm_backward",
    "rms_norm",
]


def layer_norm(
    x: Float[Tensor, "*rows d"],
    weight: Float[Tensor, " d"] | None = None,
    bias: Float[Tensor, " d"] | None = None,
    eps: float = 1e-5,
) -> Float[Tensor, "*rows d"]:
    """Every row minus its mean, divided by the root of its variance plus ``eps``, then times weight, plus bias.

    The variance divides by d, not by d - 1. Half precision is computed in float32 and rounded once, at the end.

    Raises:
        ValueError: ``weight`` or ``bias`` is not one number a channel, or ``eps`` is negative.

    Cost: O(rows · d). Source: Ba, Kiros and Hinton, 2016 (arXiv:1607.06450), section 3.
    """
    _require(x, weight, bias, eps)
    exact = x.to(torch.promote_types(x.dtype, torch.float32))
    centred = exact - exact.mean(dim=-1, keepdim=True)
    y = centred * (centred.square().mean(dim=-1, keepdim=True) + eps).rsqrt()
    y = y if weight is None else y * weight
    return (y if bias is None else y + bias).to(x.dtype)


def layer_norm_backward(
    grad: Float[Tensor, "*rows d"],
    x: Float[Tensor, "*rows d"],
    weight: Float[Tensor, " d"],
    eps: float = 1e-5,
) -> tuple[Float[Tensor, "*rows d"], Float[Tensor, " d"], Float[Tensor, " d"]]:
    """The gradients of :func:`layer_norm` for x, weight and bias, from the gradient of its output.

    Write g for ``grad * weight`` and y for the normalised row. The gradient for x is g without its mean and without
    its part along y, divided by the row's standard deviation: moving x along the row of ones or along itself changes
    nothing in the output (but for ``eps``), so no gradient may point there.

    Returns:
        The gradients for x (as x), weight and bias (one number a channel, summed over the rows).

    Raises:
        ValueError: the shapes do not fit.

    Cost: O(rows · d), and y is computed again instead of kept. Source: the chain rule; Xu et al., 2019
    (arXiv:1911.07013), section 3, on the two parts that are removed.
    """
    _require(x, weight, None, eps)
    if grad.shape != x.shape:
        raise ValueError(f"grad has shape {tuple(grad.shape)}, expected that of x, {tuple(x.shape)}")
    exact = torch.promote_types(x.dtype, torch.float32)
    out, centred = grad.to(exact), x.to(exact) - x.to(exact).mean(dim=-1, keepdim=True)
    scale = (centred.square().mean(dim=-1, keepdim=True) + eps).rsqrt()
    y, g = centred * scale, out * weight
    along = (g * y).mean(dim=-1, keepdim=True)
    grad_x = scale * (g - g.mean(dim=-1, keepdim=True) - y * along)
    rows = tuple(range(x.dim() - 1))
    return grad_x.to(x.dtype), (out * y).sum(dim=rows).to(weight.dtype), out.sum(dim=rows).to(weight.dtype)


def rms_norm(
    x: Float[Tensor, "*rows d"], weight: Float[Tensor, " d"] | None = None, eps: float = 1e-6
) -> Float[Tensor, "*rows d"]:
    """Every row divided by the root of its mean square plus ``eps``, then times weight: no mean, no bias.

    Half precision is computed in float32; as in Llama, the row is rounded before it meets the weight.

    Raises:
        ValueError: ``weight`` is not one number a channel, or ``eps`` is negative.

    Cost: O(rows · d), one reduction instead of LayerNorm's two. Source: Zhang and Sennrich, 2019 (arXiv:1910.07467),
    section 3.
    """
    _require(x, weight, None, eps)
    exact = x.to(torch.promote_types(x.dtype, torch.float32))
    y = (exact * (exact.square().mean(dim=-1, keepdim=True) + eps).rsqrt()).to(x.dtype)
    return y if weight is None else weight * y


class LayerNorm(nn.Module):
    """:func:`layer_norm` with a learned weight (ones at first) and bias (zeros at first).

    Args:
        d: width of a token's vector.
        eps: added to the variance, inside the root.
    """

    def __init__(self, d: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = nn.Parameter(torch.ones(d)), nn.Parameter(torch.zeros(d)), eps

    def forward(self, x: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
        """Each row by itself; training and use compute the same."""
        return layer_norm(x, self.weight, self.bias, self.eps)


class RMSNorm(nn.Module):
    """:func:`rms_norm` with a learned weight (ones at first).

    Args:
        d: width of a token's vector.
        eps: added to the mean square, inside the root.
    """

    def __init__(self, d: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(d)), eps

    def forward(self, x: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
        """Each row by itself; training and use compute the same."""
        return rms_norm(x, self.weight, self.eps)


class QKNorm(nn.Module):
    """RMSNorm over the head size, of queries and of keys, each with its own weight.

    With weights of one, a query and a key have length √d, so no score q · k / √d can exceed √d.

    Args:
        d: size of a head.
        eps: added to the mean square.

    Source: Henry et al., 2020 (arXiv:2010.04245), with the root mean square and weights of today's models in the
    place of their unit length and learned scale.
    """

    def __init__(self, d: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.q, self.k = RMSNorm(d, eps), RMSNorm(d, eps)

    def forward(
        self, q: Float[Tensor, "batch heads queries d"], k: Float[Tensor, "batch kv_heads keys d"]
    ) -> tuple[Float[Tensor, "batch heads queries d"], Float[Tensor, "batch kv_heads keys d"]]:
        """Call it before positions are rotated in: a weight for each channel does not commute with a rotation."""
        return self.q(q), self.k(k)


class DynamicTanh(nn.Module):
    """weight · tanh(α x) + bias, number by number: bounded like a norm's output, and without any statistic.

    Args:
        d: width of a token's vector.
        alpha: where the one learned α starts.

    Source: Zhu et al., 2025 (arXiv:2503.10622).
    """

    def __init__(self, d: int, alpha: float = 0.5) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor(alpha))
        self.weight, self.bias = nn.Parameter(torch.ones(d)), nn.Parameter(torch.zeros(d))

    def forward(self, x: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
        """No reduction over any axis."""
        return self.weight * torch.tanh(self.alpha * x) + self.bias


class SequenceBatchNorm(nn.Module):
    """BatchNorm for texts: each channel is normalised over all tokens of all texts of the batch.

    Training uses the batch's own mean and variance and moves the running ones; use (``eval()``) takes the running
    ones. So a token's training output depends on the other texts, on its own later tokens, and, without a mask, on how
    much padding the batch holds.

    Args:
        d: width of a token's vector.
        eps: added to the variance.
        momentum: weight of the newest batch in the running statistics.

    Source: Ioffe and Szegedy, 2015 (arXiv:1502.03167), algorithms 1 and 2; the mask follows from counting.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, d: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(d)), nn.Parameter(torch.zeros(d))
        self.eps, self.momentum = eps, momentum
        self.register_buffer("running_mean", torch.zeros(d))
        self.register_buffer("running_var", torch.ones(d))

    def forward(
        self, x: Float[Tensor, "batch time d"], mask: Bool[Tensor, "batch time"] | None = None
    ) -> Float[Tensor, "batch time d"]:
        """Normalise; ``mask`` is True at real tokens. Padding then counts in no statistic, and comes out as zeros.

        Raises:
            ValueError: the mask does not fit, or fewer than two real tokens to take a variance of, in training.
        """
        if mask is not None and (mask.shape != x.shape[:2] or mask.dtype != torch.bool):
            raise ValueError(
                f"mask is {mask.dtype} of shape {tuple(mask.shape)}, expected torch.bool of shape {tuple(x.shape[:2])}"
            )
        if self.training:
            mean, var = self._observe(x.flatten(0, 1) if mask is None else x[mask])
        else:
            mean, var = self.running_mean, self.running_var
        y = (x - mean) * (var + self.eps).rsqrt() * self.weight + self.bias
        return y if mask is None else y.masked_fill(~mask[..., None], 0.0)

    def _observe(self, rows: Float[Tensor, "rows d"]) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
        """The batch's mean and biased variance; the running variance takes the unbiased one, as torch's does."""
        if len(rows) < 2:
            raise ValueError(f"{len(rows)} real token(s) in the batch: a variance needs two. Use eval(), or LayerNorm")
        mean, var = rows.mean(dim=0), rows.var(dim=0, correction=0)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * len(rows) / (len(rows) - 1), self.momentum)
        return mean, var


def _require(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> None:
    for name, given in (("weight", weight), ("bias", bias)):
        if given is not None and given.shape != x.shape[-1:]:
            raise ValueError(
                f"{name} has shape {tuple(given.shape)}, expected {tuple(x.shape[-1:])}: one number a channel"
            )
    if eps < 0:
        raise ValueError(f"eps={eps}: it is added to a variance under a root; give 0 or more")
