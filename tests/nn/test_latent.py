"""Latent attention against DeepSeek-V2's and V3's in transformers, and its absorbed form against itself."""

import pytest
import torch
from transformers import DeepseekV2Config, DeepseekV3Config
from transformers.models.deepseek_v2 import modeling_deepseek_v2 as v2
from transformers.models.deepseek_v3 import modeling_deepseek_v3 as v3

from llmlab.attention.cache import ContiguousCache
from llmlab.nn.latent import LatentAttention

SIZES = {
    "hidden_size": 40,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "kv_lora_rank": 12,
    "qk_nope_head_dim": 6,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "max_position_embeddings": 32,
}


def pair(version, q_rank, dtype):
    """DeepSeek's layer, ours with its weights, and the position embeddings that theirs takes."""
    torch.manual_seed(0)
    if version == 2:
        config = DeepseekV2Config(**SIZES, q_lora_rank=q_rank, head_dim=4)
        config._attn_implementation = "eager"
        theirs, table = v2.DeepseekV2Attention(config, 0).to(dtype), v2.DeepseekV2RotaryEmbedding(config)

        def rotate(q, k, positions):
            return v2.apply_rotary_emb(q, k, table(q, positions[None]))
    else:
        config = DeepseekV3Config(**SIZES, q_lora_rank=q_rank)
        config._attn_implementation = "eager"
        theirs, table = v3.DeepseekV3Attention(config, 0).to(dtype), v3.DeepseekV3RotaryEmbedding(config)

        def rotate(q, k, positions):
            return v3.apply_rotary_pos_emb_interleave(q, k, *table(q, positions[None]))

    ours = LatentAttention(40, 4, rank=12, plain_size=6, rope_size=4, value_size=8, q_rank=q_rank, rotate=rotate).to(
        dtype
    )
    with torch.no_grad():
        for norm in (theirs.kv_a_layernorm, theirs.q_a_layernorm):
            if norm is not None:
                norm.weight.uniform_(0.5, 1.5)
    names = {"down_kv": "kv_a_proj_with_mqa", "norm_kv": "kv_a_layernorm", "up_kv": "kv_b_proj", "out": "o_proj"}
    names |= (
        {"up_q": "q_proj"}
        if q_rank is None
        else {"down_q.0": "q_a_proj", "down_q.1": "q_a_layernorm", "up_q": "q_b_proj"}
    )
    for mine, other in names.items():
        ours.get_submodule(mine).load_state_dict(theirs.get_submodule(other).state_dict())
    return ours, theirs, table, names


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("absorbed", [False, True], ids=["expanded", "absorbed"])
@pytest.mark.parametrize(("version", "q_rank"), [(2, None), (2, 16), (3, 16)])
def test_equals_deepseeks_attention(version, q_rank, absorbed, dtype):
    ours, theirs, table, names = pair(version, q_rank, dtype)
    x = torch.randn(2, 7, 40).to(dtype).requires_grad_()
    y = x.detach().clone().requires_grad_()
    hidden = torch.full((7, 7), torch.finfo(dtype).min, dtype=dtype).triu(1)[None, None]
    expected = theirs(hidden_states=y, position_embeddings=table(y, torch.arange(7)[None]), attention_mask=hidden)[0]
    found = ours(x, absorbed=absorbed)
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 4e-2, "atol": 4e-2}
    torch.testing.assert_close(found, expected, **tolerance)
    direction = torch.randn(found.shape).to(dtype)
    mine = torch.autograd.grad(found, [x, *(ours.get_submodule(n).weight for n in names)], direction)
    other = torch.autograd.grad(expected, [y, *(theirs.get_submodule(n).weight for n in names.values())], direction)
    for a, b in zip(mine, other):
        assert (a - b).float().norm() / b.float().norm() < (3e-2 if dtype == torch.bfloat16 else 1e-4)


@pytest.mark.parametrize("absorbed", [False, True])
def test_one_token_at_a_time_gives_the_whole(absorbed):
    ours, *_ = pair(2, 16, torch.float32)
    x, cache = torch.randn(2, 8, 40), ContiguousCache()
    with torch.no_grad():
        whole = ours(x)
        parts = [ours(part, cache=cache, absorbed=absorbed) for part in x.split([3, 1, 2, 1, 1], dim=1)]
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-4, atol=1e-5)
    latent, k_rope, _ = cache.view()
    assert latent.shape == (2, 1, 8, 12), "one latent a token, whatever the heads"
    assert k_rope.shape == (2, 1, 8, 4)


