"""The one place that decides device, dtype, seeds and threads.

One torch thread is the default. It makes a learner's digits equal to the committed ones, and two threads beside
another busy process are slower than one. ``LLMLAB_THREADS=4`` changes it, ``LLMLAB_DEVICE=cpu`` overrules the device.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["Runtime", "device", "dtype_for", "peak_memory", "seed_everything", "set_threads", "setup"]


@dataclass(frozen=True)
class Runtime:
    """What a notebook runs on."""

    device: torch.device
    dtype: torch.dtype
    threads: int
    seed: int

    def __str__(self) -> str:
        return (
            f"{self.device.type}, {str(self.dtype).removeprefix('torch.')}, {self.threads} thread(s), seed {self.seed}"
        )


def device() -> torch.device:
    """The device to use: ``LLMLAB_DEVICE`` if set, else CUDA if torch sees a GPU, else the CPU.

    Apple's MPS is never chosen by itself, because it lacks float64, which the checks need; name it to use it.

    Raises:
        ValueError: ``LLMLAB_DEVICE`` names a device that torch cannot use here.
    """
    import torch

    name = os.environ.get("LLMLAB_DEVICE", "").strip()
    if not name:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(name)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"LLMLAB_DEVICE={name!r} cannot be used here ({reason}). Use 'cpu', or unset it to let the course choose."
        ) from error
    return chosen


def dtype_for(chosen: torch.device) -> torch.dtype:
    """float32 on the CPU and MPS (its digits are the reference), bfloat16 on a GPU that supports it."""
    import torch

    if chosen.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.bfloat16
    return torch.float32


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch (every device).

    Raises:
        ValueError: ``seed`` is outside 0 .. 2**32 - 1, the range NumPy accepts.
    """
    import numpy as np
    import torch

    if not 0 <= seed < 2**32:
        raise ValueError(f"seed={seed}: expected an integer from 0 to 2**32 - 1")
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - lime and scikit-learn read the global generator
    torch.manual_seed(seed)


def set_threads(threads: int | None = None) -> int:
    """Set torch's threads to ``threads``, else ``LLMLAB_THREADS``, else 1. Returns the number in force."""
    import torch

    text = os.environ.get("LLMLAB_THREADS", "1")
    if threads is None:
        if not text.isdigit() or int(text) < 1:
            raise ValueError(f"LLMLAB_THREADS={text!r}: expected a whole number of 1 or more")
        threads = int(text)
    if threads < 1:
        raise ValueError(f"threads={threads}: expected 1 or more")
    torch.set_num_threads(threads)
    return torch.get_num_threads()


def setup(seed: int = 0, threads: int | None = None) -> Runtime:
    """Seed, set threads and pick the device: the first thing a notebook does."""
    chosen = device()
    seed_everything(seed)
    return Runtime(chosen, dtype_for(chosen), set_threads(threads), seed)


def peak_memory(function: Callable[[], Any], on: torch.device | None = None) -> int:
    """The most bytes of tensors that ``function`` held at one time beyond what was there before.

    ``on`` says where it computes; None is :func:`device`. On the CPU this counts every allocation of torch's
    allocator, also those inside a fused kernel, so it is the same on every run. On a GPU it is the caching allocator's
    peak.
    """
    import torch

    if (on or device()).type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        function()
    held = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak
