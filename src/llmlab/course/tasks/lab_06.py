"""Lab 06, dropout: build it, mend a layer that loses its shape, switch it off and on again, and count with it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

from llmlab.course.checking import Bank, Case, Task, Wrong, call, expect, expect_close, expect_number, expect_shape
from llmlab.course.expect import expect_choice, expect_type

# --- Build: inverted dropout


def check_dropout(answer: Any) -> str:
    import torch

    p = 0.25
    x = torch.linspace(-3, 5, 200 * 300).reshape(200, 300)
    got = call(answer, x, p, True)
    _expect_dropped(got, x, p)
    again = call(answer, x, p, True)
    expect(not torch.equal(got, again), "two calls drop the same elements: draw a new mask each time")
    counts = {int((drawn == 0).sum()) for drawn in (got, again, call(answer, x, p, True))}
    expect(
        len(counts) > 1,
        f"three calls drop exactly {max(counts)} elements each: the draws are independent, so their number varies",
    )
    rates = torch.stack([call(answer, torch.ones(3, 4), p, True) == 0 for _ in range(120)]).double().mean(0)
    expect(
        rates.min() > 0,
        f"120 calls on a (3, 4) tensor drop {int((rates == 0).sum())} of its 12 elements not once: each has the same chance",
    )
    deep = x.reshape(20, 10, 300)
    _expect_dropped(call(answer, deep, p, True).reshape(-1, 300), x, p, "the output for three axes")
    expect_close(call(answer, x, p, False), x, "the output when not training", near_misses=_at_evaluation(x, p))
    expect_close(call(answer, x, 0.0, True), x, "the output at p = 0")
    leaf = x.clone().requires_grad_()
    out = answer(leaf, p, True)
    expect(out.requires_grad, "the output has lost its gradient: do not detach, and compute no NumPy on the way")
    (grad,) = torch.autograd.grad(out.sum(), leaf)
    wanted = torch.where(out == 0, torch.zeros_like(x), torch.full_like(x, 1 / (1 - p)))
    expect_close(grad, wanted, "the gradient", hint="it must pass where the value passed, with the same factor")
    half = torch.ones(1000, 1000, dtype=torch.bfloat16)
    got = call(answer, half, 0.002, True)
    expect(got.dtype == half.dtype, f"a bfloat16 input comes back as {str(got.dtype).removeprefix('torch.')}")
    share = (got == 0).float().mean().item()
    expect(
        abs(share - 0.002) < 0.0005,
        f"in bfloat16, p = 0.002 drops {share:.2%} of a million elements: a uniform number of 8 bits has 256 values, so "
        "draw in float32, or use bernoulli_",
    )
    return "right in mean, in shape, in gradient, at evaluation, and in bfloat16"


def _at_evaluation(x: Any, p: float) -> list[tuple[Any, str]]:
    return [
        (x * (1 - p), "you scale at evaluation too; inverted dropout has already scaled while training"),
        (x / (1 - p), "you divide at evaluation too; then nothing may change"),
    ]


def _expect_dropped(got: Any, x: Any, p: float, what: str = "the output while training") -> None:
    """That ``got`` is inverted dropout of ``x`` (many elements, none of them 0): shape, rate, scale, one mask each."""
    import torch

    expect_type(got, torch.Tensor, what)
    if got.shape != x.shape and got.dim() == 1:
        raise Wrong(
            f"{what} has shape {tuple(got.shape)}, x has {tuple(x.shape)}: indexing with a mask takes the dropped "
            "elements away and flattens the rest. Set them to zero instead: multiply by the mask"
        )
    expect_shape(got, x.shape, what)
    gone = got == 0
    share = gone.float().mean().item()
    expect(share > 0, f"{what} has lost nothing, although p = {p:g}")
    by_row, by_column = gone.float().mean(1), gone.float().mean(0)
    expect(not (by_row == by_row.round()).all(), f"{what}: whole rows are dropped; every element has a draw of its own")
    expect(
        not (by_column == by_column.round()).all(),
        f"{what}: the same columns are dropped in every row; every element has a draw of its own",
    )
    expect(
        abs(share - (1 - p)) > 0.01,
        f"{what}: {share:.0%} of the elements are gone: you keep with probability p, not drop",
    )
    expect(abs(share - p) < 0.01, f"{what}: {share:.0%} of the elements are gone, not {p:.0%}")
    ratio = (got / x)[~gone]
    factors = {
        1.0: "what stays is not scaled, so the mean is (1 - p) times what evaluation will see: divide by 1 - p",
        1 / p: "what stays is divided by p; it must be divided by the share kept, 1 - p",
        1 - p: "what stays is multiplied by 1 - p; it must be divided by it",
    }
    for factor, sentence in factors.items():
        if torch.allclose(ratio, torch.full_like(ratio, factor), rtol=1e-4):
            raise Wrong(f"{what}: {sentence}")
    if abs(share - p) > 1e-6 and torch.allclose(ratio, torch.full_like(ratio, 1 / (1 - share)), rtol=1e-4):
        raise Wrong(
            f"{what}: you divide by the share that happened to stay; divide by its expectation, 1 - p. (With few "
            "elements all may go, and 0 / 0 is NaN)"
        )
    expect_close(ratio, torch.full_like(ratio, 1 / (1 - p)), f"{what}, divided by x where it stayed")


def _dropout(
    *,
    keep: Callable[[Any, float], Any] | None = None,
    scale: Callable[[float], float] = lambda p: 1 / (1 - p),
    evaluation: Callable[[Any, float], Any] = lambda x, p: x,
) -> Callable[..., Any]:
    """Dropout; changed in one thing it is a wrong answer."""

    def dropout(x: Any, p: float, training: bool) -> Any:
        import torch

        if not training:
            return evaluation(x, p)
        mask = torch.rand(x.shape) >= p if keep is None else keep(x, p)
        return x * mask * scale(p)

    return dropout


def _rand(*shape_of: int) -> Callable[[Any, float], Any]:
    """A mask that is shared along the axes with a 1."""

    def keep(x: Any, p: float) -> Any:
        import torch

        return torch.rand([1 if i in shape_of else n for i, n in enumerate(x.shape)]) >= p

    return keep


def _first_kept(x: Any, p: float) -> Any:
    keep = _rand()(x, p)
    keep.view(-1)[0] = True
    return keep


def _fixed(x: Any, p: float) -> Any:
    import torch

    return torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) >= p


def _like(x: Any, p: float) -> Any:
    import torch

    return torch.rand_like(x) >= p


def _indexed(x: Any, p: float, training: bool) -> Any:
    import torch

    return x[torch.rand(x.size()) > p] if training else x


def _realised(x: Any, p: float, training: bool) -> Any:
    import torch

    mask = torch.rand(x.shape) >= p
    return x * mask / mask.float().mean() if training else x


def _in_place(x: Any, p: float, training: bool) -> Any:
    import torch

    if training:
        x[torch.rand(x.shape) < p] = 0
        x /= 1 - p
    return x


def _no_gradient(x: Any, p: float, training: bool) -> Any:
    return _dropout()(x.detach(), p, training)


def _exactly(x: Any, p: float, training: bool) -> Any:
    import torch

    if not training:
        return x
    mask = torch.ones(x.numel())
    mask[torch.randperm(x.numel())[: round(p * x.numel())]] = 0
    return x * mask.reshape(x.shape) / (1 - p)


def _two_axes(x: Any, p: float) -> Any:
    import torch

    return torch.rand(*x.shape[:2], *[1] * (x.dim() - 2)) >= p


def _float_mask(x: Any, p: float, training: bool) -> Any:
    import torch

    return x * (torch.rand(x.shape) >= p).float() / (1 - p) if training else x


def _torchs(x: Any, p: float, training: bool) -> Any:
    from torch.nn.functional import dropout

    return dropout(x, p, training)


def _where(x: Any, p: float, training: bool) -> Any:
    import torch

    stays = torch.rand(x.shape, device=x.device) < 1 - p
    return torch.where(stays, x / (1 - p), torch.zeros_like(x)) if training else x


# --- Debug: a layer that loses its shape and its scale


def check_layer(answer: Any) -> str:
    import torch
    from torch import nn

    expect(callable(answer), "the class itself is asked for: hand over `Drop`, not an object made from it")
    layer = answer(0.4)
    expect(isinstance(layer, nn.Module), "the class must stay an nn.Module, so that train() and eval() reach it")
    x = torch.linspace(1, 2, 50 * 60 * 4).reshape(50, 60, 4)
    layer.train()
    out = layer(x)
    expect(out is not None, "`forward` returned None: is its `return` missing?")
    if out.shape == x.shape:
        _expect_dropped(out.reshape(-1, 4), x.reshape(-1, 4), 0.4, "the layer's output while training")
    else:
        _expect_dropped(out, x, 0.4, "the layer's output while training")
    layer.eval()
    expect_close(
        layer(x),
        x,
        "the layer's output after eval()",
        near_misses=_at_evaluation(x, 0.4),
        hint="look at self.training: train() and eval() set it",
    )
    outer = nn.Sequential(nn.Linear(4, 4), layer)
    outer.train()
    expect(not torch.equal(layer(x), x), "after train() on the model around it, the layer no longer drops")
    return "same shape, same mean, and off when it should be"


def _layer(forward: Callable[[Any, Any], Any]) -> Any:
    """Makes a layer with this ``forward(self, x)``, as a class would; torch is imported when it is called."""

    def make(p: float = 0.5) -> Any:
        import torch

        class Layer(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.p = p

            def forward(self, x: Any) -> Any:
                return forward(self, x)

        return Layer()

    return make


def _cases(*forwards: tuple[str, Callable[[Any, Any], Any], str]) -> list[Case]:
    return [Case(name, _layer(forward), expect) for name, forward, expect in forwards]


def _mask(self: Any, x: Any) -> Any:
    import torch

    return torch.rand(x.shape) > self.p


# --- Debug: predictions that change, and a model that stops learning


def check_predict(answer: Any) -> str:
    import torch
    from torch import nn

    torch.manual_seed(1)
    model: Any = nn.Sequential(nn.Linear(6, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 2))
    x = torch.randn(40, 6)
    for _ in range(3):
        model.train()(x)
    with torch.no_grad():
        logits = model.eval()(x)
    right = logits.softmax(-1)
    near = [
        (logits, "these are logits: softmax them"),
        (logits.softmax(0), "the softmax runs over the batch; each row's probabilities must sum to 1"),
    ]
    for was in (True, False):
        model.train(was)
        statistics = model[1].running_mean.clone()
        got = answer(model, x)
        expect(got is not None, "`predict` returned None: is its `return` missing?")
        again = answer(model, x)
        expect_shape(got, right.shape, "the probabilities")
        if was:
            expect(
                torch.equal(got, again), "two calls give different answers: dropout is still on; model.eval() ends it"
            )
            expect(
                torch.equal(model[1].running_mean, statistics),
                "predicting has changed the running mean of BatchNorm: it still learns from the data it predicts",
            )
        expect_close(got, right, "the probabilities", near_misses=near)
        model.train(was)
        answer(model, x)
        expect(
            model.training == was and model[3].training == was,
            "the model was in training mode and is left in evaluation mode: the next epoch trains without dropout"
            if was
            else "the model was in evaluation mode and is left in training mode: put back what you found",
        )
        expect(not got.requires_grad, "the answers carry a graph: predict under torch.no_grad()")
    model.train()
    model[1].eval()  # a frozen BatchNorm inside a model that trains
    answer(model, x)
    expect(
        not model[1].training,
        "a part that had been frozen in evaluation mode is training now: remember the mode of every module, not of the "
        "model alone",
    )
    return "the same answers every time, and the model as it was"


def _predict(
    *, evaluate: bool = True, back: str = "each", softmax: int | None = -1, grad: bool = False
) -> Callable[[Any, Any], Any]:
    """A predict function; changed in one thing it is a wrong answer."""

    def predict(model: Any, x: Any) -> Any:
        import torch

        modes, whole = [(m, m.training) for m in model.modules()], model.training
        if evaluate:
            model.eval()
        with torch.set_grad_enabled(grad):
            out = model(x)
        if back == "each":
            for module, mode in modes:
                module.training = mode
        elif back == "whole":
            model.train(whole)
        elif back == "always":
            model.train()
        return out if softmax is None else out.softmax(softmax)

    return predict


def _only_dropout_off(model: Any, x: Any) -> Any:
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.training = False
    with torch.no_grad():
        out = model(x).softmax(-1)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.training = True
    return out


def _on_a_copy(model: Any, x: Any) -> Any:
    """A right answer written differently: evaluate a copy, leave the model alone."""
    import copy

    import torch

    with torch.no_grad():
        return copy.deepcopy(model).eval()(x).softmax(-1)


# --- Reason: how large, how noisy


def check_scale(answer: Any) -> str:
    if not (isinstance(answer, tuple | list) and len(answer) == 3):
        raise Wrong("three numbers are asked for: (mean, standard deviation, factor)")
    mean, deviation, factor = answer
    n, x, w, p = 400, 2.0, 0.05, 0.2
    variance = p / (1 - p) * n * (w * x) ** 2
    expect_number(
        mean,
        n * x * w,
        what="the mean",
        near_misses={
            (1 - p) * n * x * w: "that is without the division; inverted dropout keeps the mean of the whole sum",
            n * x * w / (1 - p): "only what stays is divided by 1 - p, and only 1 - p of it stays: the two cancel",
        },
    )
    expect_number(
        deviation,
        math.sqrt(variance),
        rtol=0.005,
        what="the standard deviation",
        near_misses={
            variance: "that is the variance; take its root",
            math.sqrt(p * (1 - p) * n) * w * x: "that is without the division by 1 - p, which enlarges the noise too",
            math.sqrt(p * n) * w * x: "the variance of one kept-or-dropped term is x²w² p/(1 - p), not x²w² p",
            math.sqrt(p / (1 - p))
            * n
            * w
            * x: "the terms are independent: their variances add up, not their deviations",
            math.sqrt(p / (1 - p)) * w * x: "that is one term; variances add up over 400",
        },
    )
    expect_number(
        factor,
        1 / (1 - p) ** 3,
        rtol=0.005,
        what="the factor over three layers",
        near_misses={
            1 / (1 - p): "that is one layer; the output of each is the input of the next",
            (1 - p) ** 3: "that is training divided by evaluation; evaluation sees the larger numbers",
            3 / (1 - p): "factors of layers in a row multiply",
            1 + 3 * p / (1 - p): "factors of layers in a row multiply",
        },
    )
    return "the mean stays, the noise falls with the root of the width, and a missing factor compounds"


# --- Reason: what the ensemble says

WEIGHTS, BIAS, RATE = (3.0, -2.0, 1.0), 0.5, 0.5


def _sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def _ensemble() -> dict[str, float]:
    logits = [
        BIAS + sum(w * m / (1 - RATE) for w, m in zip(WEIGHTS, mask)) for mask in itertools.product((0, 1), repeat=3)
    ]
    plain = [BIAS + sum(w * m for w, m in zip(WEIGHTS, mask)) for mask in itertools.product((0, 1), repeat=3)]
    return {
        "mean": sum(map(_sigmoid, logits)) / 8,
        "unscaled": sum(map(_sigmoid, plain)) / 8,
        "evaluation": _sigmoid(BIAS + sum(WEIGHTS)),
        "halved": _sigmoid(BIAS + sum(WEIGHTS) / 2),
        "no bias": _sigmoid(sum(WEIGHTS)),
    }


def check_ensemble(answer: Any) -> str:
    expect_type(answer, dict, "answer")
    missing = [key for key in ("networks", "mean", "evaluation", "evaluation_is") if key not in answer]
    expect(not missing, f"answer lacks {', '.join(missing)}")
    right = _ensemble()
    expect_number(
        answer["networks"],
        8,
        what="the number of thinned networks",
        near_misses={
            7: "the network without any input counts too",
            3: "that is the inputs",
            6: "each is kept or dropped",
        },
    )
    expect_number(
        answer["mean"],
        right["mean"],
        rtol=0.004,
        what="the mean over all networks",
        near_misses={
            right["unscaled"]: "the inputs that stay are not divided by 1 - p",
            right["evaluation"]: "that is the sigmoid of the mean; average the probabilities, after the sigmoid",
        },
    )
    expect_number(
        answer["evaluation"],
        right["evaluation"],
        rtol=0.004,
        what="what evaluation returns",
        near_misses={
            right["halved"]: "nothing is scaled at evaluation: inverted dropout has done it while training",
            right["mean"]: "that is the mean over the networks; evaluation runs one network, once",
            right["no bias"]: "the bias is missing; it is never dropped",
        },
    )
    expect_choice(
        answer["evaluation_is"],
        "geometric",
        {
            "arithmetic": "that is what averaging the probabilities gives, and you found another number",
            "median": "no: it follows from a mean of the logits, in which every network counts",
        },
        "what evaluation is the mean of",
    )
    return "one run stands for eight networks: exactly for a mean of logits, roughly for a mean of probabilities"


def _told(**changes: Any) -> dict[str, Any]:
    right = _ensemble()
    told = {"networks": 8, "mean": right["mean"], "evaluation": right["evaluation"], "evaluation_is": "geometric"}
    return {**told, **changes}


def _per_token(self: Any, x: Any) -> Any:
    import torch

    return x * (torch.rand(*x.shape[:2], 1) > self.p) / (1 - self.p) if self.training else x


def _torchs_layer(self: Any, x: Any) -> Any:
    from torch.nn.functional import dropout

    return dropout(x, self.p, self.training)


def _layer_bank() -> Bank:
    return Bank(
        wrong=_cases(
            ("as given", lambda s, x: x[_mask(s, x)], "flattens the rest"),
            ("shape mended, not scaled", lambda s, x: x * _mask(s, x) if s.training else x, "not scaled"),
            ("left on", lambda s, x: x * _mask(s, x) / (1 - s.p), "after eval()"),
            ("scaled at evaluation", lambda s, x: x * _mask(s, x) / (1 - s.p) if s.training else x * (1 - s.p), "evaluation too"),
            ("turned round", lambda s, x: x * ~_mask(s, x) / s.p if s.training else x, "keep with probability p"),
            ("divided by p", lambda s, x: x * _mask(s, x) / s.p if s.training else x, "divided by p"),
            ("per token", _per_token, "a draw of its own"),
            ("off for good", lambda s, x: x, "lost nothing"),
        ),
        right=[
            Case("torch's function", _layer(_torchs_layer)),
            Case("masked_fill", _layer(lambda s, x: (x / (1 - s.p)).masked_fill(~_mask(s, x), 0) if s.training else x)),
        ],
    )  # fmt: skip


TASKS = [
    Task(
        id="06.dropout",
        kind="build",
        title="Inverted dropout",
        difficulty=1,
        minutes=8,
        hints=(
            "Draw one number for each element of `x`, compare it with `p`, and multiply. What must the kept ones be "
            "divided by so that the mean is right?",
            "`keep = torch.empty_like(x).bernoulli_(1 - p)`, then `x * keep / (1 - p)`; return `x` when not training. "
            "A uniform number in bfloat16 is too coarse for a small `p`.",
        ),
        check=check_dropout,
        bank=Bank(
            wrong=[
                Case("x[mask]", _indexed, "flattens the rest"),
                Case("no scale", _dropout(scale=lambda p: 1.0), "not scaled"),
                Case("divided by p", _dropout(scale=lambda p: 1 / p), "divided by p"),
                Case("multiplied", _dropout(scale=lambda p: 1 - p), "must be divided by it"),
                Case("keeps p", _dropout(keep=lambda x, p: _rand()(x, 1 - p)), "keep with probability p"),
                Case("whole rows", _dropout(keep=_rand(1)), "whole rows"),
                Case("same columns", _dropout(keep=_rand(0)), "same columns"),
                Case("the same mask", _dropout(keep=_fixed), "new mask each time"),
                Case("left on", _dropout(evaluation=lambda x, p: _dropout()(x, p, True)), "when not training"),
                Case("scaled at evaluation", _dropout(evaluation=lambda x, p: x * (1 - p)), "evaluation too"),
                Case("realised share", _realised, "happened to stay"),
                Case("exactly p of them", _exactly, "independent"),
                Case("spares the first", _dropout(keep=_first_kept), "not once"),
                Case("a draw for each token", _dropout(keep=_two_axes), "whole rows"),
                Case("in place", _in_place, "in place"),
                Case("no gradient", _no_gradient, "gradient"),
                Case("float mask", _float_mask, "float32"),
                Case("rand_like", _dropout(keep=_like), "256 values"),
            ],
            right=[Case("torch's own", _torchs), Case("torch.where", _where)],
        ),
    ),
    Task(
        id="06.layer",
        kind="debug",
        title="A layer that loses its shape",
        difficulty=1,
        minutes=6,
        hints=(
            "Print the shape before and after, twice. Then the mean before and after.",
            "Three things: the mask must multiply, what stays must be divided by `1 - p`, and `self.training` decides.",
        ),
        check=check_layer,
        bank=_layer_bank(),
    ),
    Task(
        id="06.predict",
        kind="debug",
        title="Two calls, two answers",
        difficulty=2,
        minutes=8,
        hints=(
            "`model.training` says which mode it is in. What is it before your call, and after?",
            "Remember `[(m, m.training) for m in model.modules()]`, call `model.eval()`, predict under `torch.no_grad()`, "
            "and put each mode back.",
        ),
        check=check_predict,
        bank=Bank(
            wrong=[
                Case("as given", _predict(evaluate=False, back="none"), "dropout is still on"),
                Case("left in evaluation", _predict(back="none"), "trains without dropout"),
                Case("always back to training", _predict(back="always"), "put back what you found"),
                Case("the model's mode alone", _predict(back="whole"), "frozen"),
                Case("dropout alone", _only_dropout_off, "running mean"),
                Case("logits", _predict(softmax=None), "these are logits"),
                Case("over the batch", _predict(softmax=0), "over the batch"),
                Case("with a graph", _predict(grad=True), "graph"),
            ],
            right=[Case("on a copy", _on_a_copy)],
        ),
    ),
    Task(
        id="06.scale",
        kind="reason",
        title="How large, how noisy",
        difficulty=2,
        minutes=6,
        hints=(
            "One term, kept with probability 1 - p and then divided by it: what are its mean and its variance?",
            "Var of one term: (xw)² p / (1 - p). Independent terms: variances add up. Layers in a row: factors multiply.",
        ),
        check=check_scale,
        bank=Bank(
            wrong=[
                Case("mean without the division", (32, 1, 1.953), "without the division"),
                Case("mean divided twice", (50, 1, 1.953), "cancel"),
                Case("root forgotten", (40, 1 / 2, 1.953), "too small"),
                Case("noise without the division", (40, 0.8, 1.953), "enlarges the noise"),
                Case("deviations added", (40, 20, 1.953), "independent"),
                Case("one term", (40, 0.05, 1.953), "400"),
                Case("one layer", (40, 1, 1.25), "one layer"),
                Case("the other way", (40, 1, 0.512), "evaluation sees"),
                Case("factors added", (40, 1, 3.75), "multiply"),
                Case("two numbers", (40, 1), "three numbers"),
            ],
            right=[Case("as a list of fractions", [40.0, 1.0, (5 / 4) ** 3])],
        ),
    ),
    Task(
        id="06.ensemble",
        kind="reason",
        title="Eight networks in one",
        difficulty=3,
        minutes=7,
        hints=(
            "`itertools.product((0, 1), repeat=3)` gives every mask. What does an input that stays contribute while "
            "training?",
            "Mean of sigmoid(b + Σ w m / (1 - p)) over the masks; evaluation is sigmoid(b + Σ w). The mean of the eight "
            "*logits* is b + Σ w: which mean of probabilities is that?",
        ),
        check=check_ensemble,
        bank=Bank(
            wrong=[
                Case("without the empty one", _told(networks=7), "counts too"),
                Case("unscaled", _told(mean=_ensemble()["unscaled"]), "divided by 1 - p"),
                Case("sigmoid of the mean", _told(mean=_ensemble()["evaluation"]), "after the sigmoid"),
                Case("halved", _told(evaluation=_ensemble()["halved"]), "nothing is scaled at evaluation"),
                Case("mean twice", _told(evaluation=_ensemble()["mean"]), "one network, once"),
                Case("bias forgotten", _told(evaluation=_ensemble()["no bias"]), "bias"),
                Case("arithmetic", _told(evaluation_is="arithmetic"), "another number"),
                Case("lacking", {"networks": 8}, "lacks"),
            ],
            right=[Case("capital letters", _told(evaluation_is="Geometric", networks=2**3))],
        ),
    ),
]
