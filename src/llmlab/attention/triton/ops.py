"""The kernels as torch operators: what to allocate, what to launch, what torch's compiler and autograd need to know.

``torch.library.custom_op`` hides a kernel from whatever looks at the graph. It needs a *fake*, which says what comes
out (shapes, strides, dtypes) without computing, and a rule for the gradient. With both, torch.compile keeps the
operator whole and ``torch.library.opcheck`` holds all of it to what it says of itself.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from jaxtyping import Float, Int
from torch import Tensor

from llmlab.attention.triton import configs
from llmlab.attention.triton.backward import delta_kernel, dkdv_kernel, dq_kernel
from llmlab.attention.triton.forward import forward_kernel

__all__ = ["INTERPRETED", "dense", "varlen"]

# TRITON_INTERPRET=1 is read when a kernel is defined, so the kernel is asked rather than the environment.
INTERPRETED = not isinstance(forward_kernel, triton.JITFunction)

NONE = (0, 0, 0, 0)  # the strides of what is not given


def dense(
    q: Float[Tensor, "batch heads queries d"],
    k: Float[Tensor, "batch kv_heads keys d"],
    v: Float[Tensor, "batch kv_heads keys d_value"],
    mask: Tensor | None,
    *,
    causal: bool,
    window: int | None,
    sinks: int,
    scale: float,
) -> tuple[Float[Tensor, "batch heads queries d_value"], Float[Tensor, "batch heads queries"]]:
    """Output and log-sum-exp; ``mask`` is boolean and broadcasts to (batch, 1, 1, keys)."""
    if mask is not None:
        mask = mask[(None,) * (4 - mask.ndim)][:, 0, 0].expand(q.shape[0], k.shape[2])
    return attention_op(q, k, v, mask, None, None, q.shape[2], k.shape[2], causal, window, sinks, scale)


def varlen(
    q: Float[Tensor, "total_queries heads d"],
    k: Float[Tensor, "total_keys kv_heads d"],
    v: Float[Tensor, "total_keys kv_heads d_value"],
    cu_queries: Int[Tensor, " sequences_and_one"],
    cu_keys: Int[Tensor, " sequences_and_one"],
    max_queries: int,
    max_keys: int,
    *,
    causal: bool,
    window: int | None,
    sinks: int,
    scale: float,
) -> tuple[Float[Tensor, "total_queries heads d_value"], Float[Tensor, "total_queries heads"]]:
    """The same for packed sequences. ``max_queries`` and ``max_keys`` (the longest) say how many programs to start."""
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    cu_queries, cu_keys = (x.to(q.device, torch.int32) for x in (cu_queries, cu_keys))
    output, lse = attention_op(q, k, v, None, cu_queries, cu_keys, max_queries, max_keys, causal, window, sinks, scale)
    return output[0].transpose(0, 1), lse[0].transpose(0, 1)


@torch.library.custom_op("llmlab::triton_attention", mutates_args=())
def attention_op(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    cu_queries: Tensor | None,
    cu_keys: Tensor | None,
    max_queries: int,
    max_keys: int,
    causal: bool,
    window: int | None,
    sinks: int,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """(batch, heads, queries, d), or, with cumulative lengths, (1, heads, total, d)."""
    output, lse = _outputs(q, v)
    tile_q, tile_k, warps, stages = _config("forward", q, v)
    batch = _batch(q, cu_queries)
    if output.numel():
        with _device(q):
            forward_kernel[triton.cdiv(max_queries, tile_q), q.shape[1], batch](
                q, k, v, output, lse, mask, cu_queries, cu_keys,
                *(_strides(x, cu_queries) for x in (q, k, v, output, lse, mask)),
                max_queries, max_keys, q.shape[1] // k.shape[1], window, sinks, scale,
                CAUSAL=causal, **_sizes(q, v), TILE_Q=tile_q, TILE_K=tile_k, num_warps=warps, num_stages=stages,
            )  # fmt: skip
    return output, lse


@torch.library.custom_op("llmlab::triton_attention_backward", mutates_args=())
def attention_backward_op(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    cu_queries: Tensor | None,
    cu_keys: Tensor | None,
    output: Tensor,
    lse: Tensor,
    d_output: Tensor,
    d_lse: Tensor | None,
    max_queries: int,
    max_keys: int,
    causal: bool,
    window: int | None,
    sinks: int,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """dq, dk, dv by the three kernels of ``backward``."""
    dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    delta = torch.empty_like(lse)
    heads, kv_heads, batch = q.shape[1], k.shape[1], _batch(q, cu_queries)
    numbers = max_queries, max_keys, heads // kv_heads, window, sinks, scale
    with _device(q):
        if output.numel():
            tile_q, _, warps, stages = _config("dq", q, v)
            delta_kernel[triton.cdiv(max_queries, tile_q), heads, batch](
                output, d_output, d_lse, delta, cu_queries,
                *(_strides(x, cu_queries) for x in (output, d_output, d_lse, delta)),
                max_queries, D_VALUE=v.shape[3], TILE_DV=configs.padded(v.shape[3]), TILE_Q=tile_q,
                num_warps=warps, num_stages=stages,
            )  # fmt: skip
        if dq.numel():
            tile_q, tile_k, warps, stages = _config("dq", q, v)
            dq_kernel[triton.cdiv(max_queries, tile_q), heads, batch](
                q, k, v, d_output, lse, delta, dq, mask, cu_queries, cu_keys,
                *(_strides(x, cu_queries) for x in (q, k, v, d_output, lse, dq, mask)), *numbers,
                CAUSAL=causal, **_sizes(q, v), TILE_Q=tile_q, TILE_K=tile_k, num_warps=warps, num_stages=stages,
            )  # fmt: skip
        if dk.numel():
            tile_q, tile_k, warps, stages = _config("dkdv", q, v)
            dkdv_kernel[triton.cdiv(max_keys, tile_k), kv_heads, batch](
                q, k, v, d_output, lse, delta, dk, dv, mask, cu_queries, cu_keys,
                *(_strides(x, cu_queries) for x in (q, k, v, d_output, lse, dk, dv, mask)), *numbers,
                CAUSAL=causal, **_sizes(q, v), TILE_Q=tile_q, TILE_K=tile_k, num_warps=warps, num_stages=stages,
            )  # fmt: skip
    return dq, dk, dv


@attention_op.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return _outputs(q, v)


@attention_backward_op.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.max_queries, ctx.max_keys, ctx.causal, ctx.window, ctx.sinks, ctx.scale = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.set_materialize_grads(False)  # an lse that nobody used has no gradient: None instead of a tensor of zeros


def _backward(ctx: Any, d_output: Tensor | None, d_lse: Tensor | None) -> tuple[Tensor | None, ...]:
    *inputs, output, lse = ctx.saved_tensors
    if d_output is None:
        d_output = torch.zeros_like(output)
    numbers = ctx.max_queries, ctx.max_keys, ctx.causal, ctx.window, ctx.sinks, ctx.scale
    return *attention_backward_op(*inputs, output, lse, d_output, d_lse, *numbers), *(None,) * 9


attention_op.register_autograd(_backward, setup_context=_keep)


def _outputs(q: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """In memory (batch, time, heads, d), so that joining the heads afterwards is a view."""
    batch, heads, queries, _ = q.shape
    output = q.new_empty(batch, queries, heads, v.shape[3]).transpose(1, 2)
    return output, q.new_empty(batch, heads, queries, dtype=torch.float32)


def _batch(q: Tensor, cu_queries: Tensor | None) -> int:
    return q.shape[0] if cu_queries is None else len(cu_queries) - 1


def _strides(x: Tensor | None, cu_queries: Tensor | None) -> tuple[int, ...]:
    """Packed sequences stand in one batch entry: they are told apart by their first row, not by a stride."""
    if x is None:
        return NONE
    return x.stride() if cu_queries is None else (0, *x.stride()[1:])


def _sizes(q: Tensor, v: Tensor) -> dict[str, int]:
    d, d_value = q.shape[3], v.shape[3]
    return {"D": d, "D_VALUE": d_value, "TILE_D": configs.padded(d), "TILE_DV": configs.padded(d_value)}


def _config(kernel: str, q: Tensor, v: Tensor) -> configs.Config:
    arch = "interpreter" if INTERPRETED else configs.architecture(torch.cuda.get_device_capability(q.device))
    return configs.config(kernel, arch, max(q.shape[3], v.shape[3]), q.element_size())


def _device(q: Tensor) -> torch.cuda.device:
    """Kernels start on the current device, which need not be that of the tensors. A CPU tensor has none (-1)."""
    return torch.cuda.device(q.device if q.is_cuda else -1)
