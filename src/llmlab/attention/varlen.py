"""Attention over sequences of different lengths laid end to end, so that no padding is computed.

A batch of lengths 3, 5, 2 is one tensor of 10 rows and ``cu_seqlens`` = [0, 3, 8, 10], the cumulative lengths: sequence
``i`` is the rows ``cu_seqlens[i]`` to ``cu_seqlens[i + 1]``. Queries and keys may have lengths of their own; the rules
hold within each sequence, causal bottom-right. The layout is that of FlashAttention's ``flash_attn_varlen_func``.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal, overload

import torch
from jaxtyping import Float, Int
from torch import Tensor

import llmlab.attention as backends
from llmlab.attention import triton
from llmlab.attention.contract import BackendError, autocast, checked

__all__ = ["varlen_attention"]


@overload
def varlen_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    *,
    causal: bool = ...,
    window: int | None = ...,
    sinks: int = ...,
    scale: float | None = ...,
    enable_gqa: bool = ...,
    dropout_p: float = ...,
    backend: str = ...,
    return_lse: Literal[False] = ...,
) -> Tensor: ...
@overload
def varlen_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    *,
    causal: bool = ...,
    window: int | None = ...,
    sinks: int = ...,
    scale: float | None = ...,
    enable_gqa: bool = ...,
    dropout_p: float = ...,
    backend: str = ...,
    return_lse: Literal[True],
) -> tuple[Tensor, Tensor]: ...
def varlen_attention(
    q: Float[Tensor, "total_queries heads d"],
    k: Float[Tensor, "total_keys kv_heads d"],
    v: Float[Tensor, "total_keys kv_heads d_value"],
    cu_seqlens_q: Int[Tensor, " sequences_and_one"],
    cu_seqlens_k: Int[Tensor, " sequences_and_one"],
    *,
    causal: bool = False,
    window: int | None = None,
    sinks: int = 0,
    scale: float | None = None,
    enable_gqa: bool = False,
    dropout_p: float = 0.0,
    backend: str = "auto",
    return_lse: bool = False,
) -> (
    Float[Tensor, "total_queries heads d_value"]
    | tuple[Float[Tensor, "total_queries heads d_value"], Float[Tensor, "total_queries heads"]]
):
    """:func:`llmlab.attention.attention` of every sequence with its own keys and values. Time: sum of queries x keys.

    Args:
        cu_seqlens_q, cu_seqlens_k: cumulative lengths of the queries and of the keys, whole numbers that begin with 0,
            never fall and end with the number of rows. Kept on the CPU they spare a GPU a wait, since they are checked.
        backend: "auto"; "triton", one kernel for all sequences; or another name from ``attention_backends``, which is
            called once a sequence.

    The other arguments, what is returned and what is raised: as ``attention``; there is no mask.
    """
    q, k, v = autocast(q, k, v)
    for name, x in (("q", q), ("k", k), ("v", v)):
        if isinstance(x, Tensor) and x.ndim != 3:
            raise ValueError(
                f"{name} has shape {tuple(x.shape)}: expected 3 dimensions (rows of all sequences, heads, d)"
            )
    rule: dict[str, Any] = {"causal": causal, "window": window, "sinks": sinks}
    options: dict[str, Any] = rule | {"scale": scale, "enable_gqa": enable_gqa, "dropout_p": dropout_p}
    as_one = [x.transpose(0, 1)[None] if isinstance(x, Tensor) else x for x in (q, k, v)]
    call = checked(as_one[0], as_one[1], as_one[2], **options, mask=None, return_lse=return_lse)
    ends_q = _checked_ends("cu_seqlens_q", cu_seqlens_q, "q", q)
    ends_k = _checked_ends("cu_seqlens_k", cu_seqlens_k, "k", k)
    if len(ends_q) != len(ends_k):
        raise ValueError(
            f"cu_seqlens_q names {len(ends_q) - 1} sequences and cu_seqlens_k {len(ends_k) - 1}: expected as many of "
            "each; a sequence without keys repeats a number"
        )
    reason = triton.refusal(call)
    if backend == "triton" and reason is not None:
        raise BackendError(f"backend='triton' cannot do this: {reason}; backend='auto' takes one sequence at a time")
    if backend == "triton" or (backend == "auto" and q.is_cuda and reason is None):
        from llmlab.attention.triton import ops

        longest_q, longest_k = (max((b - a for a, b in pairwise(ends)), default=0) for ends in (ends_q, ends_k))
        output, lse = ops.varlen(q, k, v, cu_seqlens_q, cu_seqlens_k, longest_q, longest_k, **rule, scale=call.scale)
        return (output, lse) if return_lse else output
    outputs = [q.new_zeros(0, q.shape[1], v.shape[2])]
    lses = [q.new_zeros(0, q.shape[1], dtype=torch.promote_types(q.dtype, torch.float32))]
    for (a, b), (c, d) in zip(pairwise(ends_q), pairwise(ends_k)):
        one_q, one_k, one_v = (x.transpose(0, 1)[None] for x in (q[a:b], k[c:d], v[c:d]))
        if return_lse:
            output, lse = backends.attention(one_q, one_k, one_v, **options, backend=backend, return_lse=True)
            lses.append(lse[0].T)
        else:
            output = backends.attention(one_q, one_k, one_v, **options, backend=backend)
        outputs.append(output[0].transpose(0, 1))
    return (torch.cat(outputs), torch.cat(lses)) if return_lse else torch.cat(outputs)


def _checked_ends(name: str, ends: Tensor, of: str, x: Tensor) -> list[int]:
    """The cumulative lengths as Python numbers."""
    if not isinstance(ends, Tensor) or ends.dtype not in (torch.int32, torch.int64):
        found = ends.dtype if isinstance(ends, Tensor) else f"a {type(ends).__name__}"
        raise TypeError(f"{name} is {found}: expected a torch.Tensor of int32 or int64, as torch.tensor([0, 3, 8])")
    if ends.ndim != 1 or len(ends) == 0:
        raise ValueError(f"{name} has shape {tuple(ends.shape)}: expected (sequences + 1,), beginning with 0")
    numbers = ends.tolist()
    rows = len(x)
    if numbers[0] != 0 or numbers[-1] != rows:
        hint = " These look like lengths; their running sum is meant." if sum(numbers) == rows else ""
        raise ValueError(
            f"{name} goes from {numbers[0]} to {numbers[-1]}: expected from 0 to the {rows} rows of {of}.{hint}"
        )
    for i, (a, b) in enumerate(pairwise(numbers)):
        if b < a:
            raise ValueError(
                f"{name} falls from {a} to {b} at sequence {i}: expected cumulative lengths, never falling"
            )
    return numbers
