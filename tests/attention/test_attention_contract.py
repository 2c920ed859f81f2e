"""What is refused, in which words; what `auto` takes and says; autocast; shapes checked by jaxtyping."""

from __future__ import annotations

import inspect
import math

import pytest
import torch
from attention_cases import BACKENDS, OPTIONS, make, options
from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped

import llmlab.attention as room
from llmlab.attention import (
    BackendError,
    attention,
    attention_backends,
    attention_weights,
    explain_choice,
    flex,
    masks,
    naive,
    sdpa,
    tiled,
    varlen_attention,
)

torch.set_num_threads(1)


def qkv(**changes):
    q, k, v = make(5, 7, dtype=torch.float32)
    return {"q": q.detach(), "k": k.detach(), "v": v.detach()} | changes


def ones(*shape, **kwargs):
    return torch.ones(*shape, **kwargs)


BAD = {
    "a list": (qkv(q=[[1.0]]), TypeError, "q is a list: expected a torch.Tensor"),
    "three dimensions": (qkv(k=ones(2, 7, 8)), ValueError, r"k has shape \(2, 7, 8\): expected 4 dimensions .*x\[None\]"),
    "integers": (qkv(v=ones(2, 4, 7, 8, dtype=torch.int64)), TypeError, "v has dtype torch.int64: expected float16.* use v.float"),
    "complex": (qkv(q=ones(2, 4, 5, 8, dtype=torch.complex64)), TypeError, "q has dtype torch.complex64"),
    "two dtypes": (qkv(k=ones(2, 4, 7, 8, dtype=torch.float16)), TypeError, "torch.float32, torch.float16, torch.float32: expected one"),
    "two devices": (qkv(v=ones(2, 4, 7, 8, device="meta")), ValueError, "are on cpu, cpu, meta: expected one device"),
    "batches": (qkv(q=ones(3, 4, 5, 8)), ValueError, r"q \(3, 4, 5, 8\), .*batch sizes differ"),
    "k and v heads": (qkv(v=ones(2, 2, 7, 8)), ValueError, "k has 4 heads and v has 2"),
    "keys and values": (qkv(v=ones(2, 4, 6, 8)), ValueError, "7 keys but 6 values"),
    "head sizes": (qkv(k=ones(2, 4, 7, 9)), ValueError, "a query has size 8 and a key 9"),
    "d = 0": (qkv(q=ones(2, 4, 5, 0), k=ones(2, 4, 7, 0)), ValueError, "the head size d is 0"),
    "no heads": (qkv(q=ones(2, 0, 5, 8), k=ones(2, 0, 7, 8), v=ones(2, 0, 7, 8)), ValueError, "there are no heads"),
    "heads": (qkv(k=ones(2, 2, 7, 8), v=ones(2, 2, 7, 8)), ValueError, "4 query heads but 2 key heads; .*enable_gqa=True"),
    "groups": (qkv(k=ones(2, 3, 7, 8), v=ones(2, 3, 7, 8), enable_gqa=True), ValueError, "4 query heads cannot be shared evenly among 3"),
    "more keys than queries": (qkv(k=ones(2, 8, 7, 8), v=ones(2, 8, 7, 8), enable_gqa=True), ValueError, "cannot be shared evenly among 8"),
    "causal as text": (qkv(causal="no"), TypeError, "causal='no': expected True or False"),
    "window of a half": (qkv(window=2.5), TypeError, "window=2.5: expected a whole number of keys"),
    "window as a flag": (qkv(window=True), TypeError, "window=True: expected a whole number of keys"),
    "negative window": (qkv(window=-1), ValueError, "window=-1: expected 1 or more keys"),
    "empty window": (qkv(window=0), ValueError, "window=0: expected 1 or more keys"),
    "sinks of a half": (qkv(window=2, sinks=1.5), TypeError, "sinks=1.5: expected a whole number of keys"),
    "sinks as a flag": (qkv(window=2, sinks=True), TypeError, "sinks=True: expected a whole number of keys"),
    "negative sinks": (qkv(window=2, sinks=-1), ValueError, "sinks=-1: expected 0 or more keys"),
    "sinks without a window": (qkv(sinks=4), ValueError, "sinks=4 without a window: every key is in sight already"),
    "mask as a list": (qkv(mask=[True]), TypeError, "mask is a list: expected a torch.Tensor"),
    "mask of integers": (qkv(mask=ones(5, 7, dtype=torch.int64)), TypeError, r"mask has dtype torch.int64.*mask.bool\(\)"),
    "mask of another float": (qkv(mask=ones(5, 7, dtype=torch.float64)), TypeError, "mask has dtype torch.float64: expected torch.bool .*torch.float32"),
    "mask elsewhere": (qkv(mask=ones(5, 7, dtype=torch.bool, device="meta")), ValueError, "mask is on meta and q on cpu"),
    "mask turned": (qkv(mask=ones(7, 5, dtype=torch.bool)), ValueError, r"mask has shape \(7, 5\): expected .*= \(2, 4, 5, 7\)"),
    "mask too large": (qkv(mask=ones(3, 2, 4, 5, 7, dtype=torch.bool)), ValueError, "mask has shape"),
    "mask that would enlarge": (qkv(q=ones(1, 4, 5, 8), k=ones(1, 4, 7, 8), v=ones(1, 4, 7, 8), mask=ones(2, 1, 5, 7).bool()), ValueError, "mask has shape"),
    "padding row": (qkv(mask=ones(2, 7, dtype=torch.bool)), ValueError, r"One row per sequence \(padding\) is mask\[:, None, None, :\]"),
    "matrix a sequence": (qkv(mask=ones(2, 5, 7, dtype=torch.bool)), ValueError, r"One matrix per sequence is mask\[:, None\]"),
    "scale NaN": (qkv(scale=math.nan), ValueError, "scale=nan: expected a finite number"),
    "scale infinite": (qkv(scale=math.inf), ValueError, "scale=inf: expected a finite number"),
    "scale as a tensor": (qkv(scale=torch.tensor(1.0)), TypeError, "scale is a Tensor: expected a Python number"),
    "dropout 1": (qkv(dropout_p=1.0), ValueError, "dropout_p=1.0: expected 0 <= dropout_p < 1"),
    "dropout negative": (qkv(dropout_p=-0.1), ValueError, "dropout_p=-0.1"),
    "dropout NaN": (qkv(dropout_p=math.nan), ValueError, "dropout_p=nan"),
    "return_lse": (qkv(return_lse=1), TypeError, "return_lse=1: expected True or False"),
}  # fmt: skip


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_a_sentence(name, backend):
    arguments, error, sentence = BAD[name]
    with pytest.raises(error, match=sentence) as caught:
        attention(**arguments, backend=backend)
    assert not isinstance(caught.value, BackendError)


