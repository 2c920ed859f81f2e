"""An interview under way: its steps, its clock, its marks. Every step is saved before the next is asked."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from llmlab.course import progress
from llmlab.course.drills import Drill, drill
from llmlab.course.mock.plan import Item, Plan
from llmlab.course.questions import Question, question

__all__ = ["Answer", "Interview", "Point", "begun", "drill_of", "rubric", "start"]

#: Marks from which a follow-up goes deeper, and below which the popular mistake is asked about.
STRONG, WEAK = 2 / 3, 1 / 3


@dataclass(frozen=True)
class Point:
    """A line of a rubric."""

    text: str


@dataclass
class Answer:
    """What was said to one item: the text, the seconds, the points reached, and the follow-ups with their marks."""

    given: bool = False
    text: str = ""
    seconds: float = 0.0
    mark: float | None = None
    points: tuple[bool, ...] = ()
    verdict: str = ""
    followups: list[tuple[str, str, bool]] = field(default_factory=list)


class Interview:
    """One interview. ``number`` is its row in the progress file, None where nothing can be saved.

    Args:
        plan: what is asked.
        number: the row to go on with; its saved steps are replayed.
        clock: seconds that never run backwards; tests stop it.
    """

    def __init__(self, plan: Plan, number: int | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.plan, self.number, self.clock = plan, number, clock
        self.answers = [Answer() for _ in plan.items]
        self.finished = False
        self._since = clock()
        for step in _steps(number) if number is not None else []:
            self._apply(step)

    @property
    def position(self) -> int:
        """The index of the first item without a mark; the number of items when all are marked."""
        return next((i for i, answer in enumerate(self.answers) if answer.mark is None), len(self.answers))

    @property
    def item(self) -> Item | None:
        """The item that is asked now; None at the end, or when the time is up."""
        done = self.finished or self.position >= len(self.answers)
        waiting = not done and not self.answers[self.position].given
        return None if done or (waiting and self.time_is_up) else self.plan.items[self.position]

    @property
    def used(self) -> float:
        """Seconds spent on answers. Reading answers, marking, and pauses cost nothing."""
        return sum(answer.seconds for answer in self.answers)

    @property
    def time_is_up(self) -> bool:
        """Whether the minutes are used. The answer that is being given may be finished."""
        return self.used >= self.plan.minutes * 60

    def ask(self) -> None:
        """The item is on the screen: the clock runs from here."""
        self._since = self.clock()

    def answer(self, text: str) -> None:
        """Take what was typed, and stop the clock. A calculation is marked at once."""
        at = self.position
        seconds = max(self.clock() - self._since, 0.0)
        self._step({"item": at, "event": "answer", "text": text, "seconds": round(seconds, 3)})
        item = self.plan.items[at]
        if item.kind == "calculation":
            verdict = drill_of(item).judge(text) if text.strip() else None
            said = verdict.sentence if verdict else "No answer."
            self._step({"item": at, "event": "mark", "mark": float(bool(verdict and verdict.right)), "verdict": said})

    def judged(self, passed: bool, verdict: str) -> None:
        """Take the verdict of the check on live coding."""
        self._step({"item": self.position, "event": "mark", "mark": float(passed), "verdict": verdict})

    def mark(self, points: Sequence[bool]) -> None:
        """Take one's own marks, a yes or no for each line of the rubric.

        Raises:
            ValueError: the rubric has another number of lines.
        """
        at = self.position
        lines = rubric(question(self.plan.items[at].ref))
        if len(points) != len(lines):
            raise ValueError(f"{len(points)} marks for a rubric of {len(lines)} lines")
        share = sum(map(bool, points)) / len(lines)
        self._step({"item": at, "event": "mark", "mark": share, "points": [bool(p) for p in points]})

    def followup(self, at: int) -> tuple[str, str] | None:
        """What is asked next about a marked question, and the answer: deeper after a strong answer, the popular mistake
        after a weak one, the first follow-up in between. None when it was asked, or when there is no more time."""
        answer, item = self.answers[at], self.plan.items[at]
        if item.kind not in ("concept", "design") or answer.mark is None or answer.followups or self.time_is_up:
            return None
        q = question(item.ref)
        if answer.mark < WEAK and q.popular_mistake:
            return f"It is often said: {q.popular_mistake.says} What is wrong with that?", q.popular_mistake.right
        if not q.followups:
            return None
        chosen = q.followups[-1] if answer.mark >= STRONG else q.followups[0]
        return chosen.question, chosen.answer

    def followed(self, at: int, asked: str, text: str, right: bool) -> None:
        """Take the answer to a follow-up and one's own mark of it."""
        self._step({"item": at, "event": "followup", "asked": asked, "text": text, "right": bool(right)})

    def finish(self) -> None:
        """Close the interview; what was not answered stays without a mark."""
        if not self.finished:
            self._step({"event": "finish"})

    def score(self) -> float | None:
        """The mean mark of the items that were marked, each weighted by its minutes; None when there is none."""
        marked = [(a.mark, item.minutes) for a, item in zip(self.answers, self.plan.items) if a.mark is not None]
        total = sum(minutes for _, minutes in marked)
        return sum(mark * minutes for mark, minutes in marked) / total if total else None

    def _step(self, step: dict[str, Any]) -> None:
        if self.number is not None:
            _save(self.number, step)
        self._apply(step)

    def _apply(self, step: dict[str, Any]) -> None:
        if step["event"] == "finish":
            self.finished = True
            return
        answer = self.answers[step["item"]]
        if step["event"] == "answer":
            answer.given, answer.text, answer.seconds = True, step["text"], answer.seconds + step["seconds"]
        elif step["event"] == "mark":
            answer.mark, answer.points = step["mark"], tuple(step.get("points", ()))
            answer.verdict = step.get("verdict", "")
        elif step["event"] == "followup":
            answer.followups.append((step["asked"], step["text"], step["right"]))


