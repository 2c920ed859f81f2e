"""Every lab's tasks: well formed, within the minutes, and each check held to its bank."""

import json
import re
import textwrap
from pathlib import Path

import pytest

from llmlab.course import checking, labs
from llmlab.course.checking import Bank, Case, Task, Wrong, call, expect_number
from llmlab.course.labs import all_tasks, find, hint, run_bank, task_card, tasks_of

SOLUTIONS = sorted(Path(__file__).resolve().parents[2].glob("solutions/[0-9][0-9]_*.ipynb"))
TASKS = all_tasks()
LABS = sorted({task.id[:2] for task in TASKS} - {"00"})  # 00 is the start page's example, not a lab
each_task = pytest.mark.parametrize("task", TASKS, ids=[task.id for task in TASKS])
each_lab = pytest.mark.parametrize("lab", LABS)


@each_task
def test_check_is_held_to_its_bank(task):
    assert len(task.bank.wrong) >= 3
    assert len(task.bank.right) >= 1
    names = [case.name for case in (*task.bank.wrong, *task.bank.right)]
    assert len(set(names)) == len(names), "two cases have the same name"
    assert run_bank(task) == []


@each_task
def test_card_is_complete(task):
    assert task.title.strip()
    assert all(len(text.strip()) >= 10 for text in task.hints)
    assert task.hints[0] != task.hints[1]
    assert 0 < task.limit <= 60


@each_lab
def test_lab_takes_15_to_45_minutes(lab):
    assert 15 <= sum(task.minutes for task in tasks_of(lab)) <= 45


@each_lab
def test_ids_match_the_file_and_are_unique(lab):
    ids = [task.id for task in tasks_of(lab)]
    assert len(set(ids)) == len(ids)
    assert all(name.startswith(f"{lab}.") for name in ids)


@pytest.mark.parametrize("path", SOLUTIONS, ids=[path.stem for path in SOLUTIONS])
def test_solution_shows_and_checks_every_task(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    ids = {task.id for task in tasks_of(path.stem[:2])}
    for function in ("task_card", "check"):
        assert set(re.findall(rf'\b{function}\(\s*["\']([^"\']+)["\']', code)) == ids


@each_lab
def test_lab_has_a_solution(lab):
    assert any(path.stem.startswith(f"{lab}_") for path in SOLUTIONS)


# --- the machinery itself


def check_double(answer):
    for x in (0, 1, 3):
        expect_number(
            call(answer, x), 2 * x, what=f"f({x})", near_misses={x * x: "that is the square"} if x > 2 else ()
        )


DOUBLE = Task(
    id="99.double", kind="build", title="Twice `x`", difficulty=2, minutes=5, check=check_double, limit=0.5,
    hints=("What is x < y?", "Add x\n\nto itself & return it."),
    bank=Bank(
        wrong=[
            Case("half", lambda x: x / 2, "too small"),
            Case("square of 3", lambda x: 2 * x if x < 3 else x * x, "that is the square"),
            Case("nothing", print, "returned None"),
        ],
        right=[Case("shifted", lambda x: x << 1)],
    ),
)  # fmt: skip


def test_example_of_the_guide_passes_its_bank():
    guide = checking.__doc__.split("::\n", 2)
    block = guide[1].split("**The check**")[0]
    names = {}
    exec(compile(textwrap.dedent(block), "guide", "exec"), names)
    (task,) = names["TASKS"]
    assert run_bank(task) == []


def with_bank(**changes):
    return Task(**{**vars(DOUBLE), **changes})


def test_good_bank_has_no_failures():
    assert run_bank(DOUBLE) == []


def accept_everything(answer):
    call(answer, 1)


def refuse_everything(answer):
    raise Wrong("too small")


@pytest.mark.parametrize(
    ("task", "failures"),
    [
        (with_bank(check=accept_everything), ["wrong answer 'half' was not rejected", "wrong answer 'square of 3' was not rejected"]),
        (
            with_bank(check=refuse_everything),
            ["'square of 3' should be told 'that is the square'", "'nothing' should be told", "right answer 'shifted' was not accepted", "unsolved answer (a function"],
        ),
        (with_bank(bank=Bank([Case("half", lambda x: x / 2)], DOUBLE.bank.right)), ["'half' should be told ''"]),
        (with_bank(check=lambda answer: answer.missing), ["'half' should be told", "'square of 3'", "'nothing'", "was not accepted", "unsolved"]),
    ],
    ids=["accepts everything", "refuses everything", "no sentence announced", "broken check"],
)  # fmt: skip
def test_bad_check_fails_its_bank(task, failures):
    found = run_bank(task)
    assert len(found) == len(failures)
    for text, part in zip(found, failures):
        assert part in text


def test_class_answers_get_a_class_as_stub():
    class Doubler:
        def double(self, x):
            return x + x

    def through_object(answer):
        expect_number(answer().double(4), 8)

    assert run_bank(with_bank(check=through_object, bank=Bank([], [Case("class", Doubler)]))) == []


def test_card_shows_the_facts_in_words_and_folds_the_hints(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append(bundle))
    monkeypatch.setattr(labs, "find", lambda name: DOUBLE)
    task_card("99.double")
    (bundle,) = shown
    page, text = bundle["text/html"], bundle["text/plain"]
    assert page.count("<details>") == page.count("</details>") == 2
    assert "<details open" not in page
    assert "What is x &lt; y?" in page
    assert "Add x</p><p>to itself &amp; return it." in page
    assert "Twice <code>x</code>" in page
    for form in (page, text):
        assert "Build: implement it from its specification · medium ●●○ · about 5 minutes" in form
    assert "Add x" not in text, "the hints stay folded"
    assert 'hint("99.double", 1)' in text


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"difficulty": 1, "minutes": 1, "kind": "debug"}, "Debug: find the fault, prove it, mend it · easy ●○○ · about 1 minute"),
        ({"difficulty": 3, "minutes": 20, "kind": "reason"}, "Reason: work out a number or a choice · hard ●●● · about 20 minutes"),
    ],
)  # fmt: skip
def test_every_kind_and_difficulty_has_its_words(changes, facts, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw=False: shown.append((bundle, raw)))
    monkeypatch.setattr(labs, "find", lambda name: with_bank(**changes))
    task_card("99.double")
    ((bundle, raw),) = shown
    assert raw and bundle["text/plain"].splitlines()[:2] == ["Task 99.double: Twice `x`", facts]
    assert facts in bundle["text/html"] and "<summary>Second hint</summary>" in bundle["text/html"]


def test_hint_prints(monkeypatch, capsys):
    monkeypatch.setattr(labs, "find", lambda name: DOUBLE)
    hint("99.double")
    hint("99.double", 2)
    assert capsys.readouterr().out == "What is x < y?\nAdd x\n\nto itself & return it.\n"
    for number in (0, 3):
        with pytest.raises(ValueError, match="expected 1 or 2"):
            hint("99.double", number)


def test_unknown_names_are_told_what_there_is(monkeypatch):
    monkeypatch.setattr(labs, "_labs", lambda: ("99",))
    with pytest.raises(LookupError, match="there is no lab '98'; there are 99"):
        find("98.double")
    monkeypatch.setattr(labs, "tasks_of", lambda lab: (DOUBLE,))
    with pytest.raises(LookupError, match=r"there is no task '99.tripple'; this lab has 99\.double"):
        find("99.tripple")