def test_the_other_entrances_check_too():
    with pytest.raises(ValueError, match="expected 4 dimensions"):
        attention_weights(ones(5, 8), ones(7, 8))
    with pytest.raises(ValueError, match="window=-1"):
        attention_backends(**qkv(window=-1))
    with pytest.raises(ValueError, match="window=-1"):
        explain_choice(**qkv(window=-1))
    with pytest.raises(TypeError, match="float32 and q torch.float64.*mask.double"):
        attention(*make(5, 7), mask=torch.zeros(5, 7))


def test_the_other_entrances_have_the_same_defaults():
    defaults = {name: p.default for name, p in inspect.signature(attention).parameters.items()}
    for function in (attention_weights, room._call, varlen_attention, *room.BACKENDS.values()):
        for name, parameter in inspect.signature(function).parameters.items():
            assert name in {"cu_seqlens_q", "cu_seqlens_k"} or parameter.default == defaults[name], (
                function,
                name,
            )
    q, k, v = make(5, 7, kv_heads=2)
    for entrance in (attention_backends, explain_choice):
        with pytest.raises(ValueError, match="or enable_gqa=True"):
            entrance(q, k, v)


@pytest.mark.parametrize("name", OPTIONS)
def test_the_weights_are_what_the_output_is_made_with(name):
    q, k, _ = make(6, 9, kv_heads=2)
    chosen = options(name, 6, 9)
    v = torch.eye(9, dtype=torch.float64).expand(2, 2, 9, 9)
    expected = attention(q, k, v, enable_gqa=True, backend="naive", **chosen)
    torch.testing.assert_close(attention_weights(q, k, enable_gqa=True, **chosen), expected)


