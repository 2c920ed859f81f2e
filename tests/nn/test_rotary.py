"""RoPE and its scalings against strangers: Llama, GPT-J and the scaling table of transformers; and its own algebra."""

import math

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.gptj.modeling_gptj import apply_rotary_pos_emb as gptj_rope
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb as llama_rope

from llmlab.models.hooks import capture_attention
from llmlab.nn.rotary import (
    apply_rope,
    llama3_frequencies,
    ntk_frequencies,
    rope_frequencies,
    rope_tables,
    yarn_attention_factor,
    yarn_frequencies,
)


def llama(**rope):
    rope = {"rope_type": "default", "rope_theta": 10_000.0, **rope}
    return LlamaConfig(
        vocab_size=40,
        hidden_size=64,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        rope_parameters=rope,
    )


def published(kind, **rope):
    """transformers' frequencies and factor on the tables for a head of 16 trained on 64 tokens."""
    seen = rope.pop("seen", None)
    return ROPE_INIT_FUNCTIONS[kind](llama(rope_type=kind, **rope), "cpu", seq_len=seen)


@pytest.mark.parametrize("base", [10_000.0, 500_000.0])
def test_plain_and_interpolated_frequencies_are_transformers(base):
    theirs, _ = published("linear", factor=4.0, rope_theta=base)
    torch.testing.assert_close(rope_frequencies(16, base) / 4, theirs)
    assert rope_frequencies(16, base)[0] == 1
    assert rope_frequencies(16, base)[-1].item() == pytest.approx(base ** (-14 / 16))


