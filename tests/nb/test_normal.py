"""The one form of a notebook file."""

from __future__ import annotations

import base64
import hashlib
import os
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import PIXEL, code, display, notebook, save, stream, v4

from llmlab.course.nb.choose import ToolError, choose
from llmlab.course.nb.normal import clean_text, normalise, normalise_outputs, serialise, strip_png, write_atomic
from llmlab.course.nb.plugin import form_faults
from llmlab.course.nb.regen import read


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def stamped(text: bytes) -> str:
    raw = base64.b64decode(PIXEL)
    return base64.b64encode(raw[:33] + chunk(b"tEXt", b"Software\0" + text) + raw[33:]).decode()


def test_a_picture_loses_its_stamp_and_nothing_else() -> None:
    assert stamped(b"matplotlib 3.11") != stamped(b"matplotlib 3.12")
    assert strip_png(stamped(b"matplotlib 3.11")) == strip_png(stamped(b"matplotlib 3.12")) == PIXEL
    assert strip_png("not a picture") == "not a picture"
    page = f"<img src='data:image/png;base64,{stamped(b'x')}'>"
    (shown,) = normalise_outputs([display(text_html=page)])
    assert shown.data["text/html"] == f"<img src='data:image/png;base64,{PIXEL}'>"


def test_every_stamp_goes_and_every_other_chunk_stays() -> None:
    raw = base64.b64decode(PIXEL)
    stamps = b"".join(chunk(kind, b"x" * 5) for kind in (b"tEXt", b"zTXt", b"iTXt", b"tIME"))
    kept = chunk(b"gAMA", b"abcd") + chunk(b"pHYs", b"")
    encoded = base64.b64encode(raw[:33] + kept[:16] + stamps + kept[16:] + raw[33:]).decode()
    wanted = base64.b64encode(raw[:33] + kept + raw[33:]).decode()
    assert strip_png(encoded) == wanted
    assert strip_png("\n".join([encoded[:40], encoded[40:]])) == wanted, "line breaks belong to no picture"
    for odd in (PIXEL[:-1], base64.b64encode(b"GIF89a").decode(), "", "AAAA!"):
        assert strip_png(odd) == odd
    cut = base64.b64encode(raw + b"\0\0\0\1tEX").decode()
    assert base64.b64decode(strip_png(cut)) == raw, "seven bytes behind the end are no chunk"


def test_one_form_of_metadata_outputs_and_counts() -> None:
    shown = v4.new_output("display_data", data={"text/plain": "x", "image/png": PIXEL})
    shown.metadata = {"image/png": {"width": 3}, "text/html": {"isolated": True}}
    failed = v4.new_output(
        "error", ename="E", evalue="at 0x1234567890", traceback=["<f at 0x12>", "/tmp/ipykernel_1/2.py"]
    )
    blank = code(" \n", stream("left over\n"))
    text = v4.new_markdown_cell("text")
    text["outputs"], text["execution_count"] = [], 3
    nb = notebook(code("a", shown, failed), blank, code("never", run=False), "b", "c")
    nb.cells.insert(1, text)
    nb.cells[0].outputs[0]["transient"] = {"display_id": "a"}
    nb.nbformat_minor = 2
    for name in ("signature", "vscode", "interpreter", "toc", "toc-autonumbering", "toc-showcode"):
        nb.metadata[name] = {"a": 1}
    nb.metadata["llmlab"] = {"rtol": 0.1}
    for name in ("ExecuteTime", "collapsed", "trusted", "vscode", "pycharm"):
        nb.cells[0].metadata[name] = True
    new = normalise(nb)
    assert (new.nbformat, new.nbformat_minor) == (4, 5)
    assert set(new.metadata) == {"llmlab", "kernelspec", "language_info"} and new.metadata.kernelspec.name == "python3"
    assert new.cells[0].metadata == {} and "outputs" not in new.cells[1] and "execution_count" not in new.cells[1]
    assert [c.execution_count for c in new.cells if c.cell_type == "code"] == [1, None, None, 3, 4]
    assert new.cells[2].outputs == []
    one, two = new.cells[0].outputs
    assert one.metadata == {"image/png": {"width": 3}} and "transient" not in one
    assert two.evalue == "at 0x…" and two.traceback == ["<f at 0x…>", "<cell>"]


