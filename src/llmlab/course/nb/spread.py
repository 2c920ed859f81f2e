"""Tests on several processes (pytest-xdist): what belongs together stays together.

A notebook is executed once for all its cells, and a browser's window is opened once for all that is done in it. So a
process takes a whole file of tests, a whole notebook, or all of one notebook's browser tests.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    import pytest  # the learner's environment has none

__all__ = ["jobs", "own_data", "scheduler", "scope"]

#: What one process needs: a notebook may take 3 GB, and its runner, JupyterLab and the browser stand beside it.
GB_EACH = 5.0
MOST = 4
_NOTEBOOK = re.compile(r"^(.*test_notebooks\.py)::.*\[(\d\d_\w+)\]$")


def jobs(cores: int | None = None, gb: float | None = None) -> int:
    """How many processes this machine has room for: one a core, 5 GB of free memory each, four at most."""
    if cores is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gb = psutil.virtual_memory().available / 1e9 if gb is None else gb
    return max(1, min(cores, MOST, int(gb // GB_EACH)))


def scope(nodeid: str) -> str:
    """What a test belongs to: its file, or, among the browser's tests of notebooks, its notebook."""
    found = _NOTEBOOK.match(nodeid)
    return f"{found[1]}[{found[2]}]" if found else nodeid.split("::", maxsplit=1)[0]


def own_data(config: pytest.Config) -> None:
    """Each process has its own progress store beside the others'."""
    worker = getattr(config, "workerinput", {}).get("workerid")
    if worker and "LLMLAB_DATA" in os.environ:
        os.environ["LLMLAB_DATA"] = os.path.join(os.environ["LLMLAB_DATA"], worker)


def scheduler(config: pytest.Config, log: Any) -> Any:
    """xdist's scheduler by scope, with our scopes."""
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return scope(nodeid)

    return Together(config, log)
