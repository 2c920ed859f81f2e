"""Regenerating reference outputs. Each kernel start costs a second, so each notebook proves several things."""

from __future__ import annotations

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from small import PIXEL, code, display, notebook, save, stream, v4

from llmlab.course.nb.choose import ToolError
from llmlab.course.nb.commands import main
from llmlab.course.nb.execute import execute, silent_promise
from llmlab.course.nb.regen import read, regen, regen_one

EVERYTHING = [
    "import os, sys, time, warnings\nimport ipywidgets as widgets\nfrom IPython.display import clear_output, display",
    "print('one')\nprint('aside', file=sys.stderr)\nprint('two')",
    "handle = display('first', display_id='late')",
    "handle.update('second')",
    "for step in range(3):\n    clear_output(wait=True)\n    print('step', step)",
    "print('gone')\nclear_output()\nprint('stays')",
    "out = widgets.Output()\ndisplay(out)\nwith out:\n    print('captured')",
    "slider = widgets.interactive(lambda x: print('x', x), x=(0, 5))\ndisplay(slider)",
    "print(object())\nwarnings.warn('careful')",
    "print(f'⟨{time.perf_counter_ns()} ns⟩')",
    f"display({{'image/png': {PIXEL!r}, 'text/plain': 'Figure: one pixel'}}, raw=True)",
    "print(sorted(k for k in os.environ if k.startswith('LLMLAB_')), os.environ['HF_HUB_OFFLINE'])",
    "print(os.environ['LLMLAB_DATA'])\nprint(sys.executable)",
]


def texts(cell: object) -> list[str]:
    return [o.get("text") or o["data"]["text/plain"] for o in cell.outputs]  # type: ignore[attr-defined]


def test_two_runs_give_the_same_bytes_and_what_a_front_end_would_show(tmp_path: Path) -> None:
    nb = notebook(*EVERYTHING, code("1 / 0", tags=("raises-exception",)))
    path = save(tmp_path / "01_all.ipynb", nb)
    regen([path])
    first = path.read_bytes()
    (again,) = regen([path])
    assert path.read_bytes() == first
    assert not again.changed
    assert again.usage is not None
    assert 0 < again.usage.cpu < 60
    assert 20 < again.usage.peak_mb < 3000

    cells = read(path).cells
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert texts(cells[1]) == ["one\ntwo\n", "aside\n"]
    assert texts(cells[2]) == ["'second'"], "a later cell updated it"
    assert texts(cells[3]) == []
    assert texts(cells[4]) == ["step 2\n"]
    assert texts(cells[5]) == ["stays\n"]
    assert texts(cells[6]) == ["Output()"], "what an Output widget captures belongs to the widget"
    assert len(cells[7].outputs) == 1
    assert "<object object at 0x…>" in texts(cells[8])[0]
    assert "<cell>:2: UserWarning: careful" in texts(cells[8])[1]
    settings = ["LLMLAB_DATA", "LLMLAB_DEVICE", "LLMLAB_NETWORK_LOG", "LLMLAB_REFERENCE", "LLMLAB_THREADS"]
    if "LLMLAB_CACHE" in os.environ:  # where the assets are is the caller's to say
        settings.insert(0, "LLMLAB_CACHE")
    assert texts(cells[11]) == [f"{settings} 1\n"]
    assert texts(cells[12]) == ["<temp>/data\npython\n"]
    assert str(tmp_path) not in first.decode()
    assert "/tmp/" not in first.decode()
    assert b"widget-view" not in first
    assert cells[13].outputs[0].ename == "ZeroDivisionError"


