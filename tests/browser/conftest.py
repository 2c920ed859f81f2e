"""A real JupyterLab, started as users start it, on a copy of the course; and a real browser that looks at it."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
from screen import Screen, opened

import llmlab.course.nb.execute as kernels
from llmlab.course.places import repository

#: Where a browser may be; LLMLAB_CHROMIUM names another.
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: Quiet: no first-run pages, no updates, no sync. The last one lets the browser itself find no other machine.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
START_SECONDS = 180


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder drives the browser."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's path."""
    named = os.environ.get("LLMLAB_CHROMIUM", "")
    if named and not shutil.which(named):
        pytest.fail(f"LLMLAB_CHROMIUM={named!r} is no program that can be run: name a Chromium or Chrome, or unset it")
    found = named or next(filter(None, map(shutil.which, BROWSERS)), None)
    if not found:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on the PATH, and LLMLAB_CHROMIUM is not set")
    return found


@dataclass
class Server:
    """A running JupyterLab: where it listens, the course's copy that it serves, the learner's data, its network log."""

    url: str
    token: str
    home: Path
    data: Path
    attempts: Path
    told: int = 0

    def attempted(self) -> list[str]:
        """What the server and its kernels asked of the network beyond this machine since this was last called."""
        lines = self.attempts.read_text("utf8").splitlines() if self.attempts.exists() else []
        new, self.told = lines[self.told :], len(lines)
        return new


@pytest.fixture(scope="session")
def server(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`llmlab lab` on a copy of the notebooks, labs and solutions, with sockets closed except to this machine."""
    room = tmp_path_factory.mktemp("desk")
    home, data, log = room / "course", room / "data", room / "server.log"
    home.mkdir()
    source = repository()
    for folder in ("notebooks", "labs", "solutions"):
        shutil.copytree(source / folder, home / folder, ignore=shutil.ignore_patterns(".*", "*~"))
    for name in ("course.py", "pyproject.toml"):
        shutil.copy(source / name, home)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    there = Server(f"http://127.0.0.1:{port}", secrets.token_hex(16), home, data, room / "network.txt")
    command = [sys.executable, "-m", "llmlab", "lab", "--no-browser", "--port", str(port), "--ServerApp.port_retries=0"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # in a container; Jupyter asks for this word
        command.append("--allow-root")
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, f"--ServerApp.token={there.token}"],
            cwd=home,
            env=_environment(room, there),
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait(process, there, log)
        yield there
    finally:
        _stop(process)


def _environment(room: Path, server: Server) -> dict[str, str]:
    """A learner's environment with one thread, nobody's Jupyter settings, and the guard that closes the network."""
    reference = kernels.environment(room, server.attempts)
    kept = {k: v for k, v in reference.items() if k not in ("LLMLAB_REFERENCE", "MPLBACKEND", "PYTHONHASHSEED")}
    own = {f"JUPYTER_{name}_DIR": str(room / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    return {**kept, **own, "LLMLAB_DATA": str(server.data)}


def _wait(process: subprocess.Popen[bytes], server: Server, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{server.url}/api/status?token={server.token}", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (URLError, OSError):
            time.sleep(0.3)
    said = log.read_text("utf8", "replace")[-3000:]
    raise RuntimeError(f"JupyterLab did not start within {START_SECONDS} s (exit code {process.poll()}):\n{said}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and the kernels that it started."""
    import psutil

    if process.poll() is not None:
        return
    family = psutil.Process(process.pid).children(recursive=True)
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.terminate()
    _, alive = psutil.wait_procs(family, timeout=20)
    for member in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait(30)


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Any]:
    """One browser for all tests."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        yield running
        running.close()


@pytest.fixture(scope="module")
def screen(server: Server, browser: Any) -> Iterator[Screen]:
    """A page for each file of tests."""
    with opened(browser, server) as there:
        yield there


@pytest.fixture(autouse=True)
def nothing_leaves(screen: Screen) -> Iterator[None]:
    """No test may make the page, the server or a kernel ask anything of another machine."""
    yield
    asked = [*screen.strangers, *screen.server.attempted()]
    screen.strangers.clear()
    assert not asked, f"asked of other machines: {asked}"
