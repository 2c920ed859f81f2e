"""Live coding: a task of a lab by itself, with its text, its stub, its imports and its check."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from llmlab.course.checking import Result, Task, run_check
from llmlab.course.faults.model import load
from llmlab.course.labs import find
from llmlab.course.lessons import lesson, lessons

__all__ = ["Coding", "coding_task", "coding_tasks", "judge"]

#: The longest task that fits into an interview, in minutes as the lab says.
LONGEST = 20
#: Tasks whose solution uses what the task before them built.
LEANING = frozenset({"41.encode"})


@dataclass(frozen=True)
class Coding:
    """A lab's task by itself: what it asks (Markdown), the program to write in, and the name that is checked."""

    task: Task
    text: str
    program: str
    name: str


@cache
def coding_tasks() -> tuple[str, ...]:
    """The ids of the lab tasks that can be asked alone: written or mended code, checked under one name."""
    found = []
    for entry in lessons():
        if entry.exists("labs"):
            found += [id for id in _in_lab(entry.number) if find(id).minutes <= LONGEST]
    return tuple(sorted(found))


def coding_task(id: str) -> Coding:
    """The task of an id, taken out of its lab.

    Raises:
        LookupError: no such task can be asked alone.
    """
    try:
        return _in_lab(id[:2])[id]
    except KeyError:
        raise LookupError(f"no live coding task {id!r}; there are {', '.join(coding_tasks())}") from None


def judge(coding: Coding, program: str) -> Result:
    """The verdict of the lab's check on what the program defines; exceptions and endless loops included."""
    fields = {name: getattr(coding.task, name) for name in coding.task.__dataclass_fields__}
    alone = Task(**{**fields, "check": lambda text: coding.task.check(load(text, coding.name, coding.task.id))})
    return run_check(alone, program)


@cache
def _in_lab(number: str) -> dict[str, Coding]:
    """By id, the tasks of a lab whose answer is a function or class that stands in the one cell before the check."""
    entry = lesson(number)
    if not entry.exists("labs"):
        return {}
    cells: list[dict[str, Any]] = json.loads(entry.path("labs").read_text(encoding="utf-8"))["cells"]
    sources = [("".join(cell["source"]), cell["cell_type"]) for cell in cells]
    first = next((i for i, (text, _) in enumerate(sources) if text.startswith("task_card(")), len(sources))
    setup = "\n".join(text for text, kind in sources[:first] if kind == "code")
    found: dict[str, Coding] = {}
    for i, (text, _) in enumerate(sources):
        card = re.fullmatch(r'task_card\("(\d\d\.\w+)"\)', text.strip())
        if not card:
            continue
        parts = []
        for after, kind in sources[i + 1 :]:
            parts.append((after, kind))
            if after.startswith("check("):
                break
        check = re.fullmatch(r'check\("[\w.]+"\)\((\w+)\)', parts[-1][0].strip())
        code = [after for after, kind in parts[:-1] if kind == "code"]
        if check and card[1] not in LEANING and len(code) == 1 and _defines(code[0], check[1]):
            task = find(card[1])
            said = "\n\n".join(after for after, kind in parts if kind == "markdown")
            program = f"{_plain(setup)}\n\n\n{code[0].strip()}\n"
            found[task.id] = Coding(task, said, program, check[1])
    return found


def _defines(code: str, name: str) -> bool:
    tree = ast.parse(code)
    return any(isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name for node in tree.body)


def _plain(setup: str) -> str:
    """The lab's first cells without what only a notebook needs."""
    lines = [line for line in setup.splitlines() if "llmlab.course" not in line and not line.startswith("%")]
    return "\n".join(lines).strip()
