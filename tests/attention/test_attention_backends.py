"""Every backend against an oracle that computes row by row, and each against the rules of the contract."""

from __future__ import annotations

import itertools

import pytest
import torch
from attention_cases import BACKENDS, FORWARD, OPTIONS, SHAPES, gradients, make, may_look, options, oracle, run
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from llmlab.attention import BackendError, attention, attention_backends, attention_weights, flex, tiled

torch.set_num_threads(1)


@pytest.fixture(params=["small tiles", "one tile"])
def tile_size(request, monkeypatch):
    """Small tiles give a ragged 113 x 203 some two hundred of them; the default gives it one."""
    if request.param == "small tiles":
        monkeypatch.setattr(tiled, "TILE", 256)
        monkeypatch.setattr(tiled, "TILE_KEYS", 16)


def assert_equal(found, expected, names="output dq dk dv dbias", tolerance=1e-11):
    for name, a, b in zip(names.split(), found, expected, strict=False):
        assert a.shape == b.shape, f"{name}: {tuple(a.shape)} is not {tuple(b.shape)}"
        assert torch.isfinite(a).all(), f"{name} is not finite"
        error = (a - b).abs().max().item() if a.numel() else 0.0
        assert error <= tolerance, f"{name} differs by {error:.2e}"


@pytest.mark.parametrize("kv_heads", [4, 2, 1], ids=["mha", "gqa", "mqa"])
@pytest.mark.parametrize("name", OPTIONS)
def test_backends_equal_the_oracle(name, kv_heads, monkeypatch):
    shapes = ((19, 31), (31, 19), *SHAPES[3:]) if kv_heads == 2 else ((7, 12), (12, 7))
    for queries, keys in shapes:
        q, k, v = make(queries, keys, kv_heads=kv_heads, d_value=5)
        chosen = options(name, queries, keys)
        inputs = (q, k, v)
        if "mask" in chosen and chosen["mask"].is_floating_point():
            inputs = (q, k, v, chosen["mask"].requires_grad_())
        output, _ = oracle(q, k, v, **chosen)
        expected = (output, *gradients(output, inputs))
        for backend in BACKENDS:
            assert_equal(run(backend, q, k, v, **chosen), expected)
        assert_equal((attention(q, k, v, backend="flex", enable_gqa=True, **chosen),), expected)
        with monkeypatch.context() as patch:
            patch.setattr(tiled, "TILE", 48)
            patch.setattr(tiled, "TILE_KEYS", 4)
            assert_equal(run("tiled", q, k, v, **chosen), expected)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("shape", SHAPES[:3], ids=str)
def test_backends_equal_each_other_on_long_ragged_shapes(shape, name, monkeypatch):
    q, k, v = make(*shape, batch=1, heads=2, kv_heads=1)
    chosen = options(name, *shape, batch=1, heads=2)
    results = {backend: run(backend, q, k, v, **chosen) for backend in BACKENDS}
    with monkeypatch.context() as patch:
        patch.setattr(tiled, "TILE", 1024)
        patch.setattr(tiled, "TILE_KEYS", 50)
        assert_equal(run("tiled", q, k, v, **chosen), results["tiled"])
    results["flex"] = (attention(q, k, v, backend="flex", enable_gqa=True, **chosen),)
    for a, b in itertools.combinations(FORWARD, 2):
        assert_equal(results[a], results[b])


@pytest.mark.parametrize("backend", ["naive", "tiled"])
@pytest.mark.parametrize("name", ["full", "causal window", "causal window sinks", "mask", "bias of -inf"])
def test_lse_and_its_gradient(backend, name, tile_size):
    q, k, v = make(11, 40, kv_heads=2)
    chosen = options(name, 11, 40)
    _, expected = oracle(q, k, v, **chosen)
    output, lse = attention(q, k, v, backend=backend, enable_gqa=True, return_lse=True, **chosen)
    assert torch.equal(lse == -torch.inf, expected == -torch.inf)
    seen = expected > -torch.inf
    assert_equal((lse[seen],), (expected[seen],), "lse")
    both = gradients(lse[seen], (q, k)), gradients(expected[seen], (q, k))
    assert_equal(*both, "dq dk")
    # Two halves of the keys, each with its own lse, merge into the whole: what decoding over a split cache relies on.
    if name == "full":
        halves = [
            attention(q, k[:, :, part], v[:, :, part], backend=backend, enable_gqa=True, return_lse=True)
            for part in (slice(0, 13), slice(13, 40))
        ]
        share = torch.stack([half[1] for half in halves]).softmax(0)[..., None]
        assert_equal((share[0] * halves[0][0] + share[1] * halves[1][0],), (output,), "merged")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["mask", "bias", "causal", "window", "no keys"])
