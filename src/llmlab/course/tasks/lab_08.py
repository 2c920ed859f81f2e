"""Lab 08, GPT: a causal block with its cache, three leaks, a loss, and two numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from llmlab.course.checking import (
    Bank,
    Case,
    Task,
    Wrong,
    call,
    expect,
    expect_close,
    expect_finite,
    expect_number,
    expect_shape,
)

# --- Build: a causal block with its cache


def _weights(d: int, hidden: int, seed: int) -> dict[str, Any]:
    import torch

    g = torch.Generator().manual_seed(seed)
    shapes = {"qkv": (3 * d, d), "out": (d, d), "up": (hidden, d), "down": (d, hidden)}
    w = {n: torch.randn(s, generator=g, dtype=torch.float64) / s[1] ** 0.5 for n, s in shapes.items()}
    norms = {n: 1 + 0.3 * torch.randn(d, generator=g, dtype=torch.float64) for n in ("norm1", "norm2")}
    return w | norms


def _block(
    *,
    norm: str = "pre",
    mask: str = "right",
    scale: bool = True,
    keep: str = "all",
    merge: str = "heads",
    plus: tuple[bool, bool] = (True, True),
    split: str = "qkv",
    act: str = "gelu",
    weigh: bool = True,
    second: str = "norm2",
    at_end: bool = True,
) -> Callable[..., Any]:
    """The block; changed in one thing it is a wrong answer."""

    def block(x: Any, w: Any, heads: int, past: Any = None) -> Any:
        import torch
        import torch.nn.functional as F

        d = x.shape[-1]

        def normed(t: Any, name: str) -> Any:
            if norm == "layer":
                return F.layer_norm(t, (d,)) * w[name]
            return F.rms_norm(t, (d,), w[name] if weigh else None, 1e-5)

        inner = x if norm == "post" else normed(x, "norm1")
        parts = (inner @ w["qkv"].T).chunk(3, dim=-1)
        if split == "interleaved":
            parts = tuple((inner @ w["qkv"].T).unflatten(-1, (d, 3)).unbind(-1))
        q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in parts)
        new = (k, v)
        if past is not None and keep != "ignored":
            old = past if at_end else (k, v)
            fresh = (k, v) if at_end else past
            k, v = (torch.cat([a, b], dim=2) for a, b in zip(old, fresh))
        queries, keys = q.shape[2], k.shape[2]
        shift = {"right": keys - queries, "top left": 0, "strict": keys - queries - 1, "ahead": keys - queries + 1}
        scores = q @ k.mT * ((d // heads) ** -0.5 if scale else 1.0)
        if mask != "none" and not (mask == "only without past" and past is not None):
            allowed = torch.ones(queries, keys, dtype=torch.bool).tril(shift.get(mask, keys - queries))
            scores = scores.masked_fill(~allowed, -math.inf)
        mixed = scores.softmax(-1).nan_to_num() @ v
        mixed = mixed.transpose(1, 2).flatten(2) if merge == "heads" else mixed.reshape(x.shape)
        x = (x if plus[0] else 0) + mixed @ w["out"].T
        x = normed(x, "norm1") if norm == "post" else x
        inner = x if norm == "post" else normed(x, second)
        wide = {"gelu": F.gelu, "relu": torch.relu, "tanh": lambda t: F.gelu(t, approximate="tanh")}[act](
            inner @ w["up"].T
        )
        x = (x if plus[1] else 0) + wide @ w["down"].T
        x = normed(x, "norm2") if norm == "post" else x
        return x, (new if keep == "new" else (k, v))

    return block


def check_block(answer: Any) -> str:
    import torch

    right, d, heads = _block(), 12, 3
    w = _weights(d, 20, seed=1)
    x = 2 * torch.randn(2, 6, d, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    wrongs: list[tuple[Callable[..., Any], str]] = [
        (_block(mask="none"), "every token sees the whole text: the causal mask is missing"),
        (_block(mask="strict"), "a token does not see itself; it may"),
        (_block(mask="ahead"), "a token sees one token ahead"),
        (_block(scale=False), "the scores are not divided by the root of the head's size"),
        (
            _block(norm="post"),
            "this is post-norm: each part must read a normed copy, and its result is added to the plain x",
        ),
        (_block(norm="layer"), "the mean is subtracted, as in LayerNorm; RMSNorm only divides by the root mean square"),
        (_block(weigh=False), "the norms' weights are not used"),
        (_block(second="norm1"), "the second part uses the norm of the first; it has its own, norm2"),
        (_block(plus=(False, True)), "the attention's result is not added to x, it replaces it"),
        (_block(plus=(True, False)), "the feed-forward result is not added to x, it replaces it"),
        (_block(merge="wrong"), "the heads are merged without moving them next to the features first"),
        (_block(split="interleaved"), "qkv holds all queries first, then all keys, then all values"),
        (_block(act="relu"), "a ReLU stands where GELU is asked"),
    ]
    got = _pair(call(answer, x, w, heads), "without a past")
    want, (k, v) = right(x, w, heads)
    misses = [(f(x, w, heads)[0], sentence) for f, sentence in wrongs]
    expect_close(got[0], want, "the output without a past", near_misses=misses, rtol=1e-5, atol=1e-8)
    for name, mine, true in (("keys", got[1][0], k), ("values", got[1][1], v)):
        expect_close(mine, true, f"the returned {name}", rtol=1e-5, atol=1e-8)
    for first, new in ((5, 1), (2, 4), (0, 6), (3, 2)):
        _check_with_past(answer, x[:, : first + new], w, heads, first)
    small = torch.randn(1, 1, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    ones = _weights(4, 7, seed=4)
    expect_close(
        _pair(call(answer, small, ones, 1), "for one token")[0], right(small, ones, 1)[0], "one token, one head"
    )
    long = torch.randn(1, 33, 8, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    _check_with_past(answer, long, _weights(8, 16, seed=9), 4, 30)
    leaves = {name: t.clone().requires_grad_() for name, t in (w | {"x": x}).items()}
    out = answer(leaves["x"], {name: leaves[name] for name in w}, heads)[0]
    expect(
        isinstance(out, torch.Tensor) and out.requires_grad,
        "the output carries no gradient: the block could not be trained",
    )
    wanted = torch.autograd.grad(right(leaves["x"], leaves, heads)[0].square().sum(), list(leaves.values()))
    found = torch.autograd.grad(out.square().sum(), list(leaves.values()), allow_unused=True)
    for name, mine, true in zip(leaves, found, wanted):
        expect(mine is not None, f"no gradient reaches {name}: is it detached somewhere?")
        expect_close(mine, true, f"the gradient by {name}", rtol=1e-5, atol=1e-8)
    return "the same answers with a past as without one, token by token or in pieces"


def _check_with_past(answer: Any, x: Any, w: Any, heads: int, first: int) -> None:
    import torch

    right = _block()
    want, (k, v) = right(x, w, heads)
    _, past = right(x[:, :first], w, heads)
    what = f"with {first} tokens in the past and {x.shape[1] - first} new ones"
    got = _pair(call(answer, x[:, first:], w, heads, past), what)
    rest = x[:, first:]
    misses = [
        (_block(keep="ignored")(rest, w, heads, past)[0], "the past is not used"),
        (_block(mask="top left")(rest, w, heads, past)[0], "the new tokens are the *last* ones: the triangle belongs at the bottom right"),
        (_block(mask="only without past")(rest, w, heads, past)[0], "several new tokens see each other's future: with a past, mask too"),
        (_block(at_end=False)(rest, w, heads, past)[0], "the past belongs before the new tokens"),
    ]  # fmt: skip
    expect_close(got[0], want[:, first:], f"the output {what}", near_misses=misses, rtol=1e-5, atol=1e-8)
    shape = tuple(k.shape)
    for name, mine, true in (("keys", got[1][0], k), ("values", got[1][1], v)):
        expect_shape(mine, shape, f"the returned {name} {what}", "return the past and the new ones together")
        swapped = torch.cat([true[:, :, first:], true[:, :, :first]], dim=2)
        near = [(swapped, "the past belongs before the new tokens")]
        expect_close(mine, true, f"the returned {name} {what}", near_misses=near, rtol=1e-5, atol=1e-8)


def _pair(got: Any, what: str) -> tuple[Any, tuple[Any, Any]]:
    if not (isinstance(got, tuple | list) and len(got) == 2 and isinstance(got[1], tuple | list) and len(got[1]) == 2):
        raise Wrong(f"{what}: return (y, (k, v)), the output and the keys and values of all tokens so far")
    return got[0], (got[1][0], got[1][1])


def _by_torch(x: Any, w: Any, heads: int, past: Any = None) -> Any:
    """A right answer written differently: torch's kernel with a mask of its own, and einsum."""
    import torch
    import torch.nn.functional as F

    b, t, d = x.shape
    h = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * w["norm1"]
    qkv = torch.einsum("btd,ed->bte", h, w["qkv"]).reshape(b, t, 3, heads, d // heads).permute(2, 0, 3, 1, 4)
    q, k, v = qkv[0], qkv[1], qkv[2]
    if past is not None:
        k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
    place = torch.arange(k.shape[2])
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=place[None] <= place[-t:, None])
    y = x + torch.einsum("bhtc,dhc->btd", out, w["out"].reshape(d, heads, -1))
    h = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + 1e-5) * w["norm2"]
    return y + F.gelu(h @ w["up"].T) @ w["down"].T, [k, v]


def _detached(x: Any, w: Any, heads: int, past: Any = None) -> Any:
    y, cache = _block()(x.detach(), w, heads, past)
    return y, cache


def _frozen_weights(x: Any, w: Any, heads: int, past: Any = None) -> Any:
    return _block()(x, w | {"qkv": w["qkv"].detach()}, heads, past)


def _window(x: Any, w: Any, heads: int, past: Any = None) -> Any:
    """Reads no more than the last sixteen of the past, as a window would."""
    return _block()(x, w, heads, past if past is None else tuple(t[:, :, -16:] for t in past))


def _grows_in_place(x: Any, w: Any, heads: int, past: Any = None) -> Any:
    y, (k, v) = _block()(x, w, heads, past)
    if past is not None:
        past[0].mul_(1.5)
    return y, (k, v)


# --- Debug: three leaks


def _gpt_weights() -> dict[str, Any]:
    import torch

    g = torch.Generator().manual_seed(5)
    shapes = {"token": (11, 8), "position": (16, 8), "qk": (8, 8), "v": (8, 8)}
    return {n: torch.randn(s, generator=g, dtype=torch.float64) for n, s in shapes.items()}


def _gpt(
    *, places: str = "start", norm: int = -1, batch: bool = False, past: int = 0, shown: str = "all"
) -> Callable[..., Any]:
    """The small GPT of the task; the defaults are right, everything else is one of its faults or a wrong cure."""

    def gpt(ids: Any, w: Any) -> Any:
        import torch

        t, d = ids.shape[1], w["token"].shape[1]
        x = w["token"][ids]
        where = torch.arange(t)
        if places != "none":
            x = x + w["position"][where.flip(0) if places == "end" else where]
        if shown != "no norm":
            x = (x - x.mean(norm, keepdim=True)) / (x.var(norm, keepdim=True, correction=0) + 1e-5).sqrt()
        scores = x @ w["qk"] @ x.mT / d**0.5
        mask = torch.ones(t, t, dtype=torch.bool).tril(past)
        x = x + scores.masked_fill(~mask, -math.inf).softmax(-1) @ x @ w["v"]
        if batch:
            x = x - x.mean(0, keepdim=True)
        return x @ w["token"].T

    return gpt


