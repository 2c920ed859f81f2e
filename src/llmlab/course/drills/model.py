"""A drill, the steps of its working, and how a typed answer is read and judged."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Drill", "Step", "Verdict", "number", "said"]

#: What may stand behind a number. Decimal units of bytes are powers of 1000, binary ones of 1024.
UNITS = {
    "": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "bn": 1e9, "t": 1e12, "%": 0.01,
    "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12,
    "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "pb": 1e15,
    "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30, "tib": 2.0**40,
    "gflop": 1e9, "tflop": 1e12, "pflop": 1e15, "gflops": 1e9, "tflops": 1e12, "pflops": 1e15,
}  # fmt: skip
#: Words that only name what is counted.
NAMES = re.compile(
    r"\b(bytes?|parameters?|params?|tokens?|days?|hours?|h|steps?|flops?|sequences?|per|a|second|s|dollars?|usd|nats?|bits?)\b"
)
NUMBER = re.compile(
    r"([-+]?(?:\d[\d,_ ]*(?:\.\d*)?|\.\d+))(?:\s*(?:[x×*]\s*10\s*(?:\^|\*\*)?|e)\s*([-+]?\d+))?\s*([a-z%]*)"
)


@dataclass(frozen=True)
class Step:
    """One line of the working: what is computed, written out with its numbers, and the result."""

    what: str
    sum: str
    value: float


@dataclass(frozen=True)
class Verdict:
    """Whether an answer is right, and the sentence that says so."""

    right: bool
    sentence: str


@dataclass(frozen=True)
class Drill:
    """A question with fresh numbers.

    Attributes:
        kind: the family it comes from.
        seed: the same kind and seed give the same drill.
        notebook: the lesson that teaches it.
        text: the question.
        unit: what the answer counts: "parameters", "bytes", "days", …; empty for a plain number.
        answer: the right value, by ``llmlab``'s own function.
        working: the way to it by hand, whose last value is the answer.
        slips: what goes wrong -> the value that then comes out.
        tolerance: relative.
    """

    kind: str
    seed: int
    notebook: str
    text: str
    unit: str
    answer: float
    working: tuple[Step, ...]
    slips: Mapping[str, float] = field(default_factory=dict)
    tolerance: float = 0.05

    def judge(self, typed: str) -> Verdict:
        """Right within the tolerance; else the slip that leads to this value, or how far off it is."""
        try:
            value = number(typed)
        except ValueError as error:
            return Verdict(False, str(error))
        if math.isclose(value, self.answer, rel_tol=self.tolerance):
            return Verdict(True, f"Right: {said(self.answer, self.unit)}.")
        for slip, wrong in self.slips.items():
            if math.isclose(value, wrong, rel_tol=min(self.tolerance, 0.02)):
                return Verdict(False, f"Not quite: {slip}.")
        if value <= 0 < self.answer:
            return Verdict(False, "Not quite: the answer is a positive number.")
        factor = value / self.answer
        for base, name in ((1e3, "a thousand"), (1e6, "a million"), (1e9, "a billion")):
            if math.isclose(factor, base, rel_tol=0.1) or math.isclose(factor, 1 / base, rel_tol=0.1):
                return Verdict(False, f"Off by a factor of {name}: look at the units.")
        if factor > 1:
            return Verdict(False, f"Not quite: {said(value, self.unit)} is {factor:.2g} times the answer.")
        return Verdict(False, f"Not quite: the answer is {1 / factor:.2g} times {said(value, self.unit)}.")

    def shown(self) -> list[str]:
        """The working, a line a step."""
        width = max(len(step.what) for step in self.working)
        last = len(self.working) - 1
        return [
            f"{step.what:{width}}  {step.sum} = {said(step.value, self.unit if i == last else '')}"
            for i, step in enumerate(self.working)
        ]


def number(typed: str) -> float:
    """Read ``3.15e23``, ``1,200``, ``2.8 TB``, ``3.2 x 10^5``, ``350 GiB``, ``12 %``, ``7B``.

    Raises:
        ValueError: there is not exactly one number, or its unit is unknown.
    """
    text = NAMES.sub("", typed.strip().lower().replace("−", "-").replace("$", ""))
    text = re.sub(r"/\s*$", "", text).strip()
    match = NUMBER.fullmatch(text)
    if not match:
        raise ValueError(
            f"{typed.strip()[:40]!r} is no number that can be read; write for instance 3.15e23, 1200 or 2.8 TB"
        )
    digits, power, unit = match.groups()
    if unit not in UNITS:
        raise ValueError(f"the unit {unit!r} is not known; write for instance 2.8 TB, 40 GiB, 7B or 12 %")
    try:
        return float(re.sub(r"[,_ ]", "", digits)) * 10.0 ** int(power or 0) * UNITS[unit]
    except OverflowError:
        raise ValueError(f"{typed.strip()[:40]!r} is too large") from None


def said(value: float, unit: str = "") -> str:
    """A value with three or four digits and its unit."""
    if unit == "bytes":
        for size, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
            if value >= size:
                return f"{value / size:.4g} {name}"
        return f"{value:.4g} bytes"
    if abs(value) >= 1e15 or 0 < abs(value) < 1e-3:
        text = f"{value:.3g}"
    elif abs(value) >= 1e4:
        text = f"{value:,.0f}"
    else:
        text = f"{value:.4g}"
    return f"{text} {unit}".strip()