def test_committed_outputs_are_kept_where_they_agree(tmp_path: Path) -> None:
    other_pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    show = f"from IPython.display import display\ndisplay({{'image/png': {PIXEL!r}, 'text/plain': 'Figure: one'}}, raw=True)"
    cells = [
        code("print(0.33333333)", stream("0.33333001\n")),
        code("print(0.5)", stream("0.4\n")),
        code("print('⟨2 s⟩')", stream("⟨1 s⟩\n")),
        code(show, display(image_png=other_pixel, text_plain="Figure: one")),
        code(show + "\nprint('⟨2 s⟩')", display(image_png=other_pixel, text_plain="Figure: one"), stream("⟨1 s⟩\n")),
        code(
            show.replace("Figure: one", "Figure: times on this machine"),
            display(image_png=other_pixel, text_plain="Figure: times on this machine"),
        ),
        code("print(3)", run=False),
    ]
    path = save(tmp_path / "a.ipynb", notebook(*cells))
    done = regen_one(path)
    assert (done.changed, done.kept) == (True, 4)
    new = read(path).cells
    assert new[0].outputs[0].text == "0.33333001\n"
    assert new[1].outputs[0].text == "0.5\n"
    assert new[2].outputs[0].text == "⟨1 s⟩\n"
    assert new[3].outputs[0].data["image/png"] == PIXEL, "the picture changed, though its alternative did not"
    assert new[4].outputs[0].data["image/png"] == other_pixel, "a picture beside measured values may draw them"
    assert new[5].outputs[0].data["image/png"] == other_pixel, "and so may one whose alternative says so"
    assert new[6].execution_count == 7


@pytest.mark.parametrize(
    ("cell", "seconds", "says"),
    [
        ("import os\nos._exit(3)", 60, "the kernel died in code cell 2 (`import os`)"),
        ("while True:\n    pass", 1, "code cell 2 (`while True:`) ran longer than 1 s and was stopped"),
        (
            "import socket\ntry:\n    socket.create_connection(('192.0.2.1', 80), 1)\nexcept OSError:\n    pass",
            60,
            "192.0.2.1",
        ),
    ],
    ids=["killed", "endless", "network"],
)
def test_a_failed_run_is_a_sentence_and_leaves_the_file(tmp_path: Path, cell: str, seconds: float, says: str) -> None:
    path = save(tmp_path / "a.ipynb", notebook("print('fine')", cell, "print('never')"))
    before = path.read_bytes()
    started = time.monotonic()
    with pytest.raises(ToolError) as caught:
        regen_one(path, seconds=seconds)
    assert says in str(caught.value)
    assert str(caught.value).startswith("a.ipynb")
    assert "Nothing was written" in str(caught.value)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.ipynb"]
    assert time.monotonic() - started < 40


def test_a_notebook_can_be_executed_while_an_event_loop_runs(tmp_path: Path) -> None:
    async def inside() -> str:
        run = execute(notebook("print('out')"), tmp_path)
        return run.notebook.cells[0].outputs[0].text

    # In a thread of its own: the browser tests may keep an event loop in this one.
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: asyncio.run(inside())).result() == "out\n"


def test_an_announced_exception_must_come() -> None:
    failed = v4.new_output("error", ename="ValueError", evalue="no", traceback=[])
    assert silent_promise(code("f()", failed, tags=("raises-exception",))) is None
    assert silent_promise(code("f()")) is None
    assert "none came" in str(silent_promise(code("f()", tags=("raises-exception",))))


def test_the_command_line_answers_in_sentences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(tmp_path), "regen", "7"]) == 2
    assert "no notebook '7' in notebooks or solutions" in capsys.readouterr().err
    assert main(["--root", str(tmp_path), "check"]) == 2
    assert "there is no notebook" in capsys.readouterr().err
    save(tmp_path / "notebooks" / "01_a.ipynb", notebook("print(1)\n1 / 0", "print('never')"))
    assert main(["--root", str(tmp_path), "regen"]) == 1
    error = capsys.readouterr().err
    assert "01_a.ipynb: code cell 1 (`print(1)`) raised ZeroDivisionError: division by zero" in error
    assert "----> 2 1 / 0" in error