def test_streams_are_joined_between_other_outputs() -> None:
    found = normalise_outputs([
        stream("a"), stream("e", "stderr"), stream("b"), display(text_plain="x"), stream("c", "stderr"), stream(""),
    ])  # fmt: skip
    assert [(o.get("name"), o.get("text")) for o in found] == [
        ("stdout", "ab"), ("stderr", "e"), (None, None), ("stderr", "c"),
    ]  # fmt: skip


def test_what_editors_and_widgets_leave_behind_is_dropped() -> None:
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "af31"}, "text/plain": "Predict"}
    cell = code("1 + 1", v4.new_output("execute_result", data={"text/plain": "2"}, execution_count=9), tags=("keep",))
    cell.metadata.update(execution={"iopub.status.idle": "now"}, scrolled=True)
    cell.execution_count = 9
    nb = notebook(cell, code("show()", v4.new_output("display_data", data=view)), "  ", widgets={"state": {}})
    nb.metadata["language_info"] = {"name": "python", "version": "3.11.7"}
    new = normalise(nb)
    assert "widgets" not in new.metadata
    assert "version" not in new.metadata.language_info
    assert new.cells[0].metadata == {"tags": ["keep"]}
    assert [c.execution_count for c in new.cells] == [1, 2, None]
    assert new.cells[0].outputs[0].execution_count == 1
    assert new.cells[1].outputs[0].data == {"text/plain": "Predict"}
    assert nb.cells[0].execution_count == 9, "the argument is left as it was"


def test_ids_are_given_once_and_kept() -> None:
    nb = notebook("a", "a", "b")
    for cell in nb.cells:
        cell.pop("id")
    first = normalise(nb)
    ids = [cell.id for cell in first.cells]
    assert ids == [hashlib.sha256(text.encode()).hexdigest()[:8] for text in ("0\0a", "1\0a", "0\0b")]
    assert [cell.id for cell in normalise(nb).cells] == ids, "the same on every machine"
    first.cells[0].source = "changed"
    first.cells.insert(0, code("new"))
    assert [cell.id for cell in normalise(first).cells][1:] == ids
    first.cells[0]["id"] = ids[2]
    assert len({cell.id for cell in normalise(first).cells}) == 4, "a copied cell gets an id of its own"


def test_the_file_has_real_characters_indent_one_and_one_newline() -> None:
    text = serialise(normalise(notebook(code("print('⟨1 s⟩ 注意力')", stream("⟨1 s⟩ 注意力\n")))))
    assert "⟨1 s⟩ 注意力" in text
    assert text.endswith("}\n")
    assert not text.endswith("\n\n")
    assert text.startswith('{\n "cells"')


texts = st.text(alphabet="ab\r\n\b 0x12f", max_size=30)
outputs = st.lists(
    st.one_of(
        st.builds(stream, texts, st.sampled_from(["stdout", "stderr"])),
        st.builds(lambda text: display(text_plain=text), texts),
    ),
    max_size=6,
)


@given(st.lists(st.builds(lambda s, o: code(s, *o), texts, outputs), max_size=4))
def test_normal_form_of_normal_form_is_itself(cells: list[object]) -> None:
    once = normalise(notebook(*cells))
    text = serialise(once)
    assert serialise(normalise(once)) == text
    assert form_faults(text, once) == []


