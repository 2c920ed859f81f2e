"""Switch attention heads of a transformers decoder off, and measure what the model misses.

A head's output reaches the rest of the model only through its slice of the output projection's input. To knock a head
out is to put zeros, or the head's mean output, into that slice; no copy of the model's code is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from llmlab.attention import attention_weights
from llmlab.models.hooks import capture_attention

__all__ = ["head_means", "knockout_losses", "previous_matching", "token_losses", "without_heads"]


@contextmanager
def without_heads(
    model: Any, heads: Iterable[tuple[int, int]], fill: Float[Tensor, "layers heads d"] | None = None
) -> Iterator[None]:
    """Within the block the named heads say nothing: their outputs are zero, or constant.

    Args:
        model: a transformers decoder of the Llama family.
        heads: pairs (layer, head), counted from 0.
        fill: what the heads say instead of zero, for instance :func:`head_means`.

    Raises:
        ValueError: the model has no such head.
    """
    layers, d = model.model.layers, model.model.layers[0].self_attn.head_dim
    count = model.config.num_attention_heads
    off: dict[int, set[int]] = {}
    for layer, head in heads:
        if not (0 <= layer < len(layers) and 0 <= head < count):
            raise ValueError(f"head ({layer}, {head}): expected a layer below {len(layers)} and a head below {count}")
        off.setdefault(layer, set()).add(head)

    def silence(layer: int) -> Any:
        def hook(module: Any, args: tuple[Tensor]) -> tuple[Tensor]:
            spoken = args[0].unflatten(-1, (count, d)).clone()
            for head in off[layer]:
                spoken[..., head, :] = 0 if fill is None else fill[layer, head].to(spoken.dtype)
            return (spoken.flatten(-2),)

        return hook

    handles = [layers[layer].self_attn.o_proj.register_forward_pre_hook(silence(layer)) for layer in off]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def head_means(model: Any, ids: Int[Tensor, "batch time"]) -> Float[Tensor, "layers heads d"]:
    """Each head's mean output over all tokens but the first of every row, which is an attention sink."""
    count, means = model.config.num_attention_heads, []

    def listen(module: Any, args: tuple[Tensor]) -> None:
        means.append(args[0][:, 1:].unflatten(-1, (count, -1)).mean((0, 1)))

    handles = [layer.self_attn.o_proj.register_forward_pre_hook(listen) for layer in model.model.layers]
    try:
        model.model(ids, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack(means)


@torch.no_grad()
def token_losses(model: Any, ids: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time-1"]:
    """The negative log-likelihood, in nats, of every token but the first."""
    return _losses(model, model.model(ids, use_cache=False).last_hidden_state, ids)


@torch.no_grad()
def knockout_losses(
    model: Any,
    ids: Int[Tensor, "batch time"],
    fill: Float[Tensor, "layers heads d"] | None = None,
    layers: Iterable[int] | None = None,
) -> Iterator[tuple[int, int, Float[Tensor, "batch time-1"]]]:
    """Knock out one head at a time: yields (layer, head, token losses without it).

    What lies below the head's layer does not change, so only the layers from there on run again: half the work of
    whole passes. ``layers`` picks some; all by default.
    """
    blocks = model.model.layers
    inputs: dict[int, tuple[tuple[Tensor, ...], dict[str, Any]]] = {}

    def remember(layer: int) -> Any:
        return lambda module, args, kwargs: inputs.__setitem__(layer, (args, kwargs))

    handles = [block.register_forward_pre_hook(remember(i), with_kwargs=True) for i, block in enumerate(blocks)]
    try:
        model.model(ids, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    for layer in range(len(blocks)) if layers is None else layers:
        for head in range(model.config.num_attention_heads):
            with without_heads(model, [(layer, head)], fill):
                (state, *rest), options = inputs[layer]
                for block in blocks[layer:]:
                    state = block(state, *rest, **options)
                yield layer, head, _losses(model, model.model.norm(state), ids)


@torch.no_grad()
def previous_matching(model: Any, ids: Int[Tensor, "batch time"], back: int) -> Float[Tensor, "layers heads"]:
    """How much of its attention each head puts ``back`` places before the query, averaged over the later tokens.

    On a text of random tokens that is written twice, ``back = length - 1`` points at the token that *followed* the
    query's first occurrence: the prefix-matching score of induction heads (Olsson et al., 2022, arXiv:2209.11895).

    Raises:
        ValueError: ``back`` does not lie within the text.
    """
    if not 0 <= back < ids.shape[1]:
        raise ValueError(f"back={back}: expected 0 to {ids.shape[1] - 1}, within the {ids.shape[1]} tokens")
    found = []
    for call in capture_attention(model, ids):
        weights = attention_weights(call.q, call.k, causal=True, scale=call.scale, enable_gqa=True)
        found.append(weights.diagonal(-back, -2, -1)[..., 1:].mean((0, 2)))
    return torch.stack(found)


def _losses(model: Any, state: Tensor, ids: Tensor) -> Tensor:
    logits = model.lm_head(state[:, :-1]).float()
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none").view(len(ids), -1)
