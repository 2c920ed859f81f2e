"""What only a GPU can show: that compiled kernels compute what interpreted ones do, bfloat16, and the same bits twice.

Skipped where there is none; the summary of the test run says so, and what is then unproven.
"""

from __future__ import annotations

import os

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from llmlab.attention import allowed_mask, naive_attention
from llmlab.attention.triton import triton_attention

pytest.importorskip("triton", reason="the optional extra llmlab[triton] is not installed")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU: the compiled kernels are not executed"),
    pytest.mark.skipif(
        os.environ.get("TRITON_INTERPRET") == "1", reason="TRITON_INTERPRET=1: kernels are not compiled"
    ),
]

RULES = {
    "full": {},
    "causal": {"causal": True},
    "window": {"window": 100},
    "sinks": {"causal": True, "window": 100, "sinks": 4},
}


def draw(queries, keys, d, dtype, *, batch=2, heads=4, kv_heads=2, seed=0):
    g = torch.Generator().manual_seed(seed)
    shapes = (batch, heads, queries, d), (batch, kv_heads, keys, d), (batch, kv_heads, keys, d)
    return [torch.randn(shape, generator=g).to("cuda", dtype).requires_grad_() for shape in shapes]


def results(function, q, k, v, **options):
    output, lse = function(q, k, v, **options)
    weight = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).to(output)
    return output, *torch.autograd.grad((output * weight).sum(), (q, k, v))


def errors(found, expected):
    """Largest and relative root mean square, of the output and of dq, dk, dv."""
    pairs = [(a.double(), b) for a, b in zip(found, expected, strict=True)]
    return torch.tensor([[(a - b).abs().max().item(), ((a - b).norm() / b.norm()).item()] for a, b in pairs])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("d", [16, 64, 80, 128])
@pytest.mark.parametrize("shape", [(113, 203), (1000, 1000), (1, 777), (203, 113)], ids=str)
def test_error_is_at_most_twice_torchs_own(shape, d, dtype, rule):
    """Against float64 on the same rounded inputs."""
    mask = allowed_mask(*shape, **RULES[rule], device="cuda")

    def torchs(q, k, v):
        return scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True), None

    q, k, v = draw(*shape, d, dtype)
    exact = results(naive_attention, *(x.detach().double().requires_grad_() for x in (q, k, v)), **RULES[rule])
    ours = errors(results(triton_attention, q, k, v, **RULES[rule]), exact)
    theirs = errors(results(torchs, q, k, v), exact)
    floor = torch.finfo(dtype).eps
    assert (ours <= 2 * theirs + floor).all(), f"(output, dq, dk, dv) x (largest, rms): {ours} and {theirs}"


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("d", [64, 128])
def test_the_same_bits_twice(d, dtype, rule):
    """No atomics and no order left to chance: a race inside a program would show as a difference, sooner or later."""
    q, k, v = draw(1111, 1111, d, dtype)
    first = results(triton_attention, q, k, v, **RULES[rule])
    for _ in range(5):
        for a, b in zip(first, results(triton_attention, q, k, v, **RULES[rule]), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_padding_and_packing_agree(dtype):
    """The same sequences padded to one length and laid end to end."""
    from llmlab.attention.triton import ops

    lengths = torch.tensor([300, 17, 128])
    q, k, v = (x.detach() for x in draw(300, 300, 64, dtype, batch=3))
    real = torch.arange(300) < lengths[:, None]
    output, _ = triton_attention(q, k, v, mask=real[:, None, None].cuda())
    packed = [torch.cat([x[i, :, :n].transpose(0, 1) for i, n in enumerate(lengths)]) for x in (q, k, v)]
    ends = torch.tensor([0, *lengths.cumsum(0)])
    found, _ = ops.varlen(*packed, ends, ends, 300, 300, causal=False, window=None, sinks=0, scale=64**-0.5)
    expected = torch.cat([output[i, :, :n].transpose(0, 1) for i, n in enumerate(lengths)])
    torch.testing.assert_close(found, expected)


def test_more_than_2_to_the_31_elements():
    """Offsets within a tensor need 64 bits."""
    if torch.cuda.mem_get_info()[0] < 24 << 30:
        pytest.skip("needs 24 GB of free GPU memory")
    q = torch.randn(3, 8, 1 << 20, 128, device="cuda", dtype=torch.bfloat16)
    k = q[:, :1, :256].contiguous()
    output, _ = triton_attention(q, k, k)
    expected, _ = triton_attention(q[2:, 7:, -200:].contiguous(), k[2:], k[2:])
    torch.testing.assert_close(output[2:, 7:, -200:], expected)
