"""Lab checks: how to write one, and the function that runs it on a learner's answer.

A guide for lab authors
=======================

The tasks of lab 07 stand in ``llmlab/course/tasks/lab_07.py`` as a list ``TASKS``::

    from typing import Any

    from llmlab.course.checking import Bank, Case, Task, Wrong, call, expect_close, expect_number


    def check_softmax(answer: Any) -> str:
        import torch

        x = torch.tensor([[1.0, 2.0, 3.0], [0.0, 1000.0, 0.0]])
        right = torch.softmax(x, dim=-1)
        got = call(answer, x)  # on a copy of x; notices None, yield, a wrong signature, a changed input
        expect_close(
            got, right, "softmax of a row",
            near_misses=[(torch.softmax(x, 0), "you summed over columns, not over rows")],
            hint="subtract the row's maximum before the exponential",
        )
        return "rows sum to 1, also where a score is 1000"

    TASKS = [
        Task(
            id="07.softmax", kind="build", title="A softmax that survives large scores", difficulty=1, minutes=8,
            hints=("What is exp(1000) in float32?", "softmax(x) = softmax(x - max(x)): subtract first."),
            check=check_softmax,
            bank=Bank(
                wrong=[
                    Case("overflow", lambda x: x.exp() / x.exp().sum(-1, keepdim=True), "maximum"),
                    Case("columns", lambda x: x.softmax(0), "not over rows"),
                    Case("no division", lambda x: (x - x.max(-1, keepdim=True).values).exp(), "not right"),
                ],
                right=[Case("logsumexp", lambda x: (x - x.logsumexp(-1, keepdim=True)).exp())],
            ),
        ),
    ]

**The check** gets the answer: a function, a class, a number, a choice, a tensor, whatever the cell asks for. It returns
when the answer is right (a returned sentence is shown after "passed:") and raises :class:`Wrong` with a sentence when
it is not. The sentence starts in lower case, has no full stop, and names the likely mistake in words of the task: "the
mask is added after the softmax", not "values differ". Try the inputs on which wrong answers differ from the right one
(masks, ties, empty and ragged sizes, large numbers, a batch of 1), not random numbers alone. Make inputs from fixed
values or a generator of your own; the global generators start from seed 0 in every check.

**Use** ``call(answer, *inputs)`` for a learner's function, then ``expect_type``, ``expect_shape``, ``expect_finite``,
``expect_close``, ``expect_number``, ``expect_choice``, or ``expect(condition, sentence)``: see
:mod:`llmlab.course.expect`. ``near_misses`` are the values that known mistakes give, each with its sentence, as a dict
or as pairs; they are tried before ``hint`` and before the general diagnosis (sign, factor, offset, transpose).
``expect_number`` and ``expect_choice`` never print the right answer, ``expect_close`` prints one value of it.

**Do not** catch exceptions of the learner's code, print, or measure time. The runner does the rest: an answer left
open (``...``, None, NotImplementedError, an empty function body, a tuple, list or dict holding ``...``) is "still to
do"; an exception becomes its message with the learner's line; a run longer than ``Task.limit`` seconds is stopped;
prints are cut; global settings are put back. Output holds no times and no addresses, so the outputs of solutions can
be compared.

**The bank** has three or more wrong answers, each with a part of the sentence it must get, and at least one right
answer written in another way than the solution. ``pytest tests/course/test_labs.py`` holds every check to its bank.
Import torch and other heavy packages inside functions: the start page reads every task.

**In the lab** a cell shows the task, the next is the learner's, the last runs the check::

    task_card("07.softmax")
    check("07.softmax")(softmax)
"""

from __future__ import annotations

import dis
import linecache
import os
import re
import sysconfig
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any, Literal

from llmlab.course.expect import (
    Wrong,
    call,
    describe,
    expect,
    expect_choice,
    expect_close,
    expect_finite,
    expect_number,
    expect_shape,
    expect_type,
)
from llmlab.course.guard import Outcome, Stopped, guarded

