"""Python loads this module at the start of every reference kernel, and of every Python that such a kernel starts.

It closes the network except to this machine itself, and notes each attempt, so that one that was caught in a ``try``
still fails its notebook. It also says what the process used, for the budget. Standard library only.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from typing import Any

LOG = os.environ.get("LLMLAB_NETWORK_LOG", "")
LOOPBACK = re.compile(r"localhost|127(\.\d+){3}|::1|::ffff:127(\.\d+){3}|", re.IGNORECASE)
LOOKUPS = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}
SENDS = {"socket.connect", "socket.sendto", "socket.sendmsg", "socket.getnameinfo"}
STARTS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"}
# Programs that are no Python and would go out unseen.
OUTWARD = re.compile(r"(?:^|[\s/'\"])(curl|wget|ssh|scp|rsync|ftp|git (?:clone|fetch|pull|push))(?=\s|$|['\"])")


def refused(event: str, args: tuple[Any, ...]) -> str | None:
    """Where the audited event would go on the network, or None if it may pass."""
    if event in LOOKUPS:
        host = args[0]
    elif event in SENDS:
        address = args[-1] if event != "socket.getnameinfo" else args[0]
        if not isinstance(address, tuple) or not isinstance(address[0], str | bytes):
            return None  # a unix or netlink socket, or one that has been connected before
        host = address[0]
    elif event in STARTS:
        command = " ".join(_words(args[:2]))
        found = OUTWARD.search(command)
        return f"the program {found[1]}" if found else None
    else:
        return None
    name = host.decode("ascii", "replace") if isinstance(host, bytes | bytearray) else host
    if name is None or LOOPBACK.fullmatch(name) or (event in LOOKUPS and name in {"0.0.0.0", "::", _own_name()}):
        return None
    port = args[1] if event == "socket.getaddrinfo" else None
    return f"{name}:{port}" if port else str(name)


def hook(event: str, args: tuple[Any, ...]) -> None:
    """The audit hook: note the attempt, then refuse it."""
    target = refused(event, args)
    if target is None:
        return
    if LOG:
        handle = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(handle, f"{event} {target}\n".encode("utf-8", "replace"))
        os.close(handle)
    raise OSError(f"no network in a reference run: {event} to {target} was refused. Fetch assets before, not here.")


def used() -> dict[str, float | int | None]:
    """CPU seconds (with the children waited for), peak memory in MB, torch threads (None: torch was not loaded)."""
    times = os.times()
    torch = sys.modules.get("torch")
    return {
        "cpu": times.user + times.system + times.children_user + times.children_system,
        "peak_mb": _peak_mb(),
        "threads": torch.get_num_threads() if torch else None,
    }


def _peak_mb() -> float:
    try:  # ru_maxrss would count the memory of the process that started this one
        with open("/proc/self/status", encoding="ascii") as status:
            own = next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        own = 0.0
    try:
        import resource
    except ImportError:
        import psutil

        info: Any = psutil.Process().memory_info()
        return float(info.peak_wset) / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / unit
    return max(own or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, children)


def _own_name() -> str:
    return socket.gethostname()


def _words(value: Any) -> list[str]:
    if isinstance(value, str | bytes | os.PathLike):
        return [os.fsdecode(value)]
    return [word for item in value for word in _words(item)] if isinstance(value, list | tuple) else []


if LOG:
    sys.addaudithook(hook)
