"""The question bank: 180 interview questions, the lessons that answer them, and the answers that rest on claims.

The bank is the folder ``data/questions``: a file for each lesson, with the questions at home there, and
``sources.yaml`` with what they cite. An answer names the claims that it rests on, and each of them is a line of a
notebook which fails when the claim is false. An answer whose lesson has no notebook yet rests on its sources alone,
and says so.
"""

from __future__ import annotations

import argparse
import ast
import re
import shutil
import sys
import textwrap
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from llmlab.course.lessons import DATA, TableError, lesson, lessons, load_yaml, validate

__all__ = [
    "Followup",
    "Mistake",
    "Question",
    "Source",
    "claims_in",
    "coverage",
    "coverage_table",
    "family",
    "for_notebook",
    "ids_in",
    "main",
    "raw_bank",
    "question",
    "questions",
    "spoken_length",
]

#: What can be said in a minute: words of English, characters of Chinese (with a Latin word or a number counted as one).
MINUTE = {"en": 150, "zh": 260}

#: What is said of an answer without claims.
UNBACKED = "Not yet backed by an experiment: it rests on the sources below"


@dataclass(frozen=True)
class Followup:
    """What is asked next, and what to say."""

    question: str
    answer: str


@dataclass(frozen=True)
class Mistake:
    """What most answers say, what is right, and where it stands in the project's list of faults."""

    says: str
    right: str
    errata: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """A paper or a book: authors, year, title, and its arXiv number or its venue."""

    key: str
    authors: str
    year: int
    title: str
    arxiv: str | None = None
    venue: str | None = None

    def cite(self) -> str:
        """One line: authors, year, title, arXiv number or venue."""
        place = f"arXiv:{self.arxiv}" if self.arxiv else self.venue
        return f"{self.authors}, {self.year}, {self.title}, {place}"


@dataclass(frozen=True)
class Question:
    """One question of the bank.

    ``family`` is the id of the first question that asks the same; ``wants`` is what an expert hopes to hear. The
    fields from ``answer_en`` on are empty until the answer is written, ``claims`` until the lesson's notebook is.
    """

    id: str
    title_zh: str
    question_en: str
    question_zh: str
    notebook: str
    also: tuple[str, ...]
    kind: str
    difficulty: int
    family: str
    wants: str
    answer_en: str = ""
    answer_zh: str = ""
    followups: tuple[Followup, ...] = ()
    numbers: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()
    popular_mistake: Mistake | None = None
    sources: tuple[Source, ...] = ()

    @property
    def answered(self) -> bool:
        """Whether the bank holds an answer."""
        return bool(self.answer_en)

    @property
    def backed(self) -> bool:
        """Whether the answer rests on claims that notebooks make, and not on its sources alone."""
        return bool(self.claims)


@cache
def questions() -> tuple[Question, ...]:
    """All questions, in the order of their ids. Tests check the schema; a notebook that opens does not wait for it."""
    return parse(raw_bank(), schema=False)


def raw_bank() -> dict[str, Any]:
    """The files of the bank put together: ``sources``, and ``questions`` in the order of their ids.

    Raises:
        TableError: a question stands in the file of another lesson.
    """
    found: list[dict[str, Any]] = []
    for path in sorted((DATA / "questions").glob("[0-9][0-9].yaml")):
        entries = load_yaml(path)
        for entry in entries:
            if entry["notebook"] != path.stem:
                raise TableError(f"{path.name} holds {entry['id']}, whose notebook is {entry['notebook']}")
        found += entries
    return {
        "sources": load_yaml(DATA / "questions" / "sources.yaml"),
        "questions": sorted(found, key=lambda entry: entry["id"]),
    }


def question(id: str) -> Question:
    """The question of an id such as ``"A01"``."""
    for entry in questions():
        if entry.id == id.upper():
            return entry
    raise KeyError(f"no question {id!r}: ids run from A01 to E20, a letter and two digits")


def for_notebook(number: str | int, *, also: bool = False) -> tuple[Question, ...]:
    """The questions at home in a lesson; with ``also`` those that it only touches follow them."""
    wanted = lesson(number).number
    home = tuple(q for q in questions() if q.notebook == wanted)
    return home + tuple(q for q in questions() if wanted in q.also) if also else home


def family(id: str) -> tuple[Question, ...]:
    """All questions that ask the same as this one, itself among them."""
    wanted = question(id).family
    return tuple(q for q in questions() if q.family == wanted)


