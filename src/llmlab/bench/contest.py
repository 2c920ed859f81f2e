"""What the benchmarks of whole tasks share: a first line, a table with ratios, goals, and a file with all of it."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from llmlab import runtime
from llmlab.bench.measure import Times, stamp

__all__ = ["Goals", "begin", "finish", "parser", "row", "table", "versions"]

Row = dict[str, Any]


def parser(name: str, what: str, rounds: int) -> argparse.ArgumentParser:
    """A parser with what each of these benchmarks takes."""
    made = argparse.ArgumentParser(prog=f"llmlab bench {name}", description=what)
    made.add_argument("--rounds", type=count, default=rounds, help=f"turns of all contestants, default {rounds}")
    made.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    made.add_argument("--quick", action="store_true", help="sizes of a toy, two rounds: does it run at all?")
    return made


def count(text: str) -> int:
    """A whole number of 1 or more, for ``type=``."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number of 1 or more")
    return int(text)


def begin(made: argparse.ArgumentParser, argv: Sequence[str]) -> tuple[argparse.Namespace, dict[str, Any]]:
    """Read the words, set the threads, print the first line. Returns what was asked for and the stamp."""
    args = made.parse_args(list(argv))
    if args.json is not None and not args.json.absolute().parent.is_dir():
        made.error(f"there is no folder {args.json.parent} to write {args.json.name} into")
    if args.quick:
        args.rounds = 2
    runtime.set_threads()
    on = stamp(torch.device("cpu"))
    print(f"{on['device']}, {on['instructions']}, {on['threads']} thread(s), torch {on['versions']['torch']}")
    if on["load"] is not None and on["load"] > 1:
        print(f"The machine is busy (load {on['load']}): trust processor time (cpu) more than the clock (wall).")
    return args, on


def versions(*packages: str) -> dict[str, str | None]:
    """The versions of those packages that are installed; None for the others."""
    found: dict[str, str | None] = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def row(name: str, times: Times, baseline: Times, amount: float, **more: Any) -> Row:
    """A contestant: ``amount`` of work a second of processor and on the clock, and its ratio to the baseline."""
    return {
        "name": name,
        "per_cpu_second": amount / statistics.median(times.cpu),
        "per_second": amount / statistics.median(times.wall),
        "ratio": times.faster_than(baseline),
        "rounds": {"cpu": times.cpu, "wall": times.wall},
        **more,
    }


def table(rows: Sequence[Row], unit: str, scale: float = 1.0, more: Mapping[str, str] | None = None) -> None:
    """Print the rows; ``more`` names further columns, key -> format."""
    wide = max(len(r["name"]) for r in rows) + 2
    titles = "".join(f"{key.replace('_', ' '):>14}" for key in more or {})
    print(f"{'':{wide}}{unit + ', cpu':>16}{'wall':>10}{'ratio':>9}{titles}")
    for r in rows:
        cells = "".join(f"{_cell(r.get(key), form):>14}" for key, form in (more or {}).items())
        speeds = f"{r['per_cpu_second'] * scale:>16.1f}{r['per_second'] * scale:>10.1f}"
        print(f"{r['name']:{wide}}{speeds}{r['ratio']:>7.2f} x{cells}")


def _cell(value: Any, form: str) -> str:
    return "-" if value is None else format(value, form)


class Goals:
    """What was aimed at and what came out, printed as it is added."""

    def __init__(self) -> None:
        self.all: list[Row] = []

    def add(self, what: str, value: float, limit: float, *, most: bool = False) -> None:
        """``value`` should be ``limit`` or more; with ``most``, or less."""
        met = value <= limit if most else value >= limit
        self.all.append({"goal": what, "limit": limit, "value": value, "met": met})
        print(
            f"  {'met    ' if met else 'not met'} {what}: {value:.3g}, goal {'at most' if most else 'at least'} {limit}"
        )


def finish(args: argparse.Namespace, name: str, on: dict[str, Any], **what: Any) -> int:
    """Write the file, if one was asked for. Returns the exit status."""
    if args.json is not None:
        args.json.write_text(json.dumps({"bench": name, "stamp": on, **what}, indent=1) + "\n")
    return 0
