"""Write the reference outputs: execute, normalise, and keep what was committed where the new run says the same."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from llmlab.course.nb.choose import ToolError
from llmlab.course.nb.compare import Tolerance, compare_outputs
from llmlab.course.nb.execute import CELL_SECONDS, Usage, execute, silent_promise
from llmlab.course.nb.normal import PNG_URI, normalise, serialise, write_atomic

__all__ = ["Regenerated", "read", "regen", "regen_one"]

MEASURED = re.compile(r"⟨|\bthis machine\b")
SAME_PIXEL = 16  # of 255: the edge of a line moves by less on another machine


@dataclass(frozen=True)
class Regenerated:
    """What happened to one notebook."""

    path: Path
    changed: bool
    kept: int  # cells whose committed outputs were kept
    cells: int
    usage: Usage | None


def read(path: Path) -> Any:
    """The notebook at ``path``.

    Raises:
        ToolError: there is none, or the file is no notebook.
    """
    try:
        text = path.read_text("utf-8")
        nb = nbformat.v4.reads(text) if json.loads(text).get("nbformat") == 4 else nbformat.reads(text, as_version=4)
        nbformat.validate(normalise(nb))  # a notebook without cell ids is sound: it is given some
    except FileNotFoundError as error:
        raise ToolError(f"{path}: no such notebook") from error
    except Exception as error:
        raise ToolError(
            f"{path} cannot be read as a notebook: {(str(error).splitlines() or [repr(error)])[0]}"
        ) from error
    return nb


def regen(paths: Iterable[Path], *, fresh: bool = False, seconds: float = CELL_SECONDS) -> list[Regenerated]:
    """Regenerate several notebooks, one after the other. See ``regen_one``."""
    return [regen_one(path, fresh=fresh, seconds=seconds) for path in paths]


def regen_one(path: Path, *, fresh: bool = False, seconds: float = CELL_SECONDS) -> Regenerated:
    """Execute the notebook at ``path`` and write it back in normal form; a second time changes no byte.

    A cell whose new outputs agree with the committed ones (measured values apart, numbers within the tolerance) keeps
    the committed ones, pictures too where they look alike or draw measured values; ``fresh`` takes everything new. A
    figure of measured values says so in its alternative: with ⟨…⟩, or with the words "this machine".

    Raises:
        ToolError: a cell failed, or the notebook used the network. The file is left as it was.
    """
    path = Path(path)
    before = path.read_text("utf-8") if path.exists() else ""
    old = read(path)
    run = execute(old, path.resolve().parent, seconds=seconds)
    if run.fault:
        raise ToolError(f"{path.name}: {run.fault}\nNothing was written.")
    if run.network:
        raise ToolError(f"{path.name} used the network ({'; '.join(run.network)}). Nothing was written.")
    for cell in run.notebook.cells:
        promise = silent_promise(cell) if cell.cell_type == "code" else None
        if promise:
            raise ToolError(f"{path.name}: `{cell.source.strip()[:60]}` {promise} Nothing was written.")
    new = normalise(run.notebook)
    kept = 0 if fresh else _keep_committed(normalise(old), new)
    text = serialise(new)
    if text != before:
        write_atomic(path, text)
    cells = sum(cell.cell_type == "code" for cell in new.cells)
    return Regenerated(path, text != before, kept, cells, run.usage)


def _keep_committed(old: Any, new: Any) -> int:
    """Put the old outputs into ``new`` wherever they agree; returns how many cells kept theirs."""
    kept = 0
    for before, cell in zip(old.cells, new.cells):  # the same cells in the same order: only outputs are new
        if cell.cell_type != "code" or before.execution_count is None:
            continue
        tolerance = Tolerance.of(new.metadata.get("llmlab"), cell.metadata.get("llmlab"))
        if compare_outputs(before.outputs, cell.outputs, tolerance) is None and _look_alike(before, cell):
            cell.outputs = before.outputs
            kept += 1
    for cell in new.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "execute_result":
                output.execution_count = cell.execution_count
    return kept


def _look_alike(before: Any, cell: Any) -> bool:
    """Whether the pictures of two cells may count as the same.

    Pixels are compared loosely. A cell that shows a value ⟨…⟩, or says "this machine", may draw what it measured: then
    the text alternatives, which have been compared, decide alone.
    """
    if any(MEASURED.search(f"{output.get('text')}{output.get('data')}") for output in before.outputs):
        return True
    return all(_close(a, b) for a, b in zip(_pictures(before), _pictures(cell), strict=True))


def _pictures(cell: Any) -> list[str]:
    found: list[str] = []
    for output in cell.outputs:
        for key, value in sorted(output.get("data", {}).items()):
            if key.startswith("image/"):
                found.append(re.sub(r"\s", "", value) if isinstance(value, str) else str(value))
            elif key == "text/html":
                found += PNG_URI.findall(value)
    return found


def _close(a: str, b: str) -> bool:
    if a == b:
        return True
    try:
        import numpy as np
        from PIL import Image

        one, two = (np.asarray(Image.open(io.BytesIO(base64.b64decode(x))).convert("RGBA"), dtype=int) for x in (a, b))
    except (ImportError, OSError, ValueError):
        return False
    return one.shape == two.shape and int(abs(one - two).max()) <= SAME_PIXEL
