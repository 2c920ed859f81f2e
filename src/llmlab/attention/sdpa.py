"""torch's ``scaled_dot_product_attention`` under our two rules.

Two things differ from calling it directly. Causal is aligned bottom-right (torch's ``is_causal`` is top-left, the same
only when queries and keys are as many), and a window exists. Both become an explicit mask only where torch's own flags
cannot say them, because a mask costs queries x keys bytes and the fused kernel's skipping of the upper triangle.
A fully masked row is zero in torch as well, since 2.5; the tests hold it to that.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from llmlab.attention.contract import Call
from llmlab.attention.masks import allowed_mask

__all__ = ["needs_mask", "refusal", "sdpa_attention"]


def refusal(call: Call) -> str | None:
    """Why this backend cannot take the call, or None."""
    if call.return_lse:
        return "torch's scaled_dot_product_attention does not return the log-sum-exp"
    return None


def needs_mask(queries: int, keys: int, causal: bool, window: int | None) -> bool:
    """Whether causal and window must be written out as a queries x keys mask."""
    if window is not None and window < max(queries, keys):
        return True
    return causal and queries not in (1, keys)  # one query is the last one and sees every key


def writes_table(call: Call) -> bool:
    """Whether a queries x keys mask would have to be written for this call that the caller did not bring."""
    queries, keys = call.q.shape[2], call.k.shape[2]
    if call.mask is None:
        return needs_mask(queries, keys, call.causal, call.window)
    brought = call.mask.ndim >= 2 and call.mask.shape[-2] != 1
    return not brought and queries > 1 and (call.causal or call.window is not None)


def sdpa_attention(
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
) -> tuple[Float[Tensor, "batch heads queries d_value"], None]:
    """The output; the log-sum-exp is not to be had. Time as naive, memory linear while no explicit mask is needed."""
    queries, keys = q.shape[2], k.shape[2]
    flag = causal and queries == keys and queries > 1
    # torch's is_causal multiplies its -inf by the scale afterwards: 0 or below gives NaN (2.13, CPU). A mask does not.
    refused = flag and scale is not None and scale <= 0
    if mask is not None or refused or needs_mask(queries, keys, causal, window):
        allowed = allowed_mask(queries, keys, causal=causal, window=window, sinks=sinks, mask=mask, device=q.device)
        if mask is None or mask.dtype == torch.bool:
            mask = allowed
        elif allowed is not None:
            mask = mask.masked_fill(~allowed, -torch.inf)
        flag = False
    output = scaled_dot_product_attention(
        q, k, v, attn_mask=mask, dropout_p=dropout_p, is_causal=flag, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
    )
    return output, None
