"""From what a person types (``01``, ``12``, a path) to notebook files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

__all__ = ["ToolError", "choose"]


class ToolError(Exception):
    """A notebook tool cannot do what was asked; the message says why and what to do."""


def choose(words: Iterable[str | Path], root: Path, folders: Sequence[str] = ("notebooks", "solutions")) -> list[Path]:
    """The notebooks that ``words`` name in ``folders`` of ``root``; all of them without words.

    Args:
        words: numbers (``1`` or ``01``), stems (``01_self_attention``) or paths of notebooks.
        root: the repository.
        folders: where numbers and stems are looked up.

    Raises:
        ToolError: a word names nothing.
    """
    there = [path for folder in folders for path in sorted((root / folder).glob("*.ipynb"))]
    chosen: list[Path] = []
    for word in map(str, words):
        number = f"{int(word):02d}_" if word.isascii() and word.isdigit() else None
        path = Path(word)
        if path.suffix == ".ipynb" and path.is_file():
            found = [path.resolve()]
        else:
            found = [p for p in there if (p.name.startswith(number) if number else p.stem == word)]
        if not found:
            known = ", ".join(dict.fromkeys(p.stem for p in there)) or "none yet"
            raise ToolError(
                f"no notebook {word!r} in {' or '.join(folders)}: give a number, a name or a path (there: {known})"
            )
        chosen += [p for p in found if p not in chosen]
    return chosen if chosen else there
