"""``llmlab nb mutate MODULE``: plant, run, report."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmlab.course.mutate.faults import Fault, faults, planted
from llmlab.course.nb.choose import ToolError
from llmlab.course.testing import test_environment

__all__ = ["Outcome", "Plan", "files_of", "mutate", "report"]

PACKAGE = Path("src/llmlab")
#: Longest time that a fault may take, beside the time that its tests take without one.
PATIENCE = 30.0


@dataclass(frozen=True)
class Plan:
    """What to plant and who shall notice."""

    module: str
    tests: tuple[str, ...] = ()
    most: int = 60
    seed: int = 0
    jobs: int = 2
    notebooks: bool = False
    preload: bool = True  # import torch and its like once, before the first fork


@dataclass
class Outcome:
    """One fault: where it was planted, the line as it was and as it became, and who noticed (None: nobody)."""

    file: Path
    fault: Fault
    line: str
    becomes: str
    noticed: str | None = None
    equivalent: str | None = None

    def __str__(self) -> str:
        return f"{self.file.as_posix()}:{self.fault.line}  {self.fault.kind}: {self.line}  =>  {self.becomes}"


def outcome_of(file: Path, source: str, fault: Fault) -> Outcome:
    """A fault that nobody has looked at yet."""
    row = fault.line - 1
    after = planted(source, fault).splitlines()
    becomes = after[row].strip() if row < len(after) else ""
    return Outcome(file, fault, source.splitlines()[row].strip(), becomes)


@dataclass
class Reach:
    """Which tests reach which line, and how long each takes."""

    lines: dict[str, dict[int, set[str]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def of(self, file: Path, fault: Fault) -> list[str]:
        """The tests that run a line of the fault's statement, quickest first.

        All that touch the file for a line that import runs; all there are for a line that none is seen to run, because
        a test may run it in a process of its own.
        """
        here = self.lines.get(file.as_posix(), {})
        found: set[str] = set()
        for line in range(fault.first, fault.last + 1):
            found |= here.get(line, set())
        if found == {""}:
            found = set().union(*here.values())
        found.discard("")
        return sorted(found or self.seconds, key=lambda test: self.seconds.get(test, 0.0))


def files_of(module: str, home: Path) -> list[Path]:
    """The files of ``attention``, ``attention.tiled`` or ``course.nb``, relative to the package.

    Raises:
        ToolError: there is no such module.
    """
    name = module.removeprefix("llmlab.").replace(".", "/")
    root = home / PACKAGE
    if (root / f"{name}.py").is_file():
        return [Path(f"{name}.py")]
    if (root / name).is_dir():
        return [p.relative_to(root) for p in sorted((root / name).rglob("*.py"))]
    raise ToolError(f"no module {module!r} in {PACKAGE}: name one as in 'attention' or 'attention.tiled'")


def equivalents(home: Path) -> dict[tuple[str, str, str], str]:
    """Faults that change nothing a caller could see: (file, line, what it becomes) -> why. Kept beside the tests."""
    file = home / "tests" / "equivalent_faults.json"
    rows = json.loads(file.read_text(encoding="utf8")) if file.exists() else []
    return {(row["file"], row["line"], row["becomes"]): row["why"] for row in rows}


def draw(plan: Plan, home: Path) -> list[Outcome]:
    """The faults to plant: all, or ``plan.most`` of them drawn with ``plan.seed``, spread over the files by size."""
    everything = []
    for file in files_of(plan.module, home):
        source = (home / PACKAGE / file).read_text(encoding="utf8")
        everything += [outcome_of(file, source, fault) for fault in faults(source)]
    if plan.most and plan.most < len(everything):
        kept = sorted(random.Random(plan.seed).sample(range(len(everything)), plan.most))
        everything = [everything[i] for i in kept]
    known = equivalents(home)
    for outcome in everything:
        outcome.equivalent = known.get((outcome.file.as_posix(), outcome.line, outcome.becomes))
    return everything


class Server:
    """A copy of the package and the process that runs tests on it."""

    def __init__(self, home: Path, folder: Path, preload: bool) -> None:
        self.home, self.copy = home, folder / "src"
        shutil.copytree(home / "src", self.copy, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        (folder / "data").mkdir(parents=True)
        environment = {**test_environment(str(folder / "data")), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, str(Path(__file__).with_name("server.py")), str(self.copy), *["heavy"] * preload]
        self.process = subprocess.Popen(
            command, cwd=home, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """One run of tests.

        Raises:
            ToolError: the process is gone.
        """
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise ToolError("the process that runs the tests ended; its words stand above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    @contextmanager
    def with_fault(self, outcome: Outcome) -> Iterator[Path]:
        """The copy with the fault in it, mended afterwards."""
        target = self.copy / "llmlab" / outcome.file
        source = target.read_text(encoding="utf8")
        target.write_text(planted(source, outcome.fault), encoding="utf8")
        try:
            yield self.copy
        finally:
            target.write_text(source, encoding="utf8")

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(timeout=60)


def mutate(plan: Plan, home: Path, say: Any = print) -> list[Outcome]:
    """Plant every fault of the plan and say who noticed.

    Raises:
        ToolError: no such module, no such tests, or the tests fail before any fault was planted.
    """
    outcomes = draw(plan, home)
    tests = list(plan.tests) or default_tests(plan.module, home)
    with tempfile.TemporaryDirectory(prefix="llmlab-mutate-") as folder, ThreadPoolExecutor(plan.jobs) as pool:
        servers = [Server(home, Path(folder) / str(i), plan.preload) for i in range(plan.jobs)]
        try:
            say(f"{len(outcomes)} faults in {plan.module}; first, {' '.join(tests)} without any")
            reach = reached(servers[0], tests, outcomes)
            free, lock = list(servers), threading.Lock()

            def one(outcome: Outcome) -> None:
                server = free.pop()
                try:
                    outcome.noticed = noticed(server, outcome, reach, plan, home)
                finally:
                    free.append(server)
                with lock:
                    mark = "✓" if outcome.noticed else ("=" if outcome.equivalent else "✗")
                    say(f"{mark} {outcome}  [{outcome.noticed or outcome.equivalent or 'nobody noticed'}]")

            list(pool.map(one, outcomes))
        finally:
            for server in servers:
                server.close()
    return outcomes


def default_tests(module: str, home: Path) -> list[str]:
    """The folder of tests that bears the module's name, and what else imports it by name."""
    first = module.removeprefix("llmlab.").split(".")[0]
    own = home / "tests" / first
    single = home / "tests" / f"test_{first}.py"
    found = [p for p in (own, single) if p.exists()]
    if first == "course" and (home / "tests" / "nb").exists():
        found.append(home / "tests" / "nb")
    if not found:
        raise ToolError(f"tests/{first} does not exist: name the tests with --tests")
    return [p.relative_to(home).as_posix() for p in found]


