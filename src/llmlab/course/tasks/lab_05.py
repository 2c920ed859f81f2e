"""Lab 05, layer normalisation: build it forwards and backwards, mend two that are nearly right, and count statistics."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from llmlab.course.checking import Bank, Case, Task, Wrong, call, expect, expect_close, expect_finite, expect_number


def _made(*shape: int, seed: int, scale: float = 3.0, shift: float = 1.0) -> Any:
    import torch

    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def _norm(
    x: Any,
    weight: Any,
    bias: Any,
    eps: float,
    *,
    axis: Any = -1,
    correction: int = 0,
    outside: bool = False,
    centre: bool = True,
    weigh: str = "after",
    add: bool = True,
    power: float = 0.5,
) -> Any:
    """Layer normalisation, changed in one thing to give a near miss."""
    mean = x.mean(axis, keepdim=True)
    centred = x - mean if centre else x
    size = x.shape[axis] if isinstance(axis, int) else math.prod(x.shape[a] for a in axis)
    var = centred.square().sum(axis, keepdim=True) / max(1, size - correction)
    y = centred / (var.sqrt() + eps if outside else (var + eps) ** power)
    y = {"after": lambda: y * weight, "never": lambda: y, "bias too": lambda: (y + bias) * weight}[weigh]()
    return y + bias if add and weigh != "bias too" else y


def _forward_misses(x: Any, weight: Any, bias: Any, eps: float) -> list[tuple[Any, str]]:
    def other(**change: Any) -> Any:
        return _norm(x, weight, bias, eps, **change)

    return [
        (
            other(correction=1),
            "your variance divides by d - 1; LayerNorm's divides by d (torch's var is unbiased by default)",
        ),
        (other(correction=1, outside=True), "the variance divides by d - 1, and eps stands outside the root"),
        (other(outside=True), "eps stands outside the root: it is added to the variance, before the root"),
        (other(axis=-2), "the statistics run over the tokens; each token has its own, over its d numbers"),
        (other(axis=(-1, -2)), "the statistics run over a whole text; each token has its own"),
        (other(axis=0), "the statistics run over the batch, as BatchNorm's; each token has its own"),
        (other(centre=False), "the mean is not subtracted: that is RMSNorm (with a bias)"),
        (other(power=1.0), "you divide by the variance, not by its root"),
        (other(weigh="never"), "the weight is not used"),
        (other(add=False), "the bias is not added"),
        (other(weigh="bias too"), "the bias is multiplied by the weight: it is added last"),
        (_norm(x, weight, bias, 0.0), "eps is not used"),
    ]


def check_forward(answer: Any) -> str:
    import torch

    eps, weight, bias = 0.3, _made(5, seed=1), _made(5, seed=2)
    for shape in ((2, 3, 5), (4, 5), (5,)):
        x = _made(*shape, seed=3)
        right = torch.nn.functional.layer_norm(x, (5,), weight, bias, eps)
        misses = _forward_misses(x, weight, bias, eps) if len(shape) == 3 else []
        expect_close(
            call(answer, x, weight, bias, eps), right, f"the output for x of shape {shape}", near_misses=misses
        )
    same = torch.full((2, 5), 4.0, dtype=torch.float64)
    got = call(answer, same, weight, bias, 1e-5)
    expect_close(
        got,
        bias.expand(2, 5),
        "the output of a row of equal numbers",
        hint="its variance is 0 and eps keeps the root from it: what is left is the bias",
    )
    far = (1e4 + _made(3, 64, seed=4)).float()
    right = torch.nn.functional.layer_norm(far.double(), (64,))
    got = call(answer, far, torch.ones(64), torch.zeros(64), 1e-5)
    expect_close(
        got,
        right,
        "the output of float32 rows around 10,000",
        1e-2,
        1e-2,
        hint="the mean of the squares minus the squared mean loses all digits here: subtract the mean first, then square",
    )
    small = _made(3, 5, seed=4) * 1e-4
    expect_close(
        call(answer, small, torch.ones(5).double(), torch.zeros(5).double(), 1e-12),
        torch.nn.functional.layer_norm(small, (5,), eps=1e-12),
        "the output for rows of size 0.0001 and eps = 1e-12",
        hint="take eps as it is given, without a floor of your own",
    )
    overflow = "600² is more than float16 can hold (65,504): compute in float32 and go back at the end"
    wide = (_made(2, 64, seed=5) * 200).half()
    got = call(answer, wide, torch.ones(64, dtype=torch.float16), torch.zeros(64, dtype=torch.float16), 1e-5)
    expect(
        getattr(got, "dtype", None) == torch.float16,
        f"a float16 input should give float16; yours gives {getattr(got, 'dtype', type(got).__name__)}",
    )
    expect_close(
        got,
        torch.nn.functional.layer_norm(wide.double(), (64,)),
        "the output of float16 rows of size 600",
        5e-3,
        5e-3,
        near_misses=[(torch.zeros(2, 64), overflow)],
        hint=overflow,
    )
    return "each token by itself, biased variance, eps under the root, safe in float16"


def _forward(change: dict[str, Any] | None = None, *, half_safe: bool = True) -> Callable[..., Any]:
    def layer_norm(x: Any, weight: Any, bias: Any, eps: float) -> Any:
        wide = x.float() if half_safe and x.element_size() == 2 else x
        return _norm(wide, weight.to(wide.dtype), bias.to(wide.dtype), eps, **(change or {})).to(x.dtype)

    return layer_norm


def _cancels(x: Any, weight: Any, bias: Any, eps: float) -> Any:
    wide = x.float() if x.element_size() == 2 else x
    mean = wide.mean(-1, keepdim=True)
    var = (wide.square().mean(-1, keepdim=True) - mean.square()).clamp_min(0)
    return ((wide - mean) / (var + eps).sqrt() * weight + bias).to(x.dtype)


def _stays_wide(x: Any, weight: Any, bias: Any, eps: float) -> Any:
    return _norm(x.double(), weight.double(), bias.double(), eps)


def _through_standard(x: Any, weight: Any, bias: Any, eps: float) -> Any:
    """A right answer written differently: a matrix that subtracts the mean, and a norm."""
    import torch

    wide = x.float() if x.element_size() == 2 else x
    d = x.shape[-1]
    centred = wide @ (torch.eye(d, dtype=wide.dtype) - 1 / d)
    scale = (torch.linalg.vector_norm(centred, dim=-1, keepdim=True) ** 2 / d + eps) ** -0.5
    return torch.addcmul(bias.to(wide.dtype), weight.to(wide.dtype), centred * scale).to(x.dtype)


def _by_autograd(grad: Any, x: Any, weight: Any, eps: float) -> Any:
    import torch

    with torch.enable_grad():
        leaves = [t.detach().clone().requires_grad_() for t in (x, weight, torch.zeros_like(weight))]
        out = torch.nn.functional.layer_norm(leaves[0], weight.shape, leaves[1], leaves[2], eps)
        return torch.autograd.grad(out, leaves, grad)


def _gradients(
    grad: Any,
    x: Any,
    weight: Any,
    eps: float,
    *,
    parts: str = "both",
    weigh: bool = True,
    along: str = "y",
    correction: int = 0,
    average: bool = True,
) -> tuple[Any, Any, Any]:
    """The three gradients, changed in one thing to give a near miss."""
    d = x.shape[-1]
    centred = x - x.mean(-1, keepdim=True)
    scale = (centred.square().sum(-1, keepdim=True) / (d - correction) + eps) ** -0.5
    y = centred * scale
    g = grad * weight if weigh else grad
    mean = g.mean(-1, keepdim=True) * (1 if average else d) if parts in ("both", "mean") else 0.0
    with_y = y * (g * y).mean(-1, keepdim=True) * (1 if average else d) if parts in ("both", "variance") else 0.0
    rows = tuple(range(x.dim() - 1))
    read = {"y": y, "x": x, "centred": centred}[along]
    return scale * (g - mean - with_y), (grad * read).sum(rows), grad.sum(rows)


def check_backward(answer: Any) -> str:
    import torch

    for shape, eps in (((2, 3, 5), 0.5), ((4, 5), 1e-5)):
        x, grad, weight = _made(*shape, seed=6), _made(*shape, seed=7), _made(5, seed=8)
        leaves = [
            x.clone().requires_grad_(),
            weight.clone().requires_grad_(),
            torch.zeros(5, dtype=torch.float64, requires_grad=True),
        ]
        want = torch.autograd.grad(
            torch.nn.functional.layer_norm(leaves[0], (5,), leaves[1], leaves[2], eps), leaves, grad
        )
        with torch.inference_mode():  # nothing is recorded in it, whatever the answer switches on
            try:
                got = call(answer, grad, x, weight, eps)
            except RuntimeError as error:
                if "grad_fn" not in str(error):
                    raise
                raise Wrong("you let autograd derive it; derive it yourself: this check runs without it") from error
        if not (isinstance(got, tuple | list) and len(got) == 3):
            raise Wrong("three gradients are asked for, (of x, of weight, of bias)")
        other = lambda **change: _gradients(grad, x, weight, eps, **change)  # noqa: B023, E731
        expect_close(
            got[0],
            want[0],
            f"the gradient of x, of shape {shape} with eps {eps}",
            near_misses=[
                (
                    other(parts="none")[0],
                    "mean and variance are treated as constants: both depend on x, and send a gradient back",
                ),
                (other(parts="mean")[0], "the path through the variance is missing: the part along the normalised row"),
                (
                    other(parts="variance")[0],
                    "the path through the mean is missing: subtract the mean of grad * weight",
                ),
                (
                    other(average=False)[0],
                    "the parts along the ones and along the row are means over the d numbers, not sums",
                ),
                (other(weigh=False)[0], "grad reaches the normalised row through the weight: start from grad * weight"),
                (_gradients(grad, x, weight, 0.0)[0], "eps is not used; the forward pass had it"),
                (other(correction=1)[0], "the variance divides by d - 1; the forward pass divided by d"),
                (grad * weight, "that is the gradient of the normalised row, before it goes through the normalisation"),
            ],
        )
        expect_close(
            got[1],
            want[1],
            "the gradient of weight",
            near_misses=[
                (
                    other(along="x")[1],
                    "the weight multiplies the normalised row, so that is what its gradient is weighted by, not x",
                ),
                (want[2], "the gradient of bias stands where the weight's should: the order is x, weight, bias"),
                (other(along="centred")[1], "the weight multiplies the normalised row; yours is only centred"),
                (
                    (grad * weight).sum(tuple(range(x.dim() - 1))),
                    "that is not the weight's: multiply grad by the normalised row",
                ),
            ],
            hint="grad times the normalised row, summed over every axis but the last",
        )
        expect_close(got[2], want[2], "the gradient of bias", hint="grad, summed over every axis but the last")
    return "the same as autograd's, in one pass"


def _backward(**change: Any) -> Callable[..., Any]:
    return lambda grad, x, weight, eps: _gradients(grad, x, weight, eps, **change)


def _not_summed(grad: Any, x: Any, weight: Any, eps: float) -> Any:
    dx, dw, db = _gradients(grad, x, weight, eps)
    return dx, grad * x, grad


def _jacobian(grad: Any, x: Any, weight: Any, eps: float) -> Any:
    """A right answer written differently: the Jacobian of every row, written out."""
    import torch

    d = x.shape[-1]
    flat, seed = x.reshape(-1, d), (grad * weight).reshape(-1, d)
    c = flat - flat.mean(-1, keepdim=True)
    s = (c.square().mean(-1, keepdim=True) + eps).sqrt()
    eye = torch.eye(d, dtype=x.dtype) - 1 / d
    jacobian = eye / s[..., None] - c[:, :, None] * c[:, None, :] / (d * s[..., None] ** 3)
    dx = torch.einsum("ni,nij->nj", seed, jacobian).reshape(x.shape)
    y = (c / s).reshape(x.shape)
    rows = tuple(range(x.dim() - 1))
    return dx, (grad * y).sum(rows), grad.sum(rows)


def check_mend(answer: Any) -> str:
    import torch

    weight, bias, eps = _made(4, seed=9), _made(4, seed=10), 0.2
    x = _made(2, 3, 4, seed=11)
    right = torch.nn.functional.layer_norm(x, (4,), weight, bias, eps)
    half_mended = [
        (
            _norm(x, weight, bias, eps, correction=1, outside=True),
            "this is the code as given: it divides by d - 1, and adds eps after the root",
        ),
        (_norm(x, weight, bias, eps, outside=True), "the variance is mended; eps is still added after the root"),
        (_norm(x, weight, bias, eps, correction=1), "eps is mended; the variance still divides by d - 1"),
        (_norm(x, weight, bias, eps, weigh="never", add=False), "the statistics are mended; weight and bias got lost"),
        (_norm(x, weight, bias, eps**2), "eps is squared: it is added to the variance as it is"),
        (
            _norm(x, weight, bias, eps**0.5),
            "eps's own root is taken before it is added to the variance: add it as it is",
        ),
    ]
    expect_close(call(answer, x, weight, bias, eps), right, "the output", near_misses=half_mended)
    rows = torch.tensor([[3.0, 3.0, 3.0, 3.0], [1.0, 2.0, 3.0, 4.0]], dtype=torch.float64, requires_grad=True)
    out = answer(rows, weight, bias, 1e-6)
    gradient = torch.autograd.grad(out.square().sum(), rows)[0]
    expect_finite(
        gradient,
        "the gradient of a batch with a row of equal numbers",
        "the root's slope at 0 is infinite: eps must stand under it",
    )
    return "agrees with nn.LayerNorm, and a constant row no longer poisons the gradient"


def _as_given(x: Any, weight: Any, bias: Any, eps: float) -> Any:
    return weight * (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True).sqrt() + eps) + bias


def _biased_std(x: Any, weight: Any, bias: Any, eps: float) -> Any:
    return weight * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True, correction=0) + eps) + bias


def _root_twice(x: Any, weight: Any, bias: Any, eps: float) -> Any:
    """Right in value: the root of a square root's square plus eps; but the inner root has no slope at 0."""
    std = x.var(-1, keepdim=True, correction=0).sqrt()
    return weight * (x - x.mean(-1, keepdim=True)) / (std.square() + eps).sqrt() + bias


