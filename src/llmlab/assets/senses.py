"""Real sentences in which one word stands in one of two senses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

__all__ = ["Sense", "load_senses"]

#: texts that are part of the package; the README there says where they were copied from, and under which licence
SHIPPED = Path(__file__).parent / "shipped"


class Sense(NamedTuple):
    """A sentence in which ``word`` stands once, at character ``start``, in the sense ``sense``."""

    word: str
    sense: str
    text: str
    start: int


def load_senses() -> list[Sense]:
    """160 real sentences and phrases: eight words, two senses each, ten of each sense; part of the package.

    The texts are example sentences and definitions of WordNet 3.0 (Princeton University) in which the word stands once,
    chosen by hand: examples first, then definitions, near-repeats and rarer uses left out. Those that define or
    illustrate the word itself have its sense from there; that of all others was set by hand for this course, before any
    model had seen them.
    """
    return [Sense(*entry) for entry in json.loads((SHIPPED / "senses.json").read_text(encoding="utf-8"))]
