"""The course table: fifty lessons, their order, their prerequisites, and where their files stand.

The table is ``data/course.yaml``. It says what a lesson is; whether its notebook exists is read from the files.
(This module is not called ``table``, because ``llmlab.course.table`` is the function that shows one.)
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from llmlab.course.places import repository

__all__ = ["Lesson", "Part", "TableError", "lesson", "lessons", "part", "parts"]

DATA = Path(__file__).parent / "data"
FOLDERS = ("notebooks", "labs", "solutions")


class TableError(ValueError):
    """The course table or the question bank is not what its schema and its rules ask for."""


@dataclass(frozen=True)
class Part:
    """One of the eight parts: its Roman number and its title in English and Chinese."""

    number: str
    title: str
    title_zh: str


@dataclass(frozen=True)
class Lesson:
    """One of the fifty: a notebook, its lab and its solution.

    ``order`` counts from 1 in learning order; ``minutes`` is for reading and running, ``lab_minutes`` for the lab;
    ``able`` completes "You will be able to answer", ``experiment`` says in one sentence what is measured.
    """

    number: str
    slug: str
    title: str
    title_zh: str
    part: str
    order: int
    minutes: int
    lab_minutes: int
    prerequisites: tuple[str, ...]
    able: str
    experiment: str

    @property
    def name(self) -> str:
        """The stem that notebook, lab and solution share, such as ``01_self_attention``."""
        return f"{self.number}_{self.slug}"

    def path(self, folder: str = "notebooks") -> Path:
        """The file of this lesson in ``notebooks``, ``labs`` or ``solutions``, whether it is there or not.

        Raises:
            ValueError: another folder.
            FileNotFoundError: the package stands outside the course's repository.
        """
        if folder not in FOLDERS:
            raise ValueError(f"folder was {folder!r}; expected one of {', '.join(FOLDERS)}")
        return repository() / folder / f"{self.name}.ipynb"

    def exists(self, folder: str = "notebooks") -> bool:
        """Whether that file is there."""
        return self.path(folder).is_file()


@cache
def parts() -> tuple[Part, ...]:
    """The eight parts in order."""
    return _read()[0]


@cache
def lessons() -> tuple[Lesson, ...]:
    """The fifty lessons in learning order."""
    return _read()[1]


def lesson(number: str | int) -> Lesson:
    """The lesson of a number (``"01"``, ``1``) or of a name (``"01_self_attention"``)."""
    found = re.fullmatch(r"(\d{1,2})(_[a-z0-9_]*)?", str(number))
    wanted = found.group(1).zfill(2) if found else None
    for entry in lessons():
        if entry.number == wanted:
            return entry
    raise KeyError(f"no lesson {number!r}: give a number from 01 to {len(lessons())}, such as '01'")


def part(number: str) -> Part:
    """The part of a Roman number."""
    for entry in parts():
        if entry.number == number:
            return entry
    raise KeyError(f"no part {number!r}: the parts are {', '.join(p.number for p in parts())}")


def _read() -> tuple[tuple[Part, ...], tuple[Lesson, ...]]:
    return parse(load_yaml(DATA / "course.yaml"), schema=False)


def parse(raw: Any, *, schema: bool = True) -> tuple[tuple[Part, ...], tuple[Lesson, ...]]:
    """Check a raw table against ``course.schema.json`` (unless told not to) and the rules below; make the records.

    The tests check the schema. A notebook that opens does not wait for it: jsonschema takes a second to import.

    Rules: numbers and slugs are unique, every part is known and its lessons stand together in the parts' order, every
    prerequisite is a lesson that stands earlier. The last rule also makes a cycle impossible.
    """
    if schema:
        validate(raw, "course.schema.json", "course.yaml")
    known = tuple(Part(**entry) for entry in raw["parts"])
    made = tuple(
        Lesson(**{**entry, "prerequisites": tuple(entry["prerequisites"])}, order=order)
        for order, entry in enumerate(raw["lessons"], start=1)
    )
    _no_twice("part", (p.number for p in known))
    _no_twice("lesson number", (entry.number for entry in made))
    _no_twice("slug", (entry.slug for entry in made))
    rank = {p.number: i for i, p in enumerate(known)}
    seen: set[str] = set()
    last = 0
    for entry in made:
        if entry.part not in rank:
            raise TableError(f"lesson {entry.number}: part {entry.part!r} is not among the parts ({', '.join(rank)})")
        if rank[entry.part] < last:
            raise TableError(f"lesson {entry.number} of part {entry.part} stands after part {known[last].number}")
        last = rank[entry.part]
        for needed in entry.prerequisites:
            if needed not in seen:
                raise TableError(f"lesson {entry.number} needs {needed!r}, which is no lesson that stands before it")
        seen.add(entry.number)
    return known, made


def load_yaml(path: Path) -> Any:
    """The content of a YAML file of the course."""
    import yaml

    return yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def validate(raw: Any, schema_name: str, what: str) -> None:
    """Raise ``TableError`` with the place and the reason of the first fault that the schema finds."""
    import jsonschema

    schema = json.loads((DATA / schema_name).read_text(encoding="utf-8"))
    fault = next(iter(jsonschema.Draft202012Validator(schema).iter_errors(raw)), None)
    if fault is not None:
        place = " > ".join(str(step) for step in fault.absolute_path) or "the top"
        raise TableError(f"{what}, at {place}: {fault.message[:300]}")


def _no_twice(what: str, values: Iterable[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise TableError(f"{what} {value!r} stands twice in the course table")
        seen.add(value)
