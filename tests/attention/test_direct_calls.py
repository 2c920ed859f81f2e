"""The backends are public functions: called by themselves they scale by 1 / sqrt(d) as the contract does."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from llmlab.attention import naive_attention, sdpa_attention, tiled_attention


@pytest.mark.parametrize("backend", [naive_attention, sdpa_attention, tiled_attention])
def test_the_default_scale_of_a_backend_called_directly(backend):
    q, k, v = torch.randn(3, 2, 3, 7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).unbind()
    torch.testing.assert_close(backend(q, k, v)[0], scaled_dot_product_attention(q, k, v))
