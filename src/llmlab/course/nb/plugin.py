"""The pytest plugin that checks notebooks: ``pytest notebooks -p llmlab.course.nb.plugin``.

It stands on nbval (one item a cell, nbval's tags and failure reports) and replaces what nbval cannot do: cells are
executed as a front end would (``clear_output``, ``update_display``, Output widgets), numbers are compared with a
tolerance, and three more items a notebook guard its form, its budget and the closed network. A table of what each
notebook used ends the report. With ``-n 2`` notebooks run side by side.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nbval.plugin import IPyNbCell, IPyNbFile, NbCellError, find_comment_markers, find_metadata_tags

from llmlab.course.nb.choose import ToolError
from llmlab.course.nb.compare import Tolerance, compare_outputs
from llmlab.course.nb.execute import CELL_SECONDS, Run, execute, silent_promise
from llmlab.course.nb.normal import PNG_URI, normalise, serialise
from llmlab.course.nb.regen import read
from llmlab.course.nb.spread import own_data, scheduler

__all__ = ["BUDGET", "budget_faults", "form_faults"]

#: What a notebook may use at most. Its metadata ``llmlab.budget`` may ask for less, never for more.
BUDGET = {"cpu": 60.0, "peak_mb": 3 * 1024.0}
UNITS = {"cpu": "s of CPU time", "peak_mb": "MB of memory"}
_PLACE = re.compile(r"(?:/home/|/Users/|/root/|/tmp/|/var/folders/|[A-Z]:\\\\?Users\\)[^\s\"'<>]*")
#: What a notebook used, on the report of its budget: that also reaches a run on several processes.
USED = "llmlab.used"


def pytest_configure(config: pytest.Config) -> None:
    """Take the notebooks over from nbval's own collector, which ``--nbval`` would start beside ours."""
    config.option.nbval = config.option.nbval_lax = False
    own_data(config)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Notebooks, files, and a notebook's browser tests each stay on one process."""
    return scheduler(config, log)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> NotebookFile | None:
    """Every notebook but the labs: they are for learners to change, and have no outputs."""
    if file_path.suffix != ".ipynb" or file_path.parent.name in {"labs", ".ipynb_checkpoints"}:
        return None
    return NotebookFile.from_parent(parent, path=file_path)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The measured table."""
    reports = [report for kind in ("passed", "failed", "skipped") for report in terminalreporter.stats.get(kind, [])]
    rows = sorted(value for report in reports for name, value in report.user_properties if name == USED)
    if not rows:
        return
    terminalreporter.section("notebooks: what they used")
    terminalreporter.line(f"{'CPU s':>8}  {'wall s':>8}  {'peak MB':>8}  {'threads':>7}  notebook")
    for place, numbers in rows:
        terminalreporter.line(f"{numbers}  {place}")


def _used(run: Run) -> str:
    used = run.usage
    if used is None:
        return "stopped before its end"
    return f"{used.cpu:8.1f}  {used.wall:8.1f}  {used.peak_mb:8.0f}  {used.threads or '-':>7}"


class NotebookFile(IPyNbFile):
    """A notebook: executed once, then one item a code cell and three guards."""

    run: Run

    def collect(self) -> Iterator[pytest.Item]:
        """The items, in the notebook's order."""
        try:
            self.nb = read(self.path)
        except ToolError as error:
            raise self.CollectError(str(error)) from error
        number = 0
        for index, cell in enumerate(self.nb.cells):
            if cell.cell_type == "code" and cell.source.strip():
                number += 1
                options = {**dict(find_metadata_tags(cell.metadata)), **dict(find_comment_markers(cell.source))}
                item = NotebookCell.from_parent(
                    self, name=f"cell {number}", cell_num=number, cell=cell, options=options
                )
                item.index = index
                yield item
        for name in ("form", "network", "budget"):
            yield NotebookGuard.from_parent(self, name=name)

    def setup(self) -> None:
        """Execute the whole notebook: a later cell may still change what an earlier one shows."""
        seconds = min(self.config.option.nbval_cell_timeout, CELL_SECONDS)
        self.run = execute(self.nb, self.path.parent, seconds=seconds)

    def teardown(self) -> None:
        """Nothing: the kernel ended with the execution."""


