"""The suite is worth what it notices: faults planted in the kernels, one at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="the optional extra llmlab[triton] is not installed")
HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="each mutant is tried in a forked process")
def test_every_planted_fault_is_noticed(capfd):
    run = subprocess.run(
        [sys.executable, "mutants.py"],
        cwd=HERE,
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    with capfd.disabled():
        print("\n" + run.stdout)
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    assert run.stdout.count("\n") > 60, "the table is not there"
