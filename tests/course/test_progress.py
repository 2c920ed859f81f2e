"""The progress store: two writers, a kill, a damaged file, a folder that cannot be written, a clock set back."""

import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from llmlab.course import progress
from llmlab.course.progress import Prediction, Summary

WRITER = """
import sys
from llmlab.course import progress
name, count = sys.argv[1], int(sys.argv[2])
sys.stdin.readline()  # start together
for i in range(count):
    assert progress.record_pass(f"{name}.{i}")
    assert progress.record_prediction(f"{name}.{i}", "a", True)
    print(i, flush=True)
"""


@pytest.fixture
def store(monkeypatch, tmp_path):
    folder = tmp_path / "data"
    monkeypatch.setenv("LLMLAB_DATA", str(folder))
    monkeypatch.setattr(progress, "_said", set())
    return folder / "progress.sqlite"


def writer(name, count):
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, name, str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_what_is_recorded_comes_back(store):
    assert progress.passed() == {}
    assert not store.exists(), "reading makes no file"
    assert progress.record_pass("01.attention")
    assert progress.record_pass("12.baseline")
    assert progress.record_pass("01.attention")
    assert list(progress.passed()) == ["01.attention", "12.baseline"]
    assert datetime.fromisoformat(progress.passed()["01.attention"]).tzinfo == UTC
    progress.record_prediction("01.sink", "first token", False)
    progress.record_prediction("12.head", "chance", True)
    progress.record_prediction("01.sink", "itself", True)
    assert progress.predictions() == {
        "01.sink": Prediction("itself", True, first_choice="first token", first_right=False, tries=2),
        "12.head": Prediction("chance", True, first_choice="chance", first_right=True, tries=1),
    }
    assert progress.summary() == Summary(
        passed=2, labs={"01": ("01.attention",), "12": ("12.baseline",)}, predicted=2, predicted_right=1
    )


def test_empty_store_sums_to_nothing(store):
    assert progress.summary() == Summary(0, {}, 0, 0)


def test_two_processes_write_at_once(store):
    writers = [writer(name, 25) for name in ("01", "02")]
    for process in writers:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in writers:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert set(progress.passed()) == {f"{name}.{i}" for name in ("01", "02") for i in range(25)}
    assert len(progress.predictions()) == 50


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kill -9 is a thing of POSIX systems")
def test_kill_in_the_middle_loses_nothing_committed(store):
    process = writer("01", 10**6)
    process.stdin.write("go\n")
    process.stdin.flush()
    time.sleep(0.05)
    printed = [process.stdout.readline() for _ in range(20)]
    process.kill()
    printed += process.communicate(timeout=60)[0].splitlines()
    done = {f"01.{line.strip()}" for line in printed if line.strip().isdigit()}
    assert len(done) >= 20
    assert done <= set(progress.passed())
    assert done <= set(progress.predictions())
    assert sqlite3.connect(store).execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert progress.record_pass("02.next")


@pytest.mark.parametrize("damage", ["no database", "torn page"])
@pytest.mark.parametrize("first", ["read", "write"])
def test_damaged_file_is_set_aside(store, capsys, damage, first):
    progress.record_pass("01.attention")
    if damage == "no database":
        content = b"this is not a database" * 100
    else:
        good = store.read_bytes()
        content = good[:4096] + b"\xff" * (len(good) - 4096)
    store.write_bytes(content)
    if first == "read":
        assert progress.passed() == {}
    assert progress.record_pass("12.baseline")
    assert list(progress.passed()) == ["12.baseline"]
    assert store.with_name("progress.sqlite.damaged-1").read_bytes() == content
    assert capsys.readouterr().out.count("The progress file was damaged. It is kept as progress.sqlite.damaged-1") == 1
    store.write_bytes(content)
    assert progress.record_pass("27.lime")
    assert store.with_name("progress.sqlite.damaged-2").exists()


def test_damage_that_another_kernel_mended_is_left_alone(store):
    progress.record_pass("01.attention")
    progress._set_aside(store)
    assert list(progress.passed()) == ["01.attention"]


def test_cut_off_file_of_zero_bytes_is_begun_anew(store):
    store.parent.mkdir()
    store.touch()
    assert progress.passed() == {}
    assert progress.record_pass("01.attention")
    assert list(progress.passed()) == ["01.attention"]


