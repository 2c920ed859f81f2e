"""The loop. There is one, and :func:`llmlab.train.fit` is a call of it with a recipe filled in."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from llmlab.train.batches import Position, walk
from llmlab.train.checkpoint import Checkpoints, random_state, restore_random
from llmlab.train.clip import clip_norm
from llmlab.train.schedules import constant
from llmlab.train.stopping import EarlyStopping

__all__ = ["History", "Step", "train_model"]


@dataclass
class History:
    """What a run did.

    Attributes:
        losses: of every step.
        scores: what ``evaluate`` said, each time.
        norms: of the gradient of every step, before clipping.
        scored_at: the number of steps before each of the scores.
    """

    losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    scored_at: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Step:
    """What a callback is told after a step: its number (from 1), the epoch (from 0), and what happened in it.

    ``factor`` is the schedule's, ``score`` is None where nothing was evaluated. ``model`` is the model itself.
    """

    step: int
    epoch: int
    loss: float
    norm: float
    factor: float
    score: float | None
    model: nn.Module


def train_model(
    model: nn.Module,
    loss_of: Callable[[list[int]], Tensor],
    lengths: Sequence[int],
    optimizer: torch.optim.Optimizer,
    *,
    epochs: int = 1,
    batch_size: int = 32,
    accumulate: int = 1,
    weight_of: Callable[[list[int]], float] = len,
    schedule: Callable[[int], float] = constant,
    clip: Callable[[list[Tensor]], float] | float | None = 1.0,
    seed: int = 0,
    max_steps: int | None = None,
    evaluate: Callable[[], float] | None = None,
    evaluate_every: int | None = None,
    stopping: EarlyStopping | None = None,
    callbacks: Iterable[Callable[[Step], Any]] = (),
    checkpoints: Checkpoints | None = None,
    bar: bool = False,
) -> History:
    """Train in place what ``optimizer`` holds, and leave the model in evaluation mode.

    One step: the schedule sets the rate, the loss of each micro-batch is differentiated, the sum of the gradients is
    clipped, the optimizer moves. Then, where they are due: ``evaluate``, the callbacks, a checkpoint.

    Args:
        loss_of: the mean loss of the examples with these indices. It is where the task lives; the loop knows none.
        lengths: of every example, for batches with little padding; its size is the number of examples.
        optimizer: of torch or of :mod:`llmlab.train.optim`. The rates it has now are the highest.
        batch_size: examples a step.
        accumulate: compute a step in so many micro-batches one after the other, with the memory of one of them.
        weight_of: over how much ``loss_of`` takes its mean. Examples, by default; give the number of counted tokens
            where it is a mean over tokens. With the wrong one accumulation is not the large batch.
        schedule: step (from 0) to a factor on the rates, see :mod:`llmlab.train.schedules`.
        clip: the limit of the gradient's norm; or a function that clips and returns the norm before, such as
            ``partial(clip_value, limit=1.0)``; None leaves gradients alone.
        max_steps: stop early, with the schedule of the whole run (for a look at the beginning of one).
        evaluate: its score is recorded, after every epoch or every ``evaluate_every`` steps.
        stopping: is told the scores, may end the run, and gives the model back its best weights when it is over.
        callbacks: each is called after every step.
        checkpoints: where to write them; a run that finds some goes on from the newest. The same call, run again after
            a kill, ends with the same weights, bit for bit. This holds for random numbers from the global generators
            of torch, Python and NumPy; a generator of your own inside ``loss_of`` is not known here.
        bar: show a progress bar.

    Raises:
        ValueError: no example, no parameter to train, a count below 1, ``stopping`` without ``evaluate``, or
            checkpoints of another run.
        FloatingPointError: the loss is no longer a finite number.
    """
    trained = _trained(model, optimizer)
    if not lengths or not trained:
        raise ValueError(f"nothing to do: {len(lengths)} examples, {len(trained)} tensors that require gradients")
    for name, count, least in (
        ("accumulate", accumulate, 1),
        ("evaluate_every", evaluate_every, 1),
        ("epochs", epochs, 0),
    ):
        if count is not None and count < least:
            raise ValueError(f"{name}={count}: expected {least} or more")
    if (stopping or evaluate_every) and not evaluate:
        raise ValueError("stopping and evaluate_every need scores: give evaluate=, a function that returns one")

    history = History()
    sizes = {"batch_size": batch_size, "accumulate": accumulate, "seed": seed}
    run = _Run(model, optimizer, history, stopping, _fingerprint(lengths, optimizer, sizes))
    saved = checkpoints.newest() if checkpoints else None
    torch.manual_seed(seed)
    start = run.load(saved) if saved else None
    steps = len(history.losses)
    total = epochs * math.ceil(len(lengths) / max(1, batch_size))
    shown_total = total if max_steps is None else min(total, max_steps)
    stop = stopping is not None and stopping.bad >= stopping.patience
    model.train()
    with _Bar(bar, shown_total, steps) as shown:
        for position, batch, last in walk(lengths, batch_size, epochs, seed, after=start):
            if stop or steps == max_steps:
                break
            factor = schedule(steps)
            loss, norm = run.step(loss_of, _split(batch, accumulate, weight_of), factor, clip, trained)
            steps += 1
            score = None
            if evaluate and (last if evaluate_every is None else steps % evaluate_every == 0):
                model.eval()
                score = evaluate()
                history.scores.append(score)
                history.scored_at.append(steps)
                stop = stopping is not None and stopping.update(score, model)
                model.train()
            for callback in callbacks:
                callback(Step(steps, position.epoch, loss, norm, factor, score, model))
            if checkpoints and steps % checkpoints.every == 0:
                checkpoints.save(steps, run.state(position))
            shown(loss)
    run.set_rates(1.0)  # or a second run with this optimizer would begin at the end of the schedule
    if stopping:
        stopping.restore(model)
    model.eval()
    return history


@dataclass
class _Run:
    """What changes while a run goes on: all that a checkpoint must hold."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    history: History
    stopping: EarlyStopping | None
    fingerprint: dict[str, int | str]

    def __post_init__(self) -> None:
        self.rates = [group["lr"] for group in self.optimizer.param_groups]

    def set_rates(self, factor: float) -> None:
        """The schedule at work: each group's rate is its highest one times ``factor``."""
        for group, rate in zip(self.optimizer.param_groups, self.rates):
            group["lr"] = rate * factor

    def step(
        self,
        loss_of: Callable[[list[int]], Tensor],
        pieces: list[tuple[list[int], float]],
        factor: float,
        clip: Callable[[list[Tensor]], float] | float | None,
        trained: list[Tensor],
    ) -> tuple[float, float]:
        """One step over the micro-batches and their shares; the loss and the gradient's norm before clipping."""
        self.set_rates(factor)
        self.optimizer.zero_grad()
        value = 0.0
        for indices, share in pieces:
            loss = loss_of(indices) * share
            value += loss.item()
            if not math.isfinite(value):
                raise FloatingPointError(f"the loss is {value} at step {len(self.history.losses) + 1}: lower lr")
            loss.backward()
        limit = math.inf if clip is None else clip
        norm = limit(trained) if callable(limit) else clip_norm(trained, limit)
        self.optimizer.step()
        self.history.losses.append(value)
        self.history.norms.append(norm)
        return value, norm

    def state(self, position: Position) -> dict[str, Any]:
        """For :meth:`load`. The schedule needs none, being a function of the step."""
        return {
            "fingerprint": self.fingerprint,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": asdict(self.history),
            "position": (position.epoch, position.done, position.shuffle),
            "stopping": self.stopping.state_dict() if self.stopping else None,
            "random": random_state(),
        }

    def load(self, state: dict[str, Any]) -> Position:
        """Take up ``state``, random generators last, and return where in the data the run stood."""
        if state["fingerprint"] != self.fingerprint:
            there, here = state["fingerprint"], self.fingerprint
            off = ", ".join(
                f"{key} {there.get(key)} there, {here[key]} here" for key in here if there.get(key) != here[key]
            )
            raise ValueError(f"the checkpoints are those of another run ({off}): give this one a folder of its own")
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"the checkpoints are those of another model or optimizer ({str(error).splitlines()[0]}): "
                "give this run a folder of its own"
            ) from error
        if (state["stopping"] is None) != (self.stopping is None):
            raise ValueError("the checkpoints were made with early stopping and this run has none, or the reverse")
        if self.stopping:
            self.stopping.load_state_dict(state["stopping"])
        for key, values in state["history"].items():
            getattr(self.history, key).extend(values)
        restore_random(state["random"])
        return Position(*state["position"])


