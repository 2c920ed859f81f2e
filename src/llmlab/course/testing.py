"""``llmlab test``: unit tests, every notebook, solution and lab, and the browser, in one pytest run.

Everything runs on as many processes as the machine has room for (``-n 1`` for one); what is named runs on one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

from llmlab.course.nb.spread import jobs
from llmlab.course.places import repository

__all__ = ["main", "test_environment"]


def test_environment(data: str) -> dict[str, str]:
    """One thread, no model hub, and a progress store of its own: what tests run under, here and in CI."""
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LLMLAB_THREADS")}
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    fixed = {"PYTHONHASHSEED": "0", "LLMLAB_DATA": data, "JUPYTER_PREFER_ENV_PATH": "1"}
    return {**os.environ, **threads, **offline, **fixed}


def main(argv: list[str]) -> int:
    """Run everything, or what the words name: they go to pytest (``llmlab test tests/attention -k window``)."""
    home = repository()
    named = any(not word.startswith("-") and (home / word.split("::")[0]).exists() for word in argv)
    what = [] if named else ["tests", "notebooks", "solutions"]
    count = 1 if named or any(word.startswith(("-n", "--numprocesses")) for word in argv) else jobs()
    if count > 1:
        what += ["-n", str(count), "--no-loadscope-reorder"]
    with tempfile.TemporaryDirectory(prefix="llmlab-test-") as data:
        command = [sys.executable, "-m", "pytest", "-p", "llmlab.course.nb.plugin", *argv, *what]
        return subprocess.run(command, cwd=home, env=test_environment(data), check=False).returncode
