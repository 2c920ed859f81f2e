"""Which tiles, warps and stages a kernel gets: a table, by architecture, head size and bytes of an element.

No autotuning: it would need the device it tunes for, and would choose anew in every process. ``resources`` compiles
each line ahead of time and measures that it fits; which line is the fastest on a device is for the benchmark to say.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["ARCHITECTURES", "Config", "architecture", "config", "padded"]


class Config(NamedTuple):
    """One way to cut a kernel's work."""

    tile_q: int
    tile_k: int
    warps: int = 4  # of 32 threads
    stages: int = 2  # tiles in flight: loaded while others are computed


# Kernel, largest head size, bytes of an element -> a line for each architecture.
ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
TABLE: dict[tuple[str, int, int], tuple[Config, Config, Config]] = {
    ("forward", 64, 2): (Config(128, 64, 8, 3), Config(128, 128, 8, 2), Config(128, 128, 8, 2)),
    ("forward", 128, 2): (Config(128, 64, 8, 2), Config(128, 64, 8, 3), Config(128, 128, 8, 2)),
    ("dq", 64, 2): (Config(128, 64, 8, 2), Config(128, 64, 8, 2), Config(128, 64, 8, 2)),
    ("dq", 128, 2): (Config(64, 64, 8, 2), Config(128, 64, 8, 2), Config(128, 32, 8, 2)),
    ("dkdv", 64, 2): (Config(64, 128, 8, 2), Config(64, 128, 8, 2), Config(64, 128, 8, 2)),
    ("dkdv", 128, 2): (Config(64, 64, 8, 2), Config(32, 128, 8, 2), Config(64, 64, 8, 2)),
    # float32 is multiplied in float32, not in TF32, and so without tensor cores.
    ("forward", 128, 4): (Config(32, 16, 8, 2), Config(32, 16, 8, 2), Config(32, 16, 8, 2)),
    ("dq", 128, 4): (Config(32, 16, 8, 2), Config(32, 32, 8, 2), Config(32, 32, 8, 2)),
    ("dkdv", 128, 4): (Config(16, 32, 8, 1), Config(16, 32, 8, 2), Config(16, 32, 8, 2)),
}
# The interpreter has no resources to run out of. Small tiles that are not square put many edges into a short sequence.
INTERPRETER = {"forward": Config(32, 64), "dq": Config(32, 64), "dkdv": Config(32, 64)}


def padded(d: int) -> int:
    """The tile that holds a head of size ``d``: a power of two, and 16 for the tensor cores' sake."""
    return max(16, 1 << (d - 1).bit_length())


def architecture(capability: tuple[int, int]) -> str:
    """The column for a device. Consumer cards (8.6, 8.9, 12.0) compute as sm_80 does, in 99 KB of shared memory."""
    return {9: "sm_90", 10: "sm_100"}.get(capability[0], "sm_80")


def config(kernel: str, arch: str, d: int, itemsize: int) -> Config:
    """The line for a kernel ("forward", "dq", "dkdv"); ``arch`` is one of ``ARCHITECTURES`` or "interpreter"."""
    if arch == "interpreter":
        return INTERPRETER[kernel]
    size = 64 if d <= 64 and itemsize == 2 else 128
    return TABLE[kernel, size, itemsize][ARCHITECTURES.index(arch)]
