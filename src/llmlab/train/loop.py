"""The smallest decent training loop: shuffled batches, AdamW, warm-up then cosine, clipped gradients, one seed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

__all__ = ["History", "bucket_by_length", "fit", "warmup_cosine"]


@dataclass
class History:
    """What a run did: the loss of every step, and what ``evaluate`` said after every epoch."""

    losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)


def bucket_by_length(lengths: Sequence[int], batch_size: int, rng: random.Random) -> Iterator[list[int]]:
    """Batches of indices of similar length, in random order: little padding, and another mix every epoch.

    The indices are shuffled, cut into pools of 50 batches, sorted by length inside a pool, cut into batches, and the
    batches of all pools are shuffled. Every index comes exactly once.

    Raises:
        ValueError: ``batch_size`` is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: expected 1 or more")
    order = list(range(len(lengths)))
    rng.shuffle(order)
    pool = 50 * batch_size
    batches = []
    for start in range(0, len(order), pool):
        part = sorted(order[start : start + pool], key=lambda i: lengths[i])
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    rng.shuffle(batches)
    yield from batches


def warmup_cosine(step: int, total: int, warmup: int) -> float:
    """The factor on the learning rate at ``step`` (from 0): up in a line over ``warmup`` steps, then a cosine down.

    It reaches 1 at the end of the warm-up and 0 at ``total``. Source: Loshchilov and Hutter, 2016 (arXiv:1608.03983)
    for the cosine, Goyal et al., 2017 (arXiv:1706.02677) for the warm-up.
    """
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    return 0.5 * (1 + math.cos(math.pi * done))


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
    trained = [p for p in model.parameters() if p.requires_grad]
    if not lengths or not trained:
        raise ValueError(f"nothing to do: {len(lengths)} examples, {len(trained)} tensors that require gradients")
    groups = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=lr)
    total = epochs * math.ceil(len(lengths) / batch_size)
    rng, history = random.Random(seed), History()
    torch.manual_seed(seed)
    for _ in range(epochs):
        model.train()
        for batch in bucket_by_length(lengths, batch_size, rng):
            if len(history.losses) == max_steps:
                model.eval()
                return history
            for group in optimizer.param_groups:
                group["lr"] = lr * warmup_cosine(len(history.losses), total, max(1, int(warmup * total)))
            loss = loss_of(batch)
            history.losses.append(loss.item())
            if not math.isfinite(history.losses[-1]):
                raise FloatingPointError(f"the loss is {history.losses[-1]} at step {len(history.losses)}: lower lr")
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(trained, clip)
            optimizer.step()
        model.eval()
        if evaluate:
            history.scores.append(evaluate())
    return history
