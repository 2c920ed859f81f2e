"""The closed network of reference kernels, tried in plain Python processes: no kernel is needed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmlab.course.nb.execute import environment


def run(tmp_path: Path, script: str) -> tuple[str, list[str]]:
    """What ``script`` printed in a guarded Python, and the attempts that were noted."""
    log = tmp_path / "network.txt"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(tmp_path, log),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr, log.read_text().splitlines() if log.exists() else []


@pytest.mark.parametrize(
    ("attempt", "noted"),
    [
        ("socket.create_connection(('192.0.2.1', 80), 1)", "socket.getaddrinfo 192.0.2.1:80"),
        ("socket.getaddrinfo('example.org', 443)", "socket.getaddrinfo example.org:443"),
        ("socket.gethostbyname('example.org')", "socket.gethostbyname example.org"),
        ("socket.socket().connect(('192.0.2.1', 80))", "socket.connect 192.0.2.1"),
        ("socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))", "socket.sendto 192.0.2.1"),
        ("socket.socket(socket.AF_INET6).connect(('2001:db8::1', 80))", "socket.connect 2001:db8::1"),
        ("urllib.request.urlopen('http://example.org/x')", "socket.getaddrinfo example.org:80"),
        ("subprocess.run(['curl', 'http://example.org'])", "subprocess.Popen the program curl"),
        ("os.system('true; wget http://example.org')", "os.system the program wget"),
        ("subprocess.run([sys.executable, '-c', CHILD], check=True)", "socket.gethostbyname example.org"),
    ],
)
def test_every_way_out_is_refused_and_noted_even_when_swallowed(tmp_path: Path, attempt: str, noted: str) -> None:
    script = (
        "import os, socket, subprocess, sys, urllib.request\n"
        "CHILD = 'import socket; socket.gethostbyname(\"example.org\")'\n"
        f"try:\n    {attempt}\n    print('came out')\nexcept Exception as error:\n    print(error)\n"
    )
    shown, attempts = run(tmp_path, script)
    assert "came out" not in shown
    assert "no network in a reference run" in shown
    assert attempts == [noted]


def test_this_machine_can_be_reached(tmp_path: Path) -> None:
    script = """
import socket, subprocess, sys
with socket.create_server(("127.0.0.1", 0)) as server:
    with socket.create_connection(("localhost", server.getsockname()[1]), 5) as client:
        client.sendall(b"x")
socket.gethostbyname("localhost"), socket.getaddrinfo(None, 80), socket.getaddrinfo("::1", 80)
a, b = socket.socketpair()
a.sendall(b"x")
subprocess.run([sys.executable, "-c", "print('child')"], check=True)
print("all passed")
"""
    shown, attempts = run(tmp_path, script)
    assert "all passed" in shown
    assert attempts == []


def test_the_kernel_is_alone_with_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMLAB_THREADS", "8")
    monkeypatch.setenv("LLMLAB_DEVICE", "cuda")
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    env = environment(tmp_path, tmp_path / "log")
    assert (env["LLMLAB_THREADS"], env["LLMLAB_DEVICE"], env["OMP_NUM_THREADS"]) == ("1", "cpu", "1")
    assert env["PYTHONPATH"].split(os.pathsep)[1:] == ["elsewhere"]
    assert env["LLMLAB_DATA"].startswith(str(tmp_path))


def test_what_a_process_used(tmp_path: Path) -> None:
    script = (
        "import sitecustomize, sys, types\n"
        "assert sitecustomize.used()['threads'] is None\n"
        "sys.modules['torch'] = types.SimpleNamespace(get_num_threads=lambda: 4)\n"
        "block = bytearray(150 * 2**20)\n"
        "block[::4096] = b'x' * len(block[::4096])\n"
        "del block\n"
        "n = sum(range(3_000_000))\n"
        "print(sitecustomize.used())"
    )
    used = eval(run(tmp_path, script)[0])
    assert used["threads"] == 4
    assert 150 < used["peak_mb"] < 400, "the peak, not what is held at the end"
    assert 0.01 < used["cpu"] < 30
