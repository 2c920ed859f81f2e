"""What is known and what is forgotten, as a picture."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from llmlab.course.cards.deck import cards
from llmlab.course.cards.schedule import Memory, memories
from llmlab.course.lessons import parts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["memory_chart"]

#: State -> colour and hatch: none is told by its colour alone.
STATES = {
    "known": ("#0072B2", ""),
    "fading": ("#E69F00", "///"),
    "forgotten": ("#D55E00", "xxx"),
    "not seen": ("#ffffff", ""),
}
DAYS = 14


def memory_chart(known: dict[str, Memory] | None = None, *, now: datetime | None = None) -> tuple[Figure, str]:
    """Two panels and their text alternative: the question cards of each part by state, and how many come due when.

    "Known" is recalled with probability 0.9 or more and learnt for a day; "forgotten" has last come back to less than
    a day; "fading" is what was seen and is neither.
    """
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    moment = now or datetime.now(UTC)
    known = memories(now=moment) if known is None else known
    deck = [card for card in cards() if card.kind == "question"]
    counts = {state: [] for state in STATES}  # type: dict[str, list[int]]
    for p in parts():
        mine = [_state(known.get(card.id)) for card in deck if card.part == p.number]
        for state in STATES:
            counts[state].append(mine.count(state))
    coming = [0] * DAYS
    for m in known.values():
        day = max((m.due - moment).days, 0)
        if day < DAYS:
            coming[day] += 1
    fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), width_ratios=[3, 2], layout="constrained")
    base = [0] * len(parts())
    names = [f"{p.number} {p.title}" for p in parts()]
    for state, (color, hatch) in STATES.items():
        left.barh(names, counts[state], left=base, color=color, hatch=hatch, edgecolor="black", lw=0.6, label=state)
        base = [a + b for a, b in zip(base, counts[state])]
    left.invert_yaxis()
    left.set_xlabel("question cards")
    left.legend(loc="lower right", fontsize=8)
    right.bar(range(DAYS), coming, color="#56B4E9", edgecolor="black", lw=0.6)
    right.set_xlabel("days from now")
    right.set_ylabel("cards that come due")
    right.set_ylim(0, max(*coming, 4) * 1.1)
    for axis in (left.xaxis, right.xaxis, right.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    totals = ", ".join(f"{sum(counts[state])} {state}" for state in STATES)
    alt = f"Of {len(deck)} question cards: {totals}. {coming[0]} due now or today, {sum(coming)} within {DAYS} days."
    return fig, alt


def _state(memory: Memory | None) -> str:
    if memory is None:
        return "not seen"
    if memory.known:
        return "known"
    return "forgotten" if memory.forgotten and memory.stability < 1 else "fading"