def reached(server: Server, tests: list[str], outcomes: list[Outcome]) -> Reach:
    """Run all tests once, without a fault."""
    said = server.ask(tests=tests, seconds=1800, measure=True)
    if said["how"] != "passed":
        raise ToolError(f"the tests do not pass without a fault ({said['failed']}): mend that first")
    reach = Reach(seconds=said["times"])
    wanted = {str((server.copy / "llmlab" / o.file).resolve()): o.file.as_posix() for o in outcomes}
    for file, lines in said["lines"].items():
        name = wanted.get(str(Path(file).resolve()))
        if name:
            reach.lines[name] = {int(line): set(names) for line, names in lines.items()}
    return reach


def noticed(server: Server, outcome: Outcome, reach: Reach, plan: Plan, home: Path) -> str | None:
    """Who noticed the fault: a test's name, a notebook's name, or None."""
    tests = reach.of(outcome.file, outcome.fault)
    with server.with_fault(outcome) as copy:
        if tests:
            usual = sum(reach.seconds.get(test, 0.0) for test in tests)
            said = server.ask(tests=tests, seconds=PATIENCE + 5 * usual)
            if said["how"] != "passed":
                return str(said["failed"])
        if plan.notebooks:
            for notebook in notebooks_with(outcome.file, home):
                if not _notebook_agrees(notebook, copy, home):
                    return f"{notebook.parent.name}/{notebook.name}"
    return None


def notebooks_with(file: Path, home: Path) -> Iterable[Path]:
    """The notebooks and solutions that name the module's part of the package; all of them for the course's own."""
    books = sorted((home / "notebooks").glob("*.ipynb")) + sorted((home / "solutions").glob("*.ipynb"))
    part = f"llmlab.{file.parts[0].removesuffix('.py')}"
    return [b for b in books if part == "llmlab.course" or part in b.read_text(encoding="utf8")]


def _notebook_agrees(notebook: Path, copy: Path, home: Path) -> bool:
    with tempfile.TemporaryDirectory() as data:
        environment = {**test_environment(data), "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "llmlab.course.nb.plugin", str(notebook)]
        done = subprocess.run(command, cwd=home, env=environment, capture_output=True, check=False, timeout=600)
    return done.returncode == 0


def report(outcomes: list[Outcome], began: float) -> tuple[str, bool]:
    """The last lines: how many were noticed and the survivors; True if fewer than a tenth survived."""
    equal = [o for o in outcomes if o.equivalent and not o.noticed]
    alive = [o for o in outcomes if not o.noticed and not o.equivalent]
    judged = len(outcomes) - len(equal)
    share = len(alive) / judged if judged else 0.0
    lines = [
        f"{judged - len(alive)} of {judged} faults noticed, {len(alive)} survived ({share:.1%}), "
        f"{len(equal)} known to change nothing; {time.monotonic() - began:.0f} s"
    ]
    return "\n".join(lines + [f"  survived: {o}" for o in alive]), share < 0.1
