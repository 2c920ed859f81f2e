#!/usr/bin/env python3
"""Fifty questions, fifty experiments: set up on first use, then start.

    python3 course.py lab      set up, and open JupyterLab on the start page
    python3 course.py test     set up, and run every test and every notebook
    python3 course.py doctor   any other word goes to the course's command line

Only the standard library is used here, because nothing else is there yet.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV = Path(os.environ.get("LLMLAB_VENV") or HERE / ".venv")
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
LOCKS = {"lab": ["requirements.lock"], "test": ["requirements.lock", "requirements-test.lock"]}
DISK_GB = 6  # the CUDA build of torch that Linux gets by default needs about 5; the CPU build 2


def stop(message):
    """End with a sentence instead of a stack trace."""
    sys.exit(f"\ncourse.py: {message}")


def stamp(locks):
    """What the environment was made from; when it changes, the environment is brought up to date."""
    parts = [sys.version.split()[0].encode(), str(HERE).encode(), (HERE / "pyproject.toml").read_bytes()]
    parts += [(HERE / lock).read_bytes() for lock in locks]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def run(step, command):
    """Run one step and say how long it took; a step that fails names itself and what to try."""
    print(f"  {step} …", flush=True)
    start = time.monotonic()
    try:
        code = subprocess.run(command, cwd=HERE, check=False).returncode
    except KeyboardInterrupt:
        stop(f"stopped during: {step}. Nothing is lost; the same command goes on from here.")
    if code:
        stop(
            f"this step failed: {step}. Its own words stand above. If they speak of a connection, look at the network "
            "(or at your proxy and pip's index settings); if of space, free some. Then run the same command again: "
            "it goes on from here."
        )
    print(f"  {step}: done in {time.monotonic() - start:.0f} s", flush=True)


def set_up(kind):
    """Make the environment and fetch the real models and data, unless that was already done."""
    done = VENV / f"llmlab-{kind}.stamp"
    wanted = stamp(LOCKS[kind])
    if not (done.exists() and done.read_text() == wanted and PYTHON.exists()):
        free = shutil.disk_usage(HERE).free / 1e9
        if free < DISK_GB:
            stop(f"{free:.1f} GB are free on this disk, {DISK_GB} are needed. Free some, or set LLMLAB_VENV elsewhere.")
        print("Setting up, once. This takes a few minutes and needs the network.", flush=True)
        if (
            not PYTHON.exists()
            or subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True, check=False).returncode
        ):
            run("a virtual environment", [sys.executable, "-m", "venv", "--clear", VENV])
        pip = [PYTHON, "-m", "pip", "install", "--disable-pip-version-check"]
        pip += [] if sys.stdout.isatty() else ["-q"]  # a person sees the progress bars, a log stays short
        run("a pip that can resume downloads", [*pip, "pip>=25.2"])
        run("the locked packages", [*pip, *(x for lock in LOCKS[kind] for x in ("-r", lock))])
        run("the course's own package", [*pip, "--no-deps", "--no-build-isolation", "-e", "."])
        done.write_text(wanted)
    ready = [PYTHON, "-m", "llmlab", "assets", "ready"]
    if subprocess.run(ready, cwd=HERE, capture_output=True, check=False).returncode:
        run("the real models and data", [PYTHON, "-m", "llmlab", "assets", "fetch"])


def main():
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        stop(f"this is Python {sys.version.split()[0]}; the course runs on 3.11, 3.12 and 3.13. Start it with one.")
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    try:
        set_up("test" if words[0] == "test" else "lab")
    except OSError as error:
        stop(f"{error}. Look at the rights on, and the space in, {VENV}; then run the same command again.")
    try:
        return subprocess.run([PYTHON, "-m", "llmlab", *words], cwd=HERE, check=False).returncode
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