__all__ = [
    "Bank",
    "Case",
    "Result",
    "Task",
    "Wrong",
    "call",
    "check",
    "expect",
    "expect_choice",
    "expect_close",
    "expect_finite",
    "expect_number",
    "expect_shape",
    "expect_type",
    "run_check",
]

MARKS = {"passed": "✓", "wrong": "✗", "todo": "○"}
TODO = "still to do: write your answer, then run this cell again"


@dataclass(frozen=True)
class Case:
    """An answer in a bank; ``expect`` is a part of the sentence that a wrong one must get."""

    name: str
    answer: Any
    expect: str = ""


@dataclass(frozen=True)
class Bank:
    """Answers that prove a check: those it must reject and those it must accept."""

    wrong: Sequence[Case]
    right: Sequence[Case]


@dataclass(frozen=True)
class Task:
    """One task of a lab. ``limit`` is in seconds; see the module's text for how to write one."""

    id: str
    kind: Literal["build", "debug", "reason"]
    title: str
    difficulty: int
    minutes: int
    hints: tuple[str, str]
    check: Callable[[Any], str | None]
    bank: Bank
    limit: float = 10.0

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\d\d\.[a-z0-9_]+", self.id):
            raise ValueError(
                f"task id {self.id!r}: expected two digits, a dot and a short name, such as '01.attention'"
            )
        if self.kind not in ("build", "debug", "reason"):
            raise ValueError(f"task {self.id}: kind {self.kind!r}: expected 'build', 'debug' or 'reason'")
        if self.difficulty not in (1, 2, 3):
            raise ValueError(f"task {self.id}: difficulty {self.difficulty!r}: expected 1, 2 or 3")
        if len(self.hints) != 2 or isinstance(self.hints, str):
            raise ValueError(f"task {self.id}: expected two hints, got {len(self.hints)}")


@dataclass(frozen=True)
class Result:
    """The verdict on an answer: true when passed. Its text is what :func:`check` printed."""

    task_id: str
    state: Literal["passed", "wrong", "todo"]
    message: str

    def __bool__(self) -> bool:
        return self.state == "passed"

    def __repr__(self) -> str:
        return self.message

    def _ipython_display_(self) -> None:
        """Nothing: it was printed already, and a notebook would show it a second time."""


def check(task_id: str) -> Callable[[Any], Result]:
    """The check of a task: ``check("01.attention")(my_function)`` prints one verdict and records a pass.

    It raises nothing for a fault of the answer, so that "run all cells" reaches the end.

    Raises:
        LookupError: there is no such task; the message lists those of that lab.
    """
    from llmlab.course.labs import find

    task = find(task_id)

    def run(answer: Any) -> Result:
        result = run_check(task, answer)
        print(result.message)
        if result:
            from llmlab.course import progress

            progress.record_pass(task_id)
        return result

    return run


def run_check(task: Task, answer: Any) -> Result:
    """The verdict on ``answer``, printing and recording nothing."""
    if unsolved(answer):
        return _result(task, "todo", TODO)
    outcome = guarded(lambda: task.check(answer), task.limit)
    state, sentence = _verdict(task, answer, outcome)
    extra = _said(outcome) if state != "todo" else []
    return _result(task, state, sentence, *extra)


def unsolved(answer: Any) -> bool:
    """Whether an answer was left open: None, ``...``, a function without a body, or a container with ``...`` in it."""
    if answer is None or answer is Ellipsis:
        return True
    if isinstance(answer, list | tuple):
        return any(item is Ellipsis for item in answer)
    if isinstance(answer, dict):
        return any(item is Ellipsis for item in answer.values())
    code = getattr(answer, "__code__", None)
    return isinstance(code, CodeType) and _empty(code)


_Verdict = tuple[Literal["passed", "wrong", "todo"], str]


