"""Run a notebook from top to bottom in a fresh, closed kernel, as a front end would, and say how it went."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat

from llmlab.course.nb.choose import ToolError

__all__ = ["CELL_SECONDS", "Fault", "Run", "Usage", "environment", "execute", "silent_promise"]

CELL_SECONDS = 120
GUARD = Path(__file__).parent / "guard"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Usage:
    """What a notebook used: CPU and wall seconds, peak memory in MB, torch threads (None: torch was not loaded)."""

    cpu: float
    wall: float
    peak_mb: float
    threads: int | None


@dataclass(frozen=True)
class Fault:
    """Why a run stopped: the index of the cell in the notebook, a sentence, and the traceback's last lines."""

    index: int
    sentence: str
    tail: str = ""

    def __str__(self) -> str:
        return self.sentence + (f"\n{self.tail}" if self.tail else "")


@dataclass
class Run:
    """An executed notebook. ``notebook`` holds the outputs up to the fault, if there was one."""

    notebook: Any
    fault: Fault | None = None
    usage: Usage | None = None
    network: list[str] = field(default_factory=list)


def execute(notebook: Any, folder: Path, *, seconds: float = CELL_SECONDS) -> Run:
    """Execute a copy of ``notebook`` with ``folder`` as working directory; stops at the first fault.

    Args:
        notebook: an nbformat notebook; it is not changed.
        folder: where the kernel runs.
        seconds: a cell that takes longer is stopped.

    Raises:
        ToolError: the kernel does not start.
    """
    nb = nbformat.from_dict(notebook)
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    run = Run(nb)
    with tempfile.TemporaryDirectory(prefix="llmlab-kernel-", ignore_cleanup_errors=True) as private:
        log = Path(private) / "network.txt"
        env = environment(Path(private), log)
        _in_a_thread(_run(run, folder, env, seconds))
        if log.exists():
            run.network = list(dict.fromkeys(log.read_text("utf-8").splitlines()))
        _forget_places(nb, private)
    return run


def environment(private: Path, network_log: Path) -> dict[str, str]:
    """The environment of a reference kernel: one thread, CPU, offline, nobody's settings, sockets closed but loopback.

    Args:
        private: an empty folder for progress and IPython's own files.
        network_log: where attempts to use the network are noted.
    """
    threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "LLMLAB_THREADS")
    path = [str(GUARD), *filter(None, [os.environ.get("PYTHONPATH", "")])]
    return {
        **os.environ,
        **{name: "1" for name in threads},
        "LLMLAB_DATA": str(private / "data"),
        "LLMLAB_REFERENCE": "1",
        "LLMLAB_DEVICE": "cpu",
        "LLMLAB_NETWORK_LOG": str(network_log),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": os.pathsep.join(path),
        "PYTHONUTF8": "1",
        "TZ": "UTC",
        "IPYTHONDIR": str(private / "ipython"),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MPLCONFIGDIR": str(_matplotlib_folder()),
    }


def _in_a_thread(work: Coroutine[Any, Any, None]) -> None:
    """Run ``work`` in an event loop of its own: the caller's thread may have one already (a notebook, Playwright)."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(work)
    faults: list[BaseException] = []

    def target() -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(task)
        except BaseException as error:
            faults.append(error)
        finally:
            left = asyncio.all_tasks(loop)  # nbclient's, when the kernel has died
            for other in left:
                other.cancel()
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            loop.close()

    thread = threading.Thread(target=target, name="llmlab-kernel")
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()  # the kernel is taken down first
        raise
    if faults:
        raise faults[0]


def _matplotlib_folder() -> Path:
    """A folder with matplotlib's font cache and no settings. A cold cache would print a line into the notebook."""
    from platformdirs import user_cache_dir

    folder = Path(os.environ.get("LLMLAB_CACHE") or user_cache_dir("llmlab")) / "matplotlib"
    if not list(folder.glob("fontlist-*.json")):
        folder.mkdir(parents=True, exist_ok=True)
        env = {**os.environ, "MPLCONFIGDIR": str(folder)}
        subprocess.run(
            [sys.executable, "-c", "import matplotlib.font_manager"], env=env, check=False, capture_output=True
        )
    return folder


