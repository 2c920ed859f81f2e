"""A process that has imported the heavy packages once, and forks a child for every run of the tests.

It reads one JSON object a line and answers with one: ``{"tests": [...], "seconds": 60}`` runs these tests with the
package as it stands in the copy, and says ``{"failed": name or null, "how": "passed" | "failed" | "timeout" | …}``.
With ``"measure": true`` it also says which test runs which line, and how long each takes.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

__all__ = ["main"]

LIGHT = ("pytest", "coverage", "_pytest.junitxml", "_pytest.doctest", "hypothesis")
HEAVY = (
    *("torch", "torch._dynamo", "numpy", "jaxtyping", "beartype", "nbformat", "nbclient", "ipywidgets", "IPython"),
    *("transformers", "transformers.models.llama.modeling_llama", "transformers.models.bert.modeling_bert"),
    *("sklearn.linear_model", "sklearn.feature_extraction.text", "matplotlib.pyplot"),
)


class Watch:
    """A pytest plugin: which test is running, which was the first to fail, how long each took."""

    def __init__(self, coverage: Any = None) -> None:
        self.coverage, self.failed = coverage, ""
        self.seconds: dict[str, float] = defaultdict(float)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        if self.coverage:
            self.coverage.switch_context(nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] += report.duration
        if report.failed and not self.failed:
            self.failed = report.nodeid

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed and not self.failed:
            self.failed = f"{report.nodeid or 'collection'} (does not import)"


def run(tests: list[str], answer: Path, copy: Path, measure: bool) -> None:
    """In the child: run pytest on the package in ``copy`` and write what was seen to ``answer``."""
    sys.path.insert(0, str(copy))
    os.environ.update(PYTHONPATH=str(copy), PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    coverage = None
    if measure:
        import coverage as package

        coverage = package.Coverage(data_file=None, source=[str(copy)], messages=False)
        coverage.start()
    watch = Watch(coverage)
    import pytest

    code = pytest.main(["-q", "-x", "-p", "no:cacheprovider", "-p", "no:randomly", *tests], plugins=[watch])
    said: dict[str, Any] = {"code": int(code), "failed": watch.failed or None, "times": watch.seconds}
    if coverage:
        coverage.stop()
        data = coverage.get_data()
        said["lines"] = {file: data.contexts_by_lineno(file) for file in data.measured_files()}
    answer.write_text(json.dumps(said))


def forked(request: dict[str, Any], copy: Path) -> dict[str, Any]:
    """One request, in a child of its own; a child that does not come back is ended with everything it started."""
    with tempfile.TemporaryDirectory() as folder:
        answer, log = Path(folder) / "answer.json", Path(folder) / "log"
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            os.setsid()
            out = os.open(log, os.O_CREAT | os.O_WRONLY)
            nothing = os.open(os.devnull, os.O_RDONLY)
            for target, source in ((0, nothing), (1, out), (2, out)):
                os.dup2(source, target)
            try:
                run(request["tests"], answer, copy, request.get("measure", False))
            finally:
                os._exit(0)
        late = _waited(child, request["seconds"])
        took = time.monotonic() - began
        if late:
            return {"how": "timeout", "failed": f"no end after {request['seconds']:.0f} s", "seconds": took}
        if not answer.exists():
            return {"how": "crash", "failed": _tail(log) or "the process died", "seconds": took}
        said = json.loads(answer.read_text())
    how = {0: "passed", 5: "no tests"}.get(said["code"], "failed")
    return {**said, "how": how, "failed": None if how == "passed" else said["failed"] or how, "seconds": took}


def _waited(child: int, seconds: float) -> bool:
    """Wait for the child; True if it was late and had to be ended."""
    handle = os.pidfd_open(child)
    try:
        ready, _, _ = select.select([handle], [], [], seconds)
        if not ready:
            os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return not ready
    finally:
        os.close(handle)


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def main() -> None:
    """Import, then answer until the input ends. Arguments: the folder that holds the copy of the package, "heavy"."""
    import importlib
    import warnings

    warnings.simplefilter("ignore")
    copy = Path(sys.argv[1])
    for name in LIGHT + (HEAVY if "heavy" in sys.argv[2:] else ()):
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    for name in [name for name in sys.modules if name.partition(".")[0] == "llmlab"]:
        del sys.modules[name]
    del sys.path[0]  # this script's own folder
    for line in sys.stdin:
        print(json.dumps(forked(json.loads(line), copy)), flush=True)


if __name__ == "__main__":
    main()
