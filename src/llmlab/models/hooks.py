"""Open a transformers model at its attention: read the q, k, v that really flow, or put another attention in.

transformers looks its attention function up by name, so no copy of the model's code is needed
(``transformers.AttentionInterface``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmlab.attention import attention

__all__ = ["LayerAttention", "capture_attention", "perplexity", "replaced_attention"]

NAME = "llmlab_hook"

#: (layer, q, k, v, scale) -> output, with q (batch, heads, time, d) and k, v (batch, kv_heads, time, d)
AttentionFunction = Callable[[int, Tensor, Tensor, Tensor, float], Tensor]


@dataclass(frozen=True)
class LayerAttention:
    """What one layer's attention took in and gave out.

    q has ``heads``, k and v have ``kv_heads`` heads (grouped-query attention); q and k already carry their positions.
    """

    layer: int
    x: Float[Tensor, "batch time width"]
    q: Float[Tensor, "batch heads time d"]
    k: Float[Tensor, "batch kv_heads time d"]
    v: Float[Tensor, "batch kv_heads time d"]
    out: Float[Tensor, "batch heads time d"]
    scale: float


@contextmanager
def replaced_attention(model: Any, function: AttentionFunction) -> Iterator[None]:
    """Within the block, every layer of a decoder calls ``function`` instead of its own attention.

    No mask is handed over: ``function`` masks by itself, and sequences come without padding. Not for two models in
    two threads at once: transformers keeps the functions by name, for all models.

    Args:
        model: a transformers decoder with ``config`` and a layer index on its attention modules.
        function: see :data:`AttentionFunction`.
    """
    from transformers import AttentionInterface

    def adapter(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **options: Any) -> tuple[Tensor, None]:
        scale = options.get("scaling") or query.shape[-1] ** -0.5
        return function(module.layer_idx, query, key, value, scale).transpose(1, 2).contiguous(), None

    before = model.config._attn_implementation
    AttentionInterface.register(NAME, adapter)
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


@torch.no_grad()
def capture_attention(model: Any, ids: Int[Tensor, "batch time"]) -> list[LayerAttention]:
    """Run ``model`` on ``ids`` and return, for every layer, what its attention took in and gave out.

    Memory: 5 tensors of the size of one layer's activations for every layer.
    """
    inputs: dict[int, Tensor] = {}
    seen: list[LayerAttention] = []

    def remember(module: Any, args: Any, kwargs: Any) -> None:
        inputs[module.layer_idx] = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]

    def spy(layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        out = attention(q, k, v, causal=True, scale=scale, enable_gqa=True)
        seen.append(LayerAttention(layer, inputs[layer], q, k, v, out, scale))
        return out

    modules = [m for m in model.modules() if hasattr(m, "layer_idx") and hasattr(m, "q_proj")]
    handles = [m.register_forward_pre_hook(remember, with_kwargs=True) for m in modules]
    try:
        with replaced_attention(model, spy):
            model(ids, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return sorted(seen, key=lambda layer: layer.layer)


@torch.no_grad()
def perplexity(model: Any, ids: Int[Tensor, "batch time"]) -> float:
    """exp of the mean negative log-likelihood of every token but the first, in the model's own tokens.

    Raises:
        ValueError: fewer than two tokens: there is nothing to predict.
    """
    if ids.shape[-1] < 2:
        raise ValueError(f"ids has {ids.shape[-1]} token(s); perplexity needs two or more")
    logits = model(ids, use_cache=False).logits[:, :-1].float()
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).exp().item()
