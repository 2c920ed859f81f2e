"""The labs that a learner opens: as generated from their solutions, and running to the end while nothing is solved."""

from pathlib import Path

import nbformat
import pytest

from llmlab.course.labs import tasks_of
from llmlab.course.nb.labs import check_labs, run_lab
from llmlab.course.places import repository

HOME = repository()
LABS = sorted(p for p in (HOME / "labs").glob("[0-9][0-9]_*.ipynb") if ".new" not in p.name)


def test_every_lab_is_what_its_solution_generates():
    assert check_labs(HOME) == []


def test_every_notebook_has_a_lab_and_a_solution_of_its_name():
    notebooks = {p.name for p in (HOME / "notebooks").glob("[0-9][0-9]_*.ipynb")} - {"00_start.ipynb"}
    assert notebooks == {p.name for p in LABS} == {p.name for p in (HOME / "solutions").glob("*.ipynb")}


@pytest.mark.parametrize("lab", LABS, ids=lambda p: p.stem)
def test_an_unsolved_lab_runs_to_the_end_and_says_what_is_still_to_do(lab: Path):
    said = run_lab(lab)
    for task in tasks_of(lab.name[:2]):
        assert any(f"{mark} {task.id}" in said for mark in "○✗"), f"nothing is said about {task.id}"
        assert f"✓ {task.id}" not in said, f"{task.id} passes before anything was written"
    assert "○" in said


@pytest.mark.parametrize("book", sorted((HOME / "notebooks").glob("[0-9][0-9]_*.ipynb")), ids=lambda p: p.stem)
def test_the_source_of_a_prediction_is_folded_because_it_names_the_answer(book: Path):
    cells = [c for c in nbformat.read(book, 4).cells if c.cell_type == "code" and "predict(\n" in c.source]
    assert cells
    assert all(c.metadata.get("jupyter", {}).get("source_hidden") for c in cells)
