"""The kernels against the row-by-row oracle, in triton's interpreter and under the sanitizer.

Run by ``test_triton_interpreted.py`` in a process of its own, since ``TRITON_INTERPRET=1`` has to be set before triton is
imported. By hand: TRITON_INTERPRET=1 pytest tests/attention/triton/interpreted_kernels.py
"""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from llmlab.attention import allowed_mask, naive_attention
from llmlab.attention.triton import configs, ops, triton_attention

torch.set_num_threads(1)
assert ops.INTERPRETED, "run with TRITON_INTERPRET=1"

NAMES = ["output", "lse", "dq", "dk", "dv"]


def draw(
    queries: int, keys: int, *, batch=1, heads=2, kv_heads=1, d=16, d_value=None, dtype=torch.float32, seed=0
) -> tuple[Tensor, Tensor, Tensor]:
    """Random q, k, v that want gradients."""
    g = torch.Generator().manual_seed(seed)
    d_value = d if d_value is None else d_value
    shapes = (batch, heads, queries, d), (batch, kv_heads, keys, d), (batch, kv_heads, keys, d_value)
    return tuple(torch.randn(shape, generator=g).to(dtype).requires_grad_() for shape in shapes)


def results(function, q: Tensor, k: Tensor, v: Tensor, *, with_lse: bool = True, **options) -> list[Tensor]:
    """Output, lse and the gradients of one random weighted sum of both."""
    output, lse = function(q, k, v, **options)
    g = torch.Generator().manual_seed(1)
    loss = (output.double() * torch.randn(output.shape, generator=g, dtype=torch.float64)).sum()
    if with_lse:
        weight = torch.randn(lse.shape, generator=g, dtype=torch.float64)
        loss = loss + (lse.double() * weight)[lse > -torch.inf].sum()
    grads = torch.autograd.grad(loss, (q, k, v), allow_unused=True)
    return [output, lse, *(torch.zeros_like(x) if grad is None else grad for x, grad in zip((q, k, v), grads))]


