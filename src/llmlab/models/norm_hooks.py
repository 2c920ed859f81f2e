"""Open a transformers decoder at its norms: put another function in the place of every RMSNorm or LayerNorm."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

__all__ = ["NormCall", "replaced_norms"]


@dataclass(frozen=True)
class NormCall:
    """What reaches one norm. ``name`` is the module's path; ``layer`` is None for the norm after the last layer."""

    name: str
    layer: int | None
    x: Float[Tensor, "batch time width"]
    weight: Float[Tensor, " width"]
    eps: float


@contextmanager
def replaced_norms(model: Any, function: Callable[[NormCall], Tensor]) -> Iterator[None]:
    """Within the block, every norm over the model's width returns what ``function`` returns for its call.

    Norms of another width, such as those of queries and keys, are left alone.

    Args:
        model: a transformers decoder of the Llama family.
        function: from a :class:`NormCall` to the normalised and weighted tensor, of the shape of ``x``.

    Raises:
        TypeError: the model has no module with ``weight`` and ``variance_epsilon`` of its width.
        ValueError: ``function`` returned another shape.
    """
    width = model.config.hidden_size
    found = {
        name: module
        for name, module in model.named_modules()
        if hasattr(module, "variance_epsilon") and module.weight.shape == (width,)
    }
    if not found:
        raise TypeError(f"{type(model).__name__} has no RMSNorm of width {width} (Llama family)")

    def replace(name: str, module: Any) -> Callable[[Tensor], Tensor]:
        number = [int(part) for part in name.split(".") if part.isdigit()]

        def forward(x: Tensor) -> Tensor:
            call = NormCall(name, number[0] if number else None, x, module.weight, module.variance_epsilon)
            out = function(call)
            if out.shape != x.shape:
                raise ValueError(f"the function returned {tuple(out.shape)} for {name}; expected {tuple(x.shape)}")
            return out

        return forward

    for name, module in found.items():
        module.forward = replace(name, module)
    try:
        yield
    finally:
        for module in found.values():
            del module.forward  # the class's own shows again
