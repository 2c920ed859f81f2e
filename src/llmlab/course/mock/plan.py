"""What is asked: a set drawn by a seed, for a role, to fill the minutes."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal

from llmlab.course.drills import KINDS as DRILLS
from llmlab.course.lessons import lesson
from llmlab.course.mock.coding import coding_tasks
from llmlab.course.questions import Question, questions

__all__ = ["MINUTES", "ROLES", "Item", "Plan", "draw", "role_named"]

Kind = Literal["concept", "calculation", "design", "coding"]
#: What an item of each kind takes.
MINUTES: dict[Kind, int] = {"concept": 3, "calculation": 2, "design": 8, "coding": 15}
#: Role -> how often a part of the course is asked about; a part that is not named counts 1.
ROLES: dict[str, Mapping[str, int]] = {
    "LLM engineer": {"I": 3, "II": 3, "III": 2, "IV": 2, "VI": 2, "VIII": 2},
    "Research engineer": {"I": 3, "II": 3, "III": 4, "IV": 2},
    "Applied scientist": {"III": 2, "IV": 3, "V": 4, "VI": 2, "VII": 2},
    "Inference engineer": {"I": 3, "IV": 2, "VIII": 5},
}
LONGEST = 180


@dataclass(frozen=True)
class Item:
    """One thing that is asked. ``ref``: a question's id, a lab task's id, or a kind of drill and its seed ("f1 7")."""

    kind: Kind
    ref: str
    minutes: int


@dataclass(frozen=True)
class Plan:
    """A drawn interview. The same seed, role, minutes and question bank give the same plan."""

    seed: int
    role: str
    minutes: int
    zh: bool
    items: tuple[Item, ...]

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain values, for the progress file."""
        return asdict(self)

    @staticmethod
    def from_dict(raw: dict[str, Any]) -> Plan:
        """The plan that :meth:`to_dict` gave."""
        return Plan(**{**raw, "items": tuple(Item(**item) for item in raw["items"])})


def draw(seed: int, *, minutes: int = 45, role: str = "LLM engineer", zh: bool = False) -> Plan:
    """Draw an interview: live coding from 25 minutes on, design from 15, calculations and concepts to fill the time.

    A family of questions is asked once. Parts of the course come up as often as the role has it.

    Raises:
        ValueError: fewer than 5 minutes, more than 180, or a role that does not exist.
    """
    if not 5 <= minutes <= LONGEST:
        raise ValueError(f"{minutes} minutes: an interview takes 5 to {LONGEST}")
    role = role_named(role)
    rng = random.Random(f"{seed}-{role}-{minutes}")
    wanted: list[Kind] = []
    if minutes >= 25:
        wanted.append("coding")
    if minutes >= 15:
        wanted.append("design")
    left = minutes - sum(MINUTES[kind] for kind in wanted)
    small: list[Kind] = []
    while left >= 2:
        small.append("calculation" if left == 2 or len(small) % 3 == 1 else "concept")
        left -= MINUTES[small[-1]]
    asked: set[str] = set()  # the scarce kinds choose first; asked are they last
    chosen = [(kind, _choose(kind, rng, ROLES[role], asked)) for kind in (*wanted, *small)]
    order = {"coding": 2, "design": 1}
    chosen.sort(key=lambda pair: order.get(pair[0], 0))
    items = [Item(kind, ref, MINUTES[kind]) for kind, ref in chosen if ref is not None]
    return Plan(seed, role, minutes, zh, tuple(items))


def role_named(name: str) -> str:
    """The role of that name, in any case.

    Raises:
        ValueError: there is none.
    """
    for role in ROLES:
        if role.lower() == name.strip().lower():
            return role
    raise ValueError(f"role {name!r}: expected one of {', '.join(ROLES)}")


def _choose(kind: Kind, rng: random.Random, weights: Mapping[str, int], asked: set[str]) -> str | None:
    """A reference of this kind that was not asked yet, marked as asked; None when there is none left."""
    if kind == "calculation":
        left = [name for name in DRILLS if name not in asked]
        if not left:
            return None
        name = rng.choice(left)
        asked.add(name)
        return f"{name} {rng.randrange(10**6)}"
    if kind == "coding":
        tasks = [id for id in coding_tasks() if id not in asked]
        if not tasks:
            return None
        asked.add(id := rng.choices(tasks, [weights.get(lesson(id[:2]).part, 1) for id in tasks])[0])
        return id
    pool = [q for q in _pool(kind) if q.family not in asked]
    if not pool:
        return None
    chosen = rng.choices(pool, [weights.get(lesson(q.notebook).part, 1) for q in pool])[0]
    asked.add(chosen.family)
    return chosen.id


@cache
def _pool(kind: Kind) -> tuple[Question, ...]:
    answered = [q for q in questions() if q.answered]
    design = [q for q in answered if q.kind == "design"]
    if kind == "design":
        return tuple(design or [q for q in answered if q.difficulty == 3])
    return tuple(q for q in answered if q.kind != "design")
