"""Tests on several processes: what shares a kernel or a window must share a process."""

import os
import subprocess
import sys
import types

import pytest
from small import code, notebook, save

from llmlab.course.nb.spread import jobs, own_data, scope


def test_what_belongs_together():
    assert scope("notebooks/01_self_attention.ipynb::cell 3") == "notebooks/01_self_attention.ipynb"
    assert scope("notebooks/01_self_attention.ipynb::budget") == "notebooks/01_self_attention.ipynb"
    assert scope("tests/nn/test_heads.py::test_a[01_b]") == "tests/nn/test_heads.py"
    browser = "tests/browser/test_notebooks.py"
    assert scope(f"{browser}::test_it_runs[08_gpt]") == scope(f"{browser}::test_keys[08_gpt]") == f"{browser}[08_gpt]"
    assert scope(f"{browser}::test_it_runs[09_x]") != scope(f"{browser}::test_it_runs[08_gpt]")
    assert scope(f"{browser}::test_without_a_notebook") == browser


@pytest.mark.parametrize(
    "cores, gb, expected", [(1, 100, 1), (2, 100, 2), (64, 100, 4), (2, 9.9, 1), (4, 15, 3), (8, 0.5, 1)]
)
def test_no_more_processes_than_there_is_room_for(cores, gb, expected):
    assert jobs(cores, gb) == expected


def test_this_machine_has_room_for_one():
    assert 1 <= jobs() <= (os.cpu_count() or 1)


def test_each_process_keeps_its_own_progress(monkeypatch):
    monkeypatch.setenv("LLMLAB_DATA", "there")
    own_data(types.SimpleNamespace())
    assert os.environ["LLMLAB_DATA"] == "there"
    own_data(types.SimpleNamespace(workerinput={"workerid": "gw1"}))
    assert os.environ["LLMLAB_DATA"] == os.path.join("there", "gw1")


def test_a_notebook_is_executed_by_one_process_and_once(tmp_path):
    """Each of three notebooks writes its process down when its kernel starts; cells that were spread would do it twice."""
    for number in range(3):
        cells = [code(f"open('{number}.txt', 'a').write('x');"), *(code(f"assert {i} == {i}") for i in range(5))]
        save(tmp_path / "notebooks" / f"0{number}_a.ipynb", notebook(*cells))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-p", "llmlab.course.nb.plugin", "-p", "no:cacheprovider", "-n2", "."]
    plain = {name: value for name, value in os.environ.items() if name != "PYTEST_DISABLE_PLUGIN_AUTOLOAD"}
    done = subprocess.run(command, cwd=tmp_path, env=plain, capture_output=True, text=True, timeout=300, check=False)
    assert [(tmp_path / "notebooks" / f"{n}.txt").read_text() for n in range(3)] == ["x"] * 3, done.stdout
    assert "2 workers" in done.stdout