def test_a_row_that_sees_no_key_is_zero_and_gives_zero_gradients(backend, kind, tile_size):
    q, k, v = make(6, 0 if kind == "no keys" else 4)
    dark = torch.zeros(6, dtype=torch.bool)
    dark[{"mask": [1, 3], "bias": [1, 3], "causal": [0, 1], "window": [0], "no keys": range(6)}[kind]] = True
    open_rows = torch.ones(6, 4, dtype=torch.bool).masked_fill(dark[:, None], False)
    chosen = {
        "mask": {"mask": open_rows},
        "bias": {"mask": torch.zeros(6, 4, dtype=torch.float64).masked_fill(~open_rows, -torch.inf)},
        "causal": {"causal": True},
        "window": {"window": 2},  # the first query stands at position -2, two before the first key
        "no keys": {},
    }[kind]
    assert (attention(q, k, v, backend="flex", **chosen)[:, :, dark] == 0).all()
    if backend != "sdpa":
        lse = attention(q, k, v, backend=backend, return_lse=True, **chosen)[1]
        assert (lse[:, :, dark] == -torch.inf).all() and torch.isfinite(lse[:, :, ~dark]).all()
    output, dq, dk, dv = run(backend, q, k, v, **chosen)
    for x in (output, dq):
        assert (x[:, :, dark] == 0).all(), "a dark row is not exactly zero"
    if kind != "no keys":
        assert (output[:, :, ~dark] != 0).all()
    assert all(torch.isfinite(x).all() for x in (dk, dv))
    # Dark rows leave no trace in the keys: dropping them from the batch changes nothing.
    if kind in ("mask", "bias"):
        weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        kept = attention(q[:, :, ~dark], k, v, backend=backend)
        assert_equal((dk, dv), torch.autograd.grad((kept * weights[:, :, ~dark]).sum(), (k, v)), "dk dv")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", OPTIONS)
def test_gradcheck(backend, name, monkeypatch):
    monkeypatch.setattr(tiled, "TILE", 8)
    monkeypatch.setattr(tiled, "TILE_KEYS", 2)
    q, k, v = make(3, 5, batch=1, heads=2, kv_heads=1, d=3, d_value=2)
    chosen = options(name, 3, 5, batch=1, heads=2)
    mask = chosen.pop("mask", None)
    # A bias of -inf has no gradient to check: infinity does not move.
    if mask is not None and name in ("bias", "bias window"):
        assert torch.autograd.gradcheck(
            lambda q, k, v, m: attention(q, k, v, mask=m, enable_gqa=True, backend=backend, **chosen),
            (q, k, v, mask.requires_grad_()),
        )
        return
    assert torch.autograd.gradcheck(
        lambda q, k, v: attention(q, k, v, mask=mask, enable_gqa=True, backend=backend, **chosen), (q, k, v)
    )


@pytest.mark.parametrize("shape", [(1, 1, 1, 5), (2, 1, 1, 5), (1, 2, 3, 1), (2, 2, 3, 5), (3, 5), (1,)], ids=str)
def test_gradient_of_a_broadcast_bias(shape, monkeypatch):
    monkeypatch.setattr(tiled, "TILE", 8)
    monkeypatch.setattr(tiled, "TILE_KEYS", 2)
    q, k, v = make(3, 5, heads=2, kv_heads=1)
    bias = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).requires_grad_()
    expected = run("naive", q, k, v, mask=bias, causal=True)
    assert_equal(run("tiled", q, k, v, mask=bias, causal=True), expected)
    assert_equal(run("sdpa", q, k, v, mask=bias, causal=True), expected)