def check_leak(answer: Any) -> str:
    import torch

    w = _gpt_weights()
    ids = torch.randint(11, (3, 7), generator=torch.Generator().manual_seed(6))
    right = _gpt()
    got = call(answer, ids, w)
    expect_shape(got, (3, 7, 11), "the logits")
    faults: list[tuple[Callable[..., Any], str]] = [
        (_gpt(places="end", norm=1, batch=True), "this is the code as given"),
        (_gpt(places="none"), "the positions are gone; they only have to be counted from the start"),
        (_gpt(shown="no norm"), "the norm is gone; it only has to run over each token's own features"),
        (_gpt(norm=0), "the norm runs over the batch now: a text would depend on its neighbours"),
    ]
    for f, sentence in faults:
        if torch.allclose(torch.as_tensor(got).double(), f(ids, w), atol=1e-8):
            raise Wrong(sentence)
    for t in range(1, 7):
        changed = ids.clone()
        changed[:, t] = (changed[:, t] + 3) % 11
        moved = (call(answer, changed, w) - got)[:, :t].abs().max()
        expect(
            moved < 1e-9,
            f"token {t} was changed and a logit before it moved: something still looks at the whole text",
        )
    for t in (1, 3, 6):
        expect(
            torch.allclose(call(answer, ids[:, :t], w), got[:, :t], atol=1e-9),
            f"the first {t} tokens alone get other logits than inside the longer text: something knows how long the text is",
        )
    expect(
        torch.allclose(call(answer, ids[:1], w), got[:1], atol=1e-9),
        "a text alone gets other logits than beside other texts: something looks across the batch",
    )
    expect_close(got, right(ids, w), "the logits", atol=1e-6, hint="mend the three places and leave the rest as it is")
    other = torch.randint(11, (2, 12), generator=torch.Generator().manual_seed(7))
    expect_close(call(answer, other, w), right(other, w), "the logits of a longer text", atol=1e-6)
    return "no future, no length, no neighbour: each prediction rests on its own past"


