"""Against implementations that are not ours: torch's kernel with torch's own masks, transformers' eager Llama attention."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from attention_cases import BACKENDS, gradients, make
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention

from llmlab.attention import attention, attention_weights

torch.set_num_threads(1)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("queries, keys", [(17, 17), (17, 40), (1, 40)])
def test_torch_causal_lower_right(backend, queries, keys):
    q, k, v = make(queries, keys)
    expected = scaled_dot_product_attention(q, k, v, attn_mask=causal_lower_right(queries, keys))
    output = attention(q, k, v, causal=True, backend=backend)
    torch.testing.assert_close(output, expected)
    if queries > 1:  # torch's lower-right bias has no gradient rule for a single query
        torch.testing.assert_close(gradients(output, (q, k, v)), gradients(expected, (q, k, v)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_torch_is_top_left_and_we_are_not(backend):
    q, k, v = make(5, 9)
    top_left = scaled_dot_product_attention(q, k, v, is_causal=True)
    assert (attention(q, k, v, causal=True, backend=backend) - top_left).abs().amax() > 0.1


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mask", ["boolean", "bias"])
def test_torch_with_a_mask_scale_and_groups(backend, mask):
    q, k, v = make(23, 31, heads=6, kv_heads=2, d_value=5)
    allowed = torch.rand(2, 1, 23, 31, generator=torch.Generator().manual_seed(4)) > 0.5
    given = allowed if mask == "boolean" else torch.randn(23, 31, dtype=torch.float64)
    expected = scaled_dot_product_attention(q, k, v, attn_mask=given, scale=0.3, enable_gqa=True)
    output = attention(q, k, v, mask=given, scale=0.3, enable_gqa=True, backend=backend)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(gradients(output, (q, k, v)), gradients(expected, (q, k, v)))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("padding", [False, True])
def test_transformers_eager_llama(backend, padding):
    from transformers.models.llama.modeling_llama import eager_attention_forward

    q, k, v = make(12, 20, heads=9, kv_heads=3, dtype=torch.float32)  # SmolLM2's heads
    positions = torch.arange(12)[:, None] + 8
    hidden = torch.arange(20)[None, :] > positions
    mask = None
    if padding:  # left padding of 5 in the second sequence; its queries all stand behind it
        mask = torch.ones(2, 1, 1, 20, dtype=torch.bool)
        mask[1, ..., :5] = False
        hidden = hidden | ~mask
    additive = torch.zeros(hidden.shape).masked_fill(hidden, torch.finfo(torch.float32).min).expand(2, 1, 12, 20)
    module = SimpleNamespace(num_key_value_groups=3, training=False)
    expected, weights = eager_attention_forward(module, q, k, v, additive, scaling=8**-0.5)
    output = attention(q, k, v, causal=True, mask=mask, enable_gqa=True, backend=backend)
    torch.testing.assert_close(output, expected.transpose(1, 2))
    torch.testing.assert_close(attention_weights(q, k, causal=True, mask=mask, enable_gqa=True), weights)
    torch.testing.assert_close(gradients(output, (q, k, v)), gradients(expected.transpose(1, 2), (q, k, v)))