def test_progress_bars_keep_their_last_state() -> None:
    shown = normalise_outputs([stream("0%\r50%"), stream("\r100%\n"), stream("abc\b\bX\n")])
    assert [o.text for o in shown] == ["100%\naX\n"]
    for text, kept in (
        ("a\r\nb\r\n", "a\nb\n"), ("a\r\r\n", "a\n"), ("a\rb\b\n", "a\n"), ("one\rtwo\rthree", "three"), ("done\r", "done\r"), ("\bx", "\bx"),
        ("x\n\by", "x\n\by"),
    ):  # fmt: skip
        assert normalise_outputs([stream(text)])[0].text == kept


def test_only_addresses_are_hidden() -> None:
    assert clean_text("<f at 0x7f3a>, 0x7fabcdef1234, 0xFF, 0x3F800000") == "<f at 0x…>, 0x…, 0xFF, 0x3F800000"
    for address, kept in (("0x123456789", False), ("0x1234567890abcdef", False), ("0x1234567890abcdef0", True)):
        assert (clean_text(address) == address) == kept
    assert clean_text('File "/tmp/ipykernel_12/345.py", line 1') == 'File "<cell>", line 1'


def test_form_faults_name_the_line_and_a_place_on_one_machine() -> None:
    nb = normalise(notebook(code("print(1)", stream("1\n"))))
    text = serialise(nb)
    assert form_faults(text, nb) == []
    assert "line 1" in form_faults(" " + text, nb)[0]
    assert "llmlab nb regen" in form_faults(text.rstrip("\n"), nb)[0]
    lost = normalise(notebook(code("print(p)", stream("saved to /home/ada/x.txt\n"))))
    assert "/home/ada/x.txt" in form_faults(serialise(lost), lost)[0]


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.ipynb"
    write_atomic(path, "one\n")
    with pytest.raises(TypeError):
        write_atomic(path, None)  # type: ignore[arg-type]
    assert path.read_text() == "one\n"
    assert [p.name for p in path.parent.iterdir()] == ["a.ipynb"]


def test_a_file_is_written_beside_the_one_it_replaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only within one file system is a rename whole or not at all."""
    moved = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: moved.append((Path(a).parent, Path(b))) or replace(a, b))
    write_atomic(tmp_path / "a.ipynb", "one\n")
    assert moved == [(tmp_path, tmp_path / "a.ipynb")]


@pytest.mark.skipif(os.name != "posix", reason="modes are a thing of POSIX systems")
def test_a_new_file_can_be_read_by_others_and_an_old_one_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    write_atomic(path, "⟨one⟩\r\n")
    assert path.stat().st_mode & 0o777 == 0o644 and path.read_bytes() == "⟨one⟩\r\n".encode()
    path.chmod(0o640)
    write_atomic(path, "two\n")
    assert path.stat().st_mode & 0o777 == 0o640 and path.read_text() == "two\n"


def test_numbers_names_and_paths_choose_notebooks(tmp_path: Path) -> None:
    for folder, name in [("notebooks", "01_a"), ("notebooks", "12_b"), ("solutions", "01_a")]:
        save(tmp_path / folder / f"{name}.ipynb", notebook("1"))

    def chosen(*words: str) -> list[str]:
        return [p.relative_to(tmp_path).as_posix() for p in choose(words, tmp_path)]

    assert chosen() == ["notebooks/01_a.ipynb", "notebooks/12_b.ipynb", "solutions/01_a.ipynb"]
    assert chosen("1") == chosen("01") == chosen("01_a") == ["notebooks/01_a.ipynb", "solutions/01_a.ipynb"]
    assert chosen("12", str(tmp_path / "solutions/01_a.ipynb"), "12") == [
        "notebooks/12_b.ipynb",
        "solutions/01_a.ipynb",
    ]
    with pytest.raises(ToolError, match="no notebook '13'.*01_a, 12_b"):
        chosen("13")


def test_what_is_no_notebook_gets_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "x.ipynb"
    with pytest.raises(ToolError, match="no such notebook"):
        read(path)
    for text in ("", "{", "[]", '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}'):
        path.write_text(text)
        with pytest.raises(ToolError, match="cannot be read as a notebook"):
            read(path)