def check_padding(answer: Any) -> str:
    import torch

    x = _made(3, 4, 2, seed=12)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)
    x = x.masked_fill(~mask[..., None], 0.0)
    rows, eps = x[mask], 0.1
    right = torch.zeros_like(x)
    right[mask] = (rows - rows.mean(0)) / (rows.var(0, correction=0) + eps).sqrt()

    def over(mean: Any, var: Any, fill: bool = True) -> Any:
        y = (x - mean) / (var + eps).sqrt()
        return y.masked_fill(~mask[..., None], 0.0) if fill else y

    everything = x.flatten(0, 1)
    mean, count = x.sum((0, 1)) / mask.sum(), mask.sum()
    misses = [
        (
            over(everything.mean(0), everything.var(0, correction=0), False),
            "this is the code as given: the zeros of the padding pull the mean and the variance",
        ),
        (
            over(everything.mean(0), everything.var(0, correction=0)),
            "the padding is hidden in the output, and still counted in the statistics",
        ),
        (over(mean, everything.var(0, correction=0)), "the mean is mended; the padding still counts in the variance"),
        (
            over(mean, (x - mean).square().sum((0, 1)) / count),
            "each padding position adds the squared mean to the variance: hide it after centring too",
        ),
        (over(rows.mean(0), rows.var(0)), "the variance divides by n - 1; in training BatchNorm divides by n"),
        (
            over(rows.mean(0), rows.var(0, correction=0), False),
            "the statistics are right; the padding should come out as zeros",
        ),
        (
            _padding("each text")(x, mask, eps),
            "every text has statistics of its own; BatchNorm's run over all texts",
        ),
    ]
    expect_close(call(answer, x, mask, eps), right, "the output", near_misses=misses)
    dirty = x.masked_fill(~mask[..., None], math.nan)
    expect_close(
        call(answer, dirty, mask, eps),
        right,
        "the output when NaN stands in the padding",
        hint="NaN times 0 is NaN: select the real tokens, or masked_fill",
    )
    return "real tokens alone decide, whatever stands in the padding"


