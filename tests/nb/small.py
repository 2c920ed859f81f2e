"""Tiny notebooks for the tests of the notebook tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat

from llmlab.course.nb.normal import normalise, serialise

v4 = nbformat.v4
# A valid PNG of one pixel.
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="


def stream(text: str, name: str = "stdout") -> Any:
    return v4.new_output("stream", name=name, text=text)


def display(**forms: str) -> Any:
    """``display(text_plain="…", image_png="…")``"""
    return v4.new_output("display_data", data={key.replace("_", "/", 1): value for key, value in forms.items()})


def code(
    source: str, *outputs: Any, tags: tuple[str, ...] = (), llmlab: dict[str, Any] | None = None, run: bool = True
) -> Any:
    cell = v4.new_code_cell(source, outputs=list(outputs), execution_count=1 if run else None)
    if tags:
        cell.metadata["tags"] = list(tags)
    if llmlab:
        cell.metadata["llmlab"] = llmlab
    return cell


def notebook(*cells: Any, **metadata: Any) -> Any:
    return v4.new_notebook(cells=[code(c) if isinstance(c, str) else c for c in cells], metadata=metadata)


def save(path: Path, nb: Any, *, normal: bool = True) -> Path:
    """Write ``nb`` with ids that follow from its sources, so that tests are the same in every run."""
    for cell in nb.cells if normal else []:
        cell.pop("id", None)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(serialise(normalise(nb) if normal else nb), "utf-8")
    return path