def coverage() -> dict[str, int]:
    """Counts: questions, families, answers, those backed by claims; questions due, their notebook being there."""
    there = {entry.number for entry in lessons() if entry.exists()}
    due = [q for q in questions() if q.notebook in there]
    return {
        "questions": len(questions()),
        "families": len({q.family for q in questions()}),
        "answered": sum(q.answered for q in questions()),
        "backed": sum(q.backed for q in questions()),
        "due": len(due),
        "due_answered": sum(q.answered for q in due),
    }


def coverage_table() -> None:
    """Show, by part of the course, how many questions there are, how many are answered, and how many on claims."""
    from llmlab.course.lessons import parts
    from llmlab.course.show import table

    rows = []
    for entry in parts():
        mine = [q for q in questions() if lesson(q.notebook).part == entry.number]
        families = len({q.family for q in mine})
        answered, backed = sum(q.answered for q in mine), sum(q.backed for q in mine)
        rows.append((f"{entry.number} {entry.title}", len(mine), families, answered, backed))
    count = coverage()
    rows.append(("together", count["questions"], count["families"], count["answered"], count["backed"]))
    table(rows, ["Part", "Questions", "Families in it", "Answered", "On claims that run"])


def claims_in(notebook: Path | str) -> set[str]:
    """The ids of the claims that a notebook's code cells make. See :func:`ids_in`."""
    return ids_in(notebook, "claim")


def ids_in(notebook: Path | str, function: str) -> set[str]:
    """The ids with which a notebook's code cells call ``claim``, ``predict`` or another function of the course.

    They are read from the syntax; nothing is executed. Lines that begin with ``%`` or ``!`` are no Python and skipped.

    Raises:
        ValueError: the function is called with an id that is not written out, so that nobody could check it.
    """
    import nbformat

    found: set[str] = set()
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.cell_type != "code":
            continue
        code = "\n".join("" if re.match(r"\s*[%!]", line) else line for line in cell.source.splitlines())
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function:
                first = node.args[0] if node.args else None
                if not (isinstance(first, ast.Constant) and isinstance(first.value, str)):
                    raise ValueError(
                        f"{notebook}, line {node.lineno} of a cell: {function}(...) has no id in quotes; "
                        f'write {function}("…", ...)'
                    )
                found.add(first.value)
    return found


def spoken_length(text: str) -> int:
    """Chinese characters, each for one, plus words and numbers of other scripts, each for one."""
    han = len(re.findall(r"[\u4e00-\u9fff]", text))
    return han + len(re.sub(r"[\u4e00-\u9fff，。；：？！、（）“”《》]", " ", text).split())


def parse(raw: Any, *, schema: bool = True) -> tuple[Question, ...]:
    """Check a raw bank against ``questions.schema.json`` (unless told not to) and the rules below; make the records.

    Rules: ids are unique and in order; every lesson that is named exists, and ``also`` does not repeat the home; a
    family bears the id of its first question; an answer fits into a minute; a source that is cited stands in the
    table, and no source stands there uncited.
    """
    if schema:
        validate(raw, "questions.schema.json", "the question bank")
    table = {key: Source(key=key, **entry) for key, entry in raw["sources"].items()}
    made = tuple(_record(entry, table) for entry in raw["questions"])
    _check_ids(made)
    _check_places(made)
    _check_families(made)
    for q in made if schema else ():  # a notebook that opens does not mind
        for language, text in (("en", q.answer_en), ("zh", q.answer_zh)):
            if (length := spoken_length(text)) > MINUTE[language]:
                raise TableError(f"{q.id}: answer_{language} has length {length}; a minute holds {MINUTE[language]}")
    unused = set(table) - {s.key for q in made for s in q.sources}
    if schema and unused:
        raise TableError(f"sources that no answer cites: {', '.join(sorted(unused))}")
    return made


def _record(entry: dict[str, Any], table: dict[str, Source]) -> Question:
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    fields["followups"] = tuple(Followup(**f) for f in entry.get("followups", ()))
    if "popular_mistake" in entry:
        mistake = entry["popular_mistake"]
        fields["popular_mistake"] = Mistake(**{**mistake, "errata": tuple(mistake["errata"])})
    missing = [key for key in entry.get("sources", ()) if key not in table]
    if missing:
        raise TableError(f"{entry['id']} cites {', '.join(missing)}, not in the table of sources")
    fields["sources"] = tuple(table[key] for key in entry.get("sources", ()))
    return Question(**fields)