def _padding(mode: str) -> Callable[..., Any]:
    def sequence_batch_norm(x: Any, mask: Any, eps: float) -> Any:
        import torch

        keep = mask[..., None]
        if mode in ("as given", "hidden"):
            mean, var = x.mean((0, 1)), x.var((0, 1), correction=0)
        elif mode == "mean only":
            mean, var = x[mask].mean(0), x.var((0, 1), correction=0)
        elif mode == "times mask":
            mean = (x * keep).sum((0, 1)) / mask.sum()
            var = ((x - mean).square() * keep).sum((0, 1)) / mask.sum()
        elif mode == "each text":
            n = mask.sum(1).clamp(min=1)[:, None, None]
            mean = (x * keep).sum(1, keepdim=True) / n
            var = ((x - mean).square() * keep).sum(1, keepdim=True) / n
        elif mode == "centres padding":
            mean = x.masked_fill(~keep, 0).sum((0, 1)) / mask.sum()
            var = (x.masked_fill(~keep, 0) - mean).square().sum((0, 1)) / mask.sum()
        else:
            mean, var = x[mask].mean(0), x[mask].var(0, correction=1 if mode == "unbiased" else 0)
        y = (x - mean) / (var + eps).sqrt()
        return y if mode in ("as given", "not hidden") else torch.where(keep, y, torch.zeros_like(y))

    return sequence_batch_norm


