"""When a card is due. Each review is one row of the progress file; everything else is computed from the rows.

The scheduler is FSRS (the package ``fsrs``) without its random spread, so that the same reviews give the same schedule
in every kernel. Nothing computed is stored: two kernels that review at once each add rows, a kernel killed in the
middle of a review leaves the row or does not, and undoing a review takes its row away.

Clocks are set back, and sometimes forward. A time is used as it was written if it fits among the others
(:func:`settled`); the rows are never rewritten, so a clock that is mended mends the schedule.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from fsrs import Card as Fsrs
from fsrs import Rating, Scheduler

from llmlab.course import progress

__all__ = ["RATINGS", "Memory", "Review", "due", "memories", "record", "reviews", "settled", "undo"]

#: What a reviewer can say, by the number to press.
RATINGS = {1: "Again", 2: "Hard", 3: "Good", 4: "Easy"}
#: The share of due cards that should still be known: FSRS's own default.
RETENTION = 0.9


class Review(NamedTuple):
    """One review: the row's number, the card, 1 (again) to 4 (easy), and when."""

    n: int
    card: str
    rating: int
    at: datetime


@dataclass(frozen=True)
class Memory:
    """What the reviews say about one card.

    ``stability`` is the time in days after which it is recalled with probability 0.9; ``recall`` the probability now.
    """

    card: str
    due: datetime
    stability: float
    recall: float
    reviews: int
    forgotten: int

    @property
    def known(self) -> bool:
        """Recalled now with the probability that is aimed at, and learnt for more than a day."""
        return self.recall >= RETENTION and self.stability >= 1


def record(card: str, rating: int, *, now: datetime | None = None) -> int | None:
    """Write a review down, durably before this returns. Its row number, or None when it could not be saved.

    Raises:
        ValueError: the rating is none of 1, 2, 3, 4.
    """
    if rating not in RATINGS:
        raise ValueError(f"rating {rating!r}: expected 1 (again), 2 (hard), 3 (good) or 4 (easy)")
    at = (now or datetime.now(UTC)).isoformat(timespec="milliseconds")

    def write(db: sqlite3.Connection) -> int | None:
        return db.execute("INSERT INTO reviews (card, rating, at) VALUES (?, ?, ?)", (card, rating, at)).lastrowid

    return progress.with_store(write, None)


def undo(n: int) -> bool:
    """Take the review of row ``n`` back. False when it is not there (any more)."""

    def write(db: sqlite3.Connection) -> bool:
        return db.execute("DELETE FROM reviews WHERE n = ?", (n,)).rowcount == 1

    return progress.with_store(write, False)


def reviews() -> list[Review]:
    """Every review in the order in which they were written."""

    def read(db: sqlite3.Connection) -> list[Review]:
        rows = db.execute("SELECT n, card, rating, at FROM reviews ORDER BY n").fetchall()
        return [Review(n, card, rating, datetime.fromisoformat(at)) for n, card, rating, at in rows]

    return progress.with_store(read, [], reading=True)


def memories(done: Sequence[Review] | None = None, *, now: datetime | None = None) -> dict[str, Memory]:
    """By card, what all reviews together say at the time ``now``. About 10 µs a review."""
    moment = now or datetime.now(UTC)
    done = reviews() if done is None else done
    scheduler = Scheduler(desired_retention=RETENTION, enable_fuzzing=False)
    states: dict[str, Fsrs] = {}
    counts: dict[str, list[int]] = {}
    for review, at in zip(done, settled([r.at for r in done], moment)):
        state = states.get(review.card) or Fsrs(card_id=1, due=at)
        states[review.card], _ = scheduler.review_card(state, Rating(review.rating), at)
        counts.setdefault(review.card, []).append(review.rating)
    return {
        card: Memory(
            card=card,
            due=state.due,
            stability=float(state.stability or 0.0),
            recall=float(scheduler.get_card_retrievability(state, moment)),
            reviews=len(counts[card]),
            forgotten=sum(rating == 1 for rating in counts[card][1:]),
        )
        for card, state in states.items()
    }


def due(known: Iterable[Memory], *, now: datetime | None = None) -> list[Memory]:
    """The cards that are due, the one most likely forgotten first."""
    moment = now or datetime.now(UTC)
    return sorted((m for m in known if m.due <= moment), key=lambda m: (m.recall, m.card))


def settled(times: Sequence[datetime], now: datetime) -> list[datetime]:
    """Times that never run backwards and never lie after ``now``, as near to the given ones as can be.

    Rows are in the order in which they were written, so a time before its predecessor's comes from a clock that was
    wrong then, and so does a time after ``now``. Of the times up to ``now`` the longest run that never decreases is
    believed (Schensted, 1961), of two equally long ones the later: clocks are set back more often than forward. Each
    other time becomes that of the believed one before it, or of the first. O(n log n).
    """
    tops: list[float] = []  # from the end: tops[k] is minus the latest beginning of a run of k + 1 times
    starts: list[int] = []
    behind: dict[int, int] = {}
    for i in range(len(times) - 1, -1, -1):
        if times[i] <= now:
            k = bisect_right(tops, -times[i].timestamp())
            tops[k : k + 1] = [-times[i].timestamp()]
            starts[k : k + 1] = [i]
            behind[i] = starts[k - 1] if k else -1
    believed = []
    i = starts[-1] if starts else -1
    while i >= 0:
        believed.append(i)
        i = behind[i]
    last = times[believed[0]] if believed else now
    trusted = set(believed)
    out = []
    for i, t in enumerate(times):
        last = t if i in trusted else last
        out.append(last)
    return out
