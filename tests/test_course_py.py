"""The first command that a newcomer types: what it does when things are not as they should be.

A copy of ``course.py`` in an empty folder works on an environment of its own, made by this test in seconds.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HOME = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path):
    """A repository in miniature: course.py, empty locks, and a package whose command line prints its words."""
    shutil.copy(HOME / "course.py", tmp_path)
    (tmp_path / "requirements.lock").write_text("")
    (tmp_path / "requirements-test.lock").write_text("")
    (tmp_path / "pyproject.toml").write_text("")
    return tmp_path


def course(folder, *words, env=None, python=sys.executable):
    environment = {**os.environ, "LLMLAB_VENV": str(folder / "venv"), **(env or {})}
    return subprocess.run([python, "course.py", *words], cwd=folder, env=environment, capture_output=True, text=True)


def ready_made(folder):
    """An environment as a finished set-up leaves it, with a stand-in for the package."""
    program = f"""
import importlib.util, sys
sys.argv = ["course.py", "doctor"]
spec = importlib.util.spec_from_file_location("course", {str(folder / "course.py")!r})
course = importlib.util.module_from_spec(spec); spec.loader.exec_module(course)
for kind, locks in course.LOCKS.items():
    (course.VENV / f"llmlab-{{kind}}.stamp").write_text(course.stamp(locks))
"""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    package = folder / "llmlab"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(
        "import sys\nif sys.argv[1:] != ['assets', 'ready']: print('words', *sys.argv[1:])\n"
        "sys.exit(7 if sys.argv[1] == 'seven' else 0)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, "LLMLAB_VENV": str(folder / "venv")})


def test_without_a_word_it_explains_itself(folder):
    done = course(folder)
    assert done.returncode == 0 and "python3 course.py lab" in done.stdout
    assert not (folder / "venv").exists()


def test_a_finished_setup_starts_at_once_and_hands_the_words_on(folder):
    ready_made(folder)
    done = course(folder, "doctor", "--loud")
    assert (done.returncode, done.stdout.strip()) == (0, "words doctor --loud")
    assert course(folder, "seven").returncode == 7


def test_a_changed_lock_is_noticed(folder):
    ready_made(folder)
    (folder / "requirements.lock").write_text("no-such-package-of-the-course==1.0\n")
    done = course(folder, "doctor", env={"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)})
    assert done.returncode != 0 and "Setting up, once" in done.stdout


def test_no_network_is_a_sentence_and_the_next_run_goes_on(folder):
    (folder / "requirements.lock").write_text("no-such-package-of-the-course==1.0\n")
    done = course(folder, "doctor", env={"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)})
    assert done.returncode == 1
    assert "this step failed" in done.stderr and "run the same command again" in done.stderr
    assert "Traceback" not in done.stderr.split("course.py: ")[-1]
    assert not list((folder / "venv").glob("*.stamp")), "a failed set-up must not look finished"


def test_too_little_disk_is_a_sentence(folder):
    text = (folder / "course.py").read_text()
    (folder / "course.py").write_text(text.replace("DISK_GB = 6", "DISK_GB = 10**9"))
    done = course(folder, "lab")
    assert done.returncode == 1 and "GB are free on this disk" in done.stderr


def test_a_wrong_python_is_a_sentence(folder):
    text = (folder / "course.py").read_text()
    (folder / "course.py").write_text(text.replace("(3, 11) <= sys.version_info[:2] <= (3, 13)", "False"))
    done = course(folder, "lab")
    assert done.returncode == 1 and "the course runs on 3.11, 3.12 and 3.13" in done.stderr


def test_a_folder_that_cannot_be_written_is_a_sentence(folder):
    (folder / "file").write_text("")
    done = course(folder, "lab", env={"LLMLAB_VENV": str(folder / "file" / "venv")})
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr


def test_only_the_standard_library_is_imported():
    import ast

    tree = ast.parse((HOME / "course.py").read_text())
    names = {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    names |= {(n.module or "").split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert names <= set(sys.stdlib_module_names)
