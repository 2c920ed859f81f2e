"""Packed sequences are what each of them is alone, and what a padded batch with a mask makes of them."""

from __future__ import annotations

from itertools import accumulate
from types import SimpleNamespace

import pytest
import torch
from attention_cases import gradients, oracle
from beartype import beartype
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import jaxtyped

from llmlab.attention import BackendError, attention, padding_mask, triton, varlen_attention

torch.set_num_threads(1)
HERE = ("naive", "tiled", "sdpa", "auto")


def packed(queries, keys, heads=4, kv_heads=2, dtype=torch.float64):
    """q, k, v of all sequences end to end, and where they end."""
    g = torch.Generator().manual_seed(0)
    shapes = (sum(queries), heads, 8), (sum(keys), kv_heads, 8), (sum(keys), kv_heads, 5)
    tensors = [torch.randn(s, generator=g, dtype=torch.float64).to(dtype).requires_grad_() for s in shapes]
    return tensors, [torch.tensor([0, *accumulate(x)]) for x in (queries, keys)]


RULES = {
    "full": {},
    "causal": {"causal": True},
    "window": {"window": 3},
    "causal window sinks": {"causal": True, "window": 2, "sinks": 1},
    "scale": {"scale": 0.3},
}


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("name", RULES)
def test_every_sequence_equals_the_oracle_on_it_alone(name, backend):
    queries, keys = (3, 0, 5, 1, 4), (4, 2, 5, 0, 1)
    tensors, ends = packed(queries, keys)
    found = varlen_attention(*tensors, *ends, **RULES[name], enable_gqa=True, backend=backend)
    parts = [
        oracle(*(x.transpose(0, 1)[None] for x in (q, k, v)), **RULES[name])[0][0].transpose(0, 1)
        for q, k, v in zip(*(x.split(n) for x, n in zip(tensors, (queries, keys, keys))))
    ]
    expected = torch.cat(parts)
    assert found.shape == (13, 4, 5)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients(found, tensors), gradients(expected, tensors))


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("causal", [False, True])
def test_packing_equals_padding(causal, backend):
    lengths = torch.tensor([5, 2, 7])
    tensors, (ends, _) = packed(lengths.tolist(), lengths.tolist())
    found = varlen_attention(*tensors, ends, ends, causal=causal, enable_gqa=True, backend=backend)
    rows = torch.nn.utils.rnn.pad_sequence
    q, k, v = (rows(x.split(lengths.tolist()), batch_first=True).transpose(1, 2) for x in tensors)
    batch = attention(q, k, v, causal=causal, mask=padding_mask(lengths, 7), enable_gqa=True, backend=backend)
    expected = torch.cat([one[:, :n].transpose(0, 1) for one, n in zip(batch, lengths.tolist())])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients(found, tensors), gradients(expected, tensors))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lse(dtype):
    tensors, ends = packed((3, 2), (4, 0), dtype=dtype)
    output, lse = varlen_attention(*tensors, *ends, causal=True, enable_gqa=True, return_lse=True)
    assert (output.dtype, lse.dtype, lse.shape) == (dtype, torch.float32, (5, 4))
    q, k, v = (x.double().transpose(0, 1)[None] for x in (tensors[0][:3], tensors[1], tensors[2]))
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 1e-2}[dtype]
    torch.testing.assert_close(lse[:3], oracle(q, k, v, causal=True)[1][0].T.float(), rtol=0, atol=tolerance)
    assert (lse[3:] == -torch.inf).all() and (output[3:] == 0).all()


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=5), st.booleans())
def test_any_lengths(lengths, causal):
    """No sequence sees another: each is the same whatever stands beside it."""
    queries, keys = [a for a, _ in lengths], [b for _, b in lengths]
    (q, k, v), ends = packed(queries, keys)
    found = varlen_attention(q, k, v, *ends, causal=causal, enable_gqa=True)
    assert found.shape == (sum(queries), 4, 5)
    for i in range(len(lengths)):
        a, b, c, d = *ends[0][i : i + 2], *ends[1][i : i + 2]
        alone = [x.transpose(0, 1)[None] for x in (q[a:b], k[c:d], v[c:d])]
        expected = attention(*alone, causal=causal, enable_gqa=True, backend="naive")
        torch.testing.assert_close(found[a:b].transpose(0, 1)[None], expected)