def test_folder_that_cannot_be_made_gives_one_sentence(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(progress, "_said", set())
    (tmp_path / "file").touch()
    monkeypatch.setenv("LLMLAB_DATA", str(tmp_path / "file" / "data"))
    assert not progress.record_pass("01.attention")
    assert not progress.record_pass("01.heads")
    assert not progress.record_prediction("01.sink", "a", True)
    assert progress.summary() == Summary()
    out = capsys.readouterr().out
    assert out.count("Your progress could not be saved") == 1
    assert out.endswith("Checks still work.\n")


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="no folder can be made read-only on this system")
def test_read_only_folder_can_be_read_and_says_one_sentence(monkeypatch):
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("LLMLAB_DATA", folder)
        assert progress.record_pass("01.attention")
        store = Path(folder, "progress.sqlite")
        before = store.read_bytes()
        store.chmod(0o444)
        Path(folder).chmod(0o555)
        code = (
            "import os\n"
            "from llmlab.course import progress as p\n"
            "if os.getuid() == 0: os.setuid(65534)  # no permission stops root\n"
            "print(p.record_pass('02.x'), p.record_pass('02.y'), list(p.passed()))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
        Path(folder).chmod(0o755)
        assert store.read_bytes() == before
    warning, answers = done.stdout.splitlines()
    assert answers == "False False ['01.attention']"
    assert warning.startswith("Your progress could not be saved (")


def test_full_disk_gives_a_sentence(store, capsys, monkeypatch):
    progress.record_pass("01.attention")
    migrate = progress._migrate

    def fill(db):
        db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0]}")
        migrate(db)

    monkeypatch.setattr(progress, "_migrate", fill)
    assert not progress.record_prediction("01.sink", "x" * 20000, True)
    assert "database or disk is full" in capsys.readouterr().out
    monkeypatch.undo()
    monkeypatch.setenv("LLMLAB_DATA", str(store.parent))
    assert list(progress.passed()) == ["01.attention"]
    assert progress.predictions() == {}


def test_locked_store_gives_a_sentence_and_waits_no_longer_than_told(store, capsys, monkeypatch):
    progress.record_pass("01.attention")
    monkeypatch.setattr(progress, "WAIT", 0.1)
    other = sqlite3.connect(store, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert not progress.record_pass("01.heads")
    other.execute("ROLLBACK")
    other.close()
    assert "database is locked" in capsys.readouterr().out
    assert progress.record_pass("01.heads")


def test_clock_set_back_changes_neither_order_nor_first_answer(store, monkeypatch):
    for year, task, choice in [("2030", "01.attention", "a"), ("2020", "01.heads", "b"), ("2019", "01.attention", "c")]:
        monkeypatch.setattr(progress, "_now", lambda year=year: f"{year}-01-01T00:00:00+00:00")
        progress.record_pass(task)
        progress.record_prediction("01.sink", choice, choice == "a")
    assert list(progress.passed()) == ["01.attention", "01.heads"]
    assert progress.passed()["01.attention"].startswith("2030")
    assert progress.predictions()["01.sink"] == Prediction("c", False, "a", True, 3)


def test_store_of_a_newer_course_is_used_as_it_is(store):
    progress.record_pass("01.attention")
    with sqlite3.connect(store) as db:
        db.execute("CREATE TABLE cards (n INTEGER)")
        db.execute("PRAGMA user_version = 99")
    db.close()
    assert progress.record_pass("01.heads")
    assert list(progress.passed()) == ["01.attention", "01.heads"]
    assert sqlite3.connect(store).execute("PRAGMA user_version").fetchone() == (99,)


def test_reference_run_leaves_the_users_store_alone(monkeypatch):
    monkeypatch.delenv("LLMLAB_DATA", raising=False)
    monkeypatch.setenv("LLMLAB_REFERENCE", "1")
    assert progress.path() is None
    assert not progress.record_pass("01.attention")
    assert progress.summary() == Summary()
    monkeypatch.delenv("LLMLAB_REFERENCE")
    assert progress.path().name == "progress.sqlite"
    assert "llmlab" in progress.path().parts


def test_reference_run_with_a_folder_of_its_own_records(store, monkeypatch):
    monkeypatch.setenv("LLMLAB_REFERENCE", "1")
    assert progress.record_pass("01.attention")
    assert store.exists()
