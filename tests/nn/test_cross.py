"""Cross-attention against torch's nn.MultiheadAttention with the same weights."""

import pytest
import torch
from torch import nn

from llmlab.nn.cross import CrossAttention


def twins(d=12, heads=3, bias=True, dropout=0.0, seed=0):
    torch.manual_seed(seed)
    ours = CrossAttention(d, heads, bias=bias, dropout=dropout)
    for p in ours.parameters():
        nn.init.normal_(p, std=0.5)
    theirs = nn.MultiheadAttention(d, heads, dropout=dropout, bias=bias, batch_first=True)
    names = {"in_proj_weight": (ours.q.weight, ours.kv.weight), "out_proj.weight": (ours.out.weight,)}
    if bias:
        names |= {"in_proj_bias": (ours.q.bias, ours.kv.bias), "out_proj.bias": (ours.out.bias,)}
    theirs.load_state_dict({name: torch.cat([p.detach() for p in parts]) for name, parts in names.items()})
    return ours, theirs


def texts(queries=4, keys=7, d=12):
    g = torch.Generator().manual_seed(1)
    return torch.randn(2, queries, d, generator=g), torch.randn(2, keys, d, generator=g)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("heads", [1, 3, 12])
@pytest.mark.parametrize("padded", [False, True])
def test_equals_torch(bias, heads, padded):
    ours, theirs = twins(heads=heads, bias=bias)
    (x, memory), mask = texts(), torch.arange(7) < torch.tensor([[7], [3]]) if padded else None
    found = ours(x, ours.remember(memory), mask)
    expected, _ = theirs(x, memory, memory, key_padding_mask=None if mask is None else ~mask)
    torch.testing.assert_close(found, expected)
    assert [layer.bias is not None for layer in (ours.q, ours.kv, ours.out)] == [bias] * 3


def test_padding_of_the_memory_is_not_read():
    ours, _ = twins()
    x, memory = texts()
    mask = torch.arange(7) < torch.tensor([[7], [3]])
    other = memory.clone()
    other[1, 3:] = 99.0
    first, second = (ours(x, ours.remember(m), mask) for m in (memory, other))
    torch.testing.assert_close(first, second)
    assert (ours(x, ours.remember(other)) - first)[1].abs().max() > 0.1, "without the mask it is"


def test_the_memory_is_remembered_once_for_any_number_of_queries():
    ours, _ = twins()
    x, memory = texts()
    kv = ours.remember(memory)
    assert [t.shape for t in kv] == [(2, 3, 7, 4)] * 2
    parts = torch.cat([ours(part, kv) for part in x.split(1, dim=1)], 1)
    torch.testing.assert_close(parts, ours(x, kv))


def test_weights_are_dropped_in_training_alone():
    ours, _ = twins(dropout=0.5)
    (x, memory), plain = texts(), twins()[0]
    kv = ours.remember(memory)
    assert not torch.allclose(ours(x, kv), plain(x, kv)), "in training"
    torch.testing.assert_close(ours.eval()(x, kv), plain.eval()(x, kv))
    v = ours.kv(memory).chunk(2, dim=-1)[1]
    with torch.no_grad():  # one head's share of the value comes through, or twice of it, or none: the mean stays
        ours.train().out.weight.copy_(torch.eye(12))
        ours.out.bias.zero_()
        mean = torch.stack([ours(x, kv) for _ in range(4000)]).mean(0)
        torch.testing.assert_close(mean, ours.eval()(x, kv), atol=0.06 * float(v.detach().abs().max()), rtol=0)


def test_a_new_one_drops_nothing_and_has_biases():
    made = CrossAttention(8, 2)
    assert made.dropout == 0 and made.training and made.q.bias is not None and made.kv.out_features == 16
    x, memory = texts(d=8)
    torch.testing.assert_close(made(x, made.remember(memory)), made.eval()(x, made.remember(memory)))


@pytest.mark.parametrize("d, heads", [(12, 5), (12, 0), (12, -3), (4, 8)])
def test_a_width_that_the_heads_cannot_share(d, heads):
    with pytest.raises(ValueError, match=f"d={d} cannot be shared by {heads} heads: choose d as a multiple of heads"):
        CrossAttention(d, heads)


def test_gradients_equal_torch():
    ours, theirs = twins()
    (x, memory), grads = texts(), []
    for call in (lambda x, m: ours(x, ours.remember(m)), lambda x, m: theirs(x, m, m)[0]):
        inputs = [t.clone().requires_grad_() for t in (x, memory)]
        call(*inputs).pow(2).sum().backward()
        grads.append([t.grad for t in inputs])
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-4)
