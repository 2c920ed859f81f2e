"""Attention kernels in Triton, after FlashAttention-2, each to be read beside its counterpart in ``tiled``.

``tiles`` says who sees whom and walks; ``forward`` and ``backward`` are the kernels; ``ops`` makes torch operators of
them; ``configs`` is the table of tile sizes, and ``resources`` compiles it for GPUs that need not be there. triton is
an optional extra and is imported when the first call needs it.
"""

from __future__ import annotations

import importlib.util
import os

import torch
from jaxtyping import Float
from torch import Tensor

from llmlab.attention.contract import BackendError, Call

__all__ = ["HEAD_SIZE", "refusal", "triton_attention"]

HEAD_SIZE = 128  # the largest for which the table has a line
GRID = 65535  # programs along the second and third axis of CUDA's grid: heads, sequences


def refusal(call: Call) -> str | None:
    """Why this backend cannot take the call, or None."""
    return unavailable(call.q) or _unsupported(call)


def unavailable(q: Tensor) -> str | None:
    """Why no kernel can run on a tensor such as ``q``, or None."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed; it needs Linux and pip install 'llmlab[triton]'"
    if q.device.type == "cuda":
        if torch.version.hip is not None:
            return "the kernels are configured for NVIDIA's GPUs, and this torch is built for AMD's"
        if torch.cuda.get_device_capability(q.device) < (8, 0):
            return f"{torch.cuda.get_device_name(q.device)} is older than the kernels' tensor cores (sm_80, Ampere)"
        return None
    if q.device.type != "cpu":
        return f"the kernels run on CUDA, and these tensors are on {q.device}"
    if not _interpreted():
        return (
            "the kernels need a CUDA GPU, and these tensors are on the CPU (to step through the kernels slowly there, "
            "set TRITON_INTERPRET=1 before Python starts)"
        )
    if q.dtype == torch.bfloat16:
        return "triton's interpreter computes bfloat16 wrongly (triton issue 11584); use float32 or float16 there"
    return None


def _interpreted() -> bool:
    """Whether the kernels are, or will be, interpreted. Without the variable they are not imported to find out."""
    if os.environ.get("TRITON_INTERPRET") != "1":
        return False
    from llmlab.attention.triton import ops

    return ops.INTERPRETED


def _unsupported(call: Call) -> str | None:
    q, v, mask = call.q, call.v, call.mask
    if q.dtype == torch.float64:
        return "the kernels compute in float32 and below, and q has float64"
    if max(q.shape[3], v.shape[3]) > HEAD_SIZE:
        return f"the kernels hold a head of at most {HEAD_SIZE} numbers; d={q.shape[3]}, d_value={v.shape[3]}"
    if max(q.shape[0], q.shape[1]) > GRID:
        return f"the kernels start one program a head and sequence, at most {GRID} each; q is {tuple(q.shape)}"
    if call.dropout_p:
        return f"the kernels have no dropout, and dropout_p={call.dropout_p}"
    if mask is not None and mask.dtype != torch.bool:
        return f"the kernels have no bias, and the mask has {mask.dtype}; they take a boolean (batch, 1, 1, keys)"
    if mask is not None and any(size != 1 for size in mask.shape[-3:-1]):
        return (
            f"the kernels take a mask of keys, (batch, 1, 1, keys), and this one has shape {tuple(mask.shape)}; "
            "causal, window and sinks are arguments of their own"
        )
    return None


def triton_attention(
    q: Float[Tensor, "batch heads queries d"],
    k: Float[Tensor, "batch kv_heads keys d"],
    v: Float[Tensor, "batch kv_heads keys d_value"],
    *,
    causal: bool = False,
    window: int | None = None,
    sinks: int = 0,
    mask: Tensor | None = None,
    scale: float | None = None,
    dropout_p: float = 0.0,
) -> tuple[Float[Tensor, "batch heads queries d_value"], Float[Tensor, "batch heads queries"]]:
    """The output and the log-sum-exp of each row of scores. Differentiable once, in q, k and v.

    Time is naive's less the tiles that causal and window rule out; memory is linear in time.

    Raises:
        BackendError: the kernels cannot do this, or not here; the message says why.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    reason = refusal(Call(q, k, v, causal, window, sinks, mask, scale, dropout_p, True))
    if reason is not None:
        raise BackendError(f"triton_attention cannot do this: {reason}")
    from llmlab.attention.triton import ops

    return ops.dense(q, k, v, mask, causal=causal, window=window, sinks=sinks, scale=scale)