def start(plan: Plan, *, clock: Callable[[], float] = time.monotonic) -> Interview:
    """Begin an interview and write its plan down."""
    raw = json.dumps(plan.to_dict(), ensure_ascii=False)

    def write(db: sqlite3.Connection) -> int | None:
        return db.execute("INSERT INTO interviews (plan, at) VALUES (?, ?)", (raw, _now())).lastrowid

    return Interview(plan, progress.with_store(write, None), clock=clock)


def begun(number: int | None = None, *, clock: Callable[[], float] = time.monotonic) -> Interview | None:
    """The interview of that number, or the latest that is not finished; None when there is none."""

    def read(db: sqlite3.Connection) -> list[tuple[int, str]]:
        return db.execute("SELECT n, plan FROM interviews ORDER BY n DESC").fetchall()

    rows: list[tuple[int, str]] = progress.with_store(read, [], reading=True)
    for n, plan in rows:
        if number in (None, n):
            interview = Interview(Plan.from_dict(json.loads(plan)), n, clock=clock)
            if number is not None or not interview.finished:
                return interview
    return None


def rubric(q: Question) -> tuple[Point, ...]:
    """What an expert hopes to hear, a line each, and the popular mistake as something that should not be said."""
    wants = [part.strip(" .") for part in q.wants.split(";")]
    if len(wants) == 1:  # a list with commas; those inside brackets stay
        wants = [re.sub(r"^and ", "", part.strip(" .")) for part in re.split(r",(?![^(]*\))", q.wants)]
    lines = [Point(part[0].upper() + part[1:]) for part in wants if part]
    if q.popular_mistake:
        lines.append(Point(f"I did not say: “{q.popular_mistake.says.rstrip('.')}”"))
    return tuple(lines)


def drill_of(item: Item) -> Drill:
    """The drill that an item names."""
    kind, seed = item.ref.split()
    return drill(int(seed), kind)


def _steps(number: int) -> list[dict[str, Any]]:
    def read(db: sqlite3.Connection) -> list[dict[str, Any]]:
        rows = db.execute("SELECT step FROM interview_steps WHERE interview = ? ORDER BY n", (number,))
        return [json.loads(step) for (step,) in rows]

    return progress.with_store(read, [], reading=True)


def _save(number: int, step: dict[str, Any]) -> None:
    raw = json.dumps(step, ensure_ascii=False)

    def write(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO interview_steps (interview, step, at) VALUES (?, ?, ?)", (number, raw, _now()))

    progress.with_store(write, None)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
