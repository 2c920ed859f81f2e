"""``llmlab find "kv cache"``: where something is taught. Notebook sections, claims, questions and lab tasks.

English and Chinese: words are compared without case and plural s, Chinese by pairs of characters. The index is made of
the files that are there, in about a second, and ranked by BM25; a hit in a title counts three times.
"""

from __future__ import annotations

import argparse
import html
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from llmlab.course.lessons import Lesson, lesson, lessons
from llmlab.course.questions import fold, questions
from llmlab.text.bm25 import BM25

__all__ = ["Entry", "find", "find_box", "main", "terms"]

KINDS = ("section", "claim", "question", "task")
TITLE_WEIGHT = 3
CLAIM = re.compile(r"✓ ([A-E]\d\d\.[a-z0-9_]+): (.+)")


@dataclass(frozen=True)
class Entry:
    """One thing that can be found: kind, lesson, name (a heading or an id), the text beside it, file and anchor."""

    kind: str
    lesson: Lesson
    name: str
    text: str
    file: str | None
    anchor: str = ""

    @property
    def where(self) -> str:
        """The file as it stands in the repository, or what to call it while it is planned."""
        return self.file or f"lesson {self.lesson.number}, planned"


def find(query: str, *, kind: str | None = None, limit: int = 8) -> list[Entry]:
    """The entries that fit a query best, the best first.

    Above the others stand a question whose id is the query, an entry that has the whole query in its name, one whose
    notebook is there, and one that has the whole query in its text.

    Args:
        query: words in English or Chinese, or an id such as ``A01``.
        kind: only "section", "claim", "question" or "task".
        limit: at most so many.

    Raises:
        ValueError: the query holds no word, or the kind does not exist.
    """
    wanted = terms(query)
    if not wanted:
        raise ValueError(f'nothing to look for in {query!r}: write a word, as in `llmlab find "kv cache"`')
    if kind is not None and kind not in KINDS:
        raise ValueError(f"kind {kind!r}: expected one of {', '.join(KINDS)}")
    entries, ranking = _index()
    phrase = " ".join(wanted)
    scored = []
    for i, score in ranking.scores(wanted).items():
        entry = entries[i]
        if kind in (None, entry.kind):
            name = " ".join(terms(entry.name))
            by_id = entry.kind == "question" and name.startswith(f"{phrase} ")
            whole = phrase in " ".join(terms(entry.text))
            scored.append((-by_id, -(phrase in name), -bool(entry.file), -whole, -score, i))
    return [entries[i] for *_, i in sorted(scored)[:limit]]


def terms(text: str) -> list[str]:
    """Words in small letters without plural s, numbers, and Chinese in overlapping pairs of characters."""
    found: list[str] = []
    for piece in re.findall(r"[\u4e00-\u9fff]+|[^\W_\u4e00-\u9fff]+", text.lower()):
        if "\u4e00" <= piece[0] <= "\u9fff":
            found += [piece[i : i + 2] for i in range(max(len(piece) - 1, 1))]
        else:
            found.append(re.sub(r"(?<=[a-z]{3})(?<!s)s$", "", piece))
    return found


@cache
def _index() -> tuple[list[Entry], BM25]:
    entries = list(_entries())
    return entries, BM25([terms(e.name) * TITLE_WEIGHT + terms(e.text) for e in entries])


def _entries() -> Iterator[Entry]:
    for entry in lessons():
        yield from _of_notebook(entry) if entry.exists() else iter(())
        if not entry.exists():
            title = f"{entry.number} {entry.title} · {entry.title_zh}"
            yield Entry("section", entry, title, entry.experiment, None)
        yield from _of_lab(entry)
    for q in questions():
        home = lesson(q.notebook)
        file = f"notebooks/{home.name}.ipynb" if home.exists() else None
        text = f"{q.title_zh} {q.question_zh} {q.answer_en} {q.answer_zh} {q.wants}"
        yield Entry("question", home, f"{q.id} {q.question_en}", text, file)


def _of_notebook(entry: Lesson) -> Iterator[Entry]:
    """A section for each heading with the text below it, and a claim for each line that one printed."""
    file = f"notebooks/{entry.name}.ipynb"
    heading, anchor, text = f"{entry.number} {entry.title} · {entry.title_zh}", "", [entry.experiment]
    for cell in _cells(entry.path()):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            for line in source.splitlines():
                if match := re.match(r"#{2,4} (.+)", line):
                    yield Entry("section", entry, heading, " ".join(text), file, anchor)
                    heading, text = match[1].strip(), []
                    anchor = heading.replace(" ", "-")  # as JupyterLab makes it
                elif not line.startswith("# "):
                    text.append(line)
        for output in cell.get("outputs", ()):
            said = output.get("text") or output.get("data", {}).get("text/plain", "")
            for id, sentence in CLAIM.findall("".join(said)):
                yield Entry("claim", entry, id, sentence.strip(), file, anchor)
    yield Entry("section", entry, heading, " ".join(text), file, anchor)


