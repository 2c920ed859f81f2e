"""Decoding on a real GPU: every cache through the compiled kernel against float64. Skipped where there is none."""

from __future__ import annotations

import os

import pytest
import torch

from llmlab.attention import naive_attention
from llmlab.attention.cache import ContiguousCache, PagedCache, RollingCache, takes_kernel

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="no CUDA GPU: the compiled decoding kernel is not executed"
    ),
    pytest.mark.skipif(
        os.environ.get("TRITON_INTERPRET") == "1", reason="TRITON_INTERPRET=1: kernels are not compiled"
    ),
]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("d", [16, 64, 80, 128])
@pytest.mark.parametrize("kind", ["contiguous", "rolling", "paged"])
def test_the_last_tokens_of_a_long_text(kind, d, dtype):
    """A prompt of 3000 tokens, then one by one; at most twice the error of the definition in the same dtype."""
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(3, heads, 3008, d, generator=g).to("cuda", dtype) for heads in (8, 2, 2))
    window = {"window": 100, "sinks": 4} if kind == "rolling" else {}
    cache = {
        "contiguous": lambda: ContiguousCache(3008),
        "rolling": lambda: RollingCache(100, 4),
        "paged": lambda: PagedCache(3 * 190, 16, batch=3),
    }[kind]()
    cache.append(k[:, :, :3000], v[:, :, :3000])
    outputs = []
    for t in range(3000, 3008):
        at = slice(t, t + 1)
        cache.append(k[:, :, at], v[:, :, at])
        assert takes_kernel(q[:, :, at], k, "auto"), "auto did not take the kernel on a GPU"
        outputs.append(cache.attend(q[:, :, at]))
    found, last = torch.cat(outputs, 2), q[:, :, 3000:]
    exact, _ = naive_attention(last.double(), k.double(), v.double(), causal=True, **window)
    low, _ = naive_attention(last, k, v, causal=True, **window)
    assert (found - exact).abs().max() <= 2 * (low - exact).abs().max() + torch.finfo(dtype).eps