def _layer_norm(ids: Any, w: Any) -> Any:
    """A right answer written differently."""
    import torch
    import torch.nn.functional as F

    t = ids.shape[1]
    x = F.layer_norm(F.embedding(ids, w["token"]) + w["position"][:t], (8,))
    bias = torch.full((t, t), -math.inf, dtype=x.dtype).triu(1)
    return (x + torch.softmax(x @ w["qk"] @ x.mT / 8**0.5 + bias, -1) @ (x @ w["v"])) @ w["token"].mT


def _running(ids: Any, w: Any) -> Any:
    """Honest, but another model: the norm over the text so far."""
    import torch

    t = ids.shape[1]
    x = w["token"][ids] + w["position"][:t]
    count = torch.arange(1, t + 1)[:, None]
    x = x - x.cumsum(1) / count
    scores = (x @ w["qk"] @ x.mT / 8**0.5).masked_fill(torch.ones(t, t).triu(1).bool(), -math.inf)
    return (x + scores.softmax(-1) @ x @ w["v"]) @ w["token"].T


def _first_row_only(ids: Any, w: Any) -> Any:
    """Mends the first text of a batch and leaves the others as given."""
    out = _gpt(norm=1)(ids, w)
    out[:1] = _gpt()(ids[:1], w)
    return out


# --- Debug: a loss


def _lm_loss(
    *, shift: int = 1, mask: str = "both", reduce: str = "tokens", base: float = math.e, sign: float = 1.0
) -> Callable[..., Any]:
    """The loss; changed in one thing it is a wrong answer."""

    def lm_loss(logits: Any, ids: Any, real: Any) -> Any:
        logp = logits.log_softmax(-1)
        if shift == 0:
            picked, source, target = logp.gather(-1, ids[..., None])[..., 0], real, real
        elif shift == 1:
            picked = logp[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]
            source, target = real[:, :-1], real[:, 1:]
        elif shift == 2:
            picked = logp[:, :-2].gather(-1, ids[:, 2:, None])[..., 0]
            source, target = real[:, :-2], real[:, 2:]
        else:
            picked = logp[:, 1:].gather(-1, ids[:, :-1, None])[..., 0]
            source, target = real[:, 1:], real[:, :-1]
        counted = {
            "both": source & target,
            "target": target,
            "source": source,
            "none": target | True,
        }[mask]
        nats = -sign * picked / math.log(base)
        if reduce == "sum":
            return nats[counted].sum()
        if reduce == "texts":
            return ((nats * counted).sum(1) / counted.sum(1)).mean()
        if reduce == "all":
            return (nats * counted).mean()
        return nats[counted].mean()

    return lm_loss


def _loss_case(seed: int, lengths: list[tuple[int, int]], time: int) -> tuple[Any, Any, Any]:
    """Logits, ids and the mask of texts whose real tokens stand from the first to behind the second number."""
    import torch

    g = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(len(lengths), time, 9, generator=g, dtype=torch.float64)
    ids = torch.randint(9, (len(lengths), time), generator=g)
    place = torch.arange(time)
    real = torch.stack([(place >= a) & (place < b) for a, b in lengths])
    return logits, ids, real


