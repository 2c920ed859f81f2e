"""Every address that an interpreted kernel touches, held against its arguments.

``with sanitized() as seen:`` makes each launch raise when a program

- reads or writes an address that is not an element of a tensor it was given (the gaps between the rows of a strided
  view and the rest of its storage are not),
- writes an address that another program wrote or read, or reads one that another program wrote: on a GPU programs run in
  no order, so the result would depend on luck,
- writes one address twice in one store, or uses an atomic.

What it cannot see is a race inside a program: the interpreter runs a program as if it were one thread.
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from triton.runtime import interpreter


class Region:
    """One storage: which of its bytes begin an element of an argument, and who touched them."""

    def __init__(self, storage: torch.UntypedStorage) -> None:
        self.start, self.stop = storage.data_ptr(), storage.data_ptr() + storage.nbytes()
        self.given = np.zeros(storage.nbytes(), dtype=bool)
        self.written_by = np.full(storage.nbytes(), -1)
        self.read_by = np.full(storage.nbytes(), -1)  # -2: by several programs

    def give(self, x: torch.Tensor) -> None:
        offsets = np.full([1], x.storage_offset())
        for size, stride in zip(x.shape, x.stride(), strict=True):
            offsets = (offsets[:, None] + np.arange(size if stride else min(size, 1)) * stride).ravel()
        self.given[offsets * x.element_size()] = True


class Sanitizer:
    """Watches the launches of one ``with`` block and counts what it saw, by kernel."""

    def __init__(self) -> None:
        self.launches: Counter[str] = Counter()
        self.loads: Counter[str] = Counter()
        self.stores: Counter[str] = Counter()
        self.kernel = ""
        self.regions: list[Region] = []

    def launch(self, kernel: str, arguments: list[Any]) -> None:
        self.kernel, regions = kernel, {}
        self.prepared: set[int] = set()
        self.launches[kernel] += 1
        for x in arguments:
            if isinstance(x, torch.Tensor) and x.untyped_storage().nbytes():
                storage = x.untyped_storage()
                regions.setdefault(storage.data_ptr(), Region(storage)).give(x)
        self.regions = [regions[start] for start in sorted(regions)]

    def load(self, pointers: np.ndarray, mask: np.ndarray) -> None:
        self.loads[self.kernel] += 1
        for region, at in self.places("reads", pointers, mask):
            self.expect(region.written_by[at], "reads an address that another program writes")
            before = region.read_by[at]
            region.read_by[at] = np.where((before == -1) | (before == self.program()), self.program(), -2)

    def store(self, pointers: np.ndarray, mask: np.ndarray) -> None:
        self.stores[self.kernel] += 1
        for region, at in self.places("writes", pointers, mask):
            self.expect(region.written_by[at], "writes an address that another program writes")
            self.expect(region.read_by[at], "writes an address that another program reads")
            if len(np.unique(at)) < len(at):
                self.fail("writes one address twice in one store")
            region.written_by[at] = self.program()

    def places(self, verb: str, pointers: np.ndarray, mask: np.ndarray) -> Iterator[tuple[Region, np.ndarray]]:
        """The addresses as offsets into the regions; a fault if one of them belongs to none."""
        addresses = pointers[np.broadcast_to(mask, pointers.shape).astype(bool)].astype(np.int64)
        found = 0
        for region in self.regions:
            at = addresses[(addresses >= region.start) & (addresses < region.stop)] - region.start
            if len(at):
                if not region.given[at].all():
                    self.fail(f"{verb} {(~region.given[at]).sum()} addresses inside a storage but outside the argument")
                found += len(at)
                yield region, at
        if found < len(addresses):
            self.fail(f"{verb} {len(addresses) - found} addresses outside every argument")

    def expect(self, programs: np.ndarray, fault: str) -> None:
        if ((programs != -1) & (programs != self.program())).any():
            self.fail(fault)

    def program(self) -> int:
        (x, y, z), (nx, ny, _) = interpreter.interpreter_builder.grid_idx, interpreter.interpreter_builder.grid_dim
        return int(x + nx * (y + ny * z))

    def fail(self, what: str) -> None:
        frame = sys._getframe(1)
        here = {interpreter.__file__, __file__}
        while frame.f_back is not None and (frame.f_code.co_filename in here or "triton/language" in frame.f_code.co_filename):  # fmt: skip
            frame = frame.f_back
        where = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
        raise AssertionError(f"{self.kernel}, program {interpreter.interpreter_builder.grid_idx}: {what} ({where})")


@contextlib.contextmanager
def sanitized() -> Iterator[Sanitizer]:
    """Watch every launch inside the block."""
    seen = Sanitizer()
    builder, executor = interpreter.InterpreterBuilder, interpreter.GridExecutor
    load, store, call = builder.create_masked_load, builder.create_masked_store, executor.__call__
    inner = interpreter.InterpretedFunction.__call__

    def watched_call(self, *args, **kwargs):
        seen.launch(self.fn.__name__, [*args, *kwargs.values()])
        return call(self, *args, **kwargs)

    def watched_inner(self, *args, **kwargs):
        """A function called by a kernel. Triton prepares its language anew for each call, half of all the time."""
        if id(self.fn.__globals__) in seen.prepared:
            return self.rewrite()(*args, **kwargs)
        seen.prepared.add(id(self.fn.__globals__))
        return inner(self, *args, **kwargs)

    def watched_load(self, ptrs, mask, *rest):
        seen.load(ptrs.data, mask.data)
        return load(self, ptrs, mask, *rest)

    def watched_store(self, ptrs, value, mask, *rest):
        seen.store(ptrs.data, mask.data)
        return store(self, ptrs, value, mask, *rest)

    def atomic(self, *rest):
        seen.fail("uses an atomic")

    replaced = {
        "create_masked_load": watched_load,
        "create_masked_store": watched_store,
        "create_atomic_rmw": atomic,
        "create_atomic_cas": atomic,
    }
    originals = {name: getattr(builder, name) for name in replaced}
    try:
        executor.__call__ = watched_call
        interpreter.InterpretedFunction.__call__ = watched_inner
        for name, function in replaced.items():
            setattr(builder, name, function)
        yield seen
    finally:
        executor.__call__, interpreter.InterpretedFunction.__call__ = call, inner
        for name, function in originals.items():
            setattr(builder, name, function)
