"""Run a learner's code so that whatever it does, the kernel lives on and its state is as before.

Covered: exceptions, ``sys.exit`` and ``os._exit``, endless loops (also sleeping ones, and ones that swallow every
exception), recursion, floods of prints, warnings, and changed global settings of torch, NumPy and Python.

Not covered: code that fills the memory, crashes inside a C extension, or kills its own process by a signal. One single
long call into C (a huge matrix product) is stopped when it returns. In the main thread of Linux and macOS an alarm
stops the code, ``time.sleep`` included; in other threads and on Windows an asynchronous exception does, which a
sleeping call notices when it wakes.
"""

from __future__ import annotations

import ctypes
import io
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

__all__ = ["Capture", "Outcome", "Stopped", "guarded"]

#: After the limit the alarms come this often (seconds), for code that swallowed the first.
REPEAT = 0.05
#: Seconds that imports may take on top of the limit: the first ``import torch`` on a busy machine is nobody's loop.
IMPORTS = 120.0

#: The run of this thread, so that a late death in another run stops nobody.
_current = threading.local()


class Stopped(BaseException):
    """The time limit was reached. A ``BaseException``, so that ``except Exception`` lets it pass.

    A bare ``except:`` still swallows it. So its birth, and its death in such a handler, set a trace on the learner's
    frames which raises it anew at their next line: in the handler, outside the ``try``.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.run = getattr(_current, "run", None)
        _arm(sys._getframe())

    def __del__(self) -> None:
        if self.run is not None and self.run is getattr(_current, "run", None):
            _arm(sys._getframe())


class Capture(io.TextIOBase):
    """Keeps the first ``room`` characters written and counts the rest."""

    encoding = "utf-8"

    def __init__(self, room: int = 4000) -> None:
        self.room = room
        self.text = ""
        self.lines = 0
        self.ends_open = False

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() takes a str, not {type(text).__name__}")
        self.text += text[: self.room - len(self.text)]
        self.lines += text.count("\n")
        if text:
            self.ends_open = not text.endswith("\n")
        return len(text)

    def shown(self, most: int = 6, width: int = 120) -> list[str]:
        """The first lines, indented, and a sentence for the lines that were cut."""
        kept = self.text.splitlines()[:most]
        total = self.lines + self.ends_open
        lines = [f"  | {line[:width]}{'…' if len(line) > width else ''}" for line in kept]
        if total > len(kept):
            lines.append(f"  … and {total - len(kept):,} more lines, not shown: print less")
        return lines


@dataclass
class Outcome:
    """What came of the run: a value or an error, what was printed, what was warned of."""

    value: Any = None
    error: BaseException | None = None
    printed: Capture = field(default_factory=Capture)
    warned: list[warnings.WarningMessage] = field(default_factory=list)


def guarded(fn: Callable[[], Any], limit: float) -> Outcome:
    """Call ``fn`` for at most ``limit`` seconds and say what came of it; raises only ``KeyboardInterrupt``.

    Printing and warnings are caught. The random generators start from seed 0, so that the same code meets the same
    verdict, and are put back afterwards with the other global settings (:func:`unchanged`).
    """
    outcome = Outcome()
    out = outcome.printed
    with unchanged(), warnings.catch_warnings(record=True) as warned, redirect_stdout(out), redirect_stderr(out):
        warnings.simplefilter("default")
        _seed()
        outcome.value, outcome.error = _limited(fn, limit)
        outcome.warned = list(warned)
    return outcome


def _inside(fn: Callable[[], Any], start: Callable[[], object]) -> Iterator[tuple[Any, BaseException | None]]:
    """``(value, None)`` or ``(None, error)``, from the frame that marks where the learner's side of the stack begins.

    ``start`` starts the clock. A generator, because it has a stack of handled exceptions of its own: an exception that
    a trace raises inside a ``with`` block leaves its entry there, and it goes with the generator.
    """
    try:
        start()
        value = fn()
    except BaseException as error:
        yield None, error
    else:
        yield value, None


def _limited(fn: Callable[[], Any], limit: float) -> tuple[Any, BaseException | None]:
    """What ``_inside`` says; raises only KeyboardInterrupt."""
    trace, outer = sys.gettrace(), getattr(_current, "run", None)
    _current.run = object()
    stop = _alarm if hasattr(signal, "setitimer") and _in_main_thread() else _watchdog
    value, error = None, None
    try:
        with stop(limit) as start:
            run = _inside(fn, start)
            value, error = next(run)
    except Stopped as late:  # it came as the code was just ending
        error = error or late
    finally:
        _current.run = outer
        sys.settrace(trace)
    if isinstance(error, KeyboardInterrupt):
        raise error
    return value, error


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


class _Clock:
    """Counts the limit down, leaving out the time in which an import ran when a tick looked."""

    def __init__(self, limit: float) -> None:
        self.tick = limit / 20
        self.left, self.imports = limit, IMPORTS
        self.last = time.monotonic()

    def expired(self, frame: FrameType | None) -> bool:
        """Count the time since the last tick, during which ``frame`` ran; whether the limit is reached."""
        now = time.monotonic()
        since, self.last = now - self.last, now
        if self.left > 0 and self.imports > 0 and _importing(frame):
            self.imports -= since
        else:
            self.left -= since
        return self.left <= 0


@contextmanager
def _alarm(limit: float) -> Iterator[Callable[[], object]]:
    """Raise :class:`Stopped` in the learner's code ``limit`` seconds after the start, and again until it ends."""

    def ring(signum: int, frame: FrameType | None) -> None:
        if not _marked(frame):  # the code has just ended and the guard is tidying up
            return
        if not clock.expired(frame):
            signal.setitimer(signal.ITIMER_REAL, clock.tick)
            return
        stop = Stopped()
        signal.setitimer(signal.ITIMER_REAL, REPEAT)  # one ring at a time: on a busy machine a handler can take long
        raise stop

    clock, began = _Clock(limit), time.monotonic()
    left, interval = signal.setitimer(signal.ITIMER_REAL, 0)
    before = signal.signal(signal.SIGALRM, ring)
    try:
        yield lambda: signal.setitimer(signal.ITIMER_REAL, clock.tick)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:  # somebody else's alarm: give it back what remains of its time
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - began), 1e-3), interval)