def exact(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(x.detach().double().requires_grad_() for x in tensors)


def check(q: Tensor, k: Tensor, v: Tensor, tolerance: float = 1e-5, **options) -> None:
    """The kernels in float32 against the definition in float64."""
    found = results(triton_attention, q, k, v, **options)
    expected = results(naive_attention, *exact(q, k, v), **options)
    dark = expected[1] == -torch.inf
    assert torch.equal(found[1] == -torch.inf, dark), "other rows are without a key"
    found[1], expected[1] = found[1][~dark], expected[1][~dark]
    for name, a, b in zip(NAMES, found, expected, strict=True):
        assert a.shape == b.shape, f"{name}: {tuple(a.shape)} is not {tuple(b.shape)}"
        assert torch.isfinite(a).all(), f"{name} is not finite"
        error = (a - b).abs().max().item() if a.numel() else 0.0
        assert error <= tolerance * max(1.0, b.abs().max().item() if b.numel() else 0.0), (
            f"{name} differs by {error:.1e}"
        )
    assert (found[0][dark] == 0).all() and (found[2][dark] == 0).all(), "a row without keys leaves something"


def padding(batch: int, keys: int) -> Tensor:
    """Right padding in one sequence, left padding in the next, and a third without any key."""
    real = torch.ones(batch, 1, 1, keys, dtype=torch.bool)
    real[0, ..., keys - keys // 3 :] = False
    if batch > 1:
        real[1, ..., : keys // 2] = False
    if batch > 2:
        real[2] = False
    return real


RULES = {
    "full": {},
    "causal": {"causal": True},
    "window": {"window": 30},
    "causal window": {"causal": True, "window": 30},
    "own position": {"causal": True, "window": 1},
    "sinks": {"causal": True, "window": 21, "sinks": 5},
    "many sinks": {"causal": True, "window": 3, "sinks": 70},
    "sinks both ways": {"window": 9, "sinks": 4},
    "scale": {"scale": -0.7},
}
SHAPES = ((113, 203), (203, 113), (64, 128), (1, 1), (1, 100), (17, 100), (100, 17), (100, 1))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_ragged_shapes(shape, rule):
    check(*draw(*shape), **RULES[rule])


@pytest.mark.parametrize("rule", ["causal", "sinks", "sinks both ways", "window"])
@pytest.mark.parametrize("tiles", [(16, 16), (16, 64), (64, 16)], ids=str)
def test_tiles_of_other_shapes(tiles, rule, monkeypatch):
    """Edges fall elsewhere; the numbers may not."""
    for kernel in ("forward", "dq", "dkdv"):
        monkeypatch.setitem(configs.INTERPRETER, kernel, configs.Config(*tiles))
    check(*draw(50, 75), **RULES[rule])


@pytest.mark.parametrize("rule", ["full", "causal", "sinks"])
def test_padding(rule):
    q, k, v = draw(33, 70, batch=3, heads=1)
    check(q, k, v, mask=padding(3, 70), **RULES[rule])
    if rule == "full":
        for mask in (
            padding(1, 70),
            padding(1, 70)[0, 0],
            padding(3, 1),
        ):  # one for all, without the outer axes, one a row
            check(q, k, v, mask=mask)


@pytest.mark.parametrize("heads, kv_heads", [(1, 1), (2, 2), (4, 2), (3, 1)])
def test_query_heads_share_key_heads(heads, kv_heads):
    check(*draw(20, 40, batch=2, heads=heads, kv_heads=kv_heads), causal=True)


@pytest.mark.parametrize("d, d_value", [(16, 16), (24, 24), (32, 32), (64, 64), (80, 80), (96, 96), (128, 128), (8, 1), (24, 40), (100, 16)])  # fmt: skip
def test_head_sizes(d, d_value):
    check(*draw(37, 70, d=d, d_value=d_value, heads=1), causal=True)


@pytest.mark.parametrize("shape", [(5, 0), (0, 5), (0, 0)], ids=str)
def test_nothing_to_see(shape):
    check(*draw(*shape))
    check(*draw(*shape, batch=0))


def test_large_scores():
    """Scores of several hundred: the running maximum must move, and an inf or NaN must not appear on the way."""
    q, k, v = draw(40, 150)
    k = (k.detach() * torch.linspace(1, 60, 150)[:, None]).requires_grad_()
    check(q, k, v, causal=True, tolerance=1e-4)
    check(q, (-k.detach().abs()).requires_grad_(), v, window=20, scale=1.0, tolerance=1e-4)


def test_strided_views_are_read_in_place():
    """q, k, v as slices of one fused projection, (batch, time, 3, heads, d), with gaps and a stride in d."""
    g = torch.Generator().manual_seed(3)
    fused = torch.randn(2, 70, 3, 2, 24, generator=g)[..., ::2]
    q, k, v = (x.transpose(1, 2) for x in fused.unbind(2))
    assert not any(x.is_contiguous() for x in (q, k, v))
    check(*(x.requires_grad_() for x in (q.detach(), k.detach(), v.detach())), causal=True)
    one = torch.randn(1, 1, 50, 16, generator=g)
    check(one.expand(2, 3, 50, 16).detach().requires_grad_(), *draw(50, 50, batch=2, heads=3)[1:], causal=True)


@pytest.mark.parametrize("rule", ["full", "causal", "sinks"])
def test_packed_sequences(rule):
    """Each sequence as if it stood alone, its neighbours unseen; lengths of 0 on either side."""
    lengths_q, lengths_k = (33, 1, 0, 70, 5), (40, 17, 3, 70, 0)
    ends_q, ends_k = (torch.tensor([0, *itertools.accumulate(x)]) for x in (lengths_q, lengths_k))
    q, k, v = (x.detach()[0].transpose(0, 1).requires_grad_() for x in draw(sum(lengths_q), sum(lengths_k)))
    options = {"causal": False, "window": None, "sinks": 0, "scale": 0.25} | RULES[rule]

    def packed(q, k, v):
        return ops.varlen(q, k, v, ends_q, ends_k, max(lengths_q), max(lengths_k), **options)

    def one_by_one(q, k, v):
        parts = []
        for (a, b), (c, d) in zip(itertools.pairwise(ends_q), itertools.pairwise(ends_k)):
            parts.append(naive_attention(*(x.transpose(0, 1)[None] for x in (q[a:b], k[c:d], v[c:d])), **options))
        return tuple(torch.cat([part[at][0].transpose(0, 1) for part in parts]) for at in (0, 1))

    found, expected = results(packed, q, k, v), results(one_by_one, *exact(q, k, v))
    for name, a, b in zip(NAMES, found, expected, strict=True):
        torch.testing.assert_close(a.double(), b, atol=1e-5, rtol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("rule", ["full", "causal", "sinks"])
@pytest.mark.parametrize("shape", [(113, 203), (17, 100)], ids=str)
def test_half_precision_errs_at_most_twice_as_much_as_torch(shape, rule):
    """Against float64 on the same rounded inputs, the largest and the root mean square, averaged over draws."""
    options = RULES[rule]
    mask = allowed_mask(*shape, **options)
    errors = {"triton": [], "torch": []}
    for seed in range(2):
        q, k, v = draw(*shape, heads=2, kv_heads=2, d=64, dtype=torch.float16, seed=seed)
        expected = results(naive_attention, *exact(q, k, v), with_lse=False, **options)
        found = {
            "triton": results(triton_attention, q, k, v, with_lse=False, **options),
            "torch": results(
                lambda *x: (scaled_dot_product_attention(*x, attn_mask=mask), None), q, k, v, with_lse=False
            ),
        }
        for who, tensors in found.items():
            pairs = [(a.double(), b) for a, b in zip(tensors, expected) if a is not None and a.dtype == torch.float16]
            errors[who].append([[(a - b).abs().max().item(), ((a - b).norm() / b.norm()).item()] for a, b in pairs])
    ours, theirs = (torch.tensor(errors[who]).mean(0) for who in ("triton", "torch"))
    assert len(ours) == 4
    assert (ours <= 2 * theirs + 1e-6).all(), f"(output, dq, dk, dv) x (largest, relative rms): {ours}, torch {theirs}"
    assert (ours[:, 1] < 1e-3).all(), f"relative rms {ours[:, 1]}: a float16 has 4.9e-4"


@pytest.mark.parametrize("rule", ["full", "causal", "window", "causal window", "sinks", "sinks both ways"])
@pytest.mark.parametrize("shape", [(75, 140), (140, 75)], ids=str)
def test_the_tiles_visited_are_those_with_something_to_see(shape, rule, seen, monkeypatch):
    """Counted by their loads: k and v a tile in forward and dq; q, do, lse and delta a tile in dkdv."""
    for kernel in ("forward", "dq", "dkdv"):
        monkeypatch.setitem(configs.INTERPRETER, kernel, configs.Config(32, 16))
    output, _ = triton_attention(*draw(*shape, heads=1), **RULES[rule])
    output.sum().backward()
    mask = allowed_mask(*shape, **RULES[rule])
    table = torch.zeros(160, 144, dtype=torch.bool)
    table[: shape[0], : shape[1]] = True if mask is None else mask
    tiles = table.unflatten(0, (-1, 32)).unflatten(2, (-1, 16)).any(3).any(1).sum().item()
    rows, columns = -(-shape[0] // 32), -(-shape[1] // 16)
    expected = {
        "forward_kernel": rows + 2 * tiles,
        "dq_kernel": 4 * rows + 2 * tiles,
        "dkdv_kernel": 2 * columns + 4 * tiles,
    }
    assert {name: seen.loads[name] for name in expected} == expected


def test_torch_library_accepts_the_operators():
    q, k, v = draw(9, 20)
    mask = torch.rand(1, 20, generator=torch.Generator().manual_seed(0)) > 0.3
    numbers = 9, 20, True, 5, 2, 0.3
    torch.library.opcheck(ops.attention_op, (q, k, v, mask, None, None, *numbers))
    with torch.no_grad():
        output, lse = ops.attention_op(q, k, v, mask, None, None, *numbers)
        torch.library.opcheck(
            ops.attention_backward_op, (q, k, v, mask, None, None, output, lse, output * 2, lse * 0 + 1, *numbers)
        )
    ends = torch.tensor([0, 4, 9], dtype=torch.int32), torch.tensor([0, 12, 20], dtype=torch.int32)
    torch.library.opcheck(ops.attention_op, (q, k, v, None, *ends, 5, 12, False, None, 0, 0.3))


def test_torch_compile_keeps_the_operator_whole():
    def block(q, k, v):
        output, lse = triton_attention(q * 2, k, v, causal=True)
        return output.sin(), lse

    compiled = torch.compile(block, backend="aot_eager", fullgraph=True)
    q, k, v = draw(9, 20)
    for a, b in zip(results(compiled, q, k, v), results(block, q, k, v), strict=True):
        torch.testing.assert_close(a, b)


def test_a_second_derivative_is_refused():
    q, k, v = draw(5, 5)
    (dq,) = torch.autograd.grad(triton_attention(q, k, v)[0].sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="autograd"):
        dq.sum().backward()


def test_the_sanitizer_watched(seen):
    check(*draw(20, 20))
    assert seen.launches == {"forward_kernel": 1, "delta_kernel": 1, "dq_kernel": 1, "dkdv_kernel": 1}
    assert min(seen.loads.values()) > 0 and min(seen.stores.values()) > 0 and len(seen.stores) == 4
