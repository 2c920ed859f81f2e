"""What sampling may draw from: each filter takes logits and gives logits, with -inf for tokens that are out.

A filter keeps at least the most likely token. Their order matters: each sees what the one before it left.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["min_p", "temperature", "top_k", "top_p"]

Logits = Float[Tensor, "*batch vocabulary"]


def temperature(logits: Logits, t: float) -> Logits:
    """Logits divided by ``t``: below 1 the likely become likelier, above 1 the distribution is flatter.

    Raises:
        ValueError: ``t`` is not above 0. The limit at 0 is greedy decoding, which divides by nothing.
    """
    if not t > 0:
        raise ValueError(f"temperature={t}: expected a number above 0; for 0 take the largest logit")
    return logits / t


def top_k(logits: Logits, k: int) -> Logits:
    """The ``k`` largest logits (and any equal to the smallest of them); all, if there are no more than ``k``.

    Raises:
        ValueError: ``k`` is below 1.

    Source: Fan et al., 2018 (arXiv:1805.04833).
    """
    if k < 1:
        raise ValueError(f"top_k={k}: expected 1 or more tokens")
    smallest = logits.topk(min(k, logits.shape[-1]), dim=-1).values[..., -1:]
    return logits.masked_fill(logits < smallest, -torch.inf)


def top_p(logits: Logits, p: float) -> Logits:
    """The nucleus: the fewest tokens, most likely first, whose probabilities add up to ``p`` or more.

    Raises:
        ValueError: ``p`` is not above 0 and at most 1.

    Cost: one sort of the vocabulary. Source: Holtzman et al., 2019 (arXiv:1904.09751), section 3.1.
    """
    if not 0 < p <= 1:
        raise ValueError(f"top_p={p}: expected a probability above 0 and at most 1")
    if p == 1:
        return logits  # a sum of rounded numbers may reach 1 before the last token
    ordered, places = logits.sort(dim=-1, descending=True)
    probabilities = ordered.softmax(dim=-1)
    before = probabilities.cumsum(dim=-1) - probabilities  # 0 for the first, which therefore stays
    out = torch.zeros_like(before, dtype=torch.bool).scatter(-1, places, before >= p)
    return logits.masked_fill(out, -torch.inf)


def min_p(logits: Logits, p: float) -> Logits:
    """The tokens at least ``p`` times as likely as the likeliest: many where the model is unsure, few where it is sure.

    Raises:
        ValueError: ``p`` is not between 0 and 1.

    Source: Nguyen et al., 2024 (arXiv:2407.01082).
    """
    if not 0 <= p <= 1:
        raise ValueError(f"min_p={p}: expected a share between 0 and 1")
    probabilities = logits.softmax(dim=-1)
    return logits.masked_fill(probabilities < p * probabilities.amax(dim=-1, keepdim=True), -torch.inf)
