"""Planted faults: the plugin must find each one, name it, and let a sound notebook pass. One pytest run for all."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from small import PIXEL, code, display, notebook, save, stream, v4

from llmlab.course.nb.execute import Run, Usage
from llmlab.course.nb.plugin import budget_faults

SHOW = "from IPython.display import display, clear_output"
FIGURE = f"display({{'image/png': {PIXEL!r}, 'text/plain': 'Figure: loss falls to 1.52'}}, raw=True)"
ZERO = v4.new_output("error", ename="ZeroDivisionError", evalue="division by zero", traceback=[])

#: fault -> (the cell, what its report must say)
FAULTS = {
    "a changed digit": (code("print('loss', 0.6931)", stream("loss 0.6941\n")), "0.6941 became 0.6931"),
    "a changed word": (code("print('the mask first')", stream("the mask last\n")), "'last' became 'first'"),
    "a missing output": (code("print('one')", stream("one\n"), display(text_plain="two")), "missing output: 2 outputs"),
    "an extra output": (
        code("print('one')\ndisplay('two')", stream("one\n")),
        "extra output: 1 output in the reference",
    ),
    "a changed alternative": (
        code(FIGURE, display(image_png=PIXEL, text_plain="Figure: loss falls to 1.62")),
        "1.62 became 1.52",
    ),
    "a lost picture": (
        code("display('Figure')", display(image_png=PIXEL, text_plain="'Figure'")),
        "no image/png any more",
    ),
    "a cell never run": (code("print('never')", run=False), "was never run"),
    "a skipped cell": (code("# NBVAL_SKIP\nprint('x')", stream("x\n")), "asks nbval to look away"),
    "an ignored output": (code("print('x')", stream("y\n"), tags=("nbval-ignore-output",)), "asks nbval to look away"),
    "an exception that does not come": (code("1 / 1", ZERO, tags=("raises-exception",)), "announces an exception"),
    "another exception": (code("int('x')", ZERO, tags=("raises-exception",)), "ZeroDivisionError became ValueError"),
    "a tolerance without limit": (
        code("print(0.5)", stream("0.5\n"), llmlab={"rtol": 2}),
        "expected a number from 0 to below 1",
    ),
    "an unexpected exception": (code("print('before')\n1 / 0", stream("before\n")), "raised ZeroDivisionError"),
}

SOUND = [
    code(SHOW + "\nimport ipywidgets, sys"),
    code("print('loss', 0.69315)", stream("loss 0.69314\n")),
    code("print('rough', 0.92)", stream("rough 0.90\n"), llmlab={"rtol": 0.05}),
    code("print('⟨3 ms⟩')", stream("⟨12.5 ms⟩\n")),
    code("h = display('first', display_id='x')", display(text_plain="'second'")),
    code("h.update('second')"),
    code("for i in range(3):\n    clear_output(wait=True)\n    print(i)", stream("2\n")),
    code("out = ipywidgets.Output()\ndisplay(out)\nwith out:\n    print('captured')", display(text_plain="Output()")),
    code(
        "ipywidgets.IntSlider(value=3)",
        v4.new_output("execute_result", data={"text/plain": "IntSlider(value=3)"}, execution_count=9),
    ),
    code(FIGURE, display(image_png="AAAA", text_plain="Figure: loss falls to 1.52")),
    code("1 / 0", ZERO, tags=("raises-exception",)),
    code("print('goes on')\nprint('aside', file=sys.stderr)", stream("goes on\n"), stream("aside\n", "stderr")),
]

GREEDY = [
    "import socket, sys, types\ntry:\n    socket.create_connection(('192.0.2.1', 80), 1)\nexcept OSError:\n    pass",
    "sys.modules['torch'] = types.SimpleNamespace(get_num_threads=lambda: 2)\nn = sum(range(2_000_000))",
]


@pytest.fixture(scope="module", params=[(), ("-n2",)], ids=["one process", "two"])
def report(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> str:
    """What one run of the plugin says about a sound notebook, one with every fault, a greedy one, a dead one and a lab."""
    root = tmp_path_factory.mktemp("course")
    save(root / "notebooks" / "01_sound.ipynb", notebook(*SOUND))
    save(
        root / "notebooks" / "02_faults.ipynb",
        notebook(code(SHOW), *(cell for cell, _ in FAULTS.values()), "print('after')"),
    )
    budget = {"budget": {"cpu": 0.01, "peak_mb": 10}}
    save(root / "solutions" / "03_greedy.ipynb", notebook(*GREEDY, llmlab=budget, widgets={"state": {}}), normal=False)
    save(root / "solutions" / "04_dead.ipynb", notebook("import os\nos._exit(1)", "print('later')"))
    save(root / "labs" / "01_sound.ipynb", notebook("raise NotImplementedError"))
    (root / "notebooks" / "05_broken.ipynb").write_text("{")
    (root / "pytest.ini").write_text("[pytest]\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "llmlab.course.nb.plugin",
        "-p",
        "no:cacheprovider",
        "-rA",
        "--color=no",
    ]
    done = subprocess.run(
        [*command, "--continue-on-collection-errors", "--nbval", ".", *request.param],
        cwd=root,
        env={name: value for name, value in os.environ.items() if name != "PYTEST_DISABLE_PLUGIN_AUTOLOAD"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


def test_a_sound_notebook_passes_within_tolerance_and_as_a_front_end_shows_it(report: str) -> None:
    assert len(re.findall(r"^PASSED notebooks/01_sound", report, re.M)) == len(SOUND) + 3
    assert not re.search(r"^(FAILED|ERROR|SKIPPED).*01_sound", report, re.M)


@pytest.mark.parametrize("fault", FAULTS)
def test_each_planted_fault_is_found_and_named(report: str, fault: str) -> None:
    number = list(FAULTS).index(fault) + 2
    assert f"FAILED notebooks/02_faults.ipynb::cell {number} " in report
    section = report.split(f"02_faults.ipynb, code cell {number}: ")[1].split("02_faults.ipynb, code cell", maxsplit=1)[
        0
    ]
    assert FAULTS[fault][1] in section


def test_what_follows_a_stop_is_reported_as_not_reached(report: str) -> None:
    assert "PASSED notebooks/02_faults.ipynb::cell 1\n" in report
    assert "PASSED notebooks/02_faults.ipynb::form" in report
    assert "not reached: code cell 14" in report
    assert "04_dead.ipynb, code cell 1: the kernel died in code cell 1 (`import os`)" in report
    assert re.search(r"stopped before its end\s+solutions/04_dead", report)


def test_the_guards_find_form_network_and_budget(report: str) -> None:
    assert "not in normal form: line" in report
    assert "03_greedy.ipynb: it used the network: socket.getaddrinfo 192.0.2.1:80" in report
    assert re.search(r"over its budget: \d+\.\d s of CPU time, allowed 0\.01", report)
    assert re.search(r"over its budget: \d+\.\d MB of memory, allowed 10", report)
    assert "torch ran with 2 threads" in report


def test_labs_are_left_alone_and_a_broken_file_is_named(report: str) -> None:
    assert "labs/01_sound" not in report
    assert "05_broken.ipynb cannot be read as a notebook" in report


def test_the_measured_table_is_printed(report: str) -> None:
    assert "notebooks: what they used" in report
    assert re.search(r"^ +\d+\.\d +\d+\.\d +\d+ +- +notebooks/01_sound.ipynb$", report, re.M)
    assert re.search(r" 2  solutions/03_greedy.ipynb$", report, re.M)


def test_a_budget_can_only_be_lowered() -> None:
    def run(**used: float) -> Run:
        return Run(None, usage=Usage(**{"cpu": 10.0, "wall": 10.0, "peak_mb": 500.0, "threads": 1, **used}))  # type: ignore[arg-type]

    assert budget_faults(run(), {}) == []
    assert budget_faults(run(), {"cpu": 20}) == []
    assert "over its budget: 61.0 s of CPU time, allowed 60" in budget_faults(run(cpu=61), {})[0]
    assert "over its budget: 3500.0 MB of memory, allowed 3072" in budget_faults(run(peak_mb=3500), {})[0]
    assert "can only lower the budget" in budget_faults(run(), {"cpu": 61})[0]
    assert len(budget_faults(run(cpu=70), {"cpu": 100})) == 2, "asking for more gives no more"
    assert "can only lower" in budget_faults(run(), {"seconds": 5})[0]
    assert "can only lower" in budget_faults(run(), {"cpu": "5"})[0]
    assert "could not be measured" in budget_faults(Run(None), {})[0]