def _split(batch: list[int], pieces: int, weight_of: Callable[[list[int]], float]) -> list[tuple[list[int], float]]:
    """The batch in at most so many micro-batches, each with its share of the whole mean."""
    size = math.ceil(len(batch) / pieces)
    parts = [batch[i : i + size] for i in range(0, len(batch), size)]
    if len(parts) == 1:
        return [(batch, 1.0)]
    weights = [weight_of(part) for part in parts]
    if not sum(weights) > 0:
        raise ValueError(f"weight_of gave {weights} for the micro-batches of one step: expected a sum above 0")
    return [(part, weight / sum(weights)) for part, weight in zip(parts, weights)]


def _trained(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """What the optimizer holds, in the model's own order, in which the norms are summed; anything else comes last."""
    held = {id(p): p for group in optimizer.param_groups for p in group["params"] if p.requires_grad}
    return [held.pop(id(p)) for p in model.parameters() if id(p) in held] + list(held.values())


def _fingerprint(
    lengths: Sequence[int], optimizer: torch.optim.Optimizer, sizes: dict[str, int]
) -> dict[str, int | str]:
    """What a run cannot change on its way: a checkpoint that differs here belongs to another one."""
    groups = [", ".join(f"{k}={v}" for k, v in group.items() if k != "params") for group in optimizer.param_groups]
    return {
        **sizes,
        "examples": len(lengths),
        "lengths": hashlib.sha256(repr(list(lengths)).encode()).hexdigest()[:12],
        "optimizer": f"{type(optimizer).__name__}({'; '.join(groups)})",
    }


class _Bar:
    """A tqdm bar with the loss beside it, or nothing, as a context manager that gives a function to call a step."""

    def __init__(self, wanted: bool, total: int, done: int) -> None:
        self.bar = None
        if wanted:
            from tqdm.auto import tqdm

            self.bar = tqdm(total=total, initial=done, unit="step")

    def __enter__(self) -> Callable[[float], None]:
        return self.shown

    def shown(self, loss: float) -> None:
        if self.bar is not None:
            self.bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            self.bar.update()

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()
