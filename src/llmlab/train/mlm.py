"""Masked language modelling: which tokens are hidden, what stands in their place, and the loss on those alone.

BERT's rule has two steps. A share of the tokens is chosen, and only they are predicted; of the chosen ones most become
``[MASK]``, some become a random token and some stay as they are, so that no state can know whether its own token is to
be trusted. Special tokens and padding are never chosen.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from llmlab.models.encoder import Encoder

__all__ = ["IGNORED", "Masked", "chosen_words", "masked_word_loss", "mask_tokens"]

#: The label of a token that is not predicted; torch's cross-entropy leaves it out by this number.
IGNORED = -100


class Masked(NamedTuple):
    """What the model reads, and what it must say: the original token where one was chosen, -100 elsewhere."""

    inputs: Int[Tensor, "batch time"]
    labels: Int[Tensor, "batch time"]


def mask_tokens(
    ids: Int[Tensor, "batch time"],
    keep: Bool[Tensor, "batch time"],
    *,
    mask_id: int,
    draw_from: tuple[int, int],
    generator: torch.Generator,
    rate: float = 0.15,
    shares: tuple[float, float] = (0.8, 0.1),
    words: Int[Tensor, "batch time"] | None = None,
) -> Masked:
    """BERT's masking, drawn anew at every call as RoBERTa does. ``ids`` is not changed.

    Args:
        ids: tokens.
        keep: True where a token must stay and is never predicted: special tokens and padding.
        mask_id: the number of ``[MASK]``.
        draw_from: random tokens are drawn from these numbers, the second excluded. transformers draws from the whole
            vocabulary, ``[PAD]`` and ``[MASK]`` included; leave those out by beginning after them.
        generator: the source of all random numbers.
        rate: the chance of every token, or of every word, to be chosen.
        shares: of the chosen tokens, those that become ``[MASK]`` and those that become a random one. The rest stays.
        words: the number of each token's word; given, a word is chosen with all its tokens or not at all
            (whole-word masking). What stands in its place is drawn for each token.

    Raises:
        ValueError: a rate or shares that are no probabilities, an empty range, or tensors that do not fit each other.

    Source: Devlin et al., 2018 (arXiv:1810.04805), section 3.1 and appendix A.1; drawn anew: Liu et al., 2019
    (arXiv:1907.11692), section 4.1. Cost: O(batch · time).
    """
    masked, random = shares
    if not 0 <= rate <= 1 or min(shares) < 0 or masked + random > 1 + 1e-9:
        raise ValueError(
            f"rate={rate}, shares={shares}: expected a rate in [0, 1], and two shares whose sum is 1 or less"
        )
    if not 0 <= draw_from[0] < draw_from[1]:
        raise ValueError(f"draw_from={draw_from}: expected (first, one behind the last), at least one token apart")
    if keep.shape != ids.shape or keep.dtype != torch.bool:
        raise ValueError(
            f"keep is {keep.dtype} of shape {tuple(keep.shape)}: expected torch.bool of shape {tuple(ids.shape)}, "
            "True where a token must not be masked"
        )
    chosen = chosen_words(ids, rate, generator, words) & ~keep
    # One number decides between the three fates: two coins would have to be told of each other.
    fate = torch.rand(ids.shape, generator=generator)
    drawn = torch.randint(*draw_from, ids.shape, generator=generator)
    inputs = torch.where(chosen & (fate < masked), mask_id, ids)
    inputs = torch.where(chosen & (fate >= masked) & (fate < masked + random), drawn, inputs)
    return Masked(inputs, torch.where(chosen, ids, IGNORED))


def chosen_words(
    ids: Int[Tensor, "batch time"],
    rate: float,
    generator: torch.Generator,
    words: Int[Tensor, "batch time"] | None = None,
) -> Bool[Tensor, "batch time"]:
    """True for the chosen tokens: each by its own draw, or, with ``words``, all tokens of a word by one draw.

    Raises:
        ValueError: ``words`` has another shape, or a negative number.
    """
    if words is None:
        return torch.rand(ids.shape, generator=generator) < rate
    if words.shape != ids.shape or (words.numel() and int(words.min()) < 0):
        raise ValueError(
            f"words has shape {tuple(words.shape)}: expected {tuple(ids.shape)}, the number of each token's word, from "
            "0 (any number will do for tokens to keep)"
        )
    count = int(words.max()) + 1 if words.numel() else 0
    return (torch.rand(len(ids), count, generator=generator) < rate).gather(1, words)


def masked_word_loss(
    model: Encoder, batch: Masked, mask: Bool[Tensor, "batch time"] | None = None
) -> Float[Tensor, ""]:
    """Mean cross-entropy in nats over the chosen tokens; 0 where a batch happens to have none.

    Only their states go through the head, whose product with the table is most of a small model's work.

    Args:
        model: an encoder with a head for masked words.
        batch: from :func:`mask_tokens`.
        mask: True where a token is real, as :meth:`Encoder.forward` takes it.
    """
    chosen = batch.labels != IGNORED
    logits = model.word_logits(model(batch.inputs, mask)[chosen])
    total = F.cross_entropy(logits, batch.labels[chosen], reduction="sum")
    return total / max(1, int(chosen.sum()))  # the mean of nothing would be NaN, and spoil the weights