def _of_lab(entry: Lesson) -> Iterator[Entry]:
    from llmlab.course.labs import tasks_of

    if entry.exists("labs"):
        for task in tasks_of(entry.number):
            text = f"{task.kind}, {task.minutes} minutes, difficulty {task.difficulty}"
            yield Entry("task", entry, f"{task.id} {task.title}", text, f"labs/{entry.name}.ipynb")


def _cells(path: Path) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return cells


def find_box() -> None:
    """A search box in JupyterLab, with links to what is found."""
    import ipywidgets as w

    from llmlab.course.widgets import _display, _prose

    box = w.Text(
        placeholder="kv cache, 注意力, A05 …", layout=w.Layout(width="24em", max_width="98%"), continuous_update=False
    )
    out = w.HTML()

    def search(_: Any = None) -> None:
        try:
            hits = find(box.value) if box.value.strip() else []
            none = "<p>Nothing found.</p>" if box.value.strip() else ""
            out.value = _prose(f"<ol>{''.join(_as_html(hit, box.value) for hit in hits)}</ol>" if hits else none)
        except ValueError as error:
            out.value = _prose(f"<p>{html.escape(str(error))}</p>")

    box.observe(search, names="value")
    panel = w.VBox([w.HTML("<strong>Where is it taught?</strong>"), box, out])
    panel.add_class("llmlab-find")
    say = 'A search box. Without a kernel, in a terminal: llmlab find "kv cache"'
    _display(panel, {"text/html": f"<p>{html.escape(say)}</p>", "text/plain": say})


def _as_html(entry: Entry, query: str) -> str:
    name, text = html.escape(_label(entry)), html.escape(_near(entry.text, query, 160))
    if entry.file is None:
        link = f"{name} (planned)"
    else:
        target = html.escape(f"../{entry.file}" + (f"#{entry.anchor}" if entry.anchor else ""), quote=True)
        link = f"<a href='{target}' target='_blank'>{name}</a>"
    return f"<li><p>{link}<br>{text}</p></li>"


def _near(text: str, query: str, length: int) -> str:
    """About ``length`` characters of a text around the first word of the query that it holds, else its beginning."""
    flat = " ".join(re.sub(r"[#*`>|]", " ", text).split())
    places = [flat.lower().find(word) for word in [query.lower(), *terms(query)]]
    at = next((place for place in places if place >= 0), 0)
    start = max(at - length // 3, 0)
    if start:
        start = max(flat.rfind(" ", 0, start + 1), flat.rfind("。", 0, start + 1), 0) or start
    piece = flat[start : start + length].strip()
    end = start + length < len(flat)
    return f"{'… ' if start else ''}{piece.rsplit(' ', 1)[0] if end and ' ' in piece else piece}{' …' if end else ''}"


def _label(entry: Entry) -> str:
    """The kind, the lesson where the name does not say it, and the name."""
    if entry.kind == "section" and not entry.name.startswith(entry.lesson.number):
        return f"section  {entry.lesson.number} {entry.lesson.title}: {entry.name}"
    return f"{entry.kind}  {entry.name}"


def main(argv: list[str] | None = None) -> int:
    """Returns 0, 1 when nothing is found, 2 when the words make no sense."""
    parser = argparse.ArgumentParser(
        prog="llmlab find", description="Where something is taught, in English or Chinese."
    )
    parser.add_argument("words", nargs="+", help="what to look for")
    parser.add_argument("--kind", choices=KINDS, help="only these")
    parser.add_argument("-n", type=int, default=8, metavar="N", help="at most N (8)")
    args = parser.parse_args(argv)
    query = " ".join(args.words)
    try:
        hits = find(query, kind=args.kind, limit=max(args.n, 1))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    for entry in hits:
        print("\n".join(fold(_label(entry), indent="    ", first="")))
        print("\n".join(fold(_near(entry.text, query, 180), indent="    ")))
        print(f"    {entry.where}\n")
    if not hits:
        print("Nothing found. Try another word, in English or Chinese.")
    return 0 if hits else 1