# The error is measured against float64 on the same rounded inputs, as flash-attention's tests do: at most twice the
# error of torch's own kernel, the largest and the root mean square, each averaged over draws because a single largest
# error is a matter of luck. The floor is what no computation in this precision can promise to beat, and what is left when
# torch's own error happens to be zero: the result rounded once, and, for a gradient, its two terms do . v and do . o, whose
# difference may be exactly zero, each rounded once in float32.
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["full", "causal", "causal window", "causal window sinks", "padding", "bias"])
@pytest.mark.parametrize("shape", [(113, 203), (203, 113), (1, 203), (9, 1)], ids=str)
def test_error_is_at_most_twice_torchs_own(shape, name, dtype, monkeypatch):
    monkeypatch.setattr(tiled, "TILE", 2048)
    monkeypatch.setattr(tiled, "TILE_KEYS", 64)
    chosen = options(name, *shape, batch=1, heads=2)
    chosen["mask"] = mask = chosen["mask"].to(dtype) if name == "bias" else chosen.get("mask")
    exact_chosen = chosen | {"mask": mask.double() if name == "bias" else mask}
    rule = {key: value for key, value in chosen.items() if key in ("causal", "window", "sinks")}
    band = [[may_look(i, j, *shape, **rule) for j in range(shape[1])] for i in range(shape[0])]
    added = torch.zeros(shape, dtype=dtype).masked_fill(~torch.tensor(band), -torch.inf)
    if mask is not None:
        added = added + (
            mask if name == "bias" else torch.zeros(mask.shape, dtype=dtype).masked_fill(~mask, -torch.inf)
        )
    errors: dict[str, list[torch.Tensor]] = {"torch": [], **{backend: [] for backend in BACKENDS}}
    floors = []
    for seed in range(4):
        inputs = make(*shape, batch=1, heads=2, kv_heads=2, d=32, d_value=32, dtype=dtype, seed=seed)
        exact = run("naive", *(x.detach().double().requires_grad_() for x in inputs), **exact_chosen)
        output = scaled_dot_product_attention(*inputs, attn_mask=added)
        results = {"torch": (output, *gradients(output, inputs))} | {b: run(b, *inputs, **chosen) for b in BACKENDS}
        for who, found in results.items():
            assert all(x.dtype == dtype for x in found), f"{who} changed the dtype"
            differences = [a.double() - b for a, b in zip(found, exact)]
            errors[who].append(
                torch.tensor([[x.abs().max().item(), x.square().mean().sqrt().item()] for x in differences])
            )
        q, k, v = (x.double() for x in inputs)
        weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        term = (weights @ v.mT).abs().max() * 32**-0.5
        once = torch.stack([x.abs().max() for x in exact]) * torch.finfo(dtype).eps / 2
        floors.append(
            once
            + torch.stack([0 * term, term * k.abs().max(), term * q.abs().max(), 0 * term])
            * torch.finfo(torch.float32).eps
        )
    mean = {who: torch.stack(found).mean(0) for who, found in errors.items()}
    limit = 2 * mean["torch"] + torch.stack(floors).mean(0)[:, None]
    for backend in BACKENDS:
        for i, what in enumerate(("output", "dq", "dk", "dv")):
            for j, kind in enumerate(("largest", "root mean square")):
                found, own = mean[backend][i, j].item(), mean["torch"][i, j].item()
                assert found <= limit[i, j], (
                    f"{backend} {what}: {kind} error {found:.2e}, torch's own {own:.2e}, limit {limit[i, j]:.2e}"
                )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("queries, keys", [(12, 12), (5, 17)])
def test_the_future_cannot_be_seen(backend, queries, keys, tile_size):
    q, k, v = make(queries, keys, kv_heads=2)
    before = attention(q, k, v, causal=True, enable_gqa=True, backend=backend)
    for t in range(keys):
        changed_k, changed_v = k.detach().clone(), v.detach().clone()
        changed_k[:, :, t] += 3
        changed_v[:, :, t] -= 2
        after = attention(q, changed_k, changed_v, causal=True, enable_gqa=True, backend=backend)
        first = max(0, t - (keys - queries))  # the first query that stands at t or later
        assert torch.equal(after[:, :, :first], before[:, :, :first]), f"key {t} reached a query before it"
        assert (after[:, :, first:] != before[:, :, first:]).any(-1).all(), f"key {t} did not reach a query after it"


