"""A program with a fault, its diagnoses, its check and its bank."""

from __future__ import annotations

import linecache
import pkgutil
import random
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from llmlab.course.checking import Bank, Case, Result, Task, Wrong, run_check

__all__ = ["Fault", "Mending", "faults", "find_fault", "load", "run_fault_bank", "try_mending"]


@dataclass(frozen=True)
class Mending:
    """A wrong way to mend a program, and a part of the sentence that it must get."""

    name: str
    program: str
    expect: str


@dataclass(frozen=True)
class Fault:
    """A short program that runs and is wrong.

    Attributes:
        id: the notebook's number, a dot, a short name: ``"01.softmax_axis"``.
        title: what the program is meant to be, in a few words.
        difficulty: 1 to 3, as for questions.
        story: one or two sentences: what it should do, and what is seen instead, without naming the fault.
        program: its source, at most 30 lines; everything that it needs is imported in it.
        name: the function or class in it that is to be mended.
        diagnosis: what is wrong.
        lures: other things that might be suspected -> why each is not the fault. Two or more.
        check: gets the object called ``name`` and returns a sentence, or raises ``Wrong`` with the likely mistake.
        mended, also_right: two right programs, the second written in another way.
        wrong: wrong mendings, two or more.
        errata: numbers in the project's list of faults that this one stands for; empty for one met elsewhere.
        limit: seconds that a mended program may take.
    """

    id: str
    title: str
    difficulty: int
    story: str
    program: str
    name: str
    diagnosis: str
    lures: Mapping[str, str]
    check: Callable[[Any], str | None]
    mended: str
    also_right: str
    wrong: tuple[Mending, ...]
    errata: tuple[str, ...] = ()
    limit: float = 10.0

    def __post_init__(self) -> None:
        for field in ("program", "mended", "also_right"):
            object.__setattr__(self, field, _program(getattr(self, field)))
        if not re.fullmatch(r"\d\d\.[a-z][a-z0-9_]*", self.id):
            raise ValueError(f"fault {self.id!r}: expected two digits, a dot and a name, such as '01.softmax_axis'")
        if len(self.lures) < 2 or len(self.wrong) < 2:
            raise ValueError(f"fault {self.id}: expected two lures and two wrong mendings or more")

    @property
    def notebook(self) -> str:
        """The number of the lesson that it belongs to."""
        return self.id[:2]

    def choices(self) -> dict[str, str]:
        """Every diagnosis -> why it is right or wrong, in an order that the id decides."""
        every = [(self.diagnosis, "That is it."), *self.lures.items()]
        random.Random(self.id).shuffle(every)
        return dict(every)

    def task(self) -> Task:
        """The fault as a task of the checker; its answers are programs."""
        wrong = [Case("the program as it was", self.program, " ")]
        wrong += [Case(m.name, _program(m.program), m.expect) for m in self.wrong]
        return Task(
            id=self.id,
            kind="debug",
            title=self.title,
            difficulty=self.difficulty,
            minutes=5,
            hints=("Run it on the smallest input that you can check by hand.", self.diagnosis),
            check=lambda program: self.check(load(program, self.name, self.id)),
            bank=Bank(wrong=wrong, right=[Case("mended", self.mended), Case("in other words", self.also_right)]),
            limit=self.limit,
        )


@cache
def faults() -> tuple[Fault, ...]:
    """Every fault, in the order of the ids.

    Raises:
        ValueError: an id stands twice.
    """
    import llmlab.course.faults as package

    found: list[Fault] = []
    for module in pkgutil.iter_modules(package.__path__):
        if module.name.startswith("part_"):
            found += import_module(f"{package.__name__}.{module.name}").FAULTS
    ids = [fault.id for fault in found]
    twice = {id for id in ids if ids.count(id) > 1}
    if twice:
        raise ValueError(f"faults that stand twice: {', '.join(sorted(twice))}")
    return tuple(sorted(found, key=lambda fault: fault.id))


def find_fault(id: str) -> Fault:
    """The fault of an id.

    Raises:
        LookupError: there is none; the message lists those of the same notebook, or the notebooks that have some.
    """
    for fault in faults():
        if fault.id == id:
            return fault
    near = [fault.id for fault in faults() if fault.notebook == id[:2]]
    books = sorted({fault.notebook for fault in faults()})
    tail = f"notebook {id[:2]} has {', '.join(near)}" if near else f"there are some for notebooks {', '.join(books)}"
    raise LookupError(f"no fault {id!r}: {tail}")


def load(program: str, name: str, id: str = "fault") -> Any:
    """Run a program in a namespace of its own and return the object called ``name``.

    Raises:
        Wrong: the program is no Python, or makes no such object.
    """
    file = f"<{id}>"
    lines = program.splitlines(keepends=True)
    linecache.cache[file] = (len(program), None, lines, file)  # errors name the line
    try:
        code = compile(program, file, "exec")
    except (SyntaxError, ValueError) as error:
        line = f", at line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise Wrong(f"this is no Python{line}: {getattr(error, 'msg', None) or error}") from None
    space: dict[str, Any] = {"__name__": "__fault__"}
    exec(code, space)
    if name not in space:
        raise Wrong(f"the program no longer defines `{name}`")
    return space[name]


def try_mending(fault: Fault, program: str) -> Result:
    """The verdict on a program that a learner mended, endless loops and exceptions included. A pass is recorded."""
    task = fault.task()
    result = run_check(task, program)
    if result:
        from llmlab.course import progress

        progress.record_pass(f"fault:{fault.id}")
    return result


def run_fault_bank(fault: Fault) -> list[str]:
    """What is amiss between a check and its bank, one sentence each; an empty list is what you want."""
    task, failures = fault.task(), []
    for case in task.bank.wrong:
        result = run_check(task, case.answer)
        if result.state != "wrong":
            failures.append(f"{fault.id}: {case.name!r} was not rejected: {result}")
        elif case.expect not in result.message:
            failures.append(f"{fault.id}: {case.name!r} should be told {case.expect!r}, but was told: {result}")
    for case in task.bank.right:
        result = run_check(task, case.answer)
        if not result:
            failures.append(f"{fault.id}: {case.name!r} was not accepted: {result}")
    return failures


def _program(text: str) -> str:
    return textwrap.dedent(text).strip() + "\n"