def check_loss(answer: Any) -> str:
    import torch

    right = _lm_loss()
    wrongs: list[tuple[Callable[..., Any], str]] = [
        (_lm_loss(shift=0), "each position is marked against its own token; it predicts the next one"),
        (_lm_loss(shift=2), "the labels are shifted twice: the token after next is asked for"),
        (_lm_loss(shift=-1), "shifted the wrong way: position t predicts token t + 1, not t - 1"),
        (_lm_loss(mask="none"), "padding is counted"),
        (_lm_loss(mask="target"), "the first real token is charged although it is predicted from padding"),
        (_lm_loss(mask="source"), "the last real token is asked to predict padding"),
        (_lm_loss(reduce="sum"), "this is the sum; the loss is the mean over the predicted tokens"),
        (_lm_loss(reduce="texts"), "this is the mean of the texts' means: a short text's tokens weigh more"),
        (_lm_loss(reduce="all"), "divided by all positions, padding included; divide by the tokens that are counted"),
        (_lm_loss(base=2.0), "these are bits; nats are asked, with the natural logarithm"),
        (_lm_loss(sign=-1.0), "the sign is turned: the loss is the negative log-probability"),
        (_lm_loss(shift=0, mask="none"), "this is the code as given"),
    ]
    cases = [
        ("two whole texts", _loss_case(1, [(0, 6), (0, 6)], 6)),
        ("texts padded behind", _loss_case(2, [(0, 7), (0, 3), (0, 5)], 7)),
        ("texts padded in front", _loss_case(3, [(0, 7), (4, 7), (2, 7)], 7)),
        ("a text of one token beside another", _loss_case(4, [(0, 5), (0, 1)], 5)),
        ("padding on both sides", _loss_case(5, [(1, 4), (2, 6)], 6)),
    ]
    for name, (logits, ids, real) in cases:
        misses = [(f(logits, ids, real), s) for f, s in wrongs if torch.isfinite(f(logits, ids, real))]
        expect_close(
            call(answer, logits, ids, real), right(logits, ids, real), f"the loss of {name}", near_misses=misses
        )
    logits, ids, real = _loss_case(6, [(0, 5), (0, 4)], 6)
    logits[1, 4:] = math.nan  # what a model says at padding may be anything
    got = call(answer, logits, ids, real)
    expect_finite(got, "the loss with NaN in the logits of padding", "select the counted places; NaN times zero is NaN")
    expect_close(got, right(logits, ids, real), "the loss with NaN in the logits of padding")
    large = torch.tensor([[[0.0, 900.0, 0.0], [900.0, 0.0, 0.0]]], dtype=torch.float32)
    got = call(answer, large, torch.tensor([[0, 2]]), torch.tensor([[True, True]]))
    expect_finite(got, "the loss with logits of 900", "take log_softmax, not log(softmax)")
    expect_close(got, torch.tensor(900.0), "the loss with logits of 900")
    leaf = logits.nan_to_num().requires_grad_()
    out = answer(leaf, ids, real)
    expect(
        isinstance(out, torch.Tensor) and out.requires_grad,
        "no gradient flows to the logits: return a tensor, not a float",
    )
    (gradient,) = torch.autograd.grad(out, leaf)
    (wanted,) = torch.autograd.grad(right(leaf, ids, real), leaf)
    expect_close(gradient, wanted, "the gradient by the logits")
    return "shifted once, averaged over what was really predicted"


def _by_cross_entropy(logits: Any, ids: Any, real: Any) -> Any:
    """A right answer written differently: labels of -100."""
    import torch.nn.functional as F

    labels = ids[:, 1:].masked_fill(~(real[:, 1:] & real[:, :-1]), -100)
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels.flatten(), ignore_index=-100)


def _log_of_softmax(logits: Any, ids: Any, real: Any) -> Any:
    p = logits[:, :-1].softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    return -p.log()[real[:, 1:] & real[:, :-1]].mean()


def _times_mask(logits: Any, ids: Any, real: Any) -> Any:
    counted = real[:, 1:] & real[:, :-1]
    nats = -logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    return (nats * counted).sum() / counted.sum()


def _as_float(logits: Any, ids: Any, real: Any) -> Any:
    return _lm_loss()(logits, ids, real).item()


# --- Reason: how many parameters


