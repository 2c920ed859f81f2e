"""Direct preference optimisation: learn from pairs of answers, a better and a worse one, without a reward model.

One step, with adapters (:mod:`llmlab.train.lora`), so that the reference is the same model with them off:

    def logps(batch):                                            # a Batch of llmlab.train.sft
        return sequence_logprobs(model(batch.ids, batch.mask), batch.labels)

    with torch.no_grad(), adapters_off(model):
        ref_chosen, ref_rejected = logps(chosen), logps(rejected)
    found = dpo_loss(logps(chosen), logps(rejected), ref_chosen, ref_rejected)
    found.loss.backward()
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from llmlab.train.sft import IGNORE, token_losses

__all__ = ["Preference", "dpo_loss", "sequence_logprobs"]


class Preference(NamedTuple):
    """What :func:`dpo_loss` found.

    ``loss`` is to be minimised. ``chosen`` and ``rejected`` are the implicit rewards of the pairs, beta times how much
    more likely an answer has become than it was; ``accuracy`` is the share of pairs whose better answer has the larger.
    """

    loss: Float[Tensor, ""]
    chosen: Float[Tensor, " pairs"]
    rejected: Float[Tensor, " pairs"]
    accuracy: Float[Tensor, ""]


def sequence_logprobs(
    logits: Float[Tensor, "batch time vocabulary"], labels: Int[Tensor, "batch time"]
) -> Float[Tensor, " batch"]:
    """log p of each answer given its prompt: the sum over its counted tokens, in float32, not their mean.

    Raises:
        ValueError: a text of which no label counts; its log-probability would be 0, the best there is.
    """
    empty = (labels[:, 1:] == IGNORE).all(dim=1)
    if bool(empty.any()):
        raise ValueError(f"text {int(empty.nonzero()[0])} has no label that counts: its answer is empty or was cut off")
    return -token_losses(logits, labels).sum(dim=1)


def dpo_loss(
    chosen: Float[Tensor, " pairs"],
    rejected: Float[Tensor, " pairs"],
    reference_chosen: Float[Tensor, " pairs"],
    reference_rejected: Float[Tensor, " pairs"],
    beta: float = 0.1,
) -> Preference:
    """-log σ(beta · margin), averaged, with margin = (chosen - reference_chosen) - (rejected - reference_rejected).

    A model that is still its own reference has margin 0 and loss ln 2. The gradient of each pair is
    beta · σ(-beta · margin): pairs that are already told apart hardly count.

    Args:
        chosen, rejected: log-probabilities of the answers under the model that is trained.
        reference_chosen, reference_rejected: under the one it started from; no gradient goes there.
        beta: how dear it is to leave the reference: the larger, the smaller a margin will do.

    Raises:
        ValueError: ``beta`` not above 0, tensors of unequal shape, or a log-probability above 0 (a mean loss without
            its minus sign, most likely).

    Source: Rafailov et al., 2023 (arXiv:2305.18290), equation 7; the rewards are those of its section 5.
    """
    if not 0 < beta < math.inf:
        raise ValueError(f"beta={beta}: expected more than 0, 0.1 to 0.5 as a rule")
    given = {"chosen": chosen, "rejected": rejected}
    given |= {"reference_chosen": reference_chosen, "reference_rejected": reference_rejected}
    for name, value in given.items():
        if value.shape != chosen.shape or value.dim() != 1 or not len(value):
            raise ValueError(f"{name} has shape {tuple(value.shape)}: expected one number a pair, as chosen")
        if bool((value > 0).any()):
            raise ValueError(f"{name} has a log-probability of {value.max().item():.3g}: expected 0 or less")
    reward_chosen = beta * (chosen - reference_chosen.detach())
    reward_rejected = beta * (rejected - reference_rejected.detach())
    margin = reward_chosen - reward_rejected
    accuracy = (margin > 0).float().mean()
    return Preference(-F.logsigmoid(margin).mean(), reward_chosen.detach(), reward_rejected.detach(), accuracy)
