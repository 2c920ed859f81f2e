"""pyproject.toml, the locks and environment.yml must tell one story, and name no machine."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from llmlab.course.lock import pins

HOME = Path(__file__).parents[1]
PROJECT = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]
LOCKS = {name: (HOME / name).read_text() for name in ("requirements.lock", "requirements-test.lock")}


def locked(*names):
    """name -> the requirements that the locks give it (more than one where systems or Pythons differ)."""
    found = {}
    for name in names:
        for line in LOCKS[name].splitlines():
            requirement = Requirement(line)
            found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


@pytest.mark.parametrize(
    ("asked", "locks"),
    [
        (PROJECT["dependencies"], ["requirements.lock"]),
        (PROJECT["optional-dependencies"]["test"], ["requirements.lock", "requirements-test.lock"]),
        (PROJECT["optional-dependencies"]["triton"], ["requirements-test.lock"]),
    ],
)
def test_every_dependency_is_locked_inside_its_range(asked, locks):
    found = locked(*locks)
    for text in asked:
        requirement = Requirement(text)
        if requirement.name == "llmlab":  # its own extra, which is asked for here too
            continue
        pinned = found.get(canonicalize_name(requirement.name), [])
        assert pinned, f"{text} is in pyproject.toml but in no lock: run `llmlab lock`"
        for pin in pinned:
            (version,) = [s.version for s in pin.specifier]
            assert requirement.specifier.contains(version, prereleases=True), f"{text}, but the lock has {pin}"


@pytest.mark.parametrize("name", LOCKS)
def test_locks_pin_exactly_and_name_no_place(name):
    assert LOCKS[name].splitlines() == pins(LOCKS[name], test="test" in name), (
        "a line that pins nothing, or a package of the CUDA build"
    )
    for line in LOCKS[name].splitlines():
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*( ; .+)?", line), line  # so no +cpu, no path, no host


def test_torch_is_the_version_that_the_course_was_made_with():
    assert [str(r) for r in locked("requirements.lock")["torch"]] == ["torch==2.13.0"]


def test_conda_users_get_the_same_lock():
    made = yaml.safe_load((HOME / "environment.yml").read_text())
    python, _, pip = made["dependencies"]
    assert PROJECT["requires-python"] == ">=3.11,<3.14" and python == "python=3.11"
    assert pip == {"pip": ["-r requirements.lock", "-e ."]}


def test_what_is_installed_is_what_is_locked():
    from importlib.metadata import version

    off = {}
    for name, pinned in locked(*LOCKS).items():
        here = [r for r in pinned if r.marker is None or r.marker.evaluate()]
        if here and version(name).split("+")[0] != next(iter(here[0].specifier)).version:
            off[name] = version(name)
    assert not off, f"installed in another version than locked: {off}"


def test_no_machine_and_no_registry_is_named_in_the_repository():
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=HOME, capture_output=True, text=True, check=True).stdout
    hosts = ["pypi" + ".org", "python" + "hosted", "registry.npm" + "js"]
    paths = re.compile(r"/(?:root|opt|work)/[a-z]|file:///|find-links\s*=")
    bad = []
    for name in filter(None, tracked.split("\0")):
        file = HOME / name
        if file == Path(__file__) or file.suffix in (".png", ".safetensors", ".xz") or not file.exists():
            continue
        text = file.read_text(encoding="utf8")
        bad += [f"{name}: {host}" for host in hosts if host in text]
        bad += [f"{name}: {match[0]}" for match in paths.finditer(text)]
    assert not bad, bad


def test_python_of_this_run_is_one_the_course_supports():
    assert (3, 11) <= sys.version_info[:2] <= (3, 13)