@pytest.mark.parametrize("lengths", [((3, 0, 2), (1, 4, 0)), ((), ())], ids=str)
def test_what_the_kernel_is_told(lengths, monkeypatch):
    """One call for all sequences: their ends, the longest of each, the rules and the scale."""
    told = []

    def kernel(q, k, v, *arguments, **options):
        told.append((q, k, v, arguments, options))
        return q * 2, q[..., 0]

    monkeypatch.setattr(triton, "refusal", lambda call: None)
    monkeypatch.setattr(triton, "ops", SimpleNamespace(varlen=kernel), raising=False)
    (q, k, v), ends = packed(*lengths)
    rule = {"causal": True, "window": 2, "sinks": 1}
    output, lse = varlen_attention(q, k, v, *ends, **rule, enable_gqa=True, backend="triton", return_lse=True)
    assert torch.equal(output, q * 2) and torch.equal(lse, q[..., 0])
    assert torch.equal(varlen_attention(q, k, v, *ends, enable_gqa=True, backend="triton", scale=0.3), q * 2)
    for found, options in zip(
        told, (rule | {"scale": 1 / 8**0.5}, {"causal": False, "window": None, "sinks": 0, "scale": 0.3})
    ):
        assert found[0] is q and found[1] is k and found[2] is v and found[4] == options
        assert found[3][0] is ends[0] and found[3][1] is ends[1]
        assert found[3][2:] == tuple(max(x, default=0) for x in lengths)
    assert varlen_attention(q, k, v, *ends, enable_gqa=True).shape == (sum(lengths[0]), 4, 5), "not chosen on the CPU"
    assert len(told) == 2


def test_autocast():
    tensors, ends = packed((3, 2), (4, 1), dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = varlen_attention(tensors[0], tensors[1].bfloat16(), tensors[2], *ends, enable_gqa=True)
    assert output.dtype == torch.bfloat16


def test_shapes_in_the_signature_hold():
    tensors, ends = packed((3, 2), (4, 1))
    jaxtyped(varlen_attention, typechecker=beartype)(*tensors, *ends, enable_gqa=True, return_lse=True)


def call(**changes):
    (q, k, v), (ends_q, ends_k) = packed((3, 2), (4, 1))
    return {"q": q, "k": k, "v": v, "cu_seqlens_q": ends_q, "cu_seqlens_k": ends_k, "enable_gqa": True} | changes


BAD = {
    "a list": (call(cu_seqlens_q=[0, 3, 5]), TypeError, "cu_seqlens_q is a list: expected a torch.Tensor of int32 or int64"),
    "floats": (call(cu_seqlens_k=torch.tensor([0.0, 4, 5])), TypeError, "cu_seqlens_k is torch.float32: expected"),
    "two dimensions": (call(cu_seqlens_q=torch.tensor([[0, 3, 5]])), ValueError, r"cu_seqlens_q has shape \(1, 3\): expected \(sequences \+ 1,\)"),
    "empty": (call(cu_seqlens_q=torch.tensor([], dtype=torch.int32)), ValueError, r"cu_seqlens_q has shape \(0,\)"),
    "lengths": (call(cu_seqlens_q=torch.tensor([3, 2])), ValueError, "goes from 3 to 2: expected from 0 to the 5 rows of q. These look like lengths"),
    "too short": (call(cu_seqlens_k=torch.tensor([0, 2, 4])), ValueError, "cu_seqlens_k goes from 0 to 4: expected from 0 to the 5 rows of k.$"),
    "falling": (call(cu_seqlens_q=torch.tensor([0, 4, 3, 5])), ValueError, "cu_seqlens_q falls from 4 to 3 at sequence 1"),
    "another number": (call(cu_seqlens_q=torch.tensor([0, 1, 3, 5])), ValueError, "names 3 sequences and cu_seqlens_k 2: expected as many of each"),
    "four dimensions": (call(q=torch.zeros(1, 4, 5, 8)), ValueError, r"q has shape \(1, 4, 5, 8\): expected 3 dimensions"),
    "no tensor": (call(v=[1.0]), TypeError, "v is a list: expected a torch.Tensor"),
    "heads": (call(enable_gqa=False), ValueError, "4 query heads but 2 key heads; .*enable_gqa=True"),
    "dtypes": (call(k=torch.zeros(5, 2, 8)), TypeError, "expected one; convert with"),
    "sinks": (call(sinks=2), ValueError, "sinks=2 without a window"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_a_sentence(name):
    arguments, error, sentence = BAD[name]
    with pytest.raises(error, match=sentence):
        varlen_attention(**arguments)


def test_a_backend_that_cannot_says_why():
    with pytest.raises(BackendError, match="backend='triton' cannot do this: .*one sequence at a time"):
        varlen_attention(**call(), backend="triton")  # float64, so everywhere
    with pytest.raises(BackendError, match="'sdpa' cannot do this: .*log-sum-exp"):
        varlen_attention(**call(), backend="sdpa", return_lse=True)
    with pytest.raises(BackendError, match="backend='flash' is unknown"):
        varlen_attention(**call(), backend="flash")
