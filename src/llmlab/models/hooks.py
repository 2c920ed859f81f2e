"""Open a transformers decoder at its attention: read what really flows, or put another attention in.

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

__all__ = ["AttentionCall", "capture_attention", "perplexity", "replaced_attention"]

NAME = "llmlab_hook"


@dataclass(frozen=True)
class AttentionCall:
    """What reaches the attention of one layer.

    ``q`` has ``heads`` heads, ``k`` and ``v`` have ``kv_heads`` (grouped-query attention); ``q`` and ``k`` already
    carry their positions. ``x`` is the layer's normalised input, from which all three were projected.
    """

    layer: int
    x: Float[Tensor, "batch time width"]
    q: Float[Tensor, "batch heads time d"]
    k: Float[Tensor, "batch kv_heads keys d"]
    v: Float[Tensor, "batch kv_heads keys d"]
    scale: float

    @property
    def shared(self) -> tuple[Tensor, Tensor]:
        """k and v with every head written out, as (batch, heads, keys, d): consecutive query heads share one."""
        group = self.q.shape[1] // self.k.shape[1]
        return self.k.repeat_interleave(group, dim=1), self.v.repeat_interleave(group, dim=1)


#: takes one call and returns the heads' outputs, (batch, heads, time, d)
AttentionFunction = Callable[[AttentionCall], Tensor]


@contextmanager
def replaced_attention(model: Any, function: AttentionFunction) -> Iterator[None]:
    """Within the block, every layer of a decoder calls ``function`` instead of its own attention.

    No mask is handed over: ``function`` masks by itself, and sequences come without padding. Not for two models in
    two threads at once: transformers keeps its attention functions by name, for all models.

    Args:
        model: a transformers decoder of the Llama family.
        function: from an :class:`AttentionCall` to the output of every head.
    """
    from transformers import AttentionInterface

    inputs: dict[int, Tensor] = {}

    def remember(module: Any, args: Any, kwargs: Any) -> None:
        inputs[module.layer_idx] = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]

    def adapter(module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Any, **options: Any) -> tuple[Tensor, None]:
        scale = options.get("scaling") or q.shape[-1] ** -0.5
        out = function(AttentionCall(module.layer_idx, inputs[module.layer_idx], q, k, v, scale))
        if out.shape != q.shape:
            raise ValueError(f"the replaced attention returned {tuple(out.shape)}; expected {tuple(q.shape)} as in q")
        return out.transpose(1, 2).contiguous(), None

    modules = [m for m in model.modules() if hasattr(m, "layer_idx") and hasattr(m, "q_proj")]
    if not modules:
        raise TypeError(f"{type(model).__name__} has no attention module with layer_idx and q_proj (Llama family)")
    handles = [m.register_forward_pre_hook(remember, with_kwargs=True) for m in modules]
    before = model.config._attn_implementation
    AttentionInterface.register(NAME, adapter)
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
        for handle in handles:
            handle.remove()


@torch.no_grad()
def capture_attention(model: Any, ids: Int[Tensor, "batch time"]) -> list[AttentionCall]:
    """Run ``model`` on ``ids`` and return what reached the attention of every layer, first layer first."""
    seen: list[AttentionCall] = []

    def spy(call: AttentionCall) -> Tensor:
        seen.append(call)
        return attention(call.q, call.k, call.v, causal=True, scale=call.scale, enable_gqa=True)

    with replaced_attention(model, spy):
        model(ids, use_cache=False)
    return sorted(seen, key=lambda call: call.layer)


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
