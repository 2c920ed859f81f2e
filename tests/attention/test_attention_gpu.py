"""What only a GPU can show of the backends that are torch's: flex with gradients and log-sum-exp, and what auto takes."""

from __future__ import annotations

import pytest
import torch
from attention_cases import gradients, make, options

from llmlab.attention import attention, attention_backends

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="needs a CUDA device: flex's backward is unproven without"
    ),
]


@pytest.mark.parametrize("name", ["full", "causal", "causal window sinks", "padding", "bias"])
def test_flex_with_gradients_and_lse(name):
    chosen = {
        key: x.cuda().float() if key == "mask" and x.is_floating_point() else x
        for key, x in options(name, 150, 280).items()
    }
    chosen = {key: x.cuda() if isinstance(x, torch.Tensor) else x for key, x in chosen.items()}
    q, k, v = (x.detach().float().cuda().requires_grad_() for x in make(150, 280, kv_heads=2, d=32, d_value=32))
    found, lse = attention(q, k, v, backend="flex", enable_gqa=True, return_lse=True, **chosen)
    expected, expected_lse = attention(q, k, v, backend="naive", enable_gqa=True, return_lse=True, **chosen)
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=5e-3)  # its products may be rounded to TF32
    torch.testing.assert_close(lse, expected_lse, rtol=1e-2, atol=5e-3)
    for a, b in zip(gradients(found.cpu(), (q, k, v)), gradients(expected.cpu(), (q, k, v))):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("rule", [{}, {"causal": True}, {"causal": True, "window": 100, "sinks": 4}], ids=str)
def test_what_auto_takes_is_right(rule):
    q, k, v = (torch.randn(1, 4, 1024, 64, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    (chosen,) = [row.name for row in attention_backends(q, k, v, **rule) if row.chosen]
    exact = attention(q.double(), k.double(), v.double(), backend="naive", **rule)
    errors = [(attention(q, k, v, backend=b, **rule) - exact).abs().max().item() for b in (chosen, "sdpa")]
    assert errors[0] <= 2 * errors[1] + 1e-4
