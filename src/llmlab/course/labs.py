"""The tasks of the labs: finding them, showing their cards, and holding each check to its bank."""

from __future__ import annotations

import html
import importlib
import pkgutil
import re
from functools import cache
from typing import Any

from llmlab.course.checking import Task, run_check

__all__ = ["all_tasks", "find", "hint", "run_bank", "task_card", "tasks_of"]

DIFFICULTY = {1: "easy", 2: "medium", 3: "hard"}
KINDS = {
    "build": "Build: implement it from its specification",
    "debug": "Debug: find the fault, prove it, mend it",
    "reason": "Reason: work out a number or a choice",
}


@cache
def tasks_of(lab: str) -> tuple[Task, ...]:
    """The tasks of lab ``"01"``, in order.

    Raises:
        LookupError: there is no such lab; the message lists those that exist.
    """
    if lab not in _labs():
        raise LookupError(f"there is no lab {lab!r}; there are {', '.join(_labs()) or 'none yet'}")
    return tuple(importlib.import_module(f"llmlab.course.tasks.lab_{lab}").TASKS)


def all_tasks() -> list[Task]:
    """Every task of every lab, in order."""
    return [task for lab in _labs() for task in tasks_of(lab)]


def find(task_id: str) -> Task:
    """The task ``"01.attention"``.

    Raises:
        LookupError: there is no such task; the message lists those of that lab.
    """
    tasks = tasks_of(task_id.partition(".")[0])
    for task in tasks:
        if task.id == task_id:
            return task
    raise LookupError(f"there is no task {task_id!r}; this lab has {', '.join(task.id for task in tasks)}")


def task_card(task_id: str) -> None:
    """Show a task's title, kind, difficulty and minutes, with its two hints folded."""
    from IPython.display import display

    from llmlab.course.opening import STYLE

    task = find(task_id)
    display({"text/html": STYLE + _card_html(task), "text/plain": _card_text(task)}, raw=True)


def hint(task_id: str, number: int = 1) -> None:
    """Print hint 1 or 2 of a task: for screens that show no HTML.

    Raises:
        ValueError: ``number`` is neither 1 nor 2.
    """
    if number not in (1, 2):
        raise ValueError(f"hint number {number!r}: expected 1 or 2")
    print(find(task_id).hints[number - 1])


def run_bank(task: Task) -> list[str]:
    """Hold a check to its bank; returns what is amiss, one sentence each, so an empty list is what you want.

    Every wrong answer must be rejected with the sentence announced for it, every right one accepted, and an unsolved
    answer must be reported as still to do.
    """
    failures = []
    for case in task.bank.wrong:
        result = run_check(task, case.answer)
        if result.state != "wrong":
            failures.append(f"wrong answer {case.name!r} was not rejected: {result}")
        elif not case.expect or case.expect not in result.message:
            failures.append(f"wrong answer {case.name!r} should be told {case.expect!r}, but was told: {result}")
    for case in task.bank.right:
        result = run_check(task, case.answer)
        if not result:
            failures.append(f"right answer {case.name!r} was not accepted: {result}")
    for name, answer in _stubs(task):
        verdict = run_check(task, answer)
        if verdict.state != "todo":
            failures.append(f"unsolved answer ({name}) should be still to do, but was told: {verdict}")
    return failures


def _stubs(task: Task) -> list[tuple[str, Any]]:
    """The forms that an unsolved answer takes, of the same sort as the bank's right ones."""

    def function(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("write your answer here")

    class Class:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            raise NotImplementedError("write your answer here")

    stubs: list[tuple[str, Any]] = [("...", ...), ("None", None)]
    answers = [case.answer for case in task.bank.right]
    if answers and all(isinstance(answer, type) for answer in answers):
        stubs.append(("a class that raises NotImplementedError", Class))
    elif answers and all(callable(answer) for answer in answers):
        stubs.append(("a function that raises NotImplementedError", function))
    return stubs


@cache
def _labs() -> tuple[str, ...]:
    from llmlab.course import tasks

    names = sorted(module.name for module in pkgutil.iter_modules(tasks.__path__))
    return tuple(name.removeprefix("lab_") for name in names if re.fullmatch(r"lab_\d\d", name))


def _facts(task: Task) -> str:
    dots = "●" * task.difficulty + "○" * (3 - task.difficulty)
    minutes = "1 minute" if task.minutes == 1 else f"{task.minutes} minutes"
    return f"{KINDS[task.kind]} · {DIFFICULTY[task.difficulty]} {dots} · about {minutes}"


def _card_text(task: Task) -> str:
    return f'Task {task.id}: {task.title}\n{_facts(task)}\nHints: llmlab.course.labs.hint("{task.id}", 1) and 2'


def _card_html(task: Task) -> str:
    hints = "".join(
        f"<details><summary>{label}</summary><p>{_marked_up(text)}</p></details>"
        for label, text in zip(("Hint", "Second hint"), task.hints)
    )
    style = "border-left: 4px solid #0072B2; padding: 0.2em 0 0.2em 1em; margin: 0.5em 0"
    return (
        f'<section style="{style}"><p><strong>Task {task.id}: {_marked_up(task.title)}</strong><br>'
        f"{_facts(task)}</p>{hints}</section>"
    )


def _marked_up(text: str) -> str:
    """Plain text as HTML: escaped, `code` in backticks, a blank line for a new paragraph."""
    escaped = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text.strip(), quote=False))
    return re.sub(r"\n\s*\n", "</p><p>", escaped)
