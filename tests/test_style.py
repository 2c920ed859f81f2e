"""ruff, on code and notebooks, and the type checker."""

import subprocess
import sys
from pathlib import Path

import pytest

HOME = Path(__file__).parents[1]
CHECKS = {
    "lint": ["ruff", "check", "--no-cache", "."],
    "format": ["ruff", "format", "--no-cache", "--check", "."],
    "types": ["mypy"],
}


@pytest.mark.parametrize("name", CHECKS)
def test_style(name):
    done = subprocess.run([sys.executable, "-m", *CHECKS[name]], cwd=HOME, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
