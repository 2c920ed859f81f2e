"""Labs from solutions: ``solutions/NN.ipynb`` is the one source, ``labs/NN.ipynb`` is cut out of it.

In a code cell of a solution::

    ### BEGIN SOLUTION
    the lines that a learner is to find
    ### INSTEAD
    # the lines shown in the lab, one comment level deeper
    ### END SOLUTION

Without INSTEAD the lab shows ``raise NotImplementedError("write your answer here")``. A cell with the tag ``solution``
is left out of the lab.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from llmlab.course.nb.choose import ToolError
from llmlab.course.nb.execute import CELL_SECONDS, execute
from llmlab.course.nb.normal import normalise, normalise_outputs, serialise, write_atomic
from llmlab.course.nb.regen import read

__all__ = ["LabWritten", "check_labs", "cut", "generate", "run_lab", "source_hash", "write_lab"]

BEGIN, INSTEAD, END = "### BEGIN SOLUTION", "### INSTEAD", "### END SOLUTION"
TODO = 'raise NotImplementedError("write your answer here")'
_LIKE_A_MARKER = re.compile(r"#+\s*(?:(?:BEGIN|END|START|STOP)\W*SOLUTIONS?\b|INSTEAD\W*$)", re.IGNORECASE)


@dataclass(frozen=True)
class LabWritten:
    """What ``write_lab`` did: the file that holds the new lab, whether it was written now, and a sentence."""

    path: Path
    written: bool
    sentence: str

    def __str__(self) -> str:
        return self.sentence


def cut(source: str) -> str:
    """The source of one code cell without its solution.

    Raises:
        ToolError: markers that are malformed, nested or left open, or an INSTEAD line that is not a comment.
    """
    shown: list[str] = []
    opened, instead = "", False  # the indentation of BEGIN while inside; whether INSTEAD has been seen
    inside = False
    for number, line in enumerate(source.split("\n"), start=1):
        word, indent = line.strip(), line[: len(line) - len(line.lstrip())]
        if word == BEGIN:
            if inside:
                raise ToolError(f"line {number}: `{BEGIN}` inside another solution: end the first one before it")
            opened, instead, inside = indent, False, True
        elif word == INSTEAD:
            if not inside or instead:
                why = "twice in one solution" if inside else f"without `{BEGIN}`"
                raise ToolError(f"line {number}: `{INSTEAD}` {why}")
            instead = True
        elif word == END:
            if not inside:
                raise ToolError(f"line {number}: `{END}` without `{BEGIN}`")
            if not instead:
                if not opened:
                    raise ToolError(
                        f"line {number}: a solution at top level needs an `{INSTEAD}` part, such as `# answer = ...`: "
                        "the unsolved lab must run from top to bottom"
                    )
                shown.append(f"{opened}{TODO}")
            inside = False
        elif _LIKE_A_MARKER.match(word):
            raise ToolError(f"line {number}: `{word}` looks like a marker; write `{BEGIN}`, `{INSTEAD}` or `{END}`")
        elif not inside:
            shown.append(line)
        elif instead:
            if word and not word.startswith("#"):
                raise ToolError(f"line {number}: after `{INSTEAD}` every line is a comment, but this is `{word}`")
            bare = word[2:] if word.startswith("# ") else word[1:]
            shown.append(f"{indent}{bare}".rstrip())
    if inside:
        raise ToolError(f"`{BEGIN}` is never ended: add `{END}`")
    return "\n".join(shown)


def generate(solution: Any, origin: str) -> Any:
    """The lab of a solution: solutions cut out, no outputs, and the hash of what was generated in its metadata.

    Args:
        solution: the solved notebook; it is not changed.
        origin: the solution's path in the repository, for the metadata.

    Raises:
        ToolError: a marker is malformed, or what is left of a cell is no Python; names the cell.
    """
    lab = nbformat.from_dict(solution)
    lab.cells = [cell for cell in lab.cells if "solution" not in cell.metadata.get("tags", [])]
    for place, cell in enumerate(lab.cells, start=1):
        try:
            if cell.cell_type == "code":
                marked = BEGIN in cell.source
                cell.source = cut(cell.source)
                cell.outputs, cell.execution_count = [], None
                cell.metadata.pop("llmlab", None)
                if marked:
                    _must_parse(cell.source)
            else:
                _no_marker(cell.source)
        except ToolError as error:
            raise ToolError(f"{origin}, cell {place}: {error}") from error
    lab.metadata["llmlab"] = {"from": origin}
    lab = normalise(lab)
    lab.metadata.llmlab["generated"] = source_hash(lab)
    return lab


def source_hash(notebook: Any) -> str:
    """A hash of the cells' kinds and sources: outputs, ids and metadata may change without a learner's work."""
    cells = [[cell.cell_type, cell.source] for cell in notebook.cells]
    return hashlib.sha256(json.dumps(cells, ensure_ascii=False).encode()).hexdigest()


def write_lab(solution: Path, folder: Path) -> LabWritten:
    """Write the lab of ``solution`` into ``folder``; a lab in which someone has worked is never overwritten.

    If the lab there is not what was generated last (a cell changed, added or removed), the new version is written
    beside it as ``NN_slug.new.ipynb`` (then ``.new2``, …), and the sentence says so.

    Raises:
        ToolError: the solution cannot be read or cut.
    """
    lab = generate(read(solution), f"solutions/{solution.name}")
    text = serialise(lab)
    path = folder / solution.name
    beside = (path.with_name(f"{path.stem}.new{n if n > 1 else ''}.ipynb") for n in range(1, 1000))
    target = next(file for file in (path, *beside) if not file.exists() or _untouched(file, lab))
    written = not target.exists() or target.read_text("utf-8") != text
    if written:
        write_atomic(target, text)
    if target == path:
        return LabWritten(target, written, f"labs/{path.name}: {'written' if written else 'unchanged'}")
    how = "now lies" if written else "lies"
    sentence = f"labs/{path.name} holds somebody's work and was left alone; the new lab {how} beside it: {target.name}"
    return LabWritten(target, written, sentence)


def check_labs(root: Path) -> list[str]:
    """One sentence for every lab in ``root`` that is not, byte for byte, what its solution generates now."""
    faults = []
    solutions = sorted((root / "solutions").glob("*.ipynb"))
    for solution in solutions:
        lab = root / "labs" / solution.name
        try:
            text = serialise(generate(read(solution), f"solutions/{solution.name}"))
        except ToolError as error:
            faults.append(str(error))
            continue
        if not lab.exists():
            faults.append(f"labs/{lab.name} is missing: run `llmlab nb labs`")
        elif lab.read_text("utf-8") != text:
            faults.append(f"labs/{lab.name} differs from what solutions/{lab.name} generates: run `llmlab nb labs`")
    names = {solution.name for solution in solutions}
    for lab in sorted((root / "labs").glob("*.ipynb")):
        if lab.name not in names and not re.search(r"\.new\d*\.ipynb$", lab.name):
            faults.append(f"labs/{lab.name} has no solution: remove it, or add solutions/{lab.name}")
    return faults


def run_lab(path: Path, *, seconds: float = CELL_SECONDS) -> str:
    """Execute a lab from top to bottom in a closed kernel and return what it showed, as text.

    Raises:
        ToolError: a cell raised or ran too long, or the lab used the network.
    """
    run = execute(read(path), path.resolve().parent, seconds=seconds)
    if run.fault:
        raise ToolError(f"{path.name} does not run from top to bottom: {run.fault}")
    if run.network:
        raise ToolError(f"{path.name} used the network: {'; '.join(run.network)}")
    outputs = [output for cell in run.notebook.cells for output in normalise_outputs(cell.get("outputs", []))]
    shown = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs]
    return "\n".join(text.rstrip("\n") for text in shown if text)


def _untouched(path: Path, lab: Any) -> bool:
    """Whether the lab at ``path`` holds no work: its sources are those generated last, or those of ``lab``."""
    try:
        there = read(path)
    except ToolError:
        return False
    return source_hash(there) in {there.metadata.get("llmlab", {}).get("generated"), source_hash(lab)}


def _must_parse(source: str) -> None:
    from IPython.core.inputtransformer2 import TransformerManager

    try:
        ast.parse(TransformerManager().transform_cell(source))
    except SyntaxError as error:
        text = f" ({error.text.strip()})" if error.text else ""
        raise ToolError(
            f"without its solution the cell is no Python: {error.msg}, line {error.lineno}{text}"
        ) from error


def _no_marker(source: str) -> None:
    for line in source.split("\n"):
        if _LIKE_A_MARKER.match(line.strip()):
            raise ToolError(f"`{line.strip()}` in a text cell: tag the cell `solution` to leave it out of the lab")
