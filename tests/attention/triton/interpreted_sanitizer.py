"""The sanitizer has to find what it is for: kernels with one fault each, and one without."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from sanitizer import sanitized
from triton.runtime.errors import InterpreterError


@triton.jit
def copy(x, out, n, first, wrap, TILE: tl.constexpr):
    """out[i] = x[first + i] for i < n, by programs that each hold TILE elements."""
    i = tl.program_id(0) * TILE + tl.arange(0, TILE)
    tl.store(out + i % wrap, tl.load(x + first + i, mask=i < n, other=0.0), mask=i < n)


@triton.jit
def add_atomic(x, out, TILE: tl.constexpr):
    tl.atomic_add(out, tl.sum(tl.load(x + tl.arange(0, TILE))))


@triton.jit
def shift_in_place(x, n, TILE: tl.constexpr):
    i = tl.program_id(0) * TILE + tl.arange(0, TILE)
    tl.store(x + i, tl.load(x + i + 1, mask=i + 1 < n, other=0.0), mask=i < n)


def launch(x, out, n, first=0, wrap=1000, programs=3):
    with sanitized() as seen:
        copy[(programs,)](x, out, n, first, wrap, TILE=8)
    return seen


def test_a_sound_kernel_passes():
    x, out = torch.arange(20.0), torch.zeros(20)
    seen = launch(x, out, 20)
    assert torch.equal(x, out) and seen.loads["copy"] == seen.stores["copy"] == 3
    launch(torch.arange(40.0)[::2], out, 1)  # one element of a strided view
    with sanitized():
        shift_in_place[(1,)](x, 20, TILE=32)  # one program may read and write as it likes


@pytest.mark.parametrize(
    "fault, message",
    [
        (lambda x, out: launch(x, out, 21), "reads 1 addresses outside every argument"),
        (lambda x, out: launch(x, out, 20, first=-1), "reads 1 addresses outside every argument"),
        (lambda x, out: launch(x[:10], out, 20), r"reads 6 addresses inside a storage but outside the argument \(interpreted_sanitizer.py:\d+\)"),
        (lambda x, out: launch(x[::2], out, 4), "reads 2 addresses inside a storage but outside"),
        (lambda x, out: launch(x, out[:8], 20), "program .1, 0, 0.: writes 8 addresses inside a storage but outside"),
        (lambda x, out: launch(x, out, 20, wrap=8), "program .1, 0, 0.: writes an address that another program writes"),
        (lambda x, out: launch(x, out, 20, wrap=4), "writes one address twice in one store"),
        (lambda x, out: shift_in_place[(3,)](x, 20, TILE=8), "program .1, 0, 0.: writes an address that another program reads"),
        (lambda x, out: add_atomic[(1,)](x, out, TILE=16), "uses an atomic"),
    ],
)  # fmt: skip
def test_a_fault_is_reported(fault, message):
    with pytest.raises(InterpreterError, match=message), sanitized():
        fault(torch.arange(20.0), torch.zeros(20))
