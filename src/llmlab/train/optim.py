"""Optimizers to be read: what each does to one tensor stands in its ``move``, and equals torch's step for step.

State is what an optimizer remembers of every trained parameter. In float32:

===================  ==========================================  ===================
optimizer            remembers                                   bytes a parameter
===================  ==========================================  ===================
:class:`SGD`         nothing; with momentum, the velocity        0; 4
:class:`AdaGrad`     the sum of squared gradients                4
:class:`RMSProp`     a moving mean of them                       4
:class:`Adam`        moving means of gradients and squares       8
:class:`AdamW`       the same                                    8
:class:`Muon`        the velocity                                4
===================  ==========================================  ===================

Weights and gradients take 4 bytes each beside it: full training with Adam in float32 takes 16 bytes a parameter before
any activation. :func:`state_bytes` measures.

They are ``torch.optim.Optimizer`` in everything but the arithmetic: parameter groups, ``state_dict``, ``zero_grad``. No
tensors are fused or batched, so torch's own are faster, and what :func:`llmlab.train.fit` uses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["SGD", "AdaGrad", "Adam", "AdamW", "Muon", "RMSProp", "decay_groups", "orthogonalise", "state_bytes"]


def decay_groups(parameters: Iterable[Tensor], weight_decay: float) -> list[dict[str, Any]]:
    """Two groups for an optimizer: matrices, which decay, and vectors (biases, norms), which do not.

    Parameters that require no gradient are left out, and so is an empty group.
    """
    trained = [p for p in parameters if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """The bytes of all that the optimizer remembers of its tensors: 0 before the first step; counters are left out."""
    held = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    return sum(value.nbytes for value in held if value.dim() > 0)


def _memory(state: dict[str, Any], name: str, p: Tensor) -> Tensor:
    if name not in state:
        state[name] = torch.zeros_like(p)
    return state[name]


class _Optimizer(torch.optim.Optimizer):
    """The walk over groups and tensors, which is the same for all."""

    def __init__(self, params: Any, lr: float, weight_decay: float, **options: Any) -> None:
        for name, value in {"lr": lr, "weight_decay": weight_decay, "eps": options.get("eps", 0.0)}.items():
            if not 0 <= value < math.inf:
                raise ValueError(f"{name}={value}: expected 0 or more")
        shares = {"momentum": options.get("momentum", 0.0), "alpha": options.get("alpha", 0.0)}
        for name, value in {**shares, **{f"beta{i}": b for i, b in enumerate(options.get("betas", ()), 1)}}.items():
            if not 0 <= value < 1:
                raise ValueError(f"{name}={value}: expected 0 <= {name} < 1, the share that is kept of the past")
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, **options})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move every parameter that has a gradient; ``closure`` computes loss and gradients first, if given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.move(p, p.grad, self.state[p], group)
        return loss

    def move(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        raise NotImplementedError


class SGD(_Optimizer):
    """Down the gradient, with momentum if wanted.

        v = momentum · v + g        p = p - lr · v        (Nesterov: p = p - lr · (g + momentum · v))

    Args:
        momentum: the share of the velocity that stays; 0 for none, and then there is no state.
        nesterov: step by the gradient plus what the velocity will be.
        weight_decay: L2, added to the gradient: ``g + weight_decay · p``.

    Raises:
        ValueError: a value outside its range, or ``nesterov`` without momentum.

    Source: Sutskever et al., 2013, "On the importance of initialization and momentum in deep learning", section 2. As
    in torch the rate stands outside the velocity, so a change of ``lr`` acts at once.
    """

    def __init__(
        self, params: Any, lr: float = 1e-3, momentum: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0
    ) -> None:
        if nesterov and momentum == 0:
            raise ValueError("nesterov=True needs a momentum above 0")
        super().__init__(params, lr, weight_decay, momentum=momentum, nesterov=nesterov)

    def move(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """One step of one tensor."""
        momentum = group["momentum"]
        g = g + group["weight_decay"] * p
        if momentum:
            v = _memory(state, "v", p)
            v.mul_(momentum).add_(g)
            g = g + momentum * v if group["nesterov"] else v
        p.sub_(group["lr"] * g)


class AdaGrad(_Optimizer):
    """A rate for each number, divided by the root of all its squared gradients so far.

        s = s + g²        p = p - lr · g / (√s + eps)

    The sum only grows, so the rate only falls: with gradients of constant size it is lr / √t. It cannot come back.

    Raises:
        ValueError: a value outside its range.

    Source: Duchi, Hazan and Singer, 2011, JMLR 12, pages 2121-2159.
    """

    def __init__(self, params: Any, lr: float = 1e-2, eps: float = 1e-10, weight_decay: float = 0.0) -> None:
        super().__init__(params, lr, weight_decay, eps=eps)

    def move(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """One step of one tensor."""
        g = g + group["weight_decay"] * p
        s = _memory(state, "s", p)
        s.add_(g * g)
        p.sub_(group["lr"] * g / (s.sqrt() + group["eps"]))


class RMSProp(_Optimizer):
    """AdaGrad that forgets: a moving mean of the squares in place of their sum.

        s = alpha · s + (1 - alpha) · g²        p = p - lr · g / (√s + eps)

    ``s`` starts at 0 and is not corrected, so the first steps are up to 1 / √(1 - alpha) times lr: 10 at alpha 0.99.

    Raises:
        ValueError: a value outside its range.

    Source: Tieleman and Hinton, 2012, lecture 6.5 of "Neural Networks for Machine Learning".
    """

    def __init__(
        self, params: Any, lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, lr, weight_decay, alpha=alpha, eps=eps)

    def move(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """One step of one tensor."""
        alpha = group["alpha"]
        g = g + group["weight_decay"] * p
        s = _memory(state, "s", p)
        s.mul_(alpha).add_((1 - alpha) * g * g)
        p.sub_(group["lr"] * g / (s.sqrt() + group["eps"]))


class Adam(_Optimizer):
    """Momentum over RMSProp, both corrected for having started at 0.

        m = β₁ m + (1 - β₁) g        v = β₂ v + (1 - β₂) g²
        p = p - lr · m̂ / (√v̂ + eps)  with m̂ = m / (1 - β₁ᵗ), v̂ = v / (1 - β₂ᵗ)

    Without the correction the first step would be (1 - β₁) / √(1 - β₂) = 3.2 times lr; with it, lr.

    Args:
        weight_decay: L2, added to the gradient, and so divided by √v̂ like everything else: a parameter with large
            gradients hardly decays. :class:`AdamW` mends that.

    Raises:
        ValueError: a value outside its range.

    Source: Kingma and Ba, 2014 (arXiv:1412.6980), algorithm 1.
    """

    decoupled = False

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, weight_decay, betas=betas, eps=eps)

    def move(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """One step of one tensor."""
        (beta1, beta2), lr = group["betas"], group["lr"]
        if self.decoupled:
            p.mul_(1 - lr * group["weight_decay"])
        else:
            g = g + group["weight_decay"] * p
        t = state["t"] = state.get("t", 0) + 1
        m, v = _memory(state, "m", p), _memory(state, "v", p)
        m.mul_(beta1).add_((1 - beta1) * g)
        v.mul_(beta2).add_((1 - beta2) * g * g)
        m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
        p.sub_(lr * m_hat / (v_hat.sqrt() + group["eps"]))


class AdamW(Adam):
    """Adam whose decay is decoupled: ``p = (1 - lr · weight_decay) · p`` first, and the gradient stays the loss's own.

    Every parameter decays at the same rate, whatever its gradients. As in torch, the schedule scales the decay too.

    Raises:
        ValueError: a value outside its range.

    Source: Loshchilov and Hutter, 2017 (arXiv:1711.05101), algorithm 2.
    """

    decoupled = True

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)


class Muon(_Optimizer):
    """Momentum whose step is made orthogonal: all directions of a matrix move alike, large and small singular values.

        v = momentum · v + (1 - momentum) · g        p = (1 - lr · weight_decay) · p - lr · scale · orth(u)

    where u = (1 - momentum) · g + momentum · v (Nesterov) and scale = √max(1, rows / columns). For the matrices inside
    a network only; embeddings, the head, biases and norms go to AdamW.

    Raises:
        ValueError: a value outside its range, or a parameter that is no matrix.

    Cost: five times three matrix products a step, about 6 · rows · columns · min(rows, columns) · 5 operations. Source:
    Jordan et al., 2024, "Muon: An optimizer for hidden layers in neural networks"; the decay from Liu et al., 2025
    (arXiv:2502.16982).
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.1,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        super().__init__(params, lr, weight_decay, momentum=momentum, dtype=dtype)
        shapes = [tuple(p.shape) for group in self.param_groups for p in group["params"] if p.dim() != 2]
        if shapes:
            raise ValueError(f"Muon moves matrices, and was given a tensor of shape {shapes[0]}: give that to AdamW")

    def move(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """One step of one matrix."""
        momentum, lr = group["momentum"], group["lr"]
        v = _memory(state, "v", p)
        v.mul_(momentum).add_((1 - momentum) * g)
        u = (1 - momentum) * g + momentum * v
        p.mul_(1 - lr * group["weight_decay"])
        scale = math.sqrt(max(1.0, p.shape[0] / p.shape[1]))
        p.sub_(lr * scale * orthogonalise(u, dtype=group["dtype"]).to(p.dtype))


def orthogonalise(
    x: Float[Tensor, "rows columns"], steps: int = 5, dtype: torch.dtype = torch.bfloat16
) -> Float[Tensor, "rows columns"]:
    """About U Vᵀ of x = U S Vᵀ: the nearest matrix whose singular values are all 1, without computing any of them.

    Newton-Schulz: x ← a x + b (x xᵀ) x + c (x xᵀ)² x applies the polynomial a s + b s³ + c s⁵ to every singular value.
    These coefficients do not settle at 1; after five steps, values that were not tiny lie between 0.7 and 1.2.

    Source: Jordan et al., 2024, as above.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = x.shape[0] <= x.shape[1]
    y = (x if wide else x.T).to(dtype)
    y = y / y.norm().clamp(min=1e-7)  # no singular value above 1
    for _ in range(steps):
        gram = y @ y.T  # the smaller of the two
        gram = torch.addmm(gram, gram, gram, beta=b, alpha=c)  # b gram + c gram²; one rounding instead of three
        y = torch.addmm(y, gram, y, beta=a)
    return y if wide else y.T
