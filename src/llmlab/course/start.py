"""The start page, ``notebooks/00_start.ipynb``: written from the course table, so that it cannot fall out of step.

``build`` makes the notebook; ``llmlab nb start`` writes and executes it, ``llmlab nb start --check`` says whether the
file is what would be written. The two tables that its code cells show, progress and device, stand here too.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlab.course import questions
from llmlab.course.lessons import Lesson, lesson, lessons, parts
from llmlab.course.places import repository

if TYPE_CHECKING:
    from nbformat import NotebookNode

__all__ = ["Standing", "build", "device_table", "main", "next_lesson", "progress_table", "standings", "waiting_for"]

NAME = "00_start.ipynb"
#: The short path: what an interview on Thursday asks first, in the order in which it is best read.
INTERVIEW = ("01", "03", "04", "05", "41", "08", "11", "19", "22", "36", "35", "12", "43", "15", "21", "45", "38", "27")
#: Grey that can still be read on white and on black; the word "planned" says the same.
GREY = "#767676"

WELCOME = """# Fifty questions, fifty experiments
## 五十个问题，五十个实验

This is a course on large language models in which every answer is an experiment that runs.
Each of its fifty topics has a notebook on a real model or real data, a lab to do and a solution to compare with.
Everything runs on this machine: no account, no network, no GPU needed.

Click a cell and press **Shift + Enter** to run it, or choose *Run ▸ Run All Cells*."""

MANNERS = """## How a notebook works

**Predict** before you run: pick an answer, and read why it is right or wrong.
**Explore** what happens if: move a slider, and the picture answers.
**Check** your own work: a sentence says what is right, or names the likely mistake.
And where the text claims something, a line such as `✓ A01.variance: …` has just tested it; it would have failed
if the claim were false. Values in brackets, such as ⟨12.3 ms⟩, depend on your machine.

Here is one of each, on softmax: the function that turns scores into weights that sum to 1."""

CHECK = """A check waits for your answer. Run the next cell as it is; then write a number in place of the three dots
and run it again. Hints are folded, and a passed check is remembered."""

PREDICT_CODE = """from llmlab.course import check, explore, predict, task_card
from llmlab.course.start import device_table, progress_table

predict(
    "00.temperature",
    "Softmax turns the scores 2, 1 and 0 into weights. All scores are divided by 10 first. What do the weights do?",
    {
        "They become more equal": "Smaller differences between scores mean smaller ratios between weights. "
        "Dividing by a number is what a temperature does, and what √d does in attention.",
        "They become more extreme": "That is what multiplying the scores does: the largest takes nearly everything.",
        "They stay as they are": "Only the order stays. Weights depend on differences of scores, and those shrink.",
    },
    answer="They become more equal",
)"""

EXPLORE_CODE = '''import torch


def bars(temperature=1.0):
    """The weights of the scores 2, 1 and 0 as three bars."""
    weights = (torch.tensor([2.0, 1.0, 0.0]) / temperature).softmax(0)
    rows = [
        f"<tr><td>score {score}</td><td>{weight:.3f}</td>"
        f"<td><div style='background:#0072B2;height:1em;width:{300 * weight:.0f}px'></div></td></tr>"
        for score, weight in zip((2, 1, 0), weights.tolist())
    ]
    return f"<table>{''.join(rows)}</table>"


explore(bars, temperature=(0.1, 10.0, 0.1))'''

CHECK_CODE = """task_card("00.equal_scores")
weight_of_each = ...  # softmax of four equal scores: which weight does each get?
check("00.equal_scores")(weight_of_each)"""

PROGRESS = """## Your progress

Kept in a small file on this machine and shown to nobody. Run the cell again to refresh it."""

DEVICE = """## This machine