@pytest.mark.parametrize("backend", ["naive", "tiled"])
def test_scores_of_any_size_neither_overflow_nor_vanish(backend, tile_size):
    q, k, v = make(7, 33, dtype=torch.float32)
    for shift in (-1e5, 1e5):
        bias = torch.full((7, 33), shift)
        output, lse = attention(q, k, v, mask=bias, backend=backend, return_lse=True)
        plain = attention(q, k, v, backend=backend)
        assert torch.isfinite(output).all()
        assert (output - plain).abs().max() < 0.05  # the bias itself rounds the scores to 1/128
        assert ((lse - shift).abs() < 20).all()
    # A maximum that rises with every tile is the online softmax's hard case; one that falls is its easy one.
    rising = torch.linspace(0, 300, 33).expand(7, 33)
    for bias in (rising, rising.flip(-1)):
        expected, _ = oracle(q.double(), k.double(), v.double(), mask=bias.double())
        assert (attention(q, k, v, mask=bias, backend=backend) - expected).abs().max() < 1e-4


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("scale", [0.0, -0.5])
def test_a_scale_of_zero_or_below(backend, scale):
    """torch's own is_causal gives NaN here; a scale of 0 is the plain mean of the values seen."""
    q, k, v = make(6, 6)
    output, _ = oracle(q, k, v, causal=True, scale=scale)
    expected = (output, *gradients(output, (q, k, v)))
    assert_equal(run(backend, q, k, v, causal=True, scale=scale), expected)
    assert_equal((attention(q, k, v, causal=True, scale=scale, backend="flex"),), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_strided_inputs_and_untouched_arguments(backend, tile_size):
    x = torch.randn(2, 19, 3, 4, 8, dtype=torch.float64)  # (batch, time, q k v, heads, d), as one projection gives it
    q, k, v = x.permute(2, 0, 3, 1, 4).unbind(0)
    mask = torch.rand(19, 19) > 0.3
    kept = x.clone(), mask.clone()
    output = attention(q, k, v, causal=True, mask=mask, backend=backend)
    expected = attention(q.contiguous(), k.contiguous(), v.contiguous(), causal=True, mask=mask, backend="naive")
    assert_equal((output,), (expected,))
    assert torch.equal(x, kept[0]) and torch.equal(mask, kept[1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_dropout(backend, tile_size):
    def once(values, p=0.3):
        torch.manual_seed(7)
        return attention(q, k, values, dropout_p=p, causal=True, enable_gqa=True, backend=backend)

    q, k, v = make(24, 24, kv_heads=2, d_value=24)
    plain = attention_weights(q, k, causal=True, enable_gqa=True)
    # With the identity for values the output is the weights themselves: each is 0 or its plain value / 0.7.
    weights = once(torch.eye(24, dtype=torch.float64).expand(2, 2, 24, 24))
    kept = weights != 0
    assert_equal((weights,), (plain * kept / 0.7,))
    share = kept.double().sum() / (plain != 0).sum()
    assert abs(share - 0.7) < 0.03  # 2400 draws: three standard deviations
    # The backward must drop the very same weights: compare with autograd through the weights found.
    output = once(v)
    values = v.repeat_interleave(2, dim=1)
    expected = (plain * kept / 0.7) @ values
    assert_equal((output, *gradients(output, (q, k, v))), (expected, *gradients(expected, (q, k, v))))
    assert not torch.equal(once(v), attention(q, k, v, dropout_p=0.3, causal=True, enable_gqa=True, backend=backend))


# Uncompiled, flex holds the table of scores and rounds it to half precision; what it is for is the compiled kernel.
COMPILED = (torch.float32, {"causal": True}), (torch.float32, {"causal": True, "window": 90, "sinks": 3}), (torch.float32, {}), (torch.bfloat16, {"causal": True})  # fmt: skip


@pytest.mark.slow
def test_flex_compiled():
    """Right in single and half precision, and compiled once, or twice, but not for each length and rule."""
    if (reason := flex.uncompiled_because(torch.zeros(1), None)) is not None:
        pytest.skip(f"flex is not compiled here: {reason}")
    counters = torch._dynamo.utils.counters["stats"]
    before = counters["unique_graphs"]
    for dtype, rule in COMPILED:
        for queries, keys in ((150, 280), (300, 300), (277, 290), (257, 400), (310, 310)):
            q, k, v = (x.detach() for x in make(queries, keys, kv_heads=2, d=32, d_value=32, dtype=dtype))
            exact = attention(q.double(), k.double(), v.double(), backend="naive", enable_gqa=True, **rule)
            found = attention(q, k, v, backend="flex", enable_gqa=True, **rule)
            own = attention(q, k, v, backend="sdpa", enable_gqa=True, **rule)
            assert found.dtype == dtype and torch.isfinite(found).all()
            error, torchs = ((x.double() - exact).abs().max().item() for x in (found, own))
            assert error <= 2 * torchs + torch.finfo(dtype).eps, (
                f"{dtype} {rule}: {error:.1e}, torch's own {torchs:.1e}"
            )
    made = counters["unique_graphs"] - before
    assert made <= 4, f"compiled {made} times for twenty calls in two dtypes"


def test_flex_says_what_it_cannot(monkeypatch):
    q, k, v = make(5, 7)
    with pytest.raises(BackendError, match="no backward on the CPU; take backend='tiled' or 'sdpa'"):
        attention(q, k, v, backend="flex").sum().backward()
    bias = torch.zeros(5, 7, dtype=torch.float64, requires_grad=True)
    with pytest.raises(BackendError, match="no backward on the CPU"):
        attention(q.detach(), k.detach(), v.detach(), mask=bias, backend="flex").sum().backward()
    with pytest.raises(BackendError, match="'flex' cannot do this: .*does not return the log-sum-exp on the CPU"):
        attention(q, k, v, backend="flex", return_lse=True)
    with pytest.raises(BackendError, match="'flex' cannot do this: .*has no dropout, and dropout_p=0.1"):
        attention(q, k, v, backend="flex", dropout_p=0.1)

    def reason(*tensors):
        return next(row.reason for row in attention_backends(*tensors) if row.name == "flex")

    assert "not compiled (its compiled kernels have no float64): memory quadratic" in reason(q, k, v)
    single = [x.float() for x in (q, k, v)]
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "C++ that does not compile for a mask" in next(
        row.reason for row in attention_backends(*single, mask=torch.ones(5, 7) > 0) if row.name == "flex"
    )
    assert "not compiled (there is no C++ compiler (no-such-compiler) to compile it with)" in reason(*single)
    expected = attention(*single, backend="naive")
    torch.testing.assert_close(attention(*single, backend="flex"), expected)  # and it runs all the same


def test_flex_visits_no_block_outside_the_rule():
    def visited(queries, keys, **rule):
        rule = {"causal": False, "window": None, "sinks": 0, "masked": False} | rule
        edge, _, whole, _ = flex._blocks(queries, keys, device=torch.device("cpu"), **rule)
        return int(edge.sum()), int(whole.sum())

    assert visited(1024, 1024) == (0, 64)
    assert visited(1024, 1024, causal=True) == (8, 28)
    assert visited(1024, 1024, masked=True) == (64, 0)
    assert visited(1000, 1000) == (8, 56)  # the last block of keys is not whole
    assert visited(1024, 1024, causal=True, window=128) == (15, 0)
    assert visited(1024, 1024, causal=True, window=128, sinks=4) == (21, 0)
    assert visited(1, 1024, causal=True) == (0, 8)
    assert visited(512, 256, causal=True) == (2, 1)


def test_attention_weights_are_what_attention_uses():
    q, k, v = make(9, 14, kv_heads=2)
    weights = attention_weights(q, k, causal=True, window=4, sinks=2, enable_gqa=True)
    assert weights.shape == (2, 4, 9, 14)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 9, dtype=torch.float64))
    assert (weights[:, :, -1] > 0).nonzero()[:, -1].unique().tolist() == [0, 1, 10, 11, 12, 13]
    output = attention(q, k, v, causal=True, window=4, sinks=2, enable_gqa=True)
    assert_equal((weights @ v.repeat_interleave(2, 1),), (output,))
    assert attention_weights(q.bfloat16(), k.bfloat16(), enable_gqa=True).dtype == torch.float32


def peak_bytes(function) -> int:
    """The most that is allocated at one time while the function runs, counted by torch, so the same on every machine."""
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        function()
    now = most = 0
    for event in sorted(
        (e for e in profile.kineto_results.events() if e.name() == "[memory]"), key=lambda e: e.start_ns()
    ):
        now += event.nbytes()
        most = max(most, now)
    return most


@pytest.mark.parametrize("chosen", [{}, {"causal": True}, {"window": 100}, {"padded": True}], ids=str)
def test_memory_of_tiled_is_linear_in_time(chosen, monkeypatch):
    monkeypatch.setattr(tiled, "TILE", 2**10)
    monkeypatch.setattr(tiled, "TILE_KEYS", 64)

    def peak(time, backend):
        inputs = make(time, time, batch=1, heads=2, kv_heads=1, dtype=torch.float32)
        arguments = {"mask": torch.arange(time) < time - 7} if chosen.get("padded") else chosen
        return peak_bytes(lambda: run(backend, *inputs, **arguments))

    for backend, low, high in (("tiled", 1.6, 2.1), ("naive", 3.6, 4.1)):
        small, middle, large = (peak(time, backend) for time in (128, 256, 512))
        growth = (large - middle) / (middle - small)  # 2 if linear, 4 if quadratic; what is constant falls out
        assert low < growth < high, f"{backend}: {small}, {middle}, {large} bytes at 128, 256, 512"


@pytest.mark.parametrize("backward", [False, True])
def test_tiled_needs_at_most_half_again_the_memory_of_sdpa(backward):
    inputs = make(2048, 2048, batch=1, heads=4, d=64, d_value=64, dtype=torch.float32)

    def call(backend):
        output = attention(*inputs, causal=True, backend=backend)
        if backward:
            torch.autograd.grad(output, inputs, torch.ones(1).expand(output.shape))

    assert peak_bytes(lambda: call("tiled")) < 1.5 * peak_bytes(lambda: call("sdpa"))


def test_tiled_touches_no_tile_outside_a_causal_window(monkeypatch):
    monkeypatch.setattr(tiled, "TILE", 2**8)
    monkeypatch.setattr(tiled, "TILE_KEYS", 16)
    q, k, v = make(256, 256, batch=1, heads=1, kv_heads=1)
    touched = []
    original = tiled.Table.scores

    def counting(self, q_rows, k_tile, rows, tile):
        touched.append(q_rows.shape[1] * k_tile.shape[1])
        return original(self, q_rows, k_tile, rows, tile)

    monkeypatch.setattr(tiled.Table, "scores", counting)
    for chosen, limit in (
        ({}, 256 * 256),
        ({"causal": True}, 256 * (256 + 16 + 16) // 2),
        ({"causal": True, "window": 32}, 256 * (32 + 16)),
        ({"causal": True, "window": 32, "sinks": 4}, 256 * (32 + 16 + 4)),
    ):
        touched.clear()
        attention(q, k, v, backend="tiled", **chosen)
        assert sum(touched) <= limit, f"{chosen}: {sum(touched)} scores computed, {limit} expected at most"
    assert touched, "nothing was counted"


lengths = st.integers(0, 24)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.data())
def test_any_call_agrees_with_the_oracle(data):
    queries, keys, batch = data.draw(lengths), data.draw(lengths), data.draw(st.integers(1, 2))
    kv_heads, group = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 3))
    heads = kv_heads * group
    q, k, v = make(
        queries,
        keys,
        batch=batch,
        heads=heads,
        kv_heads=kv_heads,
        d=data.draw(st.integers(1, 5)),
        d_value=data.draw(st.integers(1, 5)),
    )
    chosen = {
        "causal": data.draw(st.booleans()),
        "window": data.draw(st.none() | st.integers(1, 30)),
        "sinks": 0,
        "scale": data.draw(st.none() | st.floats(-2, 2)),
        "mask": None,
    }
    if chosen["window"] is not None:
        chosen["sinks"] = data.draw(st.integers(0, 8))
    shape = tuple(data.draw(st.sampled_from([1, size])) for size in (batch, heads, queries, keys))
    kind = data.draw(st.sampled_from(["none", "bool", "bias"]))
    if kind == "bool":
        chosen["mask"] = torch.rand(shape, generator=torch.Generator().manual_seed(5)) > 0.5
    elif kind == "bias":
        chosen["mask"] = torch.randn(shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    output, _ = oracle(q, k, v, **chosen)
    expected = (output, *gradients(output, (q, k, v)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiled, "TILE", data.draw(st.sampled_from([1, 20, 100, 10_000])))
        patch.setattr(tiled, "TILE_KEYS", data.draw(st.sampled_from([1, 3, 7, 64])))
        for backend in BACKENDS:
            assert_equal(run(backend, q, k, v, **chosen), expected, tolerance=1e-10)
        found = attention(q, k, v, backend="flex", enable_gqa=True, **chosen)
        assert_equal((found,), expected, tolerance=1e-10)
