"""Checkpoints of a run: written whole or not at all, and refused when damaged.

A file is one line with the SHA-256 of the rest, then what ``torch.save`` makes. It is written under another name,
forced to the disk, and renamed: whoever is killed while writing leaves the checkpoint before untouched. Reading uses
``weights_only=True``, which runs no code from the file.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import warnings
from pathlib import Path
from typing import Any

import torch

__all__ = ["Checkpoints", "DamagedCheckpoint", "read_state", "restore_random", "random_state", "write_state"]

_MAGIC = b"llmlab checkpoint 1 sha256 "


class DamagedCheckpoint(ValueError):
    """A checkpoint file is not what was once written."""


def write_state(state: dict[str, Any], file: Path) -> None:
    """Write ``state`` (tensors, numbers, text, lists and dicts of them) to ``file``, whole or not at all.

    Memory: the file's size once more while it is written.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    body = buffer.getbuffer()
    part = file.with_name(file.name + ".part")
    with part.open("wb") as out:
        out.write(_MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n")
        out.write(body)
        out.flush()
        os.fsync(out.fileno())  # or the new name could reach the disk before the bytes do
    os.replace(part, file)


def read_state(file: Path) -> dict[str, Any]:
    """What :func:`write_state` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedCheckpoint: it is not a checkpoint, or its bytes are not those that were written.
    """
    first, _, body = file.read_bytes().partition(b"\n")
    if not first.startswith(_MAGIC):
        raise DamagedCheckpoint(f"{file.name} is no checkpoint of llmlab: it starts with {first[:20]!r}")
    wanted, found = first.removeprefix(_MAGIC).decode("ascii", "replace"), hashlib.sha256(body).hexdigest()
    if wanted != found:
        raise DamagedCheckpoint(
            f"{file.name} is damaged: expected SHA-256 {wanted[:12]}…, its {len(body):,} bytes give {found[:12]}…. "
            "It was cut off or changed; delete it and resume from the one before"
        )
    return torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)


class Checkpoints:
    """The checkpoints of one run, in one folder: ``step-00000120.ckpt`` after 120 steps.

    Args:
        folder: made if it is not there. One run, one folder.
        every: write one after so many steps.
        keep: how many of the newest stay. With 2, one may be damaged.

    Raises:
        ValueError: ``every`` or ``keep`` below 1.
    """

    def __init__(self, folder: str | Path, *, every: int = 100, keep: int = 2) -> None:
        for name, count in (("every", every), ("keep", keep)):
            if count < 1:
                raise ValueError(f"{name}={count}: expected 1 or more")
        self.folder, self.every, self.keep = Path(folder), every, keep

    def files(self) -> list[Path]:
        """The checkpoints that are there, oldest first."""
        return sorted(self.folder.glob("step-*.ckpt"))

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write the checkpoint of ``step``, then delete what is older than the newest ``keep``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"step-{step:08d}.ckpt"
        write_state(state, file)
        for old in [*self.files()[: -self.keep], *self.folder.glob("step-*.part")]:  # .part: somebody was killed there
            old.unlink()
        return file

    def newest(self) -> dict[str, Any] | None:
        """The state of the newest checkpoint that is whole; None where there is none at all.

        A damaged one is named in a warning and passed over.

        Raises:
            DamagedCheckpoint: there are checkpoints, and every one is damaged. Starting over without a word would
                hide that.
        """
        files = self.files()
        for file in reversed(files):
            try:
                return read_state(file)
            except DamagedCheckpoint as error:
                warnings.warn(f"{error}.", stacklevel=2)
        if files:
            raise DamagedCheckpoint(f"all {len(files)} checkpoints in {self.folder} are damaged: delete them")
        return None


def random_state() -> dict[str, Any]:
    """The states of the generators that training draws from: torch's (every device), Python's, NumPy's global one."""
    import numpy as np

    name, keys, *rest = np.random.get_state()  # noqa: NPY002 - the global generator is what others draw from
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
    }


def restore_random(state: dict[str, Any]) -> None:
    """Put the generators back where :func:`random_state` found them."""
    import numpy as np

    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