def check_count(answer: Any) -> str:
    if not (isinstance(answer, tuple | list) and len(answer) == 3):
        raise Wrong("three numbers are asked for, in billions: (GPT-3, GPT-3 with 24 layers, the Llama)")
    deep, shallow, llama = answer
    d, block = 12288, 12 * 12288**2 / 1e9
    tables = (50257 + 2048) * d / 1e9
    for value, layers, what in ((deep, 96, "GPT-3"), (shallow, 24, "GPT-3 with 24 layers")):
        expect_number(
            value,
            layers * block + tables,
            rtol=0.01,
            unit="billions",
            what=what,
            near_misses={
                layers * 4 * d * d / 1e9: "that is the attention alone; the feed-forward network has twice as many",
                layers * 8 * d * d / 1e9: "that is the feed-forward network alone; attention has 4d² more",
                layers
                * 16
                * d
                * d
                / 1e9: "a plain feed-forward network has two matrices of d · 4d, 8d² in all, not 12d²",
                layers
                * 96
                * 12
                * d
                * d
                / 1e9: "the heads share out the width: their number does not multiply anything",
                block: "that is one block",
            },
        )
    one = 4096 * (32 + 2 * 8) * 128 + 4096 * 4096 + 3 * 4096 * 14336
    table = 128256 * 4096
    total = (32 * one + 2 * table) / 1e9
    expect_number(
        llama,
        total,
        rtol=0.001,
        unit="billions",
        what="the Llama",
        near_misses={
            (32 * one + table) / 1e9: "the head is not tied here: the table of 128,256 vectors stands there twice",
            32 * one / 1e9: "the tables are missing: 128,256 vectors at the entrance and as many at the exit",
            (32 * (one + 2 * 4096 * 24 * 128) + 2 * table)
            / 1e9: "keys and values have 8 heads, not 32: their matrices are narrower",
            (32 * (one - 4096 * 14336) + 2 * table) / 1e9: "SwiGLU has three matrices, gate, up and down",
            (32 * 12 * 4096**2 + 2 * table)
            / 1e9: "12·l·d² is GPT's; here the network is gated, 14,336 wide, and the keys are grouped "
            "(or the attention's output projection is missing, which happens to give the same)",
        },
    )
    return "12·l·d² and the tables; grouped keys make the attention smaller, the gate the rest larger"


# --- Reason: 6ND, ln V, bits


def check_budget(answer: Any) -> str:
    if not (isinstance(answer, tuple | list) and len(answer) == 3):
        raise Wrong("three numbers are asked for: (days, loss at step 0, bits a character)")
    days, first, bits = answer
    work = 6 * 8e9 * 2e12
    rate = 1024 * 312e12 * 0.4
    expect_number(
        days,
        work / rate / 86400,
        rtol=0.01,
        unit="days",
        what="the days of training",
        near_misses={
            work / 3 / rate / 86400: "2ND is the forward pass alone; the backward costs twice as much again",
            work / (rate / 0.4) / 86400: "that is at the full peak; the run reaches 40 % of it",
            work / rate / 3600: "those are hours",
            work * 0.4 / (rate / 0.4) / 86400: "a utilisation of 40 % makes it longer: divide by it",
            work / (rate / 1024) / 86400: "that is one GPU; there are 1,024",
            work * 4 / 3 / rate / 86400: "8ND includes recomputing the forward pass; 6ND was asked",
        },
    )
    expect_number(
        first,
        math.log(128256),
        rtol=0.003,
        unit="nats",
        what="the loss at step 0",
        near_misses={
            math.log2(128256): "that is in bits; nats are asked",
            math.log10(128256): "that is the logarithm to base ten",
            128256: "that is the perplexity; the loss is its logarithm",
            1 / 128256: "that is the probability of each token; the loss is its negative logarithm",
        },
    )
    expect_number(
        bits,
        math.log2(8) / 4,
        rtol=0.003,
        what="the bits a character",
        near_misses={
            math.log2(8): "that is bits a token; a token has 4 characters",
            math.log(8) / 4: "those are nats; a bit is ln 2 nats",
            math.log2(8) * 4: "divide by the characters of a token: each token pays for all of them",
            8 / 4: "take the logarithm of the perplexity first",
            math.log(8): "those are nats a token; a bit is ln 2 nats, and a token has 4 characters",
        },
    )
    return "a month or so of a thousand cards, and two numbers that catch most broken runs"


def _counted(**changes: float) -> tuple[float, float, float]:
    right = {"deep": 174.6, "shallow": 44.13, "llama": 8.03}
    return tuple((right | changes).values())  # type: ignore[return-value]


