"""The vector of one word in one sentence, layer by layer, and whether such vectors know the word's sense."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from llmlab.models.stream import run_layers

__all__ = ["sense_scores", "word_rows", "word_states"]


def word_rows(offsets: Sequence[tuple[int, int]], start: int, end: int) -> list[int]:
    """Which tokens hold characters ``start`` to ``end`` of the text: a word may be several, and is seldom number 1.

    Args:
        offsets: the (first character, one behind the last) of every token; special tokens have (0, 0).

    Raises:
        ValueError: no token does: the text was cut before the word.
    """
    rows = [i for i, (a, b) in enumerate(offsets) if a < b and a < end and b > start]
    if not rows:
        raise ValueError(
            f"no token holds the characters {start} to {end}; the text reaches {max(b for _, b in offsets)}"
        )
    return rows


@torch.no_grad()
def word_states(
    model: Any, tokenizer: Any, texts: Sequence[str], spans: Sequence[tuple[int, int]], layers: int | None = None
) -> Float[Tensor, "points texts d"]:
    """The mean state of each text's word, before the first layer and after each one.

    Args:
        model: a transformers encoder of the BERT family, or a decoder of the Llama family.
        tokenizer: its fast tokenizer, which knows where in the text a token stands.
        texts, spans: the texts, and for each the word as (first character, one behind the last).
        layers: of a decoder, how many to run; None runs all. The states after the last one are not normed.

    Cost: one pass over all texts, padded to the longest.
    """
    batch = tokenizer(list(texts), padding=True, return_tensors="pt", return_offsets_mapping=True)
    offsets = [[(a, b) for a, b in one] for one in batch.pop("offset_mapping").tolist()]
    if hasattr(model, "model"):  # padding stands behind the text, where a causal model does not look
        points = [model.model.embed_tokens(batch.input_ids)]
        for layer in range(len(model.model.layers) if layers is None else layers):
            points.append(run_layers(model, points[-1], [layer]))
    else:
        points = list(model(**batch, output_hidden_states=True).hidden_states)
    states = torch.stack(points)
    found = [states[:, i, word_rows(offsets[i], *span)].mean(1) for i, span in enumerate(spans)]
    return torch.stack(found, dim=1)


def sense_scores(vectors: Float[Tensor, "texts d"], senses: Int[Tensor, " texts"]) -> Float[Tensor, " texts"]:
    """Leave one out: is each vector nearer to the mean of its own sense's others than to that of the other sense?

    1 for yes, 0 for no, ½ for a tie, which is what equal vectors give: a word that looks the same everywhere scores
    exactly chance. Nearness is the cosine after the mean of the other texts is taken off, since all vectors of a layer
    share a direction. Nothing is trained beyond the two means.

    Raises:
        ValueError: the senses are not 0 and 1, or one of them has fewer than two texts.

    Cost: O(texts² · d).
    """
    if sorted(set(senses.tolist())) != [0, 1] or senses.bincount().min() < 2:
        raise ValueError(f"senses={senses.tolist()}: expected zeros and ones, two or more of each")
    scores = []
    size = vectors.norm(dim=1).mean().clamp(min=1e-12)
    for i in range(len(senses)):
        others = torch.arange(len(senses)) != i
        centre = vectors[others].mean(0)
        away = vectors - centre
        away = away.masked_fill(away.norm(dim=1, keepdim=True) < 1e-4 * size, 0.0)  # rounding is no direction
        units = F.normalize(away, dim=1)
        zero, one = (F.normalize(units[others & (senses == k)].mean(0), dim=0) @ units[i] for k in (0, 1))
        nearer = one - zero if senses[i] else zero - one
        scores.append(0.5 if nearer.abs() < 1e-4 else float(nearer > 0))
    return torch.tensor(scores)
