"""The residual stream of a transformers decoder: read it after every layer, and send it on through other layers.

The stream is what the layers add to. ``stream[0]`` is the embedding, ``stream[l]`` what ``l`` layers have made of it;
the model's last norm and its head read ``stream[-1]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["lens", "residual_stream", "run_layers", "token_losses"]


def _decoder(model: Any) -> Any:
    inner = getattr(model, "model", None)
    if not all(hasattr(inner, name) for name in ("layers", "norm", "rotary_emb", "embed_tokens")):
        raise TypeError(f"{type(model).__name__} is no decoder of the Llama family (model.layers, norm, rotary_emb)")
    return inner


@torch.no_grad()
def residual_stream(model: Any, ids: Int[Tensor, "batch time"]) -> Float[Tensor, "points batch time d"]:
    """The stream before the first layer and after each one: ``layers + 1`` points, no padding.

    Raises:
        TypeError: the model is not of the Llama family.
    """
    inner = _decoder(model)
    points = [inner.embed_tokens(ids)]
    for layer in range(len(inner.layers)):
        points.append(run_layers(model, points[-1], [layer]))
    return torch.stack(points)


@torch.no_grad()
def run_layers(model: Any, x: Float[Tensor, "batch time d"], layers: Sequence[int]) -> Float[Tensor, "batch time d"]:
    """Send the stream ``x`` through these layers in this order; leave one out, or swap two, and see.

    Cost: that of the layers named, so that a change in layer 20 does not pay for the first 19 again.

    Raises:
        IndexError: the model has no such layer.
    """
    from transformers.masking_utils import create_causal_mask

    inner = _decoder(model)
    if any(not 0 <= layer < len(inner.layers) for layer in layers):
        raise IndexError(f"layers={list(layers)}: this model has the layers 0 to {len(inner.layers) - 1}")
    positions = torch.arange(x.shape[1], device=x.device)[None]
    shared = {
        "attention_mask": create_causal_mask(
            config=model.config, inputs_embeds=x, attention_mask=None, past_key_values=None, position_ids=positions
        ),
        "position_embeddings": inner.rotary_emb(x, position_ids=positions),
        "position_ids": positions,
        "use_cache": False,
    }
    for layer in layers:
        x = inner.layers[layer](x, **shared)
    return x


@torch.no_grad()
def lens(model: Any, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch vocabulary"]:
    """The logit lens: the model's own last norm and head, applied to the stream at any point.

    At the last point these are the model's logits. Before it they are a reading through glasses made for the last
    layer: a token that is not on top may still be there in another basis (Belrose et al., 2023, arXiv:2303.08112).
    Source: nostalgebraist, 2020, "interpreting GPT: the logit lens" (LessWrong).
    """
    return model.lm_head(_decoder(model).norm(x))


@torch.no_grad()
def token_losses(
    model: Any, x: Float[Tensor, "batch time d"], ids: Int[Tensor, "batch time"]
) -> Float[Tensor, "batch next"]:
    """Negative log-likelihood in nats of every token but the first, read from the stream ``x`` through the lens."""
    logits = lens(model, x[:, :-1]).float()
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none").view(ids.shape[0], -1)
