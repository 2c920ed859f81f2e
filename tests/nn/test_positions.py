"""Added positions and ALiBi against strangers: BERT, GPT-2, BLOOM and MPT of transformers, and their own definitions."""

import math

import pytest
import torch
from transformers import BertConfig, BertModel, BloomConfig, GPT2Config, GPT2Model, MptConfig
from transformers.models.bloom.modeling_bloom import BloomAttention, build_alibi_tensor
from transformers.models.mpt.modeling_mpt import MptAttention, build_mpt_alibi_tensor

from llmlab.attention import attention
from llmlab.nn.positions import LearnedPositions, SinusoidalPositions, alibi_bias, alibi_slopes, sinusoidal_positions

BOTH = [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)]


def test_the_sinusoid_is_the_papers_formula():
    codes = sinusoidal_positions(50, 6)
    for p in (0, 1, 7, 49):
        for i in range(3):
            angle = p / 10_000 ** (2 * i / 6)
            assert codes[p, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert codes[p, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_a_shift_of_the_sinusoid_is_one_rotation_wherever_it_starts():
    codes = sinusoidal_positions(100, 8).double().view(100, 4, 2)
    angle = 13 * 10_000 ** (-torch.arange(0, 8, 2).double() / 8)
    sin, cos = angle.sin(), angle.cos()
    moved = torch.stack([codes[..., 0] * cos + codes[..., 1] * sin, codes[..., 1] * cos - codes[..., 0] * sin], dim=-1)
    torch.testing.assert_close(moved[:-13], codes[13:], atol=1e-6, rtol=0)


def test_far_positions_keep_their_precision():
    far = sinusoidal_positions(3, 8, offset=5_000_000)
    exact = [
        [f(p / 10_000 ** (2 * i / 8)) for i in range(4) for f in (math.sin, math.cos)]
        for p in range(5_000_000, 5_000_003)
    ]
    torch.testing.assert_close(far, torch.tensor(exact), atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_token_of_every_text_gets_the_code_of_its_place(dtype):
    add = SinusoidalPositions(8)
    x = torch.randn(3, 5, 8).to(dtype)
    got = add(x)
    assert got.dtype == dtype
    expected = x + sinusoidal_positions(5, 8).to(dtype)
    assert torch.equal(got, expected)
    assert len({tuple(row) for row in add(torch.zeros(1, 5, 8))[0].tolist()}) == 5, "a batch of one has five places"
    assert torch.equal(add(torch.zeros(1, 2, 8), offset=3), add(torch.zeros(1, 5, 8))[:, 3:])


def test_one_pair_and_any_base_above_zero_will_do():
    angle = torch.arange(4.0)
    torch.testing.assert_close(sinusoidal_positions(4, 2), torch.stack([angle.sin(), angle.cos()], -1))
    codes = sinusoidal_positions(4, 6, base=0.5)  # the later pairs turn faster
    torch.testing.assert_close(codes[:, 5], (angle * 0.5 ** (-4 / 6)).cos())
    codes = sinusoidal_positions(4, 6, base=1.0)  # all alike
    torch.testing.assert_close(codes, codes[:, :2].repeat(1, 3))


@pytest.mark.parametrize("options", [{"offset": -1}, {"base": 0.0}, {"base": -2.0}])
def test_an_offset_or_a_base_without_meaning_is_refused(options):
    with pytest.raises(ValueError, match="expected 0 or more, and a base above 0"):
        sinusoidal_positions(3, 8, **options)
    if "base" in options:
        with pytest.raises(ValueError, match="a base above 0"):
            SinusoidalPositions(8, **options)


def test_on_mps_which_has_no_float64_the_angles_are_computed_in_float32():
    """No such device is needed: what is asked for on it is made on the CPU, and the dtype asked for is kept."""
    seen = []

    class OnTheCpu(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            kwargs = dict(kwargs or {})
            if "device" in kwargs:
                seen.append((kwargs["device"], kwargs["dtype"]))
                kwargs["device"] = "cpu"
            return function(*args, **kwargs)

    for device, exact in (("mps", torch.float32), ("cpu", torch.float64)):
        with OnTheCpu():
            codes = sinusoidal_positions(3, 8, device=device)
        assert set(seen) == {(device, exact)}
        torch.testing.assert_close(codes, sinusoidal_positions(3, 8))
        seen.clear()


@pytest.mark.parametrize(("d", "length"), [(7, 3), (0, 3), (8, -1)])
def test_sizes_without_meaning_are_refused(d, length):
    with pytest.raises(ValueError, match="expected"):
        sinusoidal_positions(length, d)
    if d != 8:
        with pytest.raises(ValueError, match="even number"):
            SinusoidalPositions(d)


@pytest.mark.parametrize(("dtype", "atol"), BOTH)
def test_learned_positions_are_berts(dtype, atol):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=30,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=12,
    )
    theirs = BertModel(config).embeddings.eval().to(dtype)
    ours = LearnedPositions(12, 16).to(dtype)
    ours.load_state_dict({"table": theirs.position_embeddings.weight})
    words = torch.randn(2, 7, 16).to(dtype).requires_grad_()
    kinds = theirs.token_type_embeddings.weight[0]
    expected = theirs(inputs_embeds=words)
    found = theirs.LayerNorm(ours(words + kinds))
    torch.testing.assert_close(found, expected, atol=atol, rtol=atol)
    weight = torch.randn_like(found)
    (expected_grad,) = torch.autograd.grad((expected * weight).sum(), theirs.position_embeddings.weight)
    (found_grad,) = torch.autograd.grad((found * weight).sum(), ours.table)
    torch.testing.assert_close(found_grad, expected_grad, atol=10 * atol, rtol=10 * atol)
    assert (found_grad[7:] == 0).all(), "positions that no text reached learn nothing"


def test_learned_positions_are_gpt2s_also_after_a_cache():
    torch.manual_seed(0)
    theirs = GPT2Model(GPT2Config(vocab_size=30, n_positions=12, n_embd=16, n_layer=0, n_head=2)).eval()
    ours = LearnedPositions(12, 16)
    ours.load_state_dict({"table": theirs.wpe.weight})
    ids = torch.randint(30, (2, 5))
    for offset in (0, 7):
        expected = theirs(ids, position_ids=torch.arange(offset, offset + 5)[None]).last_hidden_state
        torch.testing.assert_close(theirs.ln_f(ours(theirs.wte(ids), offset)), expected)
    places = torch.tensor([[0, 0, 1, 2, 3], [7, 8, 9, 10, 11]])
    expected = theirs(ids, position_ids=places).last_hidden_state
    torch.testing.assert_close(theirs.ln_f(ours(theirs.wte(ids), positions=places)), expected)


def test_there_is_no_learned_position_beyond_the_table():
    add = LearnedPositions(4, 6)
    with pytest.raises(ValueError, match="positions 0 to 4, but the table has 0 to 3"):
        add(torch.zeros(1, 5, 6))
    with pytest.raises(ValueError, match="positions 3 to 4"):
        add(torch.zeros(1, 2, 6), offset=3)
    with pytest.raises(ValueError, match=r"expected \(batch, time, 6\)"):
        add(torch.zeros(2, 3, 5))
    with pytest.raises(ValueError, match="positions -1 to 0"):
        add(torch.zeros(1, 2, 6), offset=-1)
    for add in (LearnedPositions(4, 6), SinusoidalPositions(6)):
        with pytest.raises(ValueError, match=r"shape \(3, 6\): expected \(batch, time, 6\)"):
            add(torch.zeros(3, 6))
    with pytest.raises(ValueError, match="max_length=0"):
        LearnedPositions(0, 4)
    with pytest.raises(ValueError, match="d=0"):
        LearnedPositions(4, 0)
    assert LearnedPositions(1, 1)(torch.zeros(1, 1, 1)).shape == (1, 1, 1), "the smallest table there is"


def test_learned_positions_start_with_the_spread_asked_for():
    torch.manual_seed(0)
    for std, add in ((0.02, LearnedPositions(200, 100)), (0.5, LearnedPositions(200, 100, std=0.5))):
        assert add.table.std().item() == pytest.approx(std, rel=0.03)  # 20,000 numbers: six standard errors


@pytest.mark.parametrize("heads", [1, 2, 3, 6, 8, 9, 12, 16, 20, 71])
def test_slopes_are_blooms_and_mpts(heads):
    mask = torch.ones(1, 2, dtype=torch.long)
    bloom = build_alibi_tensor(mask, heads, torch.float32)[:, 0, 1]
    mpt = -build_mpt_alibi_tensor(heads, 2)[:, 0, 0]
    torch.testing.assert_close(alibi_slopes(heads), bloom)
    torch.testing.assert_close(alibi_slopes(heads), mpt)


def test_the_bias_falls_with_the_distance_and_stands_at_the_bottom_right():
    bias = alibi_bias(2, 3, 5)
    slopes = torch.tensor([2**-4.0, 2**-8.0])
    assert torch.equal(bias[:, 2], -slopes[:, None] * torch.tensor([4, 3, 2, 1, 0]))
    assert torch.equal(bias[:, 0], -slopes[:, None] * torch.tensor([2, 1, 0, 1, 2]))
    assert alibi_bias(2, 4, 2).shape == (2, 4, 2)
    with pytest.raises(ValueError, match="heads=0"):
        alibi_slopes(0)


@pytest.mark.parametrize("heads", [4, 6])
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-5), (torch.bfloat16, 4e-2)])
def test_attention_with_alibi_is_blooms(heads, dtype, atol):
    torch.manual_seed(0)
    d, time = 8 * heads, 9
    theirs = (
        BloomAttention(BloomConfig(hidden_size=d, n_head=heads, hidden_dropout=0.0, attention_dropout=0.0), layer_idx=0)
        .eval()
        .to(dtype)
    )
    x = torch.randn(2, time, d).to(dtype).requires_grad_()
    alibi = build_alibi_tensor(torch.ones(2, time, dtype=torch.long), heads, dtype)
    future = torch.full((time, time), torch.finfo(dtype).min, dtype=dtype).triu(1).expand(2, 1, time, time)
    expected = theirs(x, residual=torch.zeros_like(x), alibi=alibi, attention_mask=future)[0]
    fused = theirs.query_key_value(x).view(2, time, heads, 3, 8)
    q, k, v = (fused[..., i, :].transpose(1, 2) for i in range(3))
    mixed = attention(q, k, v, causal=True, mask=alibi_bias(heads, time, time))
    found = theirs.dense(mixed.transpose(1, 2).flatten(2))
    torch.testing.assert_close(found, expected, atol=atol, rtol=atol)
    weight = torch.randn_like(found)
    grads = [torch.autograd.grad((out * weight).sum(), x, retain_graph=True)[0] for out in (found, expected)]
    torch.testing.assert_close(*grads, atol=4 * atol, rtol=4 * atol)


def test_attention_with_alibi_is_mpts():
    torch.manual_seed(0)
    heads, time = 6, 9
    theirs = MptAttention(MptConfig(d_model=48, n_heads=heads, max_seq_len=time), layer_idx=0).eval()
    x = torch.randn(2, time, 48)
    future = torch.ones(time, time, dtype=torch.bool).triu(1)[None, None]
    expected = theirs(x, position_bias=build_mpt_alibi_tensor(heads, time), attention_mask=future)[0]
    q, k, v = (t.unflatten(-1, (heads, 8)).transpose(1, 2) for t in theirs.Wqkv(x).chunk(3, dim=-1))
    mixed = attention(q, k, v, causal=True, mask=alibi_bias(heads, time, time))
    torch.testing.assert_close(theirs.out_proj(mixed.transpose(1, 2).flatten(2)), expected, atol=1e-5, rtol=1e-5)
