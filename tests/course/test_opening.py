"""The first cell of a notebook: its card says what the table and the bank say, its settings are made."""

import matplotlib as mpl
import pytest
import torch

from llmlab import runtime
from llmlab.course import opening, questions
from llmlab.course.lessons import lesson
from llmlab.course.show import COLORS


@pytest.fixture
def opened(monkeypatch):
    """Open a notebook; its bundle and the seeds that were set."""
    bundles, seeds = [], []

    def display(bundle, raw=False):
        assert raw, "a bundle that is not raw would be shown as the text of a dict"
        bundles.append(bundle)

    monkeypatch.setattr("IPython.display.display", display)
    monkeypatch.setattr(runtime, "setup", lambda **given: seeds.append(given["seed"]))

    def open_(*arguments, **options):
        with mpl.rc_context():
            opening.begin(*arguments, **options)
        return bundles[-1], seeds[-1]

    return open_


def test_the_card_says_what_the_table_and_the_bank_say(opened):
    bundle, seed = opened("01")
    entry, asked = lesson("01"), questions.for_notebook("01")
    assert seed == 0
    about = f"{entry.minutes} minutes, then a lab of {entry.lab_minutes}. Before this one: none."
    assert bundle["text/plain"].splitlines() == [
        about, f"You will be able to answer: {entry.able}", *(f"  {q.id} {q.question_en}" for q in asked),
    ]  # fmt: skip
    page = bundle["text/html"]
    assert page.startswith(opening.STYLE) and about in page and f"answered here ({len(asked)})" in page
    assert all(f"<strong>{q.id}</strong>" in page and q.question_zh in page for q in asked)


def test_what_comes_before_is_named_and_a_seed_may_be_chosen(opened):
    bundle, seed = opened("05", seed=7)
    assert f"Before this one: {', '.join(lesson('05').prerequisites)}." in bundle["text/plain"]
    assert seed == 7


def test_no_such_notebook(opened):
    with pytest.raises(KeyError, match="no lesson '51'"):
        opened("51")


def test_the_seed_is_set_for_real(monkeypatch):
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: None)
    with mpl.rc_context():
        opening.begin("01", seed=3)
    assert torch.initial_seed() == 3


def test_figures_have_the_colours_of_the_course_and_quiet_axes():
    with mpl.rc_context():
        opening.style_figures()
        assert mpl.rcParams["axes.prop_cycle"].by_key()["color"] == list(COLORS)
        look = {key: mpl.rcParams[key] for key in (
            "axes.spines.top", "axes.spines.right", "axes.grid", "grid.alpha", "axes.titlesize", "axes.labelsize",
            "legend.frameon", "figure.figsize",
        )}  # fmt: skip
    assert look == {
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25,
        "axes.titlesize": 11, "axes.labelsize": 10, "legend.frameon": False, "figure.figsize": [7.0, 3.6],
    }  # fmt: skip