def test_a_named_backend_that_cannot_says_why():
    with pytest.raises(
        BackendError, match="'sdpa' cannot do this: .*does not return the log-sum-exp; backend='auto' takes 'tiled'"
    ):
        attention(**qkv(return_lse=True), backend="sdpa")
    with pytest.raises(
        BackendError,
        match="backend='flash' is unknown: expected 'auto' or one of 'sdpa', 'tiled', 'naive', 'flex', 'triton'",
    ):
        attention(**qkv(), backend="flash")


def chosen(**arguments):
    rows = attention_backends(**arguments)
    assert [row.name for row in rows] == list(room.BACKENDS)
    assert all(row.reason for row in rows)
    (name,) = [row.name for row in rows if row.chosen]
    assert explain_choice(**arguments).startswith(f"auto takes {name}: ")
    return name


def test_auto_takes_what_it_says(monkeypatch):
    called = []
    for name, function in list(room.BACKENDS.items()):
        monkeypatch.setitem(
            room.BACKENDS, name, lambda *a, name=name, function=function, **k: called.append(name) or function(*a, **k)
        )
    long = {name: torch.zeros(1, 1, 1024, 1) for name in "qkv"}
    cases = [
        qkv(),
        qkv(causal=True),
        qkv(return_lse=True),
        qkv(window=2),
        long,
        long | {"window": 64},
        long | {"window": 1000},
    ]
    for arguments in cases:
        attention(**arguments)
    assert called == ["sdpa", "sdpa", "tiled", "sdpa", "sdpa", "tiled", "sdpa"]
    assert called == [chosen(**arguments) for arguments in cases]
    (row,) = [row for row in attention_backends(**qkv(return_lse=True)) if row.name == "sdpa"]
    assert not row.can_run and "log-sum-exp" in row.reason
    assert "skips the keys outside a window of 64" in explain_choice(**long, window=64)


def test_triton_is_never_chosen_on_the_cpu(monkeypatch):
    monkeypatch.setattr(room.triton, "unavailable", lambda q: None)  # as if interpreted
    assert chosen(**qkv(return_lse=True)) == "tiled" and chosen(**qkv(window=2)) == "sdpa"
    assert attention_backends(**qkv())[-1].can_run


def test_auto_on_a_gpu(monkeypatch):
    """What it takes there, asked of tensors that only say they are on a GPU."""
    from torch._subclasses import FakeTensorMode

    def ask(time=1024, keys=None, dtype=torch.bfloat16, **arguments):
        with FakeTensorMode():
            tensors = {name: torch.empty(2, 4, keys or time, 64, dtype=dtype, device="cuda") for name in "kv"}
            tensors["q"] = torch.empty(2, 4, time, 64, dtype=dtype, device="cuda")
            if arguments.pop("padded", False):
                arguments["mask"] = torch.empty(2, 1, 1, keys or time, dtype=torch.bool, device="cuda")
            return chosen(**tensors, **arguments), explain_choice(**tensors, **arguments)

    monkeypatch.setattr(room.triton, "unavailable", lambda q: None)
    assert ask()[0] == ask(causal=True)[0] == ask(padded=True)[0] == "sdpa"
    assert ask(causal=True, window=2000)[0] == "sdpa", "a window that hides nothing"
    assert ask(1, 4096, causal=True, window=100)[0] == ask(64, causal=True, window=8)[0] == "sdpa", (
        "too small to matter"
    )
    name, why = ask(causal=True, window=100, sinks=4)
    assert name == "triton" and "follows the rule itself, where sdpa would need a mask of 1024 x 1024" in why
    assert ask(causal=True, padded=True)[0] == ask(1024, 2048, causal=True)[0] == "triton"
    name, why = ask(return_lse=True)
    assert name == "triton" and "log-sum-exp" in why
    assert ask(causal=True, window=100, dtype=torch.float64)[0] == "sdpa"
    assert ask(return_lse=True, dtype=torch.float64)[0] == "tiled"
    monkeypatch.setattr(room.triton, "unavailable", lambda q: "there is none")
    assert ask(causal=True, window=100)[0] == "sdpa" and ask(return_lse=True)[0] == "tiled"


def test_defaults_are_the_contract():
    signature = inspect.signature(attention)
    defaults = {name: p.default for name, p in signature.parameters.items() if p.kind is p.KEYWORD_ONLY}
    assert defaults == {
        "causal": False, "window": None, "sinks": 0, "mask": None, "scale": None, "enable_gqa": False, "dropout_p": 0.0, "backend": "auto", "return_lse": False,
    }  # fmt: skip