class NotebookCell(IPyNbCell):
    """A code cell: was it run when the notebook was committed, and does it still say the same?"""

    index: int

    def setup(self) -> None:
        """Nothing: the file's set-up executed the cell."""

    def runtest(self) -> None:
        """Raises NbCellError with the difference."""
        fault = self.parent.run.fault
        if self.options.get("skip") or self.options.get("check") is False:
            self.raise_cell_error("asks nbval to look away; show what this machine measured as ⟨…⟩ instead")
        if fault and fault.index < self.index:
            pytest.skip(f"not reached: {fault.sentence}")
        if fault and fault.index == self.index:
            self.raise_cell_error(str(fault))
        if self.cell.execution_count is None:
            self.raise_cell_error("was never run: it has no execution count and proves nothing. Run `llmlab nb regen`.")
        ran = self.parent.run.notebook.cells[self.index]
        promise = silent_promise(ran)
        if promise:
            self.raise_cell_error(promise)
        try:
            tolerance = Tolerance.of(self.parent.nb.metadata.get("llmlab"), self.cell.metadata.get("llmlab"))
        except ValueError as error:
            self.raise_cell_error(str(error))
        difference = compare_outputs(self.cell.outputs, ran.outputs, tolerance)
        if difference:
            self.raise_cell_error(f"the output differs from the reference: {difference}")

    def repr_failure(self, excinfo: Any, style: Any = None) -> str:
        """What differs, then the cell."""
        error = excinfo.value
        if isinstance(error, NbCellError):
            return f"{self.path.name}, code cell {error.cell_num}: {error}\n\n{error.source}"
        return str(pytest.Item.repr_failure(self, excinfo))

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where the item stands."""
        return self.path, 0, f"{self.path.name} {self.name}"


class NotebookGuard(pytest.Item):
    """What is asked of a notebook as a whole: ``form``, ``network`` or ``budget``."""

    parent: NotebookFile

    def runtest(self) -> None:
        """Fails with one sentence a fault."""
        if self.name == "budget":
            place = f"{self.path.parent.name}/{self.path.name}"
            self.user_properties.append((USED, (place, _used(self.parent.run))))
        if self.name == "form":
            faults = form_faults(self.parent.path.read_text("utf-8"), self.parent.nb)
        elif self.name == "network":
            faults = [f"it used the network: {attempt}" for attempt in self.parent.run.network]
        elif self.parent.run.fault:
            pytest.skip(f"not measured: {self.parent.run.fault.sentence}")
        else:
            faults = budget_faults(self.parent.run, self.parent.nb.metadata.get("llmlab", {}).get("budget", {}))
        if faults:
            pytest.fail(f"{self.parent.path.name}: " + "\n".join(faults), pytrace=False)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where the item stands."""
        return self.path, 0, f"{self.path.name} {self.name}"


def form_faults(text: str, notebook: Any) -> list[str]:
    """Where the file differs from its normal form, or its outputs name a place on one machine."""
    faults = []
    normal = serialise(normalise(notebook))
    if normal != text:
        lines = enumerate(itertools.zip_longest(text.split("\n"), normal.split("\n"), fillvalue=None), start=1)
        place, (has, should) = next((i, pair) for i, pair in lines if pair[0] != pair[1])
        faults.append(
            f"not in normal form: line {place} is {_line(has)}, expected {_line(should)}. Run `llmlab nb regen`."
        )
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            found = _PLACE.search(_texts(output))
            if found:
                faults.append(f"an output names a place on one machine, {found[0][:80]!r}: do not print it.")
    return faults


def _line(text: str | None) -> str:
    return "not there" if text is None else repr(text[:80])


def _texts(output: Any) -> str:
    forms = [value for key, value in output.get("data", {}).items() if key.startswith("text/")]
    return PNG_URI.sub("", str([output.get("text"), output.get("evalue"), output.get("traceback"), forms]))


def budget_faults(run: Run, asked: dict[str, Any]) -> list[str]:
    """Where ``run`` used more than it may: ``BUDGET``, or less where the notebook's metadata asks for less."""
    if run.usage is None:
        return ["what it used could not be measured: the last cell must leave the kernel able to answer."]
    faults, used = [], {"cpu": run.usage.cpu, "peak_mb": run.usage.peak_mb}
    for key, value in asked.items():
        if key not in BUDGET or isinstance(value, bool) or not isinstance(value, int | float) or value > BUDGET[key]:
            limits = ", ".join(f"{name} up to {most:g}" for name, most in BUDGET.items())
            faults.append(f"metadata llmlab.budget asks for {key}={value!r}: it can only lower the budget ({limits}).")
    for key, most in BUDGET.items():
        limit = min(most, asked.get(key, most)) if isinstance(asked.get(key, most), int | float) else most
        if used[key] > limit:
            faults.append(f"over its budget: {used[key]:.1f} {UNITS[key]}, allowed {limit:g}.")
    if run.usage.threads not in {None, 1}:
        faults.append(f"torch ran with {run.usage.threads} threads: one gives everybody the same digits.")
    return faults
