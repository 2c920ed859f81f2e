"""Our attention inside models that we did not write: transformers takes it by name.

    import llmlab.models.interface
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="llmlab_tiled")

There is one name for each backend of :func:`llmlab.attention.attention`, and ``llmlab_auto``. transformers looks an
attention function up in one table (``AttentionInterface``) and the function that makes its mask in another
(``AttentionMaskInterface``). Without an entry in the second a custom attention is given no mask at all, and padding is
attended to without a word.

transformers writes the whole rule into the mask, queries x keys for every sequence. We need not: ``causal`` is an
argument of ours, so what is handed on is the padding alone, (batch, 1, 1, keys), or nothing. Only a rule that we cannot
name (a window, packed sequences, a static cache whose end is empty) comes as a whole table.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from llmlab.attention import BACKENDS, attention

__all__ = ["NAMES", "register"]

NAMES = tuple(f"llmlab_{backend}" for backend in (*BACKENDS, "auto"))

# What some models ask of their attention beyond the contract, and where.
FOREIGN = {
    "softcap": "a cap on the scores (Gemma 2)",
    "s_aux": "learned sink logits (gpt-oss)",
    "position_bias": "a bias by distance (T5)",
    "cache": "a paged cache (continuous batching)",
}


def register() -> tuple[str, ...]:
    """Make :data:`NAMES` known to transformers, and return them. Importing this module calls it; twice does no harm."""
    from transformers import AttentionInterface, AttentionMaskInterface

    for name in NAMES:
        AttentionInterface.register(name, partial(_attend, backend=name.removeprefix("llmlab_")))
        AttentionMaskInterface.register(name, _mask)
    return NAMES


def _attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    backend: str,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """One layer's attention, as transformers calls it: (batch, heads, time, d) in, (batch, time, heads, d) out."""
    for name, what in FOREIGN.items():
        if options.get(name) is not None:
            raise ValueError(f"llmlab_{backend}: {type(module).__name__} asks for {name}, {what}; use 'eager' for it")
    if options.get("output_attentions"):
        raise ValueError(
            f"llmlab_{backend} keeps no attention weights: set attn_implementation='eager' for output_attentions=True, "
            "or take q and k with llmlab.models.hooks.capture_attention and call llmlab.attention.attention_weights"
        )
    causal = bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)
    mask = attention_mask
    if mask is not None and mask.ndim == 4 and mask.shape[2] != 1:
        causal = False  # one row for every query: the mask is the whole rule
        if mask.stride(2) == 0:
            mask = mask[:, :, :1]  # the same row for all of them: say it once, since not every backend takes a table
    output = attention(
        query,
        key,
        value,
        causal=causal,
        mask=mask,
        scale=scaling,
        enable_gqa=True,
        dropout_p=dropout,
        backend=backend,
    )
    return output.transpose(1, 2).contiguous(), None


def _mask(
    *,
    batch_size: int,
    q_length: int,
    kv_length: int,
    mask_function: Callable[..., Any],
    q_offset: int = 0,
    kv_offset: int = 0,
    attention_mask: Tensor | None = None,
    **options: Any,
) -> Tensor | None:
    """The mask that :func:`_attend` is given, True = may look: None, one row of keys a sequence, or the whole table."""
    from transformers.masking_utils import bidirectional_mask_function, causal_mask_function, sdpa_mask

    options |= {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
    whole: Callable[..., Any] = partial(
        sdpa_mask, batch_size=batch_size, kv_length=kv_length, kv_offset=kv_offset, attention_mask=attention_mask
    )
    # Bottom-right is what "causal" means to us: the last query stands at the last key.
    ours = mask_function is causal_mask_function and q_offset + q_length == kv_offset + kv_length
    if not ours and mask_function is not bidirectional_mask_function:
        return whole(q_length=q_length, q_offset=q_offset, mask_function=mask_function, **options)
    row: Tensor = whole(q_length=1, mask_function=bidirectional_mask_function, **options)
    # A decoder whose config forbids is_causal keeps modules that say is_causal: only a table overrules those.
    if not ours and not getattr(options.get("config"), "is_causal", True):
        return row.expand(-1, -1, q_length, -1)
    return None if row.all() else row


register()