def _sums(x: Any, mask: Any, eps: float) -> Any:
    """A right answer written differently: sums and counts, the padding filled twice."""
    keep, n = mask[..., None], mask.sum()
    clean = x.masked_fill(~keep, 0.0)
    centred = (clean - clean.sum((0, 1)) / n).masked_fill(~keep, 0.0)
    return centred * (centred.square().sum((0, 1)) / n + eps).rsqrt()


def check_counts(answer: Any) -> str:
    if not (isinstance(answer, tuple | list) and len(answer) == 4):
        raise Wrong(
            "four numbers are asked for: means of LayerNorm, means of BatchNorm, weights of LayerNorm, of RMSNorm"
        )
    b, t, d = 32, 128, 576
    expect_number(
        answer[0],
        b * t,
        what="the number of means of LayerNorm",
        rtol=1e-9,
        near_misses={
            d: "that is BatchNorm: LayerNorm has one mean a token",
            b: "that would be one mean a text; it is one a token",
            t: "tokens at the same place in different texts share no mean",
            b * t * d: "that is the number of numbers: 576 of them share a mean",
            1: "the tokens do not share a mean",
        },
    )
    expect_number(
        answer[1],
        d,
        what="the number of means of BatchNorm",
        rtol=1e-9,
        near_misses={
            b * t: "that is LayerNorm: BatchNorm has one mean a channel",
            t * d: "the time axis is averaged over too",
            b: "BatchNorm averages over the texts",
            b * d: "that is InstanceNorm: one mean a text and channel",
            2 * d: "means alone are asked, without the variances",
        },
    )
    expect_number(
        answer[2],
        2 * d,
        what="the number of learned parameters of LayerNorm",
        rtol=1e-9,
        near_misses={
            d: "it learns a weight and a bias, one of each a channel",
            2 * b * t: "parameters belong to channels, not to tokens: texts have any length",
            2: "weight and bias are vectors, one number a channel",
            4 * d: "running averages are no parameters, and LayerNorm has none",
        },
    )
    expect_number(
        answer[3],
        d,
        what="the number of learned parameters of RMSNorm",
        rtol=1e-9,
        near_misses={
            2 * d: "RMSNorm has no bias",
            0: "it learns one weight a channel",
            1: "its weight is a vector, one number a channel",
        },
    )
    return "statistics belong to tokens or to channels, parameters always to channels"


