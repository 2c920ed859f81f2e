"""The smallest decent recipe: shuffled batches, AdamW, warm-up then cosine, clipped gradients, one seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from llmlab.train.optim import decay_groups
from llmlab.train.schedules import warmup_cosine
from llmlab.train.trainer import History, train_model

__all__ = ["fit"]


def fit(
    model: nn.Module,
    loss_of: Callable[[list[int]], Tensor],
    lengths: Sequence[int],
    *,
    epochs: int,
    batch_size: int = 32,
    lr: float = 1e-3,
    weight_decay: float = 0.01,
    warmup: float = 0.1,
    clip: float = 1.0,
    seed: int = 0,
    max_steps: int | None = None,
    evaluate: Callable[[], float] | None = None,
) -> History:
    """Train the parameters of ``model`` that require gradients, in place.

    It is :func:`llmlab.train.train_model` with these choices made: torch's AdamW, warm-up and cosine, one micro-batch.

    Args:
        loss_of: the mean loss of the examples with these indices. It is where the task lives; the loop knows none.
        lengths: of every example, for batches with little padding; its size is the number of examples.
        lr: the highest learning rate. 1e-3 suits a small model from scratch; 2e-5 to 5e-5 a pre-trained one.
        weight_decay: on matrices only; biases and norms are left alone.
        warmup: share of the steps that the learning rate rises.
        clip: the gradient's norm is brought down to this when it is larger.
        max_steps: stop early, with the schedule of the whole run (for a look at the beginning of one).
        evaluate: called after every epoch; its score is recorded.

    Raises:
        ValueError: no example, or no parameter to train.
        FloatingPointError: the loss is no longer a finite number.
    """
    groups = decay_groups(model.parameters(), weight_decay)
    if not lengths or not groups:
        tensors = sum(len(group["params"]) for group in groups)
        raise ValueError(f"nothing to do: {len(lengths)} examples, {tensors} tensors that require gradients")
    total = epochs * math.ceil(len(lengths) / max(1, batch_size))
    return train_model(
        model,
        loss_of,
        lengths,
        torch.optim.AdamW(groups, lr=lr),  # not ours: shipped records hold torch's digits to the last bit
        epochs=epochs,
        batch_size=batch_size,
        schedule=partial(warmup_cosine, total=total, warmup=max(1, int(warmup * total))),
        clip=clip,
        seed=seed,
        max_steps=max_steps,
        evaluate=evaluate,
    )
