"""``llmlab lock``: pin every package, for every system and Python that the course runs on.

Needs ``uv`` (``pip install uv``), which resolves for systems other than its own. What torch's CUDA build adds on Linux
is left out: torch names exact versions of those itself, and its CPU build wants none of them. Triton alone is pinned,
for the tests, which run the GPU kernels without a GPU. No hashes are written, because the CPU and the CUDA build of the
same torch have different ones.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from llmlab.course.places import repository

__all__ = ["main", "pins"]

#: What builds the course's own package and the two dependencies that come as source, without asking the network.
BUILD = "hatchling\neditables\nsetuptools<81\nwheel\n"
OF_CUDA = re.compile(r"(nvidia-|cuda-|triton==)")
TEST_TRITON = re.compile(r"triton==")


def pins(text: str, *, test: bool = False) -> list[str]:
    """The lines that pin a package, without comments and without what only a CUDA build of torch brings.

    Args:
        test: keep triton, which the tests ask for by itself.
    """
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith(("#", "-"))]
    return [line for line in lines if not OF_CUDA.match(line) or (test and TEST_TRITON.match(line))]


def main(argv: list[str]) -> int:
    """Write ``requirements.lock`` and ``requirements-test.lock`` from ``pyproject.toml``."""
    if argv:
        print("llmlab lock takes no further words", file=sys.stderr)
        return 2
    uv = shutil.which("uv")
    if uv is None:
        print("uv is not installed: `pip install uv`, then run this again", file=sys.stderr)
        return 1
    home = repository()
    with tempfile.TemporaryDirectory() as folder:
        build = Path(folder) / "build.in"
        build.write_text(BUILD)
        command = [uv, "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--no-config"]
        command += ["--no-header", "--no-annotate", "pyproject.toml", str(build)]
        lab = pins(_run(command, home))
        (home / "requirements.lock").write_text("\n".join(lab) + "\n")
        test = pins(_run([*command, "--extra", "test", "--constraint", "requirements.lock"], home), test=True)
        (home / "requirements-test.lock").write_text("\n".join(line for line in test if line not in lab) + "\n")
    print(f"requirements.lock: {len(lab)} packages; requirements-test.lock: {len(test) - len(lab)} more")
    return 0


def _run(command: list[str], home: Path) -> str:
    return subprocess.run(command, cwd=home, check=True, capture_output=True, text=True).stdout