@contextmanager
def _watchdog(limit: float) -> Iterator[Callable[[], object]]:
    """The same where there is no alarm: a second thread sends the exception."""
    send = ctypes.pythonapi.PyThreadState_SetAsyncExc
    target = threading.get_ident()
    # Bare locks, because the exception cannot cut C code in two: it would leave an Event with its lock held.
    begun, done = threading.Lock(), threading.Lock()
    begun.acquire()
    done.acquire()

    def watch() -> None:
        begun.acquire()
        clock = _Clock(limit)
        wait = clock.tick
        while not done.acquire(timeout=wait) and _marked(frame := sys._current_frames().get(target)):
            if clock.expired(frame):
                send(ctypes.c_ulong(target), ctypes.py_object(Stopped))
                wait = REPEAT

    watcher = threading.Thread(target=watch, daemon=True, name="llmlab-check-limit")
    watcher.start()
    try:
        yield begun.release
    finally:
        while watcher.is_alive():
            with suppress(Stopped):  # sent in the moment before the code ended
                for lock in (done, begun):
                    if lock.locked():
                        lock.release()
                watcher.join(REPEAT)
        # One that is still on its way arrives in this loop. (To send None instead would cancel it, but leaves Python
        # 3.11 with its flag raised: every later function call is slower, and a traced one never returns.)
        with suppress(Stopped):
            for _ in range(100):
                pass


def _marked(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code is _inside.__code__:
            return True
        frame = frame.f_back
    return False


def _importing(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code is not _inside.__code__:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _arm(frame: FrameType | None) -> None:
    """Trace every frame on the learner's side of the stack, if this is that side."""
    if not _marked(frame):
        return
    while frame is not None and frame.f_code is not _inside.__code__:
        if frame.f_globals.get("__name__") != __name__:
            frame.f_trace = _raise_at_line
        frame = frame.f_back
    sys.settrace(_raise_at_line)


def _raise_at_line(frame: FrameType, event: str, arg: object) -> Any:
    if frame.f_globals.get("__name__") == __name__ or not _marked(frame):
        return None
    if event in ("line", "call"):
        raise Stopped
    return _raise_at_line


@contextmanager
def unchanged() -> Iterator[None]:
    """Put back what a learner's code may leave behind: generators, default dtype and device, grad mode, limits."""
    with ExitStack() as stack:
        keep = stack.callback
        keep(random.setstate, random.getstate())
        keep(sys.setrecursionlimit, sys.getrecursionlimit())
        np, torch = sys.modules.get("numpy"), sys.modules.get("torch")
        if np is not None:
            keep(np.random.set_state, np.random.get_state())
            keep(lambda old: np.seterr(**old), np.geterr())
        if torch is not None:
            keep(torch.set_rng_state, torch.get_rng_state())
            keep(torch.set_grad_enabled, torch.is_grad_enabled())
            keep(torch.set_default_dtype, torch.get_default_dtype())
            keep(torch.set_num_threads, torch.get_num_threads())
            if torch.cuda.is_initialized():
                keep(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all())
            device = torch.get_default_device()
            keep(lambda: torch.get_default_device() == device or torch.set_default_device(device))
        stack.enter_context(_no_exit())
        yield


def _seed() -> None:
    random.seed(0)
    np, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if np is not None:
        np.random.seed(0)
    if torch is not None:
        torch.manual_seed(0)


@contextmanager
def _no_exit() -> Iterator[None]:
    """Turn ``os._exit`` into ``SystemExit`` in this process; a forked child still leaves by the real one."""
    real, here = os._exit, os.getpid()

    def leave(status: int) -> None:
        if os.getpid() != here:
            real(status)
        raise SystemExit(status)

    os._exit = leave  # type: ignore[assignment]
    try:
        yield
    finally:
        os._exit = real