def _client(nb: Any, seconds: float) -> Any:
    """An nbclient for this Python's own kernel, whatever kernels the machine's user has registered."""
    from ipykernel.kernelspec import RESOURCES, get_kernel_dict
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    class OwnKernel(KernelSpecManager):
        def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
            return KernelSpec(resource_dir=RESOURCES, **get_kernel_dict())

    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=OwnKernel())
    return NotebookClient(nb, km=manager, timeout=seconds, record_timing=False, startup_timeout=120)


async def _run(run: Run, folder: Path, env: dict[str, str], seconds: float) -> None:
    from nbclient.util import ensure_async

    client = _client(run.notebook, seconds)
    started = time.monotonic()
    try:
        try:
            await client.async_start_new_kernel(cwd=str(folder), env=env, stderr=subprocess.DEVNULL)
            await client.async_start_new_kernel_client()
        except (RuntimeError, OSError) as error:
            raise ToolError(f"the kernel did not start ({error}). `llmlab doctor` may say why.") from error
        for index, cell in enumerate(run.notebook.cells):
            run.fault = await _run_cell(client, cell, index, seconds)
            if run.fault:
                return
        used = await _used(client)
        run.usage = Usage(wall=time.monotonic() - started, **used) if used else None
    finally:
        if client.kc:
            client.kc.stop_channels()
        if client.km:
            await ensure_async(client.km.shutdown_kernel(now=run.usage is None))


async def _run_cell(client: Any, cell: Any, index: int, seconds: float) -> Fault | None:
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    if cell.cell_type != "code" or not cell.source.strip():
        return None
    number = sum(c.cell_type == "code" and bool(c.source.strip()) for c in client.nb.cells[: index + 1])
    name = f"code cell {number} (`{cell.source.strip().splitlines()[0][:60]}`)"
    try:
        await client.async_execute_cell(cell, index)
    except CellTimeoutError:
        return Fault(index, f"{name} ran longer than {seconds:g} s and was stopped: make it shorter.")
    except DeadKernelError:
        return Fault(index, f"the kernel died in {name}: memory, a crash in compiled code, or an exit in the cell.")
    except CellExecutionError as error:
        tail = "\n".join(_COLOUR.sub("", error.traceback).strip().splitlines()[-8:])
        return Fault(index, f"{name} raised {error.ename}: {_COLOUR.sub('', str(error.evalue))}", tail)
    return None


def silent_promise(cell: Any) -> str | None:
    """A sentence if an executed code cell announces an exception that did not come."""
    if "raises-exception" not in cell.metadata.get("tags", []) or any(o.output_type == "error" for o in cell.outputs):
        return None
    return "announces an exception (tag raises-exception), but none came: mend the cell or remove the tag."


async def _used(client: Any) -> dict[str, Any] | None:
    """Ask the kernel what it used, without a trace in the notebook."""
    from nbclient.util import ensure_async

    asked = {"used": "__import__('sitecustomize').used()"}
    with contextlib.suppress(AssertionError, RuntimeError, KeyError, TypeError, ValueError, SyntaxError):
        reply = await client.async_wait_for_reply(
            await ensure_async(client.kc.execute("", silent=True, store_history=False, user_expressions=asked))
        )
        answer = ast.literal_eval(reply["content"]["user_expressions"]["used"]["data"]["text/plain"])
        return dict(answer)
    return None


def _forget_places(nb: Any, private: str) -> None:
    """Write this machine's folders in the outputs as anyone would have them."""
    homes = {private: "<temp>", sys.executable: "python", str(Path.home()): "~"}
    homes |= {sysconfig.get_path("purelib"): "site-packages", sysconfig.get_path("stdlib"): "lib"}
    root = Path(__file__).resolve().parents[4]
    if (root / "pyproject.toml").exists():
        homes[str(root)] = "."
    longest_first = sorted((home for home in homes if len(home) > 1), key=len, reverse=True)
    pattern = re.compile(rf"(?<![\w./~-])(?:{'|'.join(map(re.escape, longest_first))})(?=[/\\]|\b)")

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return pattern.sub(lambda m: homes[m[0]], value)
        if isinstance(value, list):
            return [clean(item) for item in value]
        return value

    for cell in nb.cells:
        for output in cell.get("outputs", []):
            for key in ("text", "evalue", "traceback"):
                if key in output:
                    output[key] = clean(output[key])
            for key in [k for k in output.get("data", {}) if k.startswith("text/")]:
                output.data[key] = clean(output.data[key])