def _verdict(task: Task, answer: Any, outcome: Outcome) -> _Verdict:
    error = outcome.error
    if error is None:
        if outcome.value is None or outcome.value is True:
            return "passed", "passed"
        return "passed", f"passed: {outcome.value}"
    if isinstance(error, Wrong):
        return "wrong", str(error)
    frames = [(f.f_code, line) for f, line in traceback.walk_tb(error.__traceback__)]
    place = _place(frames)
    if isinstance(error, NotImplementedError) and not (frames and _unable(frames[-1][0].co_filename)):
        return "todo", TODO
    if isinstance(error, TypeError | AttributeError) and "ellipsis" in str(error):
        return "todo", f"still to do: a `...` is not replaced yet{place}"
    if isinstance(error, Stopped):
        many = f"{task.limit:g} second{'s' * (task.limit != 1)}"
        return "wrong", f"stopped after {many}, your code was still running{place}: does a loop never end?"
    if isinstance(error, SystemExit):
        return "wrong", f"your code asks Python to exit{place}: return instead"
    if isinstance(error, RecursionError):
        return "wrong", f"your code calls itself without end{place}: is a base case missing, or never reached?"
    message = _shortened(error)
    if place:
        return "wrong", f"your code raised {message}{place}"
    return "wrong", f"the check could not use your answer, {describe(answer)}: {message}"


def _result(task: Task, state: Literal["passed", "wrong", "todo"], *lines: str) -> Result:
    text = "\n".join([f"{MARKS[state]} {task.id}: {lines[0]}", *lines[1:]])
    return Result(task.id, state, re.sub(r"\b0x[0-9a-fA-F]{4,}", "0x…", text))


def _said(outcome: Outcome) -> list[str]:
    """What the code printed and was warned of, in a few lines."""
    lines: list[str] = []
    printed = outcome.printed.shown()
    if printed:
        lines += ["  Printed while it was checked:", *printed]
    own = [w for w in outcome.warned if not _library(w.filename)]
    texts = dict.fromkeys(f"{w.category.__name__}: {_one_line(str(w.message))}, at line {w.lineno}" for w in own)
    return lines + [f"  Warned: {text}" for text in list(texts)[:3]]


def _place(frames: list[tuple[CodeType, int]]) -> str:
    """ ", at line 3 of `attention`: `q @ k`": the innermost line that the learner wrote."""
    for code, line in reversed(frames):
        name = code.co_filename
        if _library(name):
            continue
        source = linecache.getline(name, line).strip()
        where = "" if code.co_name.startswith("<") else f" of `{code.co_name}`"
        return f", at line {line}{where}" + (f" (`{source[:100]}`)" if source else "")
    return ""


_PACKAGE = str(Path(__file__).resolve().parents[1]) + os.sep
_COURSE = str(Path(__file__).resolve().parent) + os.sep
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


def _library(filename: str) -> bool:
    """Python's own files, installed packages and ours; a notebook's cell or a file of the learner's is none."""
    if filename.startswith(("<frozen", "<__array", "<string>", _PACKAGE, *_LIBRARIES)):
        return True
    return "site-packages" in filename or "dist-packages" in filename


def _unable(filename: str) -> bool:
    """Whether a NotImplementedError from this file says that something cannot be done, not that it is still to do."""
    return _library(filename) and not filename.startswith(_COURSE)


def _shortened(error: BaseException) -> str:
    try:
        text = _one_line(str(error))
    except Exception:  # an exception class of the learner's whose __str__ fails
        text = "(its message cannot be shown)"
    return f"{type(error).__name__}{': ' if text else ''}{text}"


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 240 else line[:239] + "…"


def _empty(code: CodeType) -> bool:
    """Whether a function's body is only ``...``, ``pass`` or a docstring."""
    idle = {"RESUME", "NOP", "POP_TOP", "RETURN_VALUE", "RETURN_CONST", "LOAD_CONST", "COPY_FREE_VARS"}
    steps = list(dis.get_instructions(code))
    returned = {step.argval for step in steps if step.opname in ("LOAD_CONST", "RETURN_CONST")}
    return all(step.opname in idle for step in steps) and returned <= {None, Ellipsis}
