"""The order in which a run sees its examples."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Position", "bucket_by_length", "walk"]


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


@dataclass(frozen=True)
class Position:
    """A place in the data: ``done`` batches of ``epoch`` have been seen, in the order that ``shuffle`` leads to.

    ``shuffle`` is the state of the shuffling generator when the epoch began. With it the epoch's order can be made
    again, so a resumed run goes on with the very next batch.
    """

    epoch: int
    done: int
    shuffle: tuple[Any, ...]


def walk(
    lengths: Sequence[int], batch_size: int, epochs: int, seed: int, after: Position | None = None
) -> Iterator[tuple[Position, list[int], bool]]:
    """All batches of all epochs: where the run stands once it has seen this one, its indices, is it the epoch's last.

    Args:
        after: leave out everything up to here.
    """
    rng = random.Random(seed)
    if after:
        rng.setstate(after.shuffle)
    for epoch in range(after.epoch if after else 0, epochs):
        shuffle = rng.getstate()
        batches = list(bucket_by_length(lengths, batch_size, rng))
        seen = after.done if after and epoch == after.epoch else 0
        for done in range(seen + 1, len(batches) + 1):
            yield Position(epoch, done, shuffle), batches[done - 1], done == len(batches)