@pytest.mark.parametrize(("d", "base"), [(64, 10_000.0), (128, 500_000.0)])
def test_frequencies_are_exact_to_the_last_bit_of_float32(d, base):
    """The position multiplies what is rounded here."""
    assert rope_frequencies(d, base).tolist() == torch.tensor([base ** (-2 * i / d) for i in range(d // 2)]).tolist()


@pytest.mark.parametrize(("seen", "s"), [(64, 2.0), (256, 1.0), (256, 2.0)])
def test_dynamic_ntk_is_transformers(seen, s):
    theirs, _ = published("dynamic", factor=s, seen=seen)
    torch.testing.assert_close(ntk_frequencies(16, 10_000.0, s * seen / 64 - (s - 1)), theirs)


def test_ntk_slows_the_slowest_pair_by_the_factor_and_leaves_the_fastest():
    ratio = rope_frequencies(16) / ntk_frequencies(16, 10_000.0, 8)
    assert ratio[0] == 1
    assert ratio[-1].item() == pytest.approx(8, rel=1e-4)
    assert (ratio.diff() > 0).all()


@pytest.mark.parametrize("factor", [1.0, 4.0, 16.0])
@pytest.mark.parametrize(
    ("base", "trained"), [(10_000.0, 64), (500_000.0, 8192), (10_000.0, 4096), (50.0, 4096), (10_000.0, 6), (5.0, 300)]
)
def test_yarn_is_transformers(base, trained, factor):
    theirs, scale = published("yarn", factor=factor, rope_theta=base, original_max_position_embeddings=trained)
    torch.testing.assert_close(yarn_frequencies(16, base, factor, trained), theirs)
    assert yarn_attention_factor(factor) == pytest.approx(scale)


@pytest.mark.parametrize(("base", "trained"), [(10_000.0, 64), (500_000.0, 8192)])
def test_llama3_is_transformers(base, trained):
    theirs, scale = published(
        "llama3",
        factor=8.0,
        rope_theta=base,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=trained,
    )
    torch.testing.assert_close(llama3_frequencies(16, base, 8.0, trained), theirs)
    assert scale == 1


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
def test_half_layout_is_llamas_forward_and_backward(dtype, atol):
    torch.manual_seed(0)
    q, k = torch.randn(2, 4, 9, 16), torch.randn(2, 2, 9, 16)
    q, k = q.to(dtype).requires_grad_(), k.to(dtype).requires_grad_()
    cos, sin = LlamaRotaryEmbedding(llama())(q, torch.arange(9)[None])
    expected = llama_rope(q, k, cos, sin)
    tables = rope_tables(torch.arange(9), rope_frequencies(16))
    found = apply_rope(q, *tables), apply_rope(k, *tables)
    for one, other in zip(found, expected):
        assert one.dtype == dtype
        torch.testing.assert_close(one, other, atol=atol, rtol=atol)
    weights = [torch.randn_like(x) for x in found]
    ours, theirs = (
        torch.autograd.grad(sum((x * w).sum() for x, w in zip(out, weights)), (q, k)) for out in (found, expected)
    )
    for one, other in zip(ours, theirs):
        torch.testing.assert_close(one, other, atol=atol, rtol=atol)


def test_interleaved_layout_is_gptjs_forward_and_backward():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 7, 16, requires_grad=True)
    cos, sin = rope_tables(torch.arange(7), rope_frequencies(16))
    # GPT-J keeps (batch, time, heads, d)
    expected = gptj_rope(x.transpose(1, 2), sin[None], cos[None]).transpose(1, 2)
    found = apply_rope(x, cos, sin, layout="interleaved")
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(found)
    torch.testing.assert_close(
        *(torch.autograd.grad((o * weight).sum(), x, retain_graph=True)[0] for o in (found, expected))
    )


def test_the_layouts_are_one_rotation_of_reordered_numbers():
    torch.manual_seed(0)
    x = torch.randn(1, 2, 5, 8)
    tables = rope_tables(torch.arange(5), rope_frequencies(8))
    order = torch.arange(8).view(2, 4).T.flatten()  # 0 4 1 5 2 6 3 7: pairs brought side by side
    half, interleaved = apply_rope(x, *tables), apply_rope(x[..., order], *tables, layout="interleaved")
    torch.testing.assert_close(interleaved, half[..., order])
    assert not torch.allclose(apply_rope(x, *tables, layout="interleaved"), half, atol=0.1)


@pytest.mark.parametrize("layout", ["half", "interleaved"])
def test_scores_know_the_distance_alone_and_lengths_stay(layout):
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 1, 1, 16, dtype=torch.float64).expand(2, 1, 1, 40, 16)
    frequencies = rope_frequencies(16)
    scores = []
    for start in (0, 1000):
        cos, sin = (t.double() for t in rope_tables(torch.arange(start, start + 40), frequencies))
        turned = [apply_rope(x, cos, sin, layout) for x in (q, k)]
        torch.testing.assert_close(turned[0].norm(dim=-1), q.norm(dim=-1), rtol=1e-5, atol=0)
        scores.append(turned[0] @ turned[1].mT)
    torch.testing.assert_close(scores[0], scores[1], atol=2e-3, rtol=0)
    for distance in (-3, 0, 5):
        along = scores[0].diagonal(distance, -2, -1)
        torch.testing.assert_close(along, along[..., :1].expand_as(along), atol=1e-4, rtol=0)
    assert scores[0].diagonal(5, -2, -1)[0, 0, 0] != pytest.approx(
        scores[0].diagonal(-5, -2, -1)[0, 0, 0].item(), abs=1e-3
    )


def test_it_is_a_complex_product_and_turns_back():
    torch.manual_seed(0)
    x = torch.randn(1, 1, 6, 8)
    cos, sin = rope_tables(torch.arange(6), rope_frequencies(8))
    turned = torch.view_as_complex(x.view(1, 1, 6, 4, 2)) * torch.complex(cos, sin)
    found = apply_rope(x, cos, sin, layout="interleaved")
    torch.testing.assert_close(found, torch.view_as_real(turned).flatten(-2))
    torch.testing.assert_close(apply_rope(found, cos, -sin, layout="interleaved"), x)


def test_partial_rotation_leaves_the_rest_as_it_is():
    x = torch.randn(1, 1, 4, 16)
    tables = rope_tables(torch.arange(4), rope_frequencies(8))
    found = apply_rope(x, *tables)
    assert torch.equal(found[..., 8:], x[..., 8:])
    torch.testing.assert_close(found[..., :8], apply_rope(x[..., :8], *tables))


def test_texts_may_start_at_different_positions():
    x = torch.randn(2, 3, 4, 8)
    frequencies = rope_frequencies(8)
    together = apply_rope(
        x, *(t[:, None] for t in rope_tables(torch.tensor([[0, 1, 2, 3], [5, 6, 7, 8]]), frequencies))
    )
    alone = apply_rope(x[1:], *rope_tables(torch.arange(5, 9), frequencies))
    torch.testing.assert_close(together[1:], alone)


def test_a_llama_rotates_its_queries_as_we_do():
    torch.manual_seed(0)
    model = LlamaForCausalLM(llama(rope_theta=500.0)).eval()
    calls = capture_attention(model, torch.arange(11)[None])
    tables = rope_tables(torch.arange(11), rope_frequencies(16, 500.0))
    for call, layer in zip(calls, model.model.layers):
        with torch.no_grad():
            q = layer.self_attn.q_proj(call.x).view(1, 11, 4, 16).transpose(1, 2)
            k = layer.self_attn.k_proj(call.x).view(1, 11, 2, 16).transpose(1, 2)
        torch.testing.assert_close(apply_rope(q, *tables), call.q)
        torch.testing.assert_close(apply_rope(k, *tables), call.k)


def test_bfloat16_positions_are_refused_because_they_coincide():
    assert torch.tensor(256.0).bfloat16() == torch.tensor(257.0).bfloat16()
    with pytest.raises(TypeError, match="positions are torch.bfloat16"):
        rope_tables(torch.arange(4).bfloat16(), rope_frequencies(8))
    with pytest.raises(TypeError, match="frequencies are torch.float16"):
        rope_tables(torch.arange(4), rope_frequencies(8).half())


def test_the_smallest_heads_and_any_base_above_zero_will_do():
    assert rope_frequencies(2).tolist() == [1.0]
    assert rope_frequencies(6, 1.0).tolist() == [1.0, 1.0, 1.0]
    assert rope_frequencies(4, 0.25).tolist() == [1.0, 2.0]
    assert ntk_frequencies(4, 10_000.0, 4.0).tolist() == pytest.approx([1.0, 0.01 / 4])


def test_what_has_no_meaning_is_refused():
    x, (cos, sin) = torch.zeros(1, 1, 4, 8), rope_tables(torch.arange(4), rope_frequencies(8))
    for d in (7, 0):
        with pytest.raises(ValueError, match=f"d={d}"):
            rope_frequencies(d)
    for base in (0, -1):
        with pytest.raises(ValueError, match=f"base={base}"):
            rope_frequencies(8, base)
    with pytest.raises(ValueError, match="factor=0.5"):
        ntk_frequencies(8, 1e4, 0.5)
    for scaled in (
        lambda: yarn_frequencies(8, 1e4, 0.5, 64),
        lambda: llama3_frequencies(8, 1e4, 0.5, 64),
        lambda: yarn_attention_factor(0.5),
        lambda: yarn_attention_factor(math.nan),
    ):
        with pytest.raises(ValueError, match="expected 1 or more, the new length"):
            scaled()
    with pytest.raises(ValueError, match="d=2"):
        ntk_frequencies(2, 1e4, 2)
    with pytest.raises(ValueError, match="low_turns"):
        llama3_frequencies(8, 1e4, 2, 64, low_turns=4, high_turns=4)
    with pytest.raises(ValueError, match="at most 4 pairs"):
        apply_rope(x, torch.zeros(4, 8), torch.zeros(4, 8))
    with pytest.raises(ValueError, match="tables of 4 positions"):
        apply_rope(x, cos[:3], sin[:3])
    for short in (sin[:, :2], sin[:1]):  # the second would be taken for every position
        with pytest.raises(ValueError, match="tables of 4 positions"):
            apply_rope(x, cos, short)
    with pytest.raises(ValueError, match="layout='split'"):
        apply_rope(x, cos, sin, layout="split")
    assert math.isclose(yarn_attention_factor(1), 1)