@pytest.mark.parametrize("shape, causal, window, explicit", [
    ((5, 5), True, None, False), ((1, 9), True, None, False), ((5, 9), True, None, True), ((9, 5), True, None, True), ((5, 9), False, None, False),
    ((5, 5), False, 5, False), ((5, 5), False, 4, True), ((5, 9), True, 9, True), ((1, 9), True, 9, False), ((1, 9), True, 8, True),
])  # fmt: skip
def test_sdpa_builds_a_mask_only_where_torch_has_no_flag(shape, causal, window, explicit, monkeypatch):
    seen = []
    original = sdpa.scaled_dot_product_attention
    monkeypatch.setattr(
        sdpa,
        "scaled_dot_product_attention",
        lambda *a, **k: seen.append(k["attn_mask"] is not None) or original(*a, **k),
    )
    attention(*make(*shape), causal=causal, window=window, backend="sdpa")
    assert seen == [explicit]


@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_is_torchs(backend):
    q, k, v = make(5, 7, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = attention(q, k.bfloat16(), v, backend=backend)  # mixed, as rotary positions in float32 leave it
        output.float().sum().backward()
        assert attention(*make(5, 7), backend=backend).dtype == torch.float64
    assert output.dtype == torch.bfloat16
    expected = attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), backend=backend)
    assert torch.equal(output, expected)
    assert q.grad.dtype == torch.float32 and torch.isfinite(q.grad).all()


@pytest.mark.parametrize("backend", ["auto", "naive"])
@pytest.mark.parametrize("inside", [True, False], ids=["under autocast", "without"])
def test_the_meta_device_has_no_autocast_and_gives_the_shapes_all_the_same(backend, inside):
    q, k, v = (x.detach().to("meta") for x in make(5, 7, dtype=torch.float32))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=inside):
        output = attention(q, k, v, causal=True, backend=backend)
    assert (output.device.type, output.dtype, output.shape) == ("meta", torch.float32, (2, 4, 5, 8))


@pytest.mark.parametrize("backend", ["naive", "tiled"])
def test_lse_of_half_precision_is_float32(backend):
    q, k, v = make(5, 7, dtype=torch.bfloat16)
    output, lse = attention(q, k, v, backend=backend, return_lse=True)
    assert (output.dtype, lse.dtype, lse.shape) == (torch.bfloat16, torch.float32, (2, 4, 5))


def test_tiled_refuses_a_second_derivative_instead_of_a_wrong_one():
    q, k, v = make(3, 4)
    (dq,) = torch.autograd.grad(attention(q, k, v, backend="tiled").square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        dq.sum().backward()


def test_shapes_in_the_signatures_hold():
    q, k, v = make(5, 7, kv_heads=2, d_value=3)
    for function in (naive.naive_attention, tiled.tiled_attention, sdpa.sdpa_attention, flex.flex_attention, attention):
        checked = jaxtyped(function, typechecker=beartype)
        for chosen in ({}, {"causal": True, "window": 3, "sinks": 1}, {"mask": torch.ones(5, 7, dtype=torch.bool)}):
            checked(q, k, v, **chosen | ({"enable_gqa": True} if function is attention else {}))
        with pytest.raises(TypeCheckError):
            checked(q, k[..., :4], v)
    scores = jaxtyped(naive.naive_scores, typechecker=beartype)(q, k, causal=True)
    jaxtyped(naive.softmax, typechecker=beartype)(scores)
    jaxtyped(attention_weights, typechecker=beartype)(q, k, enable_gqa=True)
    for function, arguments in (
        (masks.causal_mask, (3, 4)), (masks.window_mask, (3, 4, 2, True)), (masks.padding_mask, (torch.tensor([1, 2]), 4)),
        (masks.visible, (torch.arange(3), torch.arange(4), True, 2, 1)),
    ):  # fmt: skip
        jaxtyped(function, typechecker=beartype)(*arguments)
    jaxtyped(masks.allowed_mask, typechecker=beartype)(3, 4, causal=True, mask=torch.ones(2, 1, 3, 4, dtype=torch.bool))
    with pytest.raises(TypeCheckError):
        jaxtyped(masks.padding_mask, typechecker=beartype)(torch.tensor([1.5]), 4)
