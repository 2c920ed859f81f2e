"""``llmlab nb regen | check | labs | start | mutate``."""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import time
from pathlib import Path

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """The notebook tools' command line; returns the exit status (2: it could not do what was asked)."""
    from llmlab.course.nb.choose import ToolError

    args = _parser().parse_args(argv)
    if args.command == "start":
        from llmlab.course.start import main as start

        return int(start(["--check"] if args.check else []))
    try:
        root = Path(args.root).resolve() if args.root else _root()
        return int(args.run(args, root))
    except ToolError as error:
        print(error, file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    from llmlab.course.nb.execute import CELL_SECONDS

    parser = argparse.ArgumentParser(prog="llmlab nb", description="Tools for the course's notebooks.")
    parser.add_argument("--root", help="the repository (default: the one around this folder)")
    commands = parser.add_subparsers(dest="command", required=True)
    which = {"nargs": "*", "metavar": "NN", "help": "numbers, names or paths (default: all)"}

    regen = commands.add_parser("regen", help="execute notebooks and write their reference outputs")
    regen.add_argument("notebooks", **which)  # type: ignore[arg-type]
    regen.add_argument("--fresh", action="store_true", help="take every output new, also where it agrees")
    regen.add_argument("--seconds", type=float, default=CELL_SECONDS, help="longest time a cell may take")
    regen.set_defaults(run=_regen)

    check = commands.add_parser("check", help="execute notebooks and compare with their reference outputs")
    check.add_argument("notebooks", **which)  # type: ignore[arg-type]
    check.set_defaults(run=_check)

    labs = commands.add_parser("labs", help="write the labs from the solutions")
    labs.add_argument("notebooks", **which)  # type: ignore[arg-type]
    labs.add_argument("--check", action="store_true", help="write nothing; exit 1 if a lab differs from its solution")
    labs.set_defaults(run=_labs)

    mutate = commands.add_parser("mutate", help="plant small faults in a module and list those that nobody notices")
    mutate.add_argument("module", help="a part of the package: attention, attention.tiled, course.nb")
    mutate.add_argument("--tests", nargs="+", default=[], help="who shall notice (default: the tests of that part)")
    mutate.add_argument("--most", type=int, default=60, help="so many, drawn at random (default 60; 0: all)")
    mutate.add_argument("--seed", type=int, default=0, help="of the draw")
    mutate.add_argument("--jobs", type=int, default=2, help="tests run side by side")
    mutate.add_argument("--notebooks", action="store_true", help="ask them where no test notices (minutes)")
    mutate.set_defaults(run=_mutate)

    start = commands.add_parser("start", help="write the start page from the course table")
    start.add_argument("--check", action="store_true", help="write nothing; exit 1 if it is out of step")
    return parser


def _root() -> Path:
    from llmlab.course.nb.choose import ToolError
    from llmlab.course.places import repository

    try:
        return repository()
    except FileNotFoundError as error:
        raise ToolError(str(error)) from error


def _regen(args: argparse.Namespace, root: Path) -> int:
    from llmlab.course.nb.choose import ToolError, choose
    from llmlab.course.nb.regen import regen_one

    failed = 0
    for path in choose(args.notebooks, root):
        try:
            done = regen_one(path, fresh=args.fresh, seconds=args.seconds)
        except ToolError as error:
            failed += 1
            print(error, file=sys.stderr)
            continue
        used = done.usage
        cost = f"; {used.cpu:.1f} s CPU, {used.wall:.1f} s wall, {used.peak_mb:.0f} MB" if used else ""
        what = f"written, {done.kept} of {done.cells} cells kept their outputs" if done.changed else "unchanged"
        print(f"{path.parent.name}/{path.name}: {what}{cost}", flush=True)
    return 1 if failed else 0


def _check(args: argparse.Namespace, root: Path) -> int:
    from llmlab.course.nb.choose import ToolError, choose

    if not (importlib.util.find_spec("pytest") and importlib.util.find_spec("nbval")):
        raise ToolError("pytest and nbval are not installed: `python3 course.py test` sets them up.")
    paths = choose(args.notebooks, root)
    if not paths:
        raise ToolError(f"there is no notebook in {root}/notebooks or {root}/solutions")
    command = [sys.executable, "-m", "pytest", "-p", "llmlab.course.nb.plugin", *map(str, paths)]
    return subprocess.run(command, cwd=root, check=False).returncode


def _labs(args: argparse.Namespace, root: Path) -> int:
    from llmlab.course.nb.choose import choose
    from llmlab.course.nb.labs import check_labs, write_lab

    if args.check:
        faults = check_labs(root)
        print("\n".join(faults) if faults else "every lab is what its solution generates")
        return 1 if faults else 0
    for solution in choose(args.notebooks, root, ("solutions",)):
        print(write_lab(solution, root / "labs"), flush=True)
    return 0


def _mutate(args: argparse.Namespace, root: Path) -> int:
    from llmlab.course.mutate.run import Plan, mutate, report

    plan = Plan(args.module, tuple(args.tests), args.most, args.seed, args.jobs, args.notebooks)
    began = time.monotonic()
    text, good = report(mutate(plan, root), began)
    print(text)
    return 0 if good else 1
