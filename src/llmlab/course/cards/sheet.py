"""The cards as a table that every spreadsheet opens."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from llmlab.course.cards.deck import Card
from llmlab.course.nb.normal import write_atomic

__all__ = ["COLUMNS", "write_csv"]

COLUMNS = (
    "id", "kind", "part", "notebook", "difficulty", "front_en", "front_zh", "back_en", "back_zh", "claims", "sources",
)  # fmt: skip


def write_csv(file: Path, chosen: Sequence[Card]) -> None:
    """One line a card, UTF-8 with a byte-order mark, without which Excel takes the Chinese for something else.

    A cell that begins like a formula gets an apostrophe, so that opening the file computes nothing.

    Raises:
        OSError: the file cannot be written; a file that was there is left as it was.
    """
    import io

    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for card in chosen:
        q = card.question
        row = [card.id, card.kind, card.part, card.notebook, str(q.difficulty), card.front_en, card.front_zh]
        row += [card.back_en, card.back_zh, " ".join(q.claims), "; ".join(s.cite() for s in q.sources)]
        writer.writerow([f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell for cell in row])
    write_atomic(file, "\ufeff" + out.getvalue())
