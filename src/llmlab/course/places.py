"""Where the course's folders are."""

from __future__ import annotations

from pathlib import Path

__all__ = ["repository"]


def repository() -> Path:
    """The folder that holds notebooks, labs and solutions.

    Raises:
        FileNotFoundError: the package was installed without the course's repository.
    """
    for folder in (Path.cwd(), *Path.cwd().parents, *Path(__file__).resolve().parents):
        if (folder / "course.py").exists() and (folder / "pyproject.toml").exists():
            return folder
    raise FileNotFoundError("no folder with course.py here or above: run this inside the course's repository")
