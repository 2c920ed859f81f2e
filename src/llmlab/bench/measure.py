"""What every benchmark needs: times that can be compared, the machine's own ceiling, and a stamp of what it ran on.

A time alone says little: another process may have had the processor. So whatever is compared runs in turns, round by
round, and the least of each is kept; a ratio of two such minima in one run survives a busy machine far better than
either of them does.
"""

from __future__ import annotations

import datetime
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import torch

__all__ = ["Times", "best_times", "exponent", "in_turns", "matmul_rate", "read_rate", "seconds", "stamp"]


class Times(NamedTuple):
    """Of every round: seconds of this process's processors, and seconds on the clock."""

    cpu: list[float]
    wall: list[float]

    def faster_than(self, other: Times) -> float:
        """How many times as fast as ``other``: the median of the rounds' ratios of processor time.

        The two of one round ran one after the other, so what else the machine did at that time hit both.
        """
        return statistics.median(theirs / own for own, theirs in zip(self.cpu, other.cpu, strict=True))


def in_turns(runs: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, Times]:
    """Call each of ``runs`` once a round, in turns, after one round that does not count.

    On the CPU alone. Processor time hardly notices that others have the processor for a while; the clock does.
    """
    times = {name: Times([], []) for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            if turn:
                times[name].cpu.append(time.process_time() - cpu)
                times[name].wall.append(time.perf_counter() - wall)
    return times


def read_rate(size: int = 2**28, rounds: int = 5) -> float:
    """Bytes a second at which one thread adds up ``size`` bytes of float32: the ceiling of whatever reads memory."""
    numbers = torch.ones(size // 4)
    numbers.sum()
    best = math.inf
    for _ in range(rounds):
        start = time.process_time()
        numbers.sum()
        best = min(best, time.process_time() - start)
    return size / best


def best_times(
    runs: Mapping[str, Callable[[], Any]], device: torch.device, *, rounds: int = 20, budget: float = 1.0
) -> dict[str, float]:
    """The least seconds of one call of each run, taken in turns.

    Args:
        runs: what to time; each should have run once before, so that nothing is compiled or allocated for the first
            time.
        rounds: at most so many turns; at least two.
        budget: seconds for each run, after which no further turn begins.
    """
    # A GPU is waited for once a turn, so a turn must be long enough for the wait not to count.
    calls = {
        name: max(1, int(0.005 / seconds(run, device))) if device.type == "cuda" else 1 for name, run in runs.items()
    }
    best = dict.fromkeys(runs, math.inf)
    end = time.perf_counter() + budget * len(runs)
    for turn in range(max(2, rounds)):
        if turn >= 2 and time.perf_counter() > end:
            break
        for name, run in runs.items():
            best[name] = min(best[name], seconds(run, device, calls[name]))
    return best


def seconds(run: Callable[[], Any], device: torch.device, calls: int = 1) -> float:
    """One call's time, the mean of ``calls``. On a GPU until the device has finished.

    On one thread of a CPU it is the processor's time, which does not run while other processes have the processor.
    """
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = clock()
    for _ in range(calls):
        run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (clock() - start) / calls


def matmul_rate(dtype: torch.dtype, device: torch.device, size: int = 2048, rounds: int = 8) -> float:
    """FLOP/s of one size x size product: 2 size^3 operations in the least time. The ceiling that shares refer to."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / best_times({"matmul": lambda: a @ b}, device, rounds=rounds, budget=10)["matmul"]


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The slope of a straight line through the logarithms: 1 is linear growth, 2 quadratic.

    Raises:
        ValueError: fewer than two points, or one that has no logarithm.
    """
    if len(sizes) != len(values) or len(sizes) < 2 or min(*sizes, *values) <= 0:
        raise ValueError(f"sizes {list(sizes)}, values {list(values)}: expected two or more pairs of positive numbers")
    x, y = ([math.log(value) for value in series] for series in (sizes, values))
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y)) / sum((a - mean_x) ** 2 for a in x)


def stamp(device: torch.device) -> dict[str, Any]:
    """What the numbers were measured on: device, threads, versions, the date, and how busy the machine was."""
    versions = {"python": platform.python_version()}
    for package in ("torch", "triton", "flash-attn", "llmlab"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "type": device.type,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "processors": os.cpu_count(),
        "load": None if load is None else round(load, 2),
        "versions": versions,
        "date": datetime.date.today().isoformat(),
    }


def processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
