"""The cards of the question bank: three kinds of front, and what stands on the back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Literal

from llmlab.course.cards.schedule import Memory, due
from llmlab.course.lessons import lesson, lessons, parts
from llmlab.course.questions import Question, questions

__all__ = ["KINDS", "Card", "Kind", "cards", "choose"]

Kind = Literal["question", "followup", "mistake"]
#: Kind -> what its front asks.
KINDS: dict[Kind, str] = {
    "question": "an interview question; the back is the answer in a minute",
    "followup": "what is asked next; the back is its answer",
    "mistake": "what is often said; the back says what is right",
}


@dataclass(frozen=True)
class Card:
    """One card. ``id`` is the question's, with ``.f1``, ``.f2`` for its follow-ups, ``.m`` for its popular mistake."""

    id: str
    kind: Kind
    question: Question
    front_en: str
    front_zh: str
    back_en: str
    back_zh: str

    @property
    def notebook(self) -> str:
        """The number of the lesson that answers it."""
        return self.question.notebook

    @property
    def part(self) -> str:
        """The Roman number of the lesson's part."""
        return lesson(self.notebook).part

    def front(self, zh: bool = False) -> str:
        """The front in English or Chinese; follow-ups and mistakes are in English alone."""
        return self.front_zh if zh else self.front_en

    def back(self, zh: bool = False) -> str:
        """The back in English or Chinese; follow-ups and mistakes are in English alone."""
        return self.back_zh if zh else self.back_en


@cache
def cards() -> tuple[Card, ...]:
    """Every card of every answered question, in the order in which the course teaches."""
    order = {entry.number: i for i, entry in enumerate(lessons())}
    known = sorted((q for q in questions() if q.answered), key=lambda q: (order[q.notebook], q.difficulty, q.id))
    return tuple(card for q in known for card in _of(q))


def _of(q: Question) -> Iterable[Card]:
    yield Card(q.id, "question", q, q.question_en, q.question_zh, q.answer_en, q.answer_zh)
    for i, follow in enumerate(q.followups, 1):
        yield Card(f"{q.id}.f{i}", "followup", q, follow.question, follow.question, follow.answer, follow.answer)
    if q.popular_mistake:
        says, right = q.popular_mistake.says, q.popular_mistake.right
        front = f"Often said: {says}\nWhat is wrong with it, and what is right?"
        yield Card(f"{q.id}.m", "mistake", q, front, front, right, right)


def choose(
    known: dict[str, Memory],
    *,
    now: datetime | None = None,
    new: int = 10,
    kinds: Sequence[str] = ("question",),
    part: str | None = None,
    notebook: str | None = None,
    difficulty: int | None = None,
    weak: bool = False,
) -> list[Card]:
    """The cards of a session: those that are due, the most endangered first, then up to ``new`` that were never seen.

    Args:
        known: what the reviews say, from :func:`~llmlab.course.cards.schedule.memories`.
        kinds: which kinds of card; see :data:`KINDS`.
        part, notebook, difficulty: only cards of this part (``"I"``), lesson (``"03"``), difficulty (1 to 3).
        weak: instead of what is due, every card that was ever forgotten, the most often forgotten first.

    Raises:
        ValueError: a kind, part or difficulty that does not exist, or a negative ``new``.
        KeyError: a lesson that does not exist.
    """
    _validate(kinds, part, difficulty, new)
    number = lesson(notebook).number if notebook else None
    chosen = {
        card.id: card
        for card in cards()
        if card.kind in kinds
        and part in (None, card.part)
        and number in (None, card.notebook)
        and difficulty in (None, card.question.difficulty)
    }
    mine = [m for m in known.values() if m.card in chosen]
    if weak:
        weakest = sorted((m for m in mine if m.forgotten), key=lambda m: (-m.forgotten, m.recall, m.card))
        return [chosen[m.card] for m in weakest]
    waiting = [chosen[m.card] for m in due(mine, now=now)]
    fresh = [card for card in chosen.values() if card.id not in known]
    return waiting + fresh[:new]


def _validate(kinds: Sequence[str], part: str | None, difficulty: int | None, new: int) -> None:
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise ValueError(f"kinds of card {unknown or 'none'}: expected some of {', '.join(KINDS)}")
    numbers = [p.number for p in parts()]
    if part is not None and part not in numbers:
        raise ValueError(f"part {part!r}: the course has the parts {', '.join(numbers)}")
    if difficulty not in (None, 1, 2, 3):
        raise ValueError(f"difficulty {difficulty!r}: expected 1, 2 or 3")
    if new < 0:
        raise ValueError(f"{new} new cards: expected none or more")
