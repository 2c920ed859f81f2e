"""The one form in which a notebook is kept, so that two runs give the same bytes and a diff shows what changed."""

from __future__ import annotations

import base64
import binascii
import hashlib
import itertools
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import nbformat

__all__ = ["PNG_URI", "clean_text", "normalise", "normalise_outputs", "serialise", "strip_png", "write_atomic"]

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
PNG_URI = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)")
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LANGUAGE = {"file_extension": ".py", "mimetype": "text/x-python", "name": "python", "pygments_lexer": "ipython3"}
# What editors leave behind: time stamps, folding, widget models, signatures.
DROP_FROM_NOTEBOOK = ("widgets", "signature", "vscode", "interpreter", "toc", "toc-autonumbering", "toc-showcode")
DROP_FROM_CELL = ("execution", "ExecuteTime", "collapsed", "scrolled", "trusted", "vscode", "pycharm")

_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{9,16}\b|(?<= at )0x[0-9a-fA-F]+")
_CELL_FILE = re.compile(r"[^\s\"'(<>]*ipykernel_\d+[/\\]+\d+\.py")
_OVERWRITTEN = re.compile(r"^.*\r(?=[^\n])", re.MULTILINE)
_RETURNS = re.compile(r"\r+\n")
_BACKSPACE = re.compile(r"[^\n]\x08")


def clean_text(text: str) -> str:
    """``text`` without memory addresses and the kernel's temporary file names, which differ in every run."""
    return _CELL_FILE.sub("<cell>", _ADDRESS.sub("0x…", text))


def strip_png(encoded: str) -> str:
    """A base64 PNG without its text and time chunks (matplotlib writes its version there)."""
    try:
        raw = base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError):
        return encoded
    if not raw.startswith(b"\x89PNG\r\n\x1a\n"):
        return encoded
    kept, at = [raw[:8]], 8
    while at + 8 <= len(raw):
        size = int.from_bytes(raw[at : at + 4], "big") + 12
        if raw[at + 4 : at + 8] not in {b"tEXt", b"zTXt", b"iTXt", b"tIME"}:
            kept.append(raw[at : at + size])
        at += size
    return base64.b64encode(b"".join(kept)).decode()


def normalise_outputs(outputs: list[Any]) -> list[Any]:
    """A cell's outputs as they are kept and compared.

    Neighbouring streams are merged, standard output first: two pipes have no order between them. What ``\\r`` and
    backspace overwrite is dropped, and so are widget model ids, whose values are random.
    """
    result: list[Any] = []
    for kind, group in itertools.groupby(outputs, key=lambda output: output["output_type"] == "stream"):
        if not kind:
            result += [_normal_output(output) for output in group]
            continue
        texts: dict[str, str] = {"stdout": "", "stderr": ""}
        for output in group:
            texts[output["name"]] = texts.get(output["name"], "") + output["text"]
        for name, text in texts.items():
            shown = clean_text(_overwrite(text))
            if shown:
                result.append(nbformat.v4.new_output("stream", name=name, text=shown))
    return result


def normalise(notebook: Any) -> Any:
    """A copy of ``notebook`` in the form that is kept (see the module). Applying it twice changes nothing more."""
    nb = nbformat.from_dict(notebook)
    nb.nbformat, nb.nbformat_minor = 4, 5
    nb.metadata = {k: v for k, v in nb.metadata.items() if k not in DROP_FROM_NOTEBOOK}
    nb.metadata = nbformat.from_dict({**nb.metadata, "kernelspec": dict(KERNEL), "language_info": dict(LANGUAGE)})
    ids: set[str] = set()
    count = 0
    for cell in nb.cells:
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k not in DROP_FROM_CELL})
        cell["id"] = _own_id(cell, ids)
        if cell.cell_type != "code":
            cell.pop("outputs", None)
            cell.pop("execution_count", None)
            continue
        cell.outputs = normalise_outputs(cell.get("outputs", []))
        run = cell.get("execution_count") is not None
        if not cell.source.strip():
            cell.outputs, run = [], False
        else:
            count += 1
        cell.execution_count = count if run else None
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = cell.execution_count
    return nb


def serialise(notebook: Any) -> str:
    """The text of the file: JSON with indent 1, sorted keys, real characters, one newline at the end."""
    return nbformat.writes(notebook, version=4).rstrip("\n") + "\n"


def write_atomic(path: Path, text: str) -> None:
    """Write ``text`` so that ``path`` holds the old or the new content, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        os.chmod(name, path.stat().st_mode & 0o777 if path.exists() else 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _overwrite(text: str) -> str:
    while "\x08" in text:
        shorter = _BACKSPACE.sub("", text)
        if shorter == text:
            break
        text = shorter
    return _OVERWRITTEN.sub("", _RETURNS.sub("\n", text))  # after backspace, which may bring a return to a line's end


def _normal_output(output: Any) -> Any:
    out = nbformat.from_dict(output)
    if out.output_type == "error":
        out.evalue = clean_text(out.evalue)
        out.traceback = [clean_text(line) for line in out.get("traceback", [])]
        return out
    out.pop("transient", None)
    data = {key: value for key, value in out.get("data", {}).items() if key != WIDGET_VIEW}
    for key, value in data.items():
        if key == "image/png":
            data[key] = strip_png(value)
        elif isinstance(value, str):
            data[key] = PNG_URI.sub(lambda m: f"data:image/png;base64,{strip_png(m[1])}", clean_text(value))
    out.data = nbformat.from_dict(data)
    out.metadata = nbformat.from_dict({k: v for k, v in out.get("metadata", {}).items() if k in data})
    return out


def _own_id(cell: Any, taken: set[str]) -> str:
    """The cell's id, or, where it has none or a neighbour's, one made of its source: the same on every machine."""
    own, tries = cell.get("id"), 0
    while not own or own in taken:
        own = hashlib.sha256(f"{tries}\0{cell.source}".encode()).hexdigest()[:8]
        tries += 1
    taken.add(own)
    return own
