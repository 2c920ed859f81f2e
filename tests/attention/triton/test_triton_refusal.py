"""What the kernels cannot do is said in a sentence, before anything is launched."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest
import torch

import llmlab.attention.triton as room
from llmlab.attention import BackendError, attention, varlen_attention
from llmlab.attention.triton import triton_attention


def qkv(queries=5, keys=7, *, heads=2, kv_heads=2, d=16, d_value=16, dtype=torch.float32, **more):
    shapes = {"q": (1, heads, queries, d), "k": (1, kv_heads, keys, d), "v": (1, kv_heads, keys, d_value)}
    return {name: torch.zeros(shape, dtype=dtype) for name, shape in shapes.items()} | more


def test_a_tensor_on_the_cpu(monkeypatch):
    pytest.importorskip("triton", reason="the optional extra llmlab[triton] is not installed")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    for call in (lambda: attention(**qkv(), backend="triton"), lambda: triton_attention(**qkv())):
        with pytest.raises(
            BackendError, match="cannot do this: the kernels need a CUDA GPU, and these tensors are on the CPU"
        ):
            call()


def test_triton_is_not_installed(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "triton" else found(name))
    with pytest.raises(BackendError, match=r"triton is not installed; .*pip install 'llmlab\[triton\]'"):
        attention(**qkv(), backend="triton")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (qkv(dtype=torch.float64), "q has float64"),
        (qkv(d=129), "at most 128 numbers; d=129, d_value=16"),
        (qkv(d_value=200), "at most 128 numbers; d=16, d_value=200"),
        (qkv(heads=70000, kv_heads=70000, d=1, d_value=1), "one program a head and sequence, at most 65535"),
        (qkv(dropout_p=0.1), "no dropout, and dropout_p=0.1"),
        (qkv(mask=torch.zeros(5, 7)), "no bias, and the mask has torch.float32"),
        (qkv(mask=torch.ones(5, 7, dtype=torch.bool)), r"a mask of keys, \(batch, 1, 1, keys\), and this one has shape \(5, 7\)"),
        (qkv(mask=torch.ones(1, 2, 1, 7, dtype=torch.bool)), r"has shape \(1, 2, 1, 7\)"),
    ],
)  # fmt: skip
def test_what_the_kernels_have_not(arguments, message, monkeypatch):
    monkeypatch.setattr(room, "unavailable", lambda q: None)  # as on a GPU
    with pytest.raises(BackendError, match=message):
        attention(**arguments, backend="triton")


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (qkv(heads=3, kv_heads=2), ValueError, "3 query heads but 2 key heads"),
        (qkv(heads=3, kv_heads=2, enable_gqa=True), ValueError, "cannot be shared evenly"),
        (
            qkv() | {"k": torch.zeros(1, 2, 7, 16, dtype=torch.float16)},
            TypeError,
            "dtypes torch.float32, torch.float16",
        ),
        (qkv(mask=torch.ones(1, 1, 1, 6, dtype=torch.bool)), ValueError, "expected one that broadcasts to"),
        (qkv(d=0), ValueError, "head size d is 0"),
        (qkv(sinks=2), ValueError, "sinks"),
    ],
)
def test_what_has_no_meaning(arguments, error, message):
    with pytest.raises(error, match=message):
        attention(**arguments, backend="triton")


@pytest.mark.parametrize(
    "ends, message", [([0, 3, 2, 5], "cu_seqlens_q"), ([0, 3, 4], "cu_seqlens_q"), ([1, 3, 5], "cu_seqlens_q")]
)
def test_packed_lengths_that_are_none(ends, message):
    q = torch.zeros(5, 2, 16)
    with pytest.raises(ValueError, match=message):
        varlen_attention(q, q, q, torch.tensor(ends), torch.tensor([0, 1, 2, 5][: len(ends)]), backend="triton")


def test_the_interpreter_and_bfloat16():
    """In its own process: bfloat16 is refused where triton computes it wrongly, and float32 is not."""
    pytest.importorskip("triton", reason="the optional extra llmlab[triton] is not installed")
    code = (
        "import torch; from llmlab.attention import attention, BackendError\n"
        "q = torch.ones(1, 1, 2, 16)\n"
        "print(attention(q, q, q, backend='triton').sum().item())\n"
        "try: attention(*[q.bfloat16()] * 3, backend='triton')\n"
        "except BackendError as error: print(error)"
    )
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.startswith("32.0\n") and "triton issue 11584" in run.stdout, run.stdout


def test_the_library_is_imported_without_triton():
    """triton takes a second to import; nobody who does not use the kernels waits for it."""
    code = "import sys, llmlab.attention, llmlab.attention.triton; print('triton' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout == "False\n", run.stdout + run.stderr[-2000:]
