"""The cards as an Anki package (``.apkg``), with the notebooks' own figures.

Notes, decks and the note type have the same identity in every export, so that importing a newer package updates the
notes and leaves Anki's schedule alone.
"""

from __future__ import annotations

import base64
import hashlib
import html
import os
import re
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from llmlab.course.cards.deck import Card
from llmlab.course.lessons import lesson, part
from llmlab.course.questions import Question

__all__ = ["figure_for", "write_apkg"]

MODEL = 1_718_034_501  # any number, as long as it never changes
#: A figure this many cells before or behind a claim is taken to belong to it.
NEAR = 3

CSS = """.card { font: 20px/1.5 sans-serif; max-width: 44em; margin: auto; text-align: left; }
.place, .more { font-size: 80%; } img { max-width: 100%; }"""


def write_apkg(file: Path, chosen: Sequence[Card], *, zh: bool = False) -> int:
    """Write the cards as decks, one a part of the course, to ``file``; return how many pictures went in.

    Raises:
        OSError: the file cannot be written; a file that was there is left as it was.
    """
    import genanki

    model = genanki.Model(
        MODEL,
        "Fifty questions",
        fields=[{"name": name} for name in ("Id", "Front", "Back", "More", "Picture", "Place")],
        templates=[
            {
                "name": "Card",
                "qfmt": "<p class=place>{{Place}}</p>{{Front}}",
                "afmt": '{{FrontSide}}<hr id="answer">{{Back}}{{#Picture}}<p>{{Picture}}</p>{{/Picture}}'
                "<div class=more>{{More}}</div>",
            }
        ],
        css=CSS,
    )
    decks: dict[str, Any] = {}
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=f".{file.name}.") as folder:
        media: dict[str, Path] = {}
        for card in chosen:
            name = f"Fifty questions::{card.part} {part(card.part).title}"
            deck = decks.setdefault(name, genanki.Deck(_number(name), name))
            deck.add_note(_note(genanki, model, card, zh, Path(folder), media))
        package = genanki.Package(list(decks.values()), media_files=[str(path) for path in media.values()])
        made = Path(folder) / "made.apkg"
        package.write_to_file(str(made))
        os.replace(made, file)
    return len(media)


def _note(genanki: Any, model: Any, card: Card, zh: bool, folder: Path, media: dict[str, Path]) -> Any:
    picture = ""
    if card.kind == "question" and (found := figure_for(card.question)):
        data, alt = found
        name = f"llmlab-{hashlib.sha256(data).hexdigest()[:16]}.png"
        if name not in media:
            media[name] = folder / name
            media[name].write_bytes(data)
        picture = f'<img src="{name}" alt="{html.escape(alt, quote=True)}">'
    entry = lesson(card.notebook)
    fields = [
        card.id,
        _prose(card.front(zh)),
        _prose(card.back(zh)),
        _more(card.question) if card.kind == "question" else "",
        picture,
        html.escape(f"{card.id} · notebook {entry.number} {entry.title}"),
    ]
    tags = [f"notebook{entry.number}", f"part{card.part}", f"difficulty{card.question.difficulty}", card.kind]
    guid = genanki.guid_for("llmlab", card.id, "zh" if zh else "en")
    return genanki.Note(model=model, fields=fields, tags=tags, guid=guid)


def _more(q: Question) -> str:
    """Follow-ups, numbers, the popular mistake and the sources, as HTML."""
    lines = [f"<b>Then:</b> {html.escape(f.question)}<br>{html.escape(f.answer)}" for f in q.followups]
    lines += [html.escape(number) for number in q.numbers]
    if q.popular_mistake:
        says, right = html.escape(q.popular_mistake.says), html.escape(q.popular_mistake.right)
        lines.append(f"<b>Often said:</b> {says}<br><b>Right:</b> {right}")
    lines.append("; ".join(html.escape(s.cite()) for s in q.sources))
    return "".join(f"<p>{line}</p>" for line in lines if line)


def figure_for(q: Question) -> tuple[bytes, str] | None:
    """The PNG and the text alternative of the figure that stands nearest to one of the question's claims, if any.

    Looked for in the lesson's committed notebook: in the claim's own cell, then up to :data:`NEAR` cells before it,
    then as many behind it.
    """
    entry = lesson(q.notebook)
    if not (q.claims and entry.exists()):
        return None
    cells = _cells(entry.path())
    for distance in (0, *range(-1, -NEAR - 1, -1), *range(1, NEAR + 1)):
        for claim in q.claims:
            for i, cell in enumerate(cells):
                if f'"{claim}"' in cell["source"] and 0 <= i + distance < len(cells):
                    for output in cells[i + distance]["outputs"]:
                        data = output.get("data", {})
                        if "image/png" in data:
                            alt = re.sub(r"^Figure: ", "", data.get("text/plain", ""))
                            return base64.b64decode(data["image/png"]), alt
    return None


@cache
def _cells(path: Path) -> list[Any]:
    import nbformat

    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def _prose(text: str) -> str:
    return html.escape(text).replace("\n", "<br>")


def _number(name: str) -> int:
    """A number between 2**30 and 2**31 that a name always gets, as Anki wants it."""
    return 2**30 + int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % 2**30
