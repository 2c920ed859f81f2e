"""Every norm against torch's or transformers' own: forward and backward, float32 and bfloat16; and what may not leak."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from llmlab.nn.norms import (
    DynamicTanh,
    LayerNorm,
    QKNorm,
    RMSNorm,
    SequenceBatchNorm,
    layer_norm,
    layer_norm_backward,
    rms_norm,
)

MASK = torch.arange(7) < torch.tensor([7, 4, 1])[:, None]


def made(*shape, dtype=torch.float32, seed=0):
    g = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(shape, generator=g, dtype=torch.float64) + 1).to(dtype)


def gradients(module, x, *more):
    x = x.clone().requires_grad_()
    out = module(x, *more)
    seed = made(*out.shape, dtype=out.dtype, seed=9)
    found = torch.autograd.grad(out, [x, *module.parameters()], seed)
    return out.detach(), found


def pair(ours, theirs, names=("weight", "bias")):
    for i, name in enumerate(names):
        value = made(getattr(ours, name).shape[0], seed=5 + i)
        getattr(ours, name).data.copy_(value)
        getattr(theirs, name).data.copy_(value)
    return ours, theirs


def within_one_step(a, b, steps=1.0):
    """At most ``steps`` units in the last place of bfloat16 apart (8 bits of significand)."""
    return bool(((a.float() - b.float()).abs() <= steps * 2.0**-7 * b.float().abs() + 1e-6).all())


@pytest.mark.parametrize("eps", [1e-5, 0.3])
def test_layer_norm_equals_torchs_forward_and_backward(eps):
    ours, theirs = pair(LayerNorm(12, eps), nn.LayerNorm(12, eps))
    x = made(3, 5, 12)
    (a, da), (b, db) = gradients(ours, x), gradients(theirs, x)
    assert torch.allclose(a, b, atol=1e-5)
    assert all(torch.allclose(p, q, atol=1e-4) for p, q in zip(da, db))


@pytest.mark.parametrize("eps", [1e-6, 0.3])
def test_rms_norm_equals_torchs_forward_and_backward(eps):
    ours, theirs = pair(RMSNorm(12, eps), nn.RMSNorm(12, eps), ("weight",))
    x = made(3, 5, 12)
    (a, da), (b, db) = gradients(ours, x), gradients(theirs, x)
    assert torch.allclose(a, b, atol=1e-5)
    assert all(torch.allclose(p, q, atol=1e-4) for p, q in zip(da, db))


@pytest.mark.parametrize("kind", ["llama", "t5"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rms_norm_equals_transformers(kind, dtype):
    from transformers.models.llama.modeling_llama import LlamaRMSNorm
    from transformers.models.t5.modeling_t5 import T5LayerNorm

    theirs = {"llama": LlamaRMSNorm, "t5": T5LayerNorm}[kind](16, eps=1e-6)
    ours, theirs = pair(RMSNorm(16), theirs, ("weight",))
    x = made(2, 4, 16, dtype=dtype) * 100
    (a, da), (b, db) = gradients(ours.to(dtype), x), gradients(theirs.to(dtype), x)
    assert a.dtype == b.dtype == dtype
    assert torch.equal(a, b) if dtype == torch.bfloat16 else torch.allclose(a, b, atol=1e-5)
    if dtype == torch.float32:
        assert all(torch.allclose(p, q, rtol=1e-4, atol=1e-4) for p, q in zip(da, db))
    else:
        assert all(within_one_step(p, q, 4) for p, q in zip(da, db))


def test_bfloat16_is_computed_in_float32():
    x = torch.full((1, 512), 0.25, dtype=torch.bfloat16)
    x[0, 0] = 300.0  # squares summed in bfloat16 would lose the other 511
    x[0, 1:] += torch.arange(511).bfloat16() / 64
    right = F.rms_norm(x.double(), (512,), eps=1e-6)
    assert within_one_step(rms_norm(x), right)
    right = F.layer_norm(x.double(), (512,))
    assert within_one_step(layer_norm(x), right)
    assert within_one_step(layer_norm(x), F.layer_norm(x, (512,)))
    assert rms_norm(x).dtype == layer_norm(x).dtype == torch.bfloat16


class ByHand(torch.autograd.Function):
    """LayerNorm with our backward, for gradcheck."""

    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        ctx.save_for_backward(x, weight)
        ctx.eps = eps
        return layer_norm(x, weight, bias, eps)

    @staticmethod
    def backward(ctx, grad):
        return *layer_norm_backward(grad, *ctx.saved_tensors, ctx.eps), None


@pytest.mark.parametrize("eps", [1e-5, 0.5])
def test_hand_written_backward_against_finite_differences(eps):
    x, weight, bias = (
        made(*s, dtype=torch.float64, seed=i).requires_grad_() for i, s in enumerate(((2, 3, 5), (5,), (5,)))
    )
    assert torch.autograd.gradcheck(lambda *a: ByHand.apply(*a, eps), (x, weight, bias))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_hand_written_backward_equals_torchs(dtype):
    x, grad, weight = made(4, 6, 16, dtype=dtype), made(4, 6, 16, dtype=dtype, seed=1), made(16, dtype=dtype, seed=2)
    theirs = nn.LayerNorm(16, dtype=dtype)
    theirs.weight.data.copy_(weight)
    leaf = x.clone().requires_grad_()
    want = torch.autograd.grad(theirs(leaf), [leaf, theirs.weight, theirs.bias], grad)
    for ours, right in zip(layer_norm_backward(grad, x, weight), want):
        assert ours.dtype == dtype
        scale = right.float().abs().max()
        assert (ours.float() - right.float()).abs().max() <= (1e-5 if dtype == torch.float32 else 2e-2) * scale


def test_no_gradient_points_along_the_ones_or_along_the_row():
    x, grad = made(4, 16, dtype=torch.float64), made(4, 16, dtype=torch.float64, seed=1)
    found = layer_norm_backward(grad, x, torch.ones(16, dtype=torch.float64), eps=0.0)[0]
    assert found.sum(-1).abs().max() < 1e-10
    assert (found * x).sum(-1).abs().max() < 1e-10


def test_layer_norm_forgets_shift_and_scale_and_rms_norm_forgets_scale_alone():
    x = made(3, 16, dtype=torch.float64)
    assert torch.allclose(layer_norm(5 * x + 7, eps=0), layer_norm(x, eps=0))
    assert torch.allclose(rms_norm(5 * x, eps=0), rms_norm(x, eps=0))
    assert not torch.allclose(rms_norm(x + 7, eps=0), rms_norm(x, eps=0), atol=1e-2)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_without_mask_equals_torchs(training):
    ours, theirs = pair(SequenceBatchNorm(12), nn.BatchNorm1d(12))
    for seed in range(3):  # the running statistics move alike
        x = made(3, 7, 12, seed=seed)
        ours(x), theirs(x.transpose(1, 2))
    assert torch.allclose(ours.running_mean, theirs.running_mean, atol=1e-6)
    assert torch.allclose(ours.running_var, theirs.running_var, atol=1e-5)
    ours.train(training), theirs.train(training)
    x = made(3, 7, 12, seed=7)
    (a, da), (b, db) = gradients(ours, x), gradients(lambda_module(theirs), x)
    assert torch.allclose(a, b, atol=1e-5)
    assert all(torch.allclose(p, q, atol=1e-4) for p, q in zip(da, db))


def lambda_module(norm):
    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = norm

        def forward(self, x):
            return self.norm(x.transpose(1, 2)).transpose(1, 2)

    return Turned()


def test_batch_norm_with_mask_equals_torchs_on_the_real_tokens():
    ours, theirs = pair(SequenceBatchNorm(12), nn.BatchNorm1d(12))
    x = made(3, 7, 12)
    x[~MASK] = math.nan  # whatever stands in the padding
    found, right = ours(x, MASK), theirs(x[MASK])
    assert torch.allclose(found[MASK], right, atol=1e-5)
    assert torch.equal(found[~MASK], torch.zeros_like(found[~MASK]))
    assert torch.allclose(ours.running_var, theirs.running_var, atol=1e-5)
    assert torch.allclose(ours.running_mean, theirs.running_mean, atol=1e-6)
    assert torch.allclose(ours.eval()(x, MASK)[MASK], theirs.eval()(x[MASK]), atol=1e-5)


def test_padding_moves_batch_norm_without_a_mask_and_not_with_one():
    x = made(2, 7, 12).masked_fill(~MASK[:2, :, None], 0.0)
    longer = F.pad(x, (0, 0, 0, 9))
    mask, wide = MASK[:2], F.pad(MASK[:2], (0, 9))
    norm = SequenceBatchNorm(12)
    assert torch.allclose(norm(longer, wide)[:, :7], norm(x, mask), atol=1e-5)
    assert not torch.allclose(norm(longer)[:, :7], norm(x), atol=0.1)


@pytest.mark.parametrize(
    ("norm", "leaks"),
    [(LayerNorm(12), False), (RMSNorm(12), False), (DynamicTanh(12), False), (SequenceBatchNorm(12), True)],
)
def test_who_leaks_from_another_text_and_from_a_later_token(norm, leaks):
    x = made(2, 5, 12)
    other, later = x.clone(), x.clone()
    other[1] += 1
    later[:, -1] += 1
    assert torch.equal(norm(x)[0], norm(other)[0]) != leaks
    assert torch.equal(norm(x)[:, :-1], norm(later)[:, :-1]) != leaks
    assert torch.equal(norm.eval()(x)[0], norm(other)[0])  # in use, none does


def test_qk_norm_equals_qwen3s_and_bounds_every_score():
    from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

    q, k = made(2, 4, 6, 8) * 50, made(2, 2, 9, 8, seed=1) * 50
    ours, theirs_q, theirs_k = QKNorm(8), Qwen3RMSNorm(8), Qwen3RMSNorm(8)
    scores = torch.einsum("bhqd,bgkd->bhgqk", *ours(q, k)) / 8**0.5
    assert scores.abs().max() <= 8**0.5 + 1e-4
    pair(ours.q, theirs_q, ("weight",))
    ours.k.weight.data.mul_(0.5)
    theirs_k.weight.data.mul_(0.5)
    for a, b in zip(ours(q, k), (theirs_q(q), theirs_k(k))):
        assert torch.allclose(a, b, atol=1e-5)


def test_dynamic_tanh_is_bounded_and_nearly_linear_for_small_input():
    norm = DynamicTanh(3, alpha=0.7)
    assert norm(torch.full((1, 3), 1e6)).max() == 1
    assert torch.allclose(norm(torch.full((1, 3), 1e-3)), torch.full((1, 3), 7e-4), rtol=1e-4)
    norm.weight.data.fill_(2.0)
    norm.bias.data.fill_(-1.0)
    assert norm(torch.full((1, 3), 1e6)).max() == 1
    assert norm.alpha.shape == ()


def test_bad_input_is_refused_with_a_reason():
    x = torch.zeros(2, 3, 4)
    with pytest.raises(ValueError, match="expected \\(4,\\)"):
        layer_norm(x, torch.ones(3))
    with pytest.raises(ValueError, match="bias has shape"):
        layer_norm(x, torch.ones(4), torch.ones(1))
    with pytest.raises(ValueError, match="eps=-1"):
        rms_norm(x, eps=-1.0)
    with pytest.raises(ValueError, match="grad has shape"):
        layer_norm_backward(torch.zeros(2, 4), x, torch.ones(4))
    with pytest.raises(ValueError, match="weight has shape"):
        layer_norm_backward(x, x, torch.ones(1))  # it would be stretched over all channels
    with pytest.raises(ValueError, match="torch.bool of shape \\(2, 3\\)"):
        SequenceBatchNorm(4)(x, torch.ones(2, 3))
    with pytest.raises(ValueError, match="a variance needs two"):
        SequenceBatchNorm(4)(torch.zeros(1, 1, 4))
    with pytest.raises(ValueError, match="1 real token"):
        SequenceBatchNorm(4)(x, torch.tensor([[True, False, False], [False] * 3]))
    assert SequenceBatchNorm(4).eval()(torch.zeros(1, 1, 4)).shape == (1, 1, 4)


def test_two_tokens_are_enough_for_a_variance():
    ours, theirs, x = SequenceBatchNorm(12), nn.BatchNorm1d(12), made(1, 2, 12)
    assert torch.allclose(ours(x), theirs(x[0])[None], atol=1e-5)
    assert torch.allclose(ours.running_var, theirs.running_var, atol=1e-5)