def check_spike(answer: Any) -> str:
    import statistics

    size = math.sqrt((22_500**2 + 575 * 2.0**2) / 576)
    row = [22_500.0] + [2.0] * 575
    mean, sd = statistics.fmean(row), statistics.pstdev(row)
    expect_number(
        answer,
        2 / size,
        rtol=0.01,
        what="an ordinary number after the norm",
        near_misses={
            2
            / 22_500: "the norm divides by the root of the mean square, and the mean is over 576 numbers: 22,500 / √576",
            (2 - mean) / sd: "that is LayerNorm: RMSNorm subtracts no mean",
            2 / mean: "the norm divides by the root of the mean square, not by the mean",
            2 / (size**2): "take the root of the mean square",
            1.0: "that would be without the large number",
            22_500 / size: "that is the large number after the norm; an ordinary one is asked",
            size: "that is what the norm divides by; divide the ordinary number by it",
        },
    )
    return "the large number becomes √576 = 24, everything else next to nothing: the token is a constant now"


TASKS = [
    Task(
        id="05.layer_norm",
        kind="build",
        title="LayerNorm, forwards",
        difficulty=1,
        minutes=8,
        hints=(
            "Over which axis? Divide the sum of squares by what? And what happens to 600² in float16?",
            "x.float() if it is half; c = x - x.mean(-1, keepdim=True); c * (c.square().mean(-1, keepdim=True) + eps).rsqrt(); weight, bias, and back to x.dtype.",
        ),
        check=check_forward,
        bank=Bank(
            wrong=[
                Case("unbiased", _forward({"correction": 1}), "d - 1"),
                Case("eps outside", _forward({"outside": True}), "outside the root"),
                Case("both", _forward({"outside": True, "correction": 1}), "and eps stands outside"),
                Case(
                    "over tokens",
                    lambda x, w, b, e: _forward({"axis": -2 if x.dim() > 1 else -1})(x, w, b, e),
                    "over the tokens",
                ),
                Case(
                    "over a text",
                    lambda x, w, b, e: _forward({"axis": (-1, -2) if x.dim() > 1 else -1})(x, w, b, e),
                    "whole text",
                ),
                Case("over the batch", _forward({"axis": 0}), "over the batch"),
                Case("no mean", _forward({"centre": False}), "RMSNorm"),
                Case("variance", _forward({"power": 1.0}), "not by its root"),
                Case("no weight", _forward({"weigh": "never"}), "weight is not used"),
                Case("no bias", _forward({"add": False}), "bias is not added"),
                Case("bias weighed", _forward({"weigh": "bias too"}), "added last"),
                Case("no eps", lambda x, w, b, e: _forward()(x, w, b, 0.0), "eps is not used"),
                Case("a floor under eps", lambda x, w, b, e: _forward()(x, w, b, max(e, 1e-6)), "floor of your own"),
                Case("cancellation", _cancels, "loses all digits"),
                Case("half precision", _forward(half_safe=False), "float16 can hold"),
                Case("stays wide", _stays_wide, "should give float16"),
            ],
            right=[Case("a centring matrix", _through_standard)],
        ),
    ),
    Task(
        id="05.backward",
        kind="build",
        title="LayerNorm, backwards",
        difficulty=3,
        minutes=14,
        hints=(
            "Let g = grad * weight and y the normalised row. Mean and variance depend on x too: each takes a part of g away.",
            "dx = (g - mean(g) - y * mean(g * y)) / sqrt(var + eps), the means over the last axis; the weight's gradient is the sum of grad * y.",
        ),
        check=check_backward,
        bank=Bank(
            wrong=[
                Case("constants", _backward(parts="none"), "treated as constants"),
                Case("no variance path", _backward(parts="mean"), "through the variance"),
                Case("no mean path", _backward(parts="variance"), "through the mean"),
                Case("weight forgotten", _backward(weigh=False), "through the weight"),
                Case("unbiased", _backward(correction=1), "d - 1"),
                Case("sums", _backward(average=False), "not sums"),
                Case(
                    "swapped",
                    lambda g, x, w, e: _gradients(g, x, w, e)[::2] + _gradients(g, x, w, e)[1:2],
                    "of bias stands where",
                ),
                Case("no eps", lambda g, x, w, e: _gradients(g, x, w, 0.0), "eps is not used"),
                Case("weight by x", _backward(along="x"), "not x"),
                Case("weight by centred", _backward(along="centred"), "only centred"),
                Case("not summed", _not_summed, "gradient of weight should have shape (5,)"),
                Case("one gradient", lambda g, x, w, e: _gradients(g, x, w, e)[0], "three gradients"),
                Case("autograd", _by_autograd, "derive it yourself"),
            ],
            right=[Case("the Jacobian written out", _jacobian)],
        ),
    ),
    Task(
        id="05.mend",
        kind="debug",
        title="A norm that is nearly right",
        difficulty=2,
        minutes=6,
        hints=(
            "Compare it with nn.LayerNorm at d = 4, where small differences are large. There are two.",
            "x.var divides by d - 1, and eps belongs under the root: (x.var(-1, keepdim=True, correction=0) + eps).sqrt().",
        ),
        check=check_mend,
        bank=Bank(
            wrong=[
                Case("as given", _as_given, "as given"),
                Case("biased, eps outside", _biased_std, "still added after the root"),
                Case(
                    "eps inside, unbiased", lambda x, w, b, e: _norm(x, w, b, e, correction=1), "still divides by d - 1"
                ),
                Case("eps squared", lambda x, w, b, e: _norm(x, w, b, e * e), "squared"),
                Case("affine lost", lambda x, w, b, e: _norm(x, w, b, e, weigh="never", add=False), "got lost"),
                Case("root, square, root", _root_twice, "slope at 0"),
            ],
            right=[
                Case(
                    "torch's own",
                    lambda x, w, b, e: __import__("torch").nn.functional.layer_norm(x, (x.shape[-1],), w, b, e),
                )
            ],
        ),
    ),
    Task(
        id="05.padding",
        kind="debug",
        title="Statistics of words that do not exist",
        difficulty=2,
        minutes=7,
        hints=(
            "How many numbers go into each mean, and how many of them are padding?",
            "x[mask] has the real tokens alone, (n, d). Take mean and var(correction=0) over its first axis; fill the padding of the output with zeros.",
        ),
        check=check_padding,
        bank=Bank(
            wrong=[
                Case("as given", _padding("as given"), "as given"),
                Case("hidden in the output", _padding("hidden"), "still counted"),
                Case("mean only", _padding("mean only"), "counts in the variance"),
                Case("centres the padding", _padding("centres padding"), "hide it after centring"),
                Case("unbiased", _padding("unbiased"), "n - 1"),
                Case("each text by itself", _padding("each text"), "statistics of its own"),
                Case("padding shows", _padding("not hidden"), "come out as zeros"),
                Case("multiplied by the mask", _padding("times mask"), "NaN"),
            ],
            right=[Case("sums and counts", _sums)],
        ),
    ),
    Task(
        id="05.counts",
        kind="reason",
        title="How many means?",
        difficulty=1,
        minutes=3,
        hints=(
            "Which numbers share a mean: those of one token, or those of one channel?",
            "LayerNorm: one mean for each of 32 · 128 tokens. BatchNorm: one for each channel. Parameters: one or two a channel.",
        ),
        check=check_counts,
        bank=Bank(
            wrong=[
                Case("swapped", (576, 4096, 1152, 576), "that is BatchNorm"),
                Case("one a text", (32, 576, 1152, 576), "one mean a text"),
                Case("time kept", (4096, 128 * 576, 1152, 576), "time axis"),
                Case("bias forgotten", (4096, 576, 576, 576), "a weight and a bias"),
                Case("RMSNorm with bias", (4096, 576, 1152, 1152), "no bias"),
                Case("scalars", (4096, 576, 2, 1), "vectors"),
                Case("three numbers", (4096, 576, 1152), "four numbers"),
            ],
            right=[Case("as products", [32 * 128, 576.0, 2 * 576, 576])],
        ),
    ),
    Task(
        id="05.spike",
        kind="reason",
        title="What is left of a token",
        difficulty=2,
        minutes=4,
        hints=(
            "The mean square is over all 576 numbers; one of them is nearly all of it.",
            "22,500 / √576 = 937.5. Divide 2 by it.",
        ),
        check=check_spike,
        bank=Bank(
            wrong=[
                Case("by the maximum", 2 / 22_500, "22,500 / √576"),
                Case("LayerNorm", (2 - 41.059028) / 936.602583, "subtracts no mean"),
                Case("no root", 2 / 878_910.25, "take the root"),
                Case("the large one", 24.0, "an ordinary one is asked"),
                Case("the divisor", 937.5, "divide the ordinary number"),
                Case("untouched", 1.0, "without the large number"),
                Case("words", "almost nothing", "number"),
            ],
            right=[Case("by hand", 2 * 24 / 22_500)],
        ),
    ),
]
