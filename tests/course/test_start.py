"""The start page is what the course table says, its links lead somewhere, and it works on an empty machine."""

import os
import re

import nbformat
import psutil
import pytest
import torch

from llmlab.course import labs, progress, start
from llmlab.course.lessons import lesson, lessons
from llmlab.course.places import repository
from llmlab.course.start import Standing, build, device_table, differences, main, next_lesson, progress_table, standings

PAGE = repository() / "notebooks" / "00_start.ipynb"


@pytest.fixture
def shown(monkeypatch):
    """The text forms of what would have been displayed."""
    texts = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: texts.append(bundle["text/plain"]))
    return texts


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A repository with two lessons, of which one needs the other, and an empty progress store."""
    for folder in ("notebooks", "labs"):
        (tmp_path / folder).mkdir()
    for name in ("12_sentiment_analysis", "27_lime"):
        nb = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(f'predict("{name[:2]}.first", "?", {{}}, answer="a")')]
        )
        nbformat.write(nb, tmp_path / "notebooks" / f"{name}.ipynb")
    (tmp_path / "labs" / "12_sentiment_analysis.ipynb").write_text("{}")
    for module in ("lessons", "start"):
        monkeypatch.setattr(f"llmlab.course.{module}.repository", lambda: tmp_path)
    monkeypatch.setattr(labs, "tasks_of", lambda number: [a_task(f"{number}.one"), a_task(f"{number}.two")])
    monkeypatch.setenv("LLMLAB_DATA", str(tmp_path / "data"))
    return tmp_path


def a_task(task_id):
    class Named:
        id = task_id

    return Named()


def text_of(notebook):
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def test_the_page_is_what_would_be_written():
    assert differences(PAGE) == []
    assert main(["--check"]) == 0


def test_building_twice_gives_the_same():
    assert build() == build()
    nbformat.validate(build())


def test_every_lesson_is_on_the_map():
    rows = [line for line in text_of(build()).splitlines() if line.startswith("|")]
    for entry in lessons():
        mine = [row for row in rows if re.search(rf"\b{entry.number} {re.escape(entry.title)}\b", row)]
        assert len(mine) == 1, entry.number
        assert entry.title_zh in mine[0] and f"| {entry.minutes} |" in mine[0]
        assert mine[0].rstrip(" |").endswith(" ".join(entry.prerequisites) or "–")


def test_links_lead_to_files_and_what_is_missing_is_called_planned():
    text = text_of(build())
    targets = re.findall(r"\]\(([^)]+)\)", text)
    for target in targets:
        assert (PAGE.parent / target).is_file(), target
    for entry in lessons():
        assert (f"{entry.name}.ipynb" in targets) == entry.exists()
        assert (f"../labs/{entry.name}.ipynb" in targets) == entry.exists("labs")
        assert (f"{entry.number} {entry.title} (planned)" in text) == (not entry.exists())


def test_the_interview_path_is_in_the_table_and_in_no_odd_order():
    path = [lesson(number) for number in start.INTERVIEW]
    assert len(set(path)) == len(path)
    for i, entry in enumerate(path):
        assert not set(entry.prerequisites) & {later.number for later in path[i + 1 :]}, entry.number


def test_the_page_follows_the_files(course):
    before = text_of(build())
    assert "[27 Explaining with LIME](27_lime.ipynb)" in before and "01 Self-attention (planned)" in before
    (course / "notebooks" / "01_self_attention.ipynb").write_text("{}")
    assert "[01 Self-attention](01_self_attention.ipynb)" in text_of(build())


def test_a_page_out_of_step_is_found(course, capsys):
    page = course / "notebooks" / "00_start.ipynb"
    assert main(["--check"]) == 1
    start.write(page, run=False)
    assert main(["--check"]) == 0
    (course / "notebooks" / "27_lime.ipynb").unlink()
    assert main(["--check"]) == 1
    assert "'map' differs" in capsys.readouterr().out
    start.write(page, run=False)
    nb = nbformat.read(page, 4)
    nb.cells.append(nbformat.v4.new_markdown_cell("by hand"))
    nb.cells[0], nb.cells[1] = nb.cells[1], nb.cells[0]
    nbformat.write(nb, page)
    assert "is not written by the course table" in " ".join(differences(page))
    nb.cells.pop()
    nbformat.write(nb, page)
    assert differences(page) == ["the cells stand in another order"]


def test_writing_keeps_outputs_of_unchanged_cells(course):
    page = course / "notebooks" / "00_start.ipynb"
    start.write(page, run=False)
    nb = nbformat.read(page, 4)
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs = [nbformat.v4.new_output("stream", text="seen\n")]
            cell.execution_count = 1
    nb.cells[2].source += "\n# changed"
    nbformat.write(nb, page)
    start.write(page, run=False)
    cells = [cell for cell in nbformat.read(page, 4).cells if cell.cell_type == "code"]
    assert [bool(cell.outputs) for cell in cells] == [False, True, True, True, True]


def test_progress_before_anything_is_done(course, shown):
    progress_table()
    assert re.search(r"12 Sentiment +0 of 1 +0 of 2 +open", shown[0])
    assert re.search(r"27 Explaining with LIME +0 of 1 +0 of 2 +after 12", shown[0])
    assert shown[1].startswith("Next: 12 Sentiment.")


def test_progress_moves_on(course, shown):
    progress.record_pass("12.one")
    progress.record_prediction("12.first", "b", False)
    progress.record_prediction("12.first", "a", True)
    progress.record_prediction("99.other", "a", True)
    progress_table()
    assert re.search(r"12 Sentiment +1 of 1, 0 right at once +1 of 2 +begun", shown[0])
    assert shown[1].startswith("Next: 12 ")
    progress.record_pass("12.two")
    progress_table()
    assert re.search(r"12 Sentiment .* 2 of 2 +done", shown[2])
    assert shown[3].startswith("Next: 27 ")
    for task in ("27.one", "27.two"):
        progress.record_pass(task)
    progress_table()
    assert "everything that exists" in shown[5]


def test_a_store_that_cannot_be_read_stops_nothing(course, shown, monkeypatch, tmp_path):
    blocked = tmp_path / "a file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("LLMLAB_DATA", str(blocked))
    progress_table()

    def refused():
        raise PermissionError("no")

    monkeypatch.setattr(progress, "passed", refused)
    monkeypatch.setattr(progress, "predictions", refused)
    progress_table()
    assert shown[0] == shown[2] and "0 of 2" in shown[0]


def test_a_notebook_without_a_lab_is_done_when_its_predictions_are(course, monkeypatch):
    def none(number):
        raise LookupError(number)

    monkeypatch.setattr(labs, "tasks_of", none)
    assert [s.done for s in standings()] == [False, False]
    progress.record_prediction("12.first", "a", True)
    assert [s.done for s in standings()] == [True, False]


def test_no_notebook_at_all_gives_a_sentence(course, capsys):
    for file in (course / "notebooks").glob("*.ipynb"):
        file.unlink()
    progress_table()
    assert "No notebook is there yet" in capsys.readouterr().out


def test_next_prefers_what_is_begun_and_waits_for_prerequisites():
    def at(number, passed):
        return Standing(lesson(number), passed=passed, tasks=2, predicted=0, predicted_right=0, predictions=0)

    assert next_lesson([at("01", 0), at("02", 0)]).number == "01"
    assert next_lesson([at("01", 0), at("12", 1)]).number == "12"
    assert next_lesson([at("01", 2), at("02", 0)]).number == "02"
    assert next_lesson([at("27", 0)]).number == "27"  # its prerequisite has no notebook
    assert next_lesson([at("01", 2)]) is None
    assert next_lesson([]) is None


def test_all_that_depends_on_the_machine_is_marked(shown):
    device_table()
    rows = shown[0].splitlines()[2:]
    assert len(rows) == 5
    for row in rows:
        assert re.fullmatch(r"[A-Z][a-z]+( \w+)* +⟨[^⟨⟩]+⟩", row), row
    memory = float(re.search(r"Memory +⟨([\d.]+) GiB⟩", shown[0])[1])
    assert memory == pytest.approx(psutil.virtual_memory().total / 1024**3, rel=0.01)
    assert f"⟨{os.cpu_count()}⟩" in rows[2] and torch.__version__ in rows[4]
    assert re.search(r"⟨cpu: \w+|⟨cuda: \w+|⟨mps: \w+", rows[0]), "the device has a name"


def test_the_map_counts_hours_and_notebooks(course):
    text = text_of(build())
    minutes = sum(entry.minutes for entry in lessons()) + sum(entry.lab_minutes for entry in lessons())
    assert f"about {round(minutes / 60)} hours with all labs" in text and "that are there: 2 of 50" in text
    assert f"| [{lesson('12').lab_minutes} min](../labs/12_sentiment_analysis.ipynb) |" in text
    assert f"{lesson('01').lab_minutes} min (planned)" in text


def test_the_interview_path_names_what_is_there_and_what_is_planned(course):
    text = text_of(build())
    there = re.search(r"Read these, in this order: (.*)\.\n", text)[1]
    planned = re.search(r"Planned for this path: (.*)\.", text)[1]
    assert re.findall(r"\[(\d\d) ", there) == ["12", "27"] and "`python3 course.py questions 12 --answer`" in text
    assert re.findall(r"(?:^|, )(\d\d) ", planned) == [n for n in start.INTERVIEW if n not in ("12", "27")]
    for file in (course / "notebooks").glob("*.ipynb"):
        file.unlink()
    empty = text_of(build())
    assert "in this order: none yet." in empty and f"questions {start.INTERVIEW[0]} --answer" in empty


def test_the_command_writes_the_page_and_runs_it(course, monkeypatch, capsys):
    from llmlab.course.nb.choose import ToolError

    run = []
    monkeypatch.setattr("llmlab.course.nb.regen.regen_one", run.append)
    assert main([]) == 0
    assert run == [course / "notebooks" / "00_start.ipynb"] and differences(run[0]) == []
    assert capsys.readouterr().out == "notebooks/00_start.ipynb: written\n"

    def fails(path):
        raise ToolError("a cell failed")

    monkeypatch.setattr("llmlab.course.nb.regen.regen_one", fails)
    assert main([]) == 1 and capsys.readouterr().err == "a cell failed\n"
    assert main(["--check"]) == 0 and "is what the course table says" in capsys.readouterr().out
    run[0].write_text("{")
    assert main(["--check"]) == 1 and "cannot be read as a notebook" in capsys.readouterr().out


def test_what_is_done_begun_and_open():
    def at(passed=0, tasks=2, predicted=0, predictions=2):
        return Standing(lesson("01"), passed, tasks, predicted, 0, predictions)

    assert [(s.done, s.started) for s in (at(), at(1), at(2), at(3), at(0, predicted=2))] == [
        (False, False), (False, True), (True, False), (True, False), (False, True),
    ]  # fmt: skip
    without_a_lab = [at(tasks=0), at(tasks=0, predicted=1), at(tasks=0, predicted=2), at(tasks=0, predictions=0)]
    assert [(s.done, s.started) for s in without_a_lab] == [
        (False, False),
        (False, True),
        (True, False),
        (False, False),
    ]