TASKS = [
    Task(
        id="08.block",
        kind="build",
        title="A causal block that remembers",
        difficulty=3,
        minutes=15,
        hints=(
            "Two lines make the block: `x = x + attention(norm(x))`, `x = x + feedforward(norm(x))`. The past only "
            "changes what the queries look at: `torch.cat([past_k, k], dim=2)`.",
            "With `keys` and `queries` counted, the mask is `torch.ones(queries, keys).tril(keys - queries)`. Split "
            "heads by `unflatten(-1, (heads, -1)).transpose(1, 2)`, merge them by `transpose(1, 2).flatten(2)`.",
        ),
        check=check_block,
        bank=Bank(
            wrong=[
                Case("no mask", _block(mask="none"), "mask is missing"),
                Case("not itself", _block(mask="strict"), "does not see itself"),
                Case("one ahead", _block(mask="ahead"), "one token ahead"),
                Case("no scale", _block(scale=False), "root of the head's size"),
                Case("post-norm", _block(norm="post"), "post-norm"),
                Case("LayerNorm", _block(norm="layer"), "only divides"),
                Case("norm without weights", _block(weigh=False), "weights are not used"),
                Case("one norm twice", _block(second="norm1"), "its own, norm2"),
                Case("no first plus", _block(plus=(False, True)), "attention's result is not added"),
                Case("no second plus", _block(plus=(True, False)), "feed-forward result is not added"),
                Case("merged by a view", _block(merge="wrong"), "next to the features"),
                Case("interleaved", _block(split="interleaved"), "all queries first"),
                Case("ReLU", _block(act="relu"), "ReLU"),
                Case("GELU by tanh", _block(act="tanh"), "the output without a past"),
                Case("top left", _block(mask="top left"), "bottom right"),
                Case("no mask with a past", _block(mask="only without past"), "mask too"),
                Case("past ignored", _block(keep="ignored"), "past is not used"),
                Case("past behind", _block(at_end=False), "before the new"),
                Case("only the new kept", _block(keep="new"), "together"),
                Case("y alone", lambda x, w, heads, past=None: _block()(x, w, heads, past)[0], "return (y, (k, v))"),
                Case("detached", _detached, "no gradient"),
                Case("spoils the past", _grows_in_place, "in place"),
                Case("frozen weights", _frozen_weights, "no gradient reaches qkv"),
                Case("a window over the past", _window, "with 30 tokens in the past"),
            ],
            right=[Case("torch's kernel and einsum", _by_torch)],
        ),
    ),
    Task(
        id="08.leak",
        kind="debug",
        title="Three leaks that no loss curve shows",
        difficulty=2,
        minutes=10,
        hints=(
            "Change the last token: which earlier logits move? Then cut the last token off. Then run a text alone, and "
            "beside others. Each test finds another fault.",
            "Positions count from the start. A norm runs over the features of one token (`dim=-1`). Nothing ever runs "
            "over `dim=0`.",
        ),
        check=check_leak,
        bank=Bank(
            wrong=[
                Case("as given", _gpt(places="end", norm=1, batch=True), "as given"),
                Case("norm mended", _gpt(places="end", batch=True), "how long the text is"),
                Case("positions mended", _gpt(norm=1, batch=True), "looks at the whole text"),
                Case("batch forgotten", _gpt(batch=True), "across the batch"),
                Case("positions forgotten", _gpt(places="end"), "how long the text is"),
                Case("norm over the batch", _gpt(norm=0), "over the batch now"),
                Case("no positions", _gpt(places="none"), "positions are gone"),
                Case("no norm", _gpt(shown="no norm"), "norm is gone"),
                Case("sees one ahead", _gpt(past=1), "logit before it moved"),
                Case("does not see itself", lambda ids, w: _gpt(past=-1)(ids, w).nan_to_num(), "logits"),
                Case("another honest model", _running, "leave the rest"),
                Case("only the first text", _first_row_only, "looks at the whole text"),
                Case("zeros", lambda ids, w: _gpt()(ids, w) * 0, "logits"),
            ],
            right=[Case("torch's layer_norm and a bias", _layer_norm)],
        ),
    ),
    Task(
        id="08.loss",
        kind="debug",
        title="A loss that marks the wrong answers",
        difficulty=2,
        minutes=8,
        hints=(
            "Which token do the logits at place t predict? How many predictions does a text of 5 tokens make?",
            "Logits without the last place, ids without the first. Count a place where both the token that is read and "
            "the one that is predicted are real, and average over those.",
        ),
        check=check_loss,
        bank=Bank(
            wrong=[
                Case("as given", _lm_loss(shift=0, mask="none"), "its own token"),
                Case("not shifted", _lm_loss(shift=0), "its own token"),
                Case("shifted twice", _lm_loss(shift=2), "shifted twice"),
                Case("backwards", _lm_loss(shift=-1), "wrong way"),
                Case("padding counted", _lm_loss(mask="none"), "padding is counted"),
                Case("target alone", _lm_loss(mask="target"), "predicted from padding"),
                Case("source alone", _lm_loss(mask="source"), "predict padding"),
                Case("sum", _lm_loss(reduce="sum"), "the sum"),
                Case("mean of means", _lm_loss(reduce="texts"), "mean of the texts' means"),
                Case("divided by all", _lm_loss(reduce="all"), "padding included"),
                Case("bits", _lm_loss(base=2.0), "bits"),
                Case("sign", _lm_loss(sign=-1.0), "sign is turned"),
                Case("log of softmax", _log_of_softmax, "log_softmax"),
                Case("times the mask", _times_mask, "NaN"),
                Case("a float", _as_float, "no gradient"),
            ],
            right=[Case("labels of -100", _by_cross_entropy)],
        ),
    ),
    Task(
        id="08.count",
        kind="reason",
        title="Does GPT-3 have 24 layers?",
        difficulty=2,
        minutes=6,
        hints=(
            "GPT: 4d² for attention, 8d² for the feed-forward network, and a table of tokens and one of positions.",
            "Llama: queries d · 32 · 128, keys and values d · 8 · 128 each, output d²; three matrices of d · 14,336; "
            "and 128,256 · d twice, since the head is not tied.",
        ),
        check=check_count,
        bank=Bank(
            wrong=[
                Case("attention alone", _counted(deep=96 * 4 * 12288**2 / 1e9), "attention alone"),
                Case("feed-forward alone", _counted(deep=96 * 8 * 12288**2 / 1e9), "feed-forward network alone"),
                Case("three matrices", _counted(deep=96 * 16 * 12288**2 / 1e9), "two matrices"),
                Case("heads multiplied", _counted(shallow=24 * 96 * 12 * 12288**2 / 1e9), "share out the width"),
                Case("one block", _counted(deep=12 * 12288**2 / 1e9), "one block"),
                Case("24 layers, too", _counted(deep=44.13), "GPT-3"),
                Case("the published figure twice", _counted(shallow=174.6), "24 layers"),
                Case("tied", _counted(llama=7.504), "not tied"),
                Case("no tables", _counted(llama=6.979), "tables are missing"),
                Case("32 key heads", _counted(llama=8.835), "narrower"),
                Case("two matrices", _counted(llama=6.15), "three matrices"),
                Case("GPT's rule", _counted(llama=7.493), "12·l·d²"),
                Case("no units", (174.6e9, 44.13e9, 8.03e9), "billions"),
                Case("two numbers", (174.6, 44.1), "three numbers"),
            ],
            right=[Case("without norms and biases", [96 * 12 * 12288**2 / 1e9 + 0.643, 44.1, 8.0297])],
        ),
    ),
    Task(
        id="08.budget",
        kind="reason",
        title="A thousand cards, and two sanity checks",
        difficulty=1,
        minutes=6,
        hints=(
            "6 operations a parameter and token; 1,024 · 312·10¹² · 0.4 of them a second.",
            "A blind guess has probability 1/V. Perplexity is e to the loss in nats; a bit is ln 2 nats.",
        ),
        check=check_budget,
        bank=Bank(
            wrong=[
                Case("forward alone", (2.898, 11.762, 0.75), "forward pass alone"),
                Case("at peak", (3.478, 11.762, 0.75), "full peak"),
                Case("hours", (208.67, 11.762, 0.75), "hours"),
                Case("one GPU", (8903.1, 11.762, 0.75), "one GPU"),
                Case("8ND", (11.593, 11.762, 0.75), "6ND was asked"),
                Case("loss in bits", (8.694, 16.969, 0.75), "nats are asked"),
                Case("the perplexity", (8.694, 128256, 0.75), "its logarithm"),
                Case("a token", (8.694, 11.762, 3.0), "4 characters"),
                Case("nats a character", (8.694, 11.762, 0.5199), "ln 2 nats"),
                Case("perplexity divided", (8.694, 11.762, 2), "logarithm"),
                Case("two numbers", (8.694, 11.762), "three numbers"),
            ],
            right=[Case("as fractions", [6 * 8e9 * 2e12 / (1024 * 312e12 * 0.4) / 86400, math.log(128256), 3 / 4])],
        ),
    ),
]
