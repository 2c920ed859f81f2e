"""Multi-head, grouped-query and multi-query attention against torch, BERT and Llama with copied weights."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import BertConfig, LlamaConfig
from transformers.models.bert.modeling_bert import BertSelfAttention
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding, apply_rotary_pos_emb

from llmlab.attention import attention, window_mask
from llmlab.attention.cache import ContiguousCache, RollingCache
from llmlab.nn.heads import MultiHeadAttention, compute_with, merge_heads, split_heads

TOLERANCE = {torch.float32: {"rtol": 1e-4, "atol": 1e-5}, torch.bfloat16: {"rtol": 3e-2, "atol": 3e-2}}
DTYPES = pytest.mark.parametrize("dtype", list(TOLERANCE), ids=["fp32", "bf16"])


def fused(*layers):
    """Several linear layers as the state of one."""
    return {
        name: torch.cat([getattr(layer, name).data for layer in layers])
        for name in ("weight", "bias")
        if getattr(layers[0], name) is not None
    }


def assert_same(ours, theirs, inputs, parameters, dtype):
    """Outputs, and the gradients of the inputs and of pairs of parameters."""
    torch.testing.assert_close(ours, theirs, **TOLERANCE[dtype])
    g = torch.Generator().manual_seed(5)
    direction = torch.randn(ours.shape, generator=g).to(dtype)
    mine = torch.autograd.grad(ours, [inputs[0], *(p for p, _ in parameters)], direction)
    other = torch.autograd.grad(theirs, [inputs[1], *(q for _, qs in parameters for q in qs)], direction)
    scale = TOLERANCE[dtype]
    torch.testing.assert_close(mine[0], other[0], **scale)
    flat, at = list(other[1:]), 0
    for gradient, (_, qs) in zip(mine[1:], parameters):
        want = torch.cat(flat[at : at + len(qs)])
        at += len(qs)
        error = (gradient - want).float().norm() / want.float().norm()
        assert error < (2e-2 if dtype == torch.bfloat16 else 1e-4), f"relative error of a gradient {error:.2g}"


@DTYPES
@pytest.mark.parametrize("causal", [False, True])
def test_equals_torchs_module(dtype, causal):
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(24, 4, batch_first=True)
    nn.init.normal_(theirs.in_proj_bias)
    nn.init.normal_(theirs.out_proj.bias)
    theirs = theirs.to(dtype)
    ours = MultiHeadAttention(24, 4, causal=causal).to(dtype)
    ours.qkv.load_state_dict({"weight": theirs.in_proj_weight.data, "bias": theirs.in_proj_bias.data})
    ours.out.load_state_dict(theirs.out_proj.state_dict())
    x = torch.randn(2, 7, 24).to(dtype).requires_grad_()
    y = x.detach().clone().requires_grad_()
    hidden = torch.ones(7, 7, dtype=torch.bool).triu(1) if causal else None
    expected, _ = theirs(y, y, y, attn_mask=hidden, need_weights=False)
    pairs = [(ours.qkv.weight, [theirs.in_proj_weight]), (ours.out.weight, [theirs.out_proj.weight])]
    assert_same(ours(x), expected, (x, y), pairs, dtype)


@DTYPES
def test_equals_berts_self_attention_with_padding(dtype):
    torch.manual_seed(1)
    config = BertConfig(hidden_size=24, num_attention_heads=3, attention_probs_dropout_prob=0.0)
    config._attn_implementation = "eager"
    theirs = BertSelfAttention(config).to(dtype)
    ours = MultiHeadAttention(24, 3).to(dtype)
    ours.qkv.load_state_dict(fused(theirs.query, theirs.key, theirs.value))
    nn.init.eye_(ours.out.weight)  # BERT's output projection stands in another module
    nn.init.zeros_(ours.out.bias)
    x = torch.randn(2, 6, 24).to(dtype).requires_grad_()
    y = x.detach().clone().requires_grad_()
    real = (torch.arange(6) < torch.tensor([6, 4])[:, None])[:, None, None]
    expected = theirs(y, torch.zeros(real.shape).masked_fill(~real, torch.finfo(dtype).min).to(dtype))[0]
    pairs = [(ours.qkv.weight, [theirs.query.weight, theirs.key.weight, theirs.value.weight])]
    assert_same(ours(x, mask=real), expected, (x, y), pairs, dtype)


@DTYPES
@pytest.mark.parametrize("kv_heads", [6, 2, 1], ids=["MHA", "GQA", "MQA"])
def test_equals_llamas_attention(dtype, kv_heads):
    torch.manual_seed(2)
    config = LlamaConfig(
        hidden_size=36, num_attention_heads=6, num_key_value_heads=kv_heads, head_dim=8, max_position_embeddings=32
    )
    config._attn_implementation = "sdpa"
    theirs, table = LlamaAttention(config, 0).to(dtype), LlamaRotaryEmbedding(config)

    def rotate(q, k, positions):
        return apply_rotary_pos_emb(q, k, *table(q, positions[None]))

    ours = MultiHeadAttention(36, 6, kv_heads=kv_heads, head_size=8, bias=False, causal=True, rotate=rotate).to(dtype)
    ours.qkv.load_state_dict(fused(theirs.q_proj, theirs.k_proj, theirs.v_proj))
    ours.out.load_state_dict(theirs.o_proj.state_dict())
    x = torch.randn(2, 9, 36).to(dtype).requires_grad_()
    y = x.detach().clone().requires_grad_()
    expected, _ = theirs(y, table(y, torch.arange(9)[None]), None)
    pairs = [
        (ours.qkv.weight, [theirs.q_proj.weight, theirs.k_proj.weight, theirs.v_proj.weight]),
        (ours.out.weight, [theirs.o_proj.weight]),
    ]
    assert_same(ours(x), expected, (x, y), pairs, dtype)


def test_one_token_at_a_time_gives_the_whole():
    torch.manual_seed(3)

    def rotate(q, k, positions):
        angle = positions.to(q.dtype)[:, None]
        return q * angle.cos() + q.flip(-1) * angle.sin(), k * angle.cos() + k.flip(-1) * angle.sin()

    layer = MultiHeadAttention(24, 6, kv_heads=2, causal=True, rotate=rotate)
    x, cache = torch.randn(2, 11, 24), ContiguousCache()
    with torch.no_grad():
        whole = layer(x)
        parts = [layer(part, cache=cache) for part in x.split([4, 1, 1, 3, 1, 1], dim=1)]
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-4, atol=1e-5)
    assert cache.length == 11
    assert cache.view().k.shape == cache.view().v.shape == (2, 2, 11, 4), "two key heads are kept, not six"


def test_given_positions_overrule_the_count():
    seen = []

    def rotate(q, k, positions):
        seen.append(positions.tolist())
        return q, k

    layer, cache = MultiHeadAttention(8, 2, causal=True, rotate=rotate), ContiguousCache()
    with torch.no_grad():
        layer(torch.zeros(1, 3, 8), cache=cache)
        layer(torch.zeros(1, 2, 8), cache=cache)
    layer(torch.zeros(1, 2, 8), positions=torch.tensor([7, 9]))
    assert seen == [[0, 1, 2], [3, 4], [7, 9]]


def test_grouped_queries_share_consecutive_heads():
    """Written out: query heads 0 and 1 read key head 0, query heads 2 and 3 key head 1."""
    torch.manual_seed(4)
    layer = MultiHeadAttention(16, 4, kv_heads=2)
    x = torch.randn(1, 5, 16)
    q, k, v = layer.qkv(x).split([16, 8, 8], -1)
    heads = [
        attention(q[:, None, :, 4 * h : 4 * h + 4], *(t[:, None, :, 4 * g : 4 * g + 4] for t in (k, v)))[:, 0]
        for h, g in enumerate([0, 0, 1, 1])
    ]
    torch.testing.assert_close(layer(x), layer.out(torch.cat(heads, -1)))


def test_one_head_is_attention_over_the_whole_width():
    torch.manual_seed(7)
    layer, x = MultiHeadAttention(8, 1), torch.randn(2, 5, 8)
    q, k, v = layer.qkv(x)[:, None].chunk(3, -1)
    torch.testing.assert_close(layer(x), layer.out(attention(q, k, v)[:, 0]))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 4), st.integers(1, 4))
def test_merging_undoes_splitting(batch, time, heads, d):
    x = torch.randn(batch, time, heads * d)
    parts = split_heads(x, heads)
    assert parts.shape == (batch, heads, time, d)
    assert torch.equal(merge_heads(parts), x)
    for h in range(heads):
        assert torch.equal(parts[:, h], x[..., h * d : (h + 1) * d]), "a head holds consecutive features of each token"


def test_dropout_works_in_training_alone():
    torch.manual_seed(5)
    layer, x = MultiHeadAttention(16, 4, dropout=0.5), torch.randn(1, 6, 16)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: MultiHeadAttention(10, 3), "multiple of heads"),
        (lambda: MultiHeadAttention(12, 4, kv_heads=3), "divisor of heads"),
        (lambda: MultiHeadAttention(12, 4, kv_heads=0), "divisor of heads"),
        (lambda: MultiHeadAttention(12, 0), "multiple of heads"),
        (lambda: split_heads(torch.zeros(1, 9, 10), 3), "multiple of heads"),
    ],
)
def test_sizes_that_do_not_divide_are_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_a_rolling_cache_gives_attention_within_its_window():
    torch.manual_seed(6)
    layer, cache = MultiHeadAttention(24, 6, kv_heads=2, causal=True), RollingCache(4, sinks=1)
    x = torch.randn(2, 11, 24)
    with torch.no_grad():
        parts = [layer(part, cache=cache) for part in x.split([3, 1, 1, 1, 2, 1, 1, 1], dim=1)]
        expected = layer(x, mask=window_mask(11, 11, 4, causal=True, sinks=1))
        torch.testing.assert_close(torch.cat(parts, 1), expected, rtol=1e-4, atol=1e-5)
        with pytest.raises(ValueError, match="a RollingCache with a mask or without causal: expected a Contiguous"):
            layer(x[:, :1], cache=cache, mask=torch.ones(1, 1, 1, 12, dtype=torch.bool))


def test_every_text_may_have_its_own_positions():
    seen = []

    def rotate(q, k, positions):
        seen.append(positions.tolist())
        return q, k

    layer = MultiHeadAttention(8, 2, causal=True, rotate=rotate)
    layer(torch.zeros(2, 2, 8), positions=torch.tensor([[0, 1], [5, 6]]))
    assert seen == [[[0, 1], [5, 6]]]


def test_compute_with_reaches_every_layer_and_gives_it_the_whole_call():
    model = nn.Sequential(MultiHeadAttention(8, 2), nn.ModuleList([MultiHeadAttention(8, 4)]))
    x, mask = torch.randn(2, 5, 8), torch.ones(2, 1, 1, 5, dtype=torch.bool)
    expected, seen = model[0](x, mask=mask), []

    def compute(*args, **options):
        seen.append(options)
        return attention(*args, **options)

    assert compute_with(model, compute) == 2
    assert torch.equal(model[0](x, mask=mask), expected) and model[1][0](x).shape == x.shape
    assert seen[0]["mask"] is mask and seen[0]["causal"] is False and seen[0]["enable_gqa"] is True and len(seen) == 2
    with pytest.raises(ValueError, match="Linear has no MultiHeadAttention: nothing would change"):
        compute_with(nn.Linear(2, 2), compute)
