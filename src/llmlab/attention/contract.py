"""What every backend is asked for, checked in one place. A backend may take a :class:`Call` for sound."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["BackendError", "Call", "autocast", "checked", "without_autocast"]

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class BackendError(RuntimeError):
    """The backend that was named cannot do what was asked; the message says why."""


@dataclass(frozen=True, eq=False)
class Call:
    """One sound request, with ``scale`` filled in."""

    q: Float[Tensor, "batch heads queries d"]
    k: Float[Tensor, "batch kv_heads keys d"]
    v: Float[Tensor, "batch kv_heads keys d_value"]
    causal: bool
    window: int | None
    sinks: int
    mask: Tensor | None
    scale: float
    dropout_p: float
    return_lse: bool

    def options(self) -> dict[str, object]:
        """The keyword arguments that every backend's function takes."""
        return {name: getattr(self, name) for name in ("causal", "window", "sinks", "mask", "scale", "dropout_p")}


def autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """What torch's own autocast does before attention: everything but float64 to the autocast dtype. Else unchanged."""
    if not all(isinstance(x, Tensor) for x in tensors):
        return tensors
    device = tensors[0].device.type
    if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    return tuple(x.to(dtype) if x.is_floating_point() and x.dtype != torch.float64 else x for x in tensors)


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Switches autocast off. On a device that has none, such as "meta", torch raises even at that: there, nothing."""
    return torch.autocast(device.type, enabled=False) if torch.amp.is_autocast_available(device.type) else nullcontext()


def checked(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool,
    window: int | None,
    sinks: int,
    mask: Tensor | None,
    scale: float | None,
    enable_gqa: bool,
    dropout_p: float,
    return_lse: bool,
) -> Call:
    """Return the request as a :class:`Call`.

    Raises:
        TypeError: an argument of the wrong type or dtype. ValueError: a shape or a value that has no meaning.
    """
    _check_tensors(q, k, v)
    _check_shapes(q, k, v, enable_gqa)
    _check_rules(causal=causal, window=window, sinks=sinks, enable_gqa=enable_gqa, return_lse=return_lse)
    return Call(
        q,
        k,
        v,
        causal,
        window,
        sinks,
        _checked_mask(mask, q, k),
        1 / math.sqrt(q.shape[-1]) if scale is None else _checked_number("scale", scale),
        _checked_probability(dropout_p),
        return_lse,
    )


def _check_rules(*, causal: bool, window: int | None, sinks: int, enable_gqa: bool, return_lse: bool) -> None:
    for name, flag in (("causal", causal), ("enable_gqa", enable_gqa), ("return_lse", return_lse)):
        if not isinstance(flag, bool):
            raise TypeError(f"{name}={flag!r}: expected True or False")
    if window is not None and (isinstance(window, bool) or not isinstance(window, int)):
        raise TypeError(f"window={window!r}: expected a whole number of keys, or None for no window")
    if window is not None and window < 1:
        raise ValueError(f"window={window}: expected 1 or more keys (1 = only its own position), or None for no window")
    if isinstance(sinks, bool) or not isinstance(sinks, int):
        raise TypeError(f"sinks={sinks!r}: expected a whole number of keys, 0 for none")
    if sinks < 0:
        raise ValueError(f"sinks={sinks}: expected 0 or more keys that every window keeps in sight")
    if sinks and window is None:
        raise ValueError(
            f"sinks={sinks} without a window: every key is in sight already; give window=, or leave sinks=0"
        )


def _check_tensors(q: Tensor, k: Tensor, v: Tensor) -> None:
    for name, x in (("q", q), ("k", k), ("v", v)):
        if not isinstance(x, Tensor):
            raise TypeError(f"{name} is a {type(x).__name__}: expected a torch.Tensor; convert it with torch.as_tensor")
        if x.ndim != 4:
            raise ValueError(
                f"{name} has shape {tuple(x.shape)}: expected 4 dimensions (batch, heads, time, d). "
                "Split the heads with x.unflatten(-1, (heads, d)).transpose(1, 2); add a missing batch with x[None]."
            )
        if x.dtype not in DTYPES:
            raise TypeError(
                f"{name} has dtype {x.dtype}: expected float16, bfloat16, float32 or float64; use {name}.float()"
            )
    if not q.dtype == k.dtype == v.dtype:
        raise TypeError(
            f"q, k, v have dtypes {q.dtype}, {k.dtype}, {v.dtype}: expected one; convert with x.to(q.dtype)"
        )
    if not q.device == k.device == v.device:
        raise ValueError(
            f"q, k, v are on {q.device}, {k.device}, {v.device}: expected one device; move with x.to(q.device)"
        )


def _check_shapes(q: Tensor, k: Tensor, v: Tensor, enable_gqa: bool) -> None:
    shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}"
    if not q.shape[0] == k.shape[0] == v.shape[0]:
        raise ValueError(f"{shapes}: the batch sizes differ; expand the smaller one with x.expand(batch, -1, -1, -1)")
    if k.shape[1] != v.shape[1]:
        raise ValueError(f"{shapes}: k has {k.shape[1]} heads and v has {v.shape[1]}; expected as many of each")
    if k.shape[2] != v.shape[2]:
        raise ValueError(f"{shapes}: {k.shape[2]} keys but {v.shape[2]} values; expected one value per key")
    if q.shape[3] != k.shape[3]:
        raise ValueError(f"{shapes}: a query has size {q.shape[3]} and a key {k.shape[3]}; expected the same d")
    if q.shape[3] == 0 or v.shape[3] == 0:
        raise ValueError(
            f"{shapes}: the head size d is 0; expected 1 or more (is d_model smaller than the number of heads?)"
        )
    heads, kv_heads = q.shape[1], k.shape[1]
    if heads == 0 or kv_heads == 0:
        raise ValueError(f"{shapes}: there are no heads; expected 1 or more")
    if heads != kv_heads and not enable_gqa:
        raise ValueError(
            f"{shapes}: {heads} query heads but {kv_heads} key heads; expected as many of each, "
            "or enable_gqa=True to let each group of query heads share a key head"
        )
    if heads % kv_heads:
        raise ValueError(f"{shapes}: {heads} query heads cannot be shared evenly among {kv_heads} key heads")


def _checked_mask(mask: Tensor | None, q: Tensor, k: Tensor) -> Tensor | None:
    if mask is None:
        return None
    if not isinstance(mask, Tensor):
        raise TypeError(
            f"mask is a {type(mask).__name__}: expected a torch.Tensor, boolean (True = may look) or a float bias"
        )
    if mask.dtype not in (torch.bool, torch.float32, q.dtype):
        raise TypeError(
            f"mask has dtype {mask.dtype}: expected torch.bool (True = may look), or a bias in {q.dtype} or float32; "
            "a 0/1 mask becomes boolean with mask.bool()"
        )
    if mask.dtype == torch.float32 and q.dtype == torch.float64:
        raise TypeError(
            "mask has dtype torch.float32 and q torch.float64: expected a bias in float64; use mask.double()"
        )
    if mask.device != q.device:
        raise ValueError(f"mask is on {mask.device} and q on {q.device}: expected one device; use mask.to(q.device)")
    full = (q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    try:
        fits = torch.broadcast_shapes(mask.shape, full) == full
    except RuntimeError:
        fits = False
    if not fits:
        hint = ""
        if tuple(mask.shape) == (full[0], full[3]):
            hint = " One row per sequence (padding) is mask[:, None, None, :]."
        elif tuple(mask.shape) == (full[0], full[2], full[3]):
            hint = " One matrix per sequence is mask[:, None]."
        raise ValueError(
            f"mask has shape {tuple(mask.shape)}: "
            f"expected one that broadcasts to (batch, heads, queries, keys) = {full}.{hint}"
        )
    return mask


def _checked_number(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is a {type(value).__name__}: expected a Python number (of a tensor, x.item())")
    if not math.isfinite(value):
        raise ValueError(f"{name}={value}: expected a finite number")
    return float(value)


def _checked_probability(value: float) -> float:
    p = _checked_number("dropout_p", value)
    if not 0 <= p < 1:
        raise ValueError(f"dropout_p={value}: expected 0 <= dropout_p < 1 (0 switches dropout off, as evaluation does)")
    return p