What the notebooks will run on. `python3 course.py doctor`, typed in a terminal, tells more, and what to do if
something is missing."""


@dataclass(frozen=True)
class Standing:
    """Where a reader stands with one lesson: checks and predictions, done and in all."""

    lesson: Lesson
    passed: int
    tasks: int
    predicted: int
    predicted_right: int
    predictions: int

    @property
    def done(self) -> bool:
        """All checks passed; without a lab, all predictions answered."""
        if self.tasks:
            return self.passed >= self.tasks
        return 0 < self.predictions <= self.predicted

    @property
    def started(self) -> bool:
        """Something is done, not everything."""
        return not self.done and bool(self.passed or self.predicted)


def standings() -> list[Standing]:
    """One entry a lesson whose notebook exists, in learning order; all zero where no progress can be read."""
    from llmlab.course import labs, progress

    passed, answered = _recorded(progress.passed), _recorded(progress.predictions)
    found = []
    for entry in lessons():
        if not entry.exists():
            continue
        try:
            tasks = {task.id for task in labs.tasks_of(entry.number)}
        except LookupError:
            tasks = set()
        keys = questions.ids_in(entry.path(), "predict")
        mine = [answered[key] for key in keys if key in answered]
        right = sum(answer.first_right for answer in mine)
        found.append(Standing(entry, len(tasks & set(passed)), len(tasks), len(mine), right, len(keys)))
    return found


def next_lesson(there: Collection[Standing]) -> Lesson | None:
    """Where to go next: what is begun, else the first lesson that is open; None when all is done.

    A lesson is open when those of its prerequisites that have a notebook are done.
    """
    begun = [s.lesson for s in there if s.started]
    fresh = [s.lesson for s in there if not s.done and not s.started]
    return next(iter([*begun, *(entry for entry in fresh if not waiting_for(entry, there))]), None)


def waiting_for(entry: Lesson, there: Collection[Standing]) -> list[str]:
    """The numbers of the prerequisites that have a notebook and are not done."""
    return [s.lesson.number for s in there if s.lesson.number in entry.prerequisites and not s.done]


def progress_table() -> None:
    """Show what is done of what there is, and where to go next."""
    from IPython.display import display

    from llmlab.course.show import table

    there = standings()
    if not there:
        print("No notebook is there yet. Fetch the whole course, or look at the map above.")
        return
    rows = [
        (
            f"{s.lesson.number} {s.lesson.title}",
            f"{s.predicted} of {s.predictions}" + (f", {s.predicted_right} right at once" if s.predicted else ""),
            f"{s.passed} of {s.tasks}" if s.tasks else "no lab yet",
            _state(s, waiting_for(s.lesson, there)),
        )
        for s in there
    ]
    table(rows, ["Notebook", "Predictions answered", "Checks passed", "State"])
    target = next_lesson(there)
    if target is None:
        say = "You have done everything that exists so far. Teach it to somebody: that is the last check."
        display({"text/markdown": say, "text/plain": say}, raw=True)
        return
    minutes = f"{target.minutes} minutes, its lab {target.lab_minutes}."
    display(
        {
            "text/markdown": f"**Next:** {_link(target)} · {target.title_zh}. {minutes}",
            "text/plain": f"Next: {target.number} {target.title}. {minutes}",
        },
        raw=True,
    )


def device_table() -> None:
    """Show the device and versions found here, all of it marked as measured on this machine."""
    import psutil
    import torch

    from llmlab import runtime
    from llmlab.course.show import measured, table

    chosen = runtime.device()
    name = torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else platform.processor() or platform.machine()
    rows = [
        ("Device", f"⟨{chosen.type}: {name}⟩"),
        ("Torch threads", f"⟨{runtime.set_threads()}⟩"),
        ("Processor cores", f"⟨{os.cpu_count()}⟩"),
        ("Memory", measured(psutil.virtual_memory().total / 2**30, "GiB")),
        ("Python and torch", f"⟨{platform.python_version()} and {torch.__version__}⟩"),
    ]
    table(rows, ["What", "Found here"])


def build() -> NotebookNode:
    """The start page without outputs, made of the course table and of the files that are there."""
    from nbformat import v4

    text = partial(_cell, v4.new_markdown_cell)
    code = partial(_cell, v4.new_code_cell)
    cells = [
        text("welcome", WELCOME),
        text("manners", MANNERS),
        code("predict", PREDICT_CODE),
        code("explore", EXPLORE_CODE),
        text("about-check", CHECK),
        code("check", CHECK_CODE),
        text("map", _map()),
        text("paths", _paths()),
        text("about-progress", PROGRESS),
        code("progress", "progress_table()"),
        text("about-device", DEVICE),
        code("device", "device_table()"),
    ]
    metadata = {"kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}}
    return v4.new_notebook(cells=cells, metadata=metadata)


def write(path: Path, *, run: bool = True) -> None:
    """Write the start page to ``path``, keep outputs of unchanged cells, and execute it.

    Raises:
        ToolError: a cell failed, or the file there is no notebook.
    """
    from llmlab.course.nb.normal import normalise, serialise, write_atomic
    from llmlab.course.nb.regen import read, regen_one

    new = build()
    old = {cell.get("id"): cell for cell in read(path).cells} if path.exists() else {}
    for cell in new.cells:
        before = old.get(cell["id"])
        if cell.cell_type == "code" and before is not None and before.source == cell.source:
            cell.outputs, cell.execution_count = before.outputs, before.execution_count
    write_atomic(path, serialise(normalise(new)))
    if run:
        regen_one(path)


def differences(path: Path) -> list[str]:
    """What ``path`` says that ``build`` would not, one sentence each; outputs are compared by ``llmlab nb check``."""
    from llmlab.course.nb.choose import ToolError
    from llmlab.course.nb.regen import read

    try:
        there = {cell.get("id"): (cell.cell_type, cell.source) for cell in read(path).cells}
    except ToolError as error:
        return [str(error)]
    wanted = {cell["id"]: (cell.cell_type, cell.source) for cell in build().cells}
    found = [f"cell {name!r} is missing" for name in wanted if name not in there]
    found += [f"cell {name!r} is not written by the course table" for name in there if name not in wanted]
    found += [f"cell {name!r} differs" for name in wanted if name in there and there[name] != wanted[name]]
    if not found and list(there) != list(wanted):
        found.append("the cells stand in another order")
    return found


def main(argv: list[str] | None = None) -> int:
    """``llmlab nb start [--check]``: write and execute the start page, or say whether it is in step."""
    parser = argparse.ArgumentParser(prog="llmlab nb start", description="The start page, from the course table.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is out of step")
    args = parser.parse_args(argv)
    path = repository() / "notebooks" / NAME
    if not args.check:
        from llmlab.course.nb.choose import ToolError

        try:
            write(path)
        except ToolError as error:
            print(error, file=sys.stderr)
            return 1
        print(f"notebooks/{NAME}: written")
        return 0
    found = differences(path)
    if found:
        print(f"notebooks/{NAME} is out of step: {'; '.join(found)}. Run `llmlab nb start`.")
        return 1
    print(f"notebooks/{NAME} is what the course table says")
    return 0


def _state(standing: Standing, waits: list[str]) -> str:
    if standing.done or standing.started:
        return "done" if standing.done else "begun"
    return f"after {' '.join(waits)}" if waits else "open"


def _recorded(read: Any) -> dict[str, Any]:
    """What the store holds; nothing where it cannot be read, so that the page works on any machine."""
    try:
        return dict(read())
    except OSError:
        return {}


def _cell(make: Any, name: str, source: str) -> NotebookNode:
    cell: NotebookNode = make(source)
    cell["id"] = name
    if name == "predict":
        cell["metadata"]["jupyter"] = {"source_hidden": True}  # the source names the answer
    return cell


def _link(entry: Lesson) -> str:
    """The lesson as a link if its notebook is there, else in grey and named planned."""
    label = f"{entry.number} {entry.title}"
    return (
        f"[{label}]({entry.name}.ipynb)" if entry.exists() else f'<span style="color:{GREY}">{label} (planned)</span>'
    )


def _map() -> str:
    there = [entry for entry in lessons() if entry.exists()]
    hours = sum(entry.minutes + entry.lab_minutes for entry in lessons()) / 60
    lines = [
        "## The map of the fifty",
        "",
        f"Eight parts, in the order in which they build on each other; about {hours:.0f} hours with all labs. "
        f"Notebooks that are there: {len(there)} of {len(lessons())}; the others are marked *planned*. "
        "*After* names what should come before.",
    ]
    for part in parts():
        lines += ["", f"### {part.number} · {part.title} · {part.title_zh}", ""]
        lines += ["| Notebook | 题目 | The experiment | Minutes | Lab | After |", "|:--|:--|:--|--:|:--|:--|"]
        lines += [_row(entry) for entry in lessons() if entry.part == part.number]
    return "\n".join(lines)


def _row(entry: Lesson) -> str:
    lab = f"{entry.lab_minutes} min"
    lab = f"[{lab}](../labs/{entry.name}.ipynb)" if entry.exists("labs") else f"{lab} (planned)"
    after = " ".join(entry.prerequisites) or "–"
    return f"| {_link(entry)} | {entry.title_zh} | {entry.experiment} | {entry.minutes} | {lab} | {after} |"


def _paths() -> str:
    short = [lesson(number) for number in INTERVIEW]
    ready = [entry for entry in short if entry.exists()]
    later = [entry for entry in short if not entry.exists()]
    steps = ", ".join(_link(entry) for entry in ready) or "none yet"
    example = (ready or short)[0].number
    lines = [
        "## Three ways through",
        "",
        "**Alone.** Follow the map from the top. Answer every prediction before you run on, then do the lab on the",
        "same day and look at the solution only after the checks pass. The table below remembers where you are.",
        "",
        "**Teaching.** One notebook a session: the class predicts by show of hands, one kernel runs, everybody",
        "explores. The lab is homework; its checks answer at once, so the next session can begin with the mistakes.",
        "The folder `solutions/` holds every lab solved, with its outputs.",
        "",
        f"**An interview on Thursday.** Read these, in this order: {steps}.",
        f"Say each answer aloud in a minute, then compare: `python3 course.py questions {example} --answer` in a "
        "terminal",
        "prints the questions of a notebook with answers, follow-ups and the mistakes that most candidates make.",
        "Cards, a mock interview, sums, faults to find and a search are on one page:",
        "[Interview on Thursday](interview.ipynb).",
    ]
    if later:
        lines += ["", f"Planned for this path: {', '.join(f'{e.number} {e.title}' for e in later)}."]
    return "\n".join(lines)
