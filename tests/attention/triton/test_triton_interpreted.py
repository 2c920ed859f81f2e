"""Runs the ``interpreted_*.py`` files of this folder in a process of their own, and reports what each found.

Triton reads ``TRITON_INTERPRET`` when it is imported, and a process that interprets cannot compile.
"""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="the optional extra llmlab[triton] is not installed")
FOLDER = Path(__file__).parent
FILES = sorted(path.name for path in FOLDER.glob("interpreted_*.py"))


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> tuple[list[ET.Element], str]:
    """The cases of the inner run, and what it printed."""
    path = tmp_path_factory.mktemp("interpreted") / "report.xml"
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *FILES, "-q", "-p", "no:cacheprovider", f"--junitxml={path}"],
        cwd=FOLDER,
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    printed = run.stdout + run.stderr
    assert path.exists(), f"the interpreted tests did not run:\n{printed[-4000:]}"
    return list(ET.parse(path).iter("testcase")), printed


@pytest.mark.parametrize("file", FILES)
def test_interpreted(file, report):
    cases, printed = report
    mine = [case for case in cases if case.get("classname", "").split(".")[-1] == Path(file).stem]
    assert mine, f"{file} has no test that ran:\n{printed[-4000:]}"
    failures = [
        f"{case.get('name')}: {part.get('message')}\n{(part.text or '')[-3000:]}"
        for case in mine
        for part in case
        if part.tag in ("failure", "error", "skipped")
    ]
    assert not failures, f"{len(failures)} of {len(mine)} failed or were skipped\n\n" + "\n\n".join(failures[:5])