def _check_ids(made: tuple[Question, ...]) -> None:
    ids = [q.id for q in made]
    for before, after in zip(ids, ids[1:]):
        if before >= after:
            raise TableError(f"question {after} stands after {before}: ids are unique and in order")


def _check_places(made: tuple[Question, ...]) -> None:
    known = {entry.number for entry in lessons()}
    for q in made:
        for number in (q.notebook, *q.also):
            if number not in known:
                raise TableError(f"question {q.id} names lesson {number!r}, which the course table does not have")
        if q.notebook in q.also:
            raise TableError(f"question {q.id}: its own lesson {q.notebook} stands in 'also'")


def _check_families(made: tuple[Question, ...]) -> None:
    first: dict[str, str] = {}
    for q in made:
        head = first.setdefault(q.family, q.id)
        if head != q.family:
            raise TableError(f"question {q.id}: family {q.family!r} should bear the id of its first question, {head}")


def main(argv: list[str] | None = None) -> int:
    """``llmlab questions [NN | ID ...] [--answer] [--zh]``: print questions, of a lesson or one by one."""
    parser = argparse.ArgumentParser(
        prog="llmlab questions", description="The interview questions, and their answers in a minute."
    )
    parser.add_argument("which", nargs="*", metavar="NN|ID", help="a lesson (01) or a question (A01); all if left out")
    parser.add_argument("-a", "--answer", action="store_true", help="print the answer, what is asked next, the claims")
    parser.add_argument("--zh", action="store_true", help="questions and answers in Chinese")
    args = parser.parse_args(argv)
    try:
        chosen = [q for word in args.which for q in _chosen(word)] if args.which else list(questions())
    except KeyError as error:
        print(error.args[0], file=sys.stderr)
        return 2
    for q in chosen:
        print("\n".join(_shown(q, answer=args.answer, zh=args.zh)))
    if not args.which:
        count = coverage()
        print(
            f"\n{count['questions']} questions in {count['families']} families, {count['answered']} of them answered, "
            f"{count['backed']} on claims that run."
        )
    return 0


def _chosen(word: str) -> tuple[Question, ...]:
    if re.fullmatch(r"[A-Ea-e]\d\d", word):
        return (question(word),)
    try:
        return for_notebook(word)
    except KeyError:
        raise KeyError(f"{word!r} is neither a lesson (01 to {len(lessons())}) nor a question (A01 to E20)") from None


def _shown(q: Question, *, answer: bool, zh: bool) -> list[str]:
    head = q.question_zh if zh else q.question_en
    lines = fold(f"{q.id}  {head}", indent="     ", first="")
    if not answer:
        return lines
    if not q.answered:
        return [*lines, *fold(f"No answer yet: lesson {lesson(q.notebook).name} is planned.", indent="     "), ""]
    lines += ["", *fold(q.answer_zh if zh else q.answer_en, indent="     "), ""]
    for follow in q.followups:
        lines += [*fold(f"Then: {follow.question}", indent="     "), *fold(follow.answer, indent="       "), ""]
    if q.popular_mistake:
        lines += fold(f"Often said: {q.popular_mistake.says}", indent="     ")
        lines += [*fold(f"Right: {q.popular_mistake.right}", indent="     "), ""]
    lines += [line for number in q.numbers for line in fold(f"· {number}", indent="       ", first="     ")]
    lines += fold(f"Claims: {', '.join(q.claims)}" if q.backed else f"{UNBACKED}.", indent="     ")
    return [*lines, *(line for s in q.sources for line in fold(s.cite(), indent="       ", first="     ")), ""]


def fold(text: str, *, indent: str = "", first: str | None = None, width: int | None = None) -> list[str]:
    """Lines no wider than the terminal. A line may break after any Chinese character; its punctuation may hang over."""
    width = min(width or shutil.get_terminal_size((100, 24)).columns, 120)
    if not re.search(r"[\u4e00-\u9fff]", text):
        start = indent if first is None else first
        return textwrap.wrap(text, width, initial_indent=start, subsequent_indent=indent, break_on_hyphens=False)
    lines, line = [], indent if first is None else first
    for piece in re.findall(r"[!-~]+|.", text):
        if columns(line + piece) > width and line.strip() and piece not in "，。；：？！、）”》":
            lines.append(line.rstrip())
            line = indent + piece.lstrip()
        else:
            line += piece
    return [*lines, line.rstrip()]


def columns(text: str) -> int:
    """The columns that a text takes in a terminal."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
