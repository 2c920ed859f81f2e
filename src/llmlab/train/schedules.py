"""Learning-rate schedules: plain functions from a step, counted from 0, to a factor on the highest learning rate.

The step comes first and everything else by name, so ``partial(warmup_cosine, total=1000, warmup=100)`` is what
:func:`llmlab.train.train_model` takes. A function of the step alone has no state: a resumed run needs no more than
its step to go on.

Warm-up is a line in all of them: 1 / warmup at step 0, and 1 at step ``warmup - 1``. No step is spent at a rate of 0.
Source: Goyal et al., 2017 (arXiv:1706.02677), section 2.2.
"""

from __future__ import annotations

import math
from typing import Literal

__all__ = ["constant", "inverse_sqrt", "step_decay", "warmup_cosine", "warmup_linear", "wsd"]


def _check(step: int, **counts: int) -> None:
    for name, count in {"step": step, **counts}.items():
        if count < 0:
            raise ValueError(f"{name}={count}: expected a number of steps, 0 or more")


def constant(step: int, *, warmup: int = 0) -> float:
    """1 after the warm-up, for ever.

    Raises:
        ValueError: a negative number of steps.
    """
    _check(step, warmup=warmup)
    return (step + 1) / warmup if step < warmup else 1.0


def warmup_linear(step: int, total: int, warmup: int = 0, *, floor: float = 0.0) -> float:
    """Up, then down in a line, to ``floor`` at ``total``.

    Raises:
        ValueError: a negative number of steps.
    """
    _check(step, total=total, warmup=warmup)
    if step < warmup:
        return (step + 1) / warmup
    return floor + (1 - floor) * (1 - _done(step, warmup, total))


def warmup_cosine(step: int, total: int, warmup: int = 0, *, floor: float = 0.0) -> float:
    """Up in a line, then half a cosine down: 1 at the end of the warm-up, ``floor`` at ``total`` and after.

    Raises:
        ValueError: a negative number of steps.

    Source: Loshchilov and Hutter, 2016 (arXiv:1608.03983), equation 5, without restarts.
    """
    _check(step, total=total, warmup=warmup)
    if step < warmup:
        return (step + 1) / warmup
    return floor + (1 - floor) * (0.5 * (1 + math.cos(math.pi * _done(step, warmup, total))))


def wsd(
    step: int,
    total: int,
    warmup: int,
    decay: int,
    *,
    shape: Literal["linear", "cosine", "sqrt"] = "linear",
    floor: float = 0.0,
) -> float:
    """Warm-up, stable, decay: up, 1 for as long as you like, then down to ``floor`` over the last ``decay`` steps.

    What cosine cannot do: the stable part knows nothing of ``total``, so one long run can be decayed from any of its
    checkpoints, and each of these is a whole run.

    Args:
        shape: of the decay at a share x of it: "linear" 1 - x, "cosine", or "sqrt" 1 - √x.

    Raises:
        ValueError: a negative number of steps, another shape, or warm-up and decay longer than the run.

    Source: Hu et al., 2024 (arXiv:2404.06395), section 4; "sqrt" from Hägele et al., 2024 (arXiv:2405.18392).
    """
    _check(step, total=total, warmup=warmup, decay=decay)
    if warmup + decay > total:
        raise ValueError(f"warmup={warmup} and decay={decay} are longer than the run, total={total}: shorten one")
    shapes = {"linear": lambda x: 1 - x, "cosine": lambda x: 0.5 * (1 + math.cos(math.pi * x))}
    shapes["sqrt"] = lambda x: 1 - math.sqrt(x)
    if shape not in shapes:
        raise ValueError(f"shape={shape!r}: expected one of {', '.join(shapes)}")
    if step < warmup:
        return (step + 1) / warmup
    if step < total - decay:
        return 1.0
    return floor + (1 - floor) * shapes[shape](_done(step, total - decay, total))


def inverse_sqrt(step: int, warmup: int) -> float:
    """Up, then √(warmup / n) at the n-th step: no end is needed, and it never reaches 0.

    Raises:
        ValueError: ``warmup`` below 1, since the curve hangs on it; a negative step.

    Source: Vaswani et al., 2017 (arXiv:1706.03762), equation 3, with its highest value scaled to 1.
    """
    _check(step)
    if warmup < 1:
        raise ValueError(f"warmup={warmup}: expected 1 or more, the curve starts to fall where it ends")
    n = step + 1
    return min(n / warmup, math.sqrt(warmup / n))


def step_decay(step: int, every: int, factor: float = 0.1) -> float:
    """``factor`` once more after each ``every`` steps: the staircase that vision models were long trained with.

    Raises:
        ValueError: ``every`` below 1, a negative step.
    """
    _check(step)
    if every < 1:
        raise ValueError(f"every={every}: expected a number of steps, 1 or more")
    return factor ** (step // every)


def _done(step: int, start: int, end: int) -> float:
    """The share of the way from ``start`` to ``end`` that lies behind, at most 1."""
    return min(1.0, (step - start) / max(1, end - start))