def test_without_rope_and_with_a_mask():
    torch.manual_seed(1)
    layer = LatentAttention(12, 3, rank=5, plain_size=4, rope_size=0, value_size=2)
    x = torch.randn(2, 6, 12)
    mask = (torch.arange(6) < torch.tensor([6, 3])[:, None])[:, None, None]
    torch.testing.assert_close(layer(x, mask=mask, absorbed=True), layer(x, mask=mask))
    changed = x.clone()
    changed[1, 1] += 1
    assert not torch.allclose(layer(changed, mask=mask)[1, 2], layer(x, mask=mask)[1, 2])
    changed = x.clone()
    changed[:, 4] += 1
    assert torch.equal(layer(changed)[:, :4], layer(x)[:, :4]), "the future must not be seen"


def test_absorbing_changes_nothing_for_heads_of_the_smallest_sizes_either():
    torch.manual_seed(1)
    layer = LatentAttention(6, 2, rank=3, plain_size=1, rope_size=0, value_size=1)
    x = torch.randn(2, 5, 6)
    torch.testing.assert_close(layer(x, absorbed=True), layer(x))


@pytest.mark.parametrize("absorbed", [False, True])
def test_one_new_token_keeps_to_its_mask(absorbed):
    """The newest token of a padded text, after a cache: the short cut for one query must not forget the mask."""
    ours, *_ = pair(2, None, torch.float32)
    x, cache = torch.randn(2, 6, 40), ContiguousCache()
    mask = (torch.arange(6) >= torch.tensor([0, 2])[:, None])[:, None, None]  # padded on the left
    with torch.no_grad():
        whole = ours(x, mask=mask)
        ours(x[:, :5], cache=cache)
        last = ours(x[:, 5:], mask=mask, cache=cache, absorbed=absorbed)
    torch.testing.assert_close(last, whole[:, 5:], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(whole[1, 5], ours(x)[1, 5], atol=1e-3), "the mask says something"


def test_given_positions_overrule_the_count():
    seen = []

    def rotate(q, k, positions):
        seen.append(positions.tolist())
        return q, k

    layer = LatentAttention(8, 2, rank=3, plain_size=2, rope_size=2, value_size=2, rotate=rotate)
    cache = ContiguousCache()
    with torch.no_grad():
        layer(torch.zeros(1, 3, 8), cache=cache)
        layer(torch.zeros(1, 2, 8), cache=cache)
    layer(torch.zeros(1, 2, 8), positions=torch.tensor([7, 9]))
    layer(torch.zeros(1, 2, 8))
    assert seen == [[0, 1, 2], [3, 4], [7, 9], [0, 1]]


@pytest.mark.parametrize(("options", "made"), [({}, 1), ({"absorbed": False}, 1), ({"absorbed": True}, 0)])
def test_keys_and_values_are_made_unless_absorbed(options, made):
    """The results are the same either way; what absorbing saves is the product that makes keys and values."""
    layer, calls = LatentAttention(8, 2, rank=3, plain_size=2, rope_size=0, value_size=2), []
    layer.up_kv.register_forward_hook(lambda *_: calls.append(1))
    layer(torch.zeros(1, 3, 8), **options)
    assert len(calls) == made


@pytest.mark.parametrize("version", [2, 3])
def test_small_numbers_meet_the_same_eps_as_deepseeks(version):
    """A latent of size 1e-3 has a mean square of 1e-6: as large as the eps of both norms."""
    ours, theirs, table, _ = pair(version, 16, torch.float32)
    x = torch.randn(1, 4, 40) * 1e-3
    hidden = torch.full((4, 4), torch.finfo(torch.float32).min).triu(1)[None, None]
    expected = theirs(hidden_states=x, position_embeddings=table(x, torch.arange(4)[None]), attention_mask=hidden)[0]
    torch.testing.assert_close(ours(x), expected, rtol=1e-3, atol=1e-6)
    queries, theirs_queries = ours.up_q(ours.down_q(x)), theirs.q_b_proj(theirs.q_a_layernorm(theirs.q_a_proj(x)))
    torch.testing.assert_close(queries, theirs_queries, rtol=1e-3, atol=1e-6)


SMALLEST = {"d": 1, "heads": 1, "rank": 1, "plain_size": 1, "rope_size": 0, "value_size": 1}


@pytest.mark.parametrize("name", ["d", "heads", "rank", "plain_size", "value_size", "q_rank"])
def test_sizes_must_be_positive(name):
    assert LatentAttention(**SMALLEST, q_rank=1)(torch.zeros(1, 2, 1)).shape == (1, 2, 1)
    with pytest.raises(ValueError, match=f"'{name}': 0.*expected 1 or more"):
        LatentAttention(**SMALLEST | {name: 0})


def test_rope_features_are_not_fewer_than_none():
    with pytest.raises(ValueError, match="rope_size=-1: expected 0"):
        LatentAttention(**SMALLEST | {"rope_size": -1})
