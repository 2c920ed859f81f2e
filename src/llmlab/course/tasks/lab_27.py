"""Lab 27, LIME: the weighted local model, a prediction function that was repaired badly, and what a width means."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from llmlab.course.checking import Bank, Case, Task, Wrong, call, expect, expect_choice, expect_close, expect_number


def _samples() -> tuple[Any, Any]:
    """Masks as LIME draws them (the whole text first, one empty text) and answers that are not linear in them."""
    import numpy as np

    from llmlab.explain import sample_masks

    masks = sample_masks(6, 40, np.random.RandomState(3))
    masks[1] = 0
    score = masks @ np.array([1.5, -1.0, 0.8, 0.0, 0.3, -0.4]) + 1.2 * masks[:, 0] * masks[:, 2] - 0.7
    return masks, 1 / (1 + np.exp(-score))


def _ridge(masks: Any, y: Any, pi: Any, alpha: float) -> tuple[Any, float]:
    from llmlab.explain import weighted_ridge

    return weighted_ridge(masks, y, pi, alpha)


def _shrunk_intercept(masks: Any, y: Any, pi: Any, alpha: float) -> tuple[Any, float]:
    """The usual short cut: a column of ones, and the penalty on all of it."""
    import numpy as np

    x = np.column_stack([np.ones(len(masks)), masks])
    found = np.linalg.solve((x.T * pi) @ x + alpha * np.eye(x.shape[1]), (x.T * pi) @ y)
    return found[1:], float(found[0])


def _pi(masks: Any, width: float, times: float = 100, root: bool = True, power: float = 0.5) -> Any:
    """The kernel with its parts left out: the factor, the root of the share, the outer root."""
    import numpy as np

    kept = masks.mean(axis=1)
    distance = times * (1 - (np.sqrt(kept) if root else kept))
    return np.exp(-power * distance**2 / width**2)


def check_surrogate(answer: Any) -> str:
    import numpy as np

    masks, y = _samples()
    for width, alpha in ((25.0, 1.0), (60.0, 0.1)):
        settings = {} if width == 25 else {"width": width, "alpha": alpha}
        got = call(answer, masks, y, **settings)
        expect(
            isinstance(got, tuple | list) and len(got) == 2,
            "return two things, the weights (one a unit) and the intercept: `return w, b`",
        )
        w, b = got
        expect(np.ndim(w) == 1 and np.ndim(b) == 0, "return the weights first and the intercept, one number, second")
        expect(
            not np.isnan(np.asarray(w, float)).any(),
            "a text with nothing left has no cosine: 0/0 gives NaN. Its share of kept units is 0, and its distance 100",
        )
        pi = _pi(masks, width)
        want_w, want_b = _ridge(masks, y, pi, alpha)
        wrong = [
            (_pi(masks, width, times=1), alpha, "the distance lacks its factor 100: with a cosine distance below 1, a width of 25 weighs all texts alike"),
            (_pi(masks, width, power=1.0), alpha, "the kernel lacks its square root, sqrt(exp(-D²/width²)), or its weights are used twice, which is the same"),
            (_pi(masks, width, root=False), alpha, "the distance uses the share of kept units; the cosine is the square root of that share"),
            (np.ones(len(masks)), alpha, "all samples count alike: the kernel weights are not used in the fit"),
            (np.sqrt(pi), alpha, "the rows are scaled by the fourth root of what is meant: pi multiplies the *squared* error, so multiply rows by sqrt(pi) and only once"),
            (1 - pi, alpha, "near and far are exchanged: the weight must be 1 for the text itself"),
            (pi, 0.0, "the penalty alpha is not used"),
        ]  # fmt: skip
        near = [(_ridge(masks, y, p, a)[0], s) for p, a, s in wrong if not np.allclose(p, pi) or a != alpha]
        near.append((_shrunk_intercept(masks, y, pi, alpha)[0], "the penalty shrinks the intercept too; only the weights are penalised"))  # fmt: skip
        what = "the weights" if width == 25 else f"the weights with width={width:g}, alpha={alpha:g}"
        if width != 25:
            default = _ridge(masks, y, _pi(masks, 25.0), 1.0)[0]
            near.insert(0, (default, "they are those of width 25 and alpha 1: use the arguments, not the defaults"))
        expect_close(w, want_w, what, rtol=1e-6, atol=1e-9, near_misses=near, hint="is each error multiplied by pi, and is the intercept left out of the penalty?")  # fmt: skip
        expect_close(b, want_b, "the intercept", rtol=1e-6, atol=1e-9, hint="b = mean(y) - mean(x)·w, with means weighted by pi")  # fmt: skip
    return "your local model is the package's, to the last digits"


def _kernel_first(masks: Any, y: Any, width: float = 25.0, alpha: float = 1.0, **parts: Any) -> Any:
    return _ridge(masks, y, _pi(masks, width, **parts), alpha)


def _by_cosine(masks: Any, y: Any, width: float = 25.0, alpha: float = 1.0) -> Any:
    """0/0 for the empty text."""
    import numpy as np

    with np.errstate(invalid="ignore"):
        cosine = masks.sum(axis=1) / (np.linalg.norm(masks, axis=1) * np.sqrt(masks.shape[1]))
    return _ridge(masks, y, np.exp(-((100 * (1 - cosine)) ** 2) / (2 * width**2)), alpha)


def _scikit(masks: Any, y: Any, width: float = 25.0, alpha: float = 1.0) -> Any:
    import numpy as np
    from sklearn.linear_model import Ridge
    from sklearn.metrics.pairwise import cosine_distances

    distance = 100 * cosine_distances(masks, np.ones((1, masks.shape[1]))).ravel()
    found = Ridge(alpha=alpha).fit(masks, y, sample_weight=np.sqrt(np.exp(-(distance**2) / width**2)))
    return found.coef_, found.intercept_


def _augmented(masks: Any, y: Any, width: float = 25.0, alpha: float = 1.0) -> Any:
    """Ordinary least squares on scaled rows, with one extra row a weight for the penalty."""
    import numpy as np

    rows = np.sqrt(_pi(masks, width))[:, None]
    d = masks.shape[1]
    x = np.vstack([np.column_stack([masks, np.ones(len(masks))]) * rows, np.eye(d, d + 1) * alpha**0.5])
    found = np.linalg.lstsq(x, np.concatenate([y * rows[:, 0], np.zeros(d)]), rcond=None)[0]
    return found[:d], found[d]


def _model() -> Any:
    """A tiny classifier over encoded texts, left in training mode as a model is after training."""
    import torch

    class Tiny(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dropout = torch.nn.Dropout(0.5)
            self.head = torch.nn.Linear(4, 2)
            with torch.no_grad():
                self.head.weight.copy_(torch.tensor([[1.0, -0.5, 0.3, 0.2], [-0.4, 0.8, -0.2, 0.6]]))
                self.head.bias.copy_(torch.tensor([0.1, -0.1]))

        def forward(self, features: Any) -> Any:
            return self.head(self.dropout(features))

    return Tiny().train()


def _encode(texts: Any) -> tuple[Any]:
    import torch

    if isinstance(texts, str) or not all(isinstance(t, str) for t in texts):
        raise Wrong("encode() takes the whole list of texts; yours was given something else")
    return (torch.tensor([[float(t.count(c)) for c in "abcd"] for t in texts]).reshape(len(texts), 4),)


TEXTS = ["a", "ab", "bbd", "", "abcd", "dd"]


def check_predict_proba(answer: Any) -> str:
    import numpy as np
    import torch

    model = _model()
    function = call(answer, model, _encode)
    expect(callable(function), "make_predict_proba() returns a *function* of a list of texts: `return predict_proba`")
    got = function(list(TEXTS))
    if isinstance(got, torch.Tensor) and got.requires_grad:
        raise Wrong("the function returns a tensor with a gradient; LIME works in NumPy: call the model under torch.inference_mode() and end with .numpy()")  # fmt: skip
    model.eval()
    with torch.no_grad():
        logits = model(*_encode(TEXTS))
        want = logits.softmax(1).numpy()
    shape = tuple(np.shape(got))
    expect(shape != (len(TEXTS),), "the function returns one value a text; LIME needs a column for every class")
    expect(shape != (1, 2), "the function answers for the first text alone; LIME hands it a list of thousands")
    got = np.asarray(got, dtype=float)
    if shape == want.shape and np.isin(got, (0, 1)).all():
        raise Wrong("every answer is still exactly 0 or 1: labels have no slope that a linear model could find")
    expect(
        shape != want.shape or np.allclose(got, function(list(TEXTS)), atol=1e-7),
        "the same texts get other answers the second time: dropout is still on, the model is in training mode",
    )
    near = [
        (logits.numpy(), "these are logits: they do not sum to one; apply a softmax"),
        (logits.softmax(0).numpy(), "the softmax runs over the texts (dim=0); each *row* must sum to one"),
        (logits.sigmoid().numpy(), "a sigmoid judges each class alone; two classes of one question need a softmax"),
        (logits.log_softmax(1).numpy(), "these are log-probabilities: softmax, not log_softmax"),
        (np.flip(want, 1), "the columns are exchanged: column 0 is class 0"),
    ]
    expect_close(got, want, "the probabilities", rtol=1e-5, near_misses=near)
    one = np.asarray(function(["abc"]), dtype=float)
    expect(one.shape == (1, 2), f"for a list of one text the shape should be (1, 2); yours is {one.shape}")
    return "probabilities, the same each time, for one text or for thousands"


def _wrapper(finish: Callable[[Any], Any], evaluate: bool = True, texts: Callable[[Any], Any] = list) -> Any:
    """A make_predict_proba that ends in ``finish``: the wrong answers of the bank differ in their last line."""

    def make_predict_proba(model: Any, encode: Any) -> Any:
        import torch

        def predict_proba(given: Any) -> Any:
            model.train(not evaluate)
            with torch.no_grad():
                return finish(model(*encode(texts(given)))).numpy()

        return predict_proba

    return make_predict_proba


def _with_gradient(model: Any, encode: Any) -> Any:
    return lambda texts: model.eval()(*encode(texts)).softmax(1)


def _by_hand(model: Any, encode: Any) -> Any:
    """One text at a time, the softmax written out."""
    import numpy as np

    def predict_proba(texts: Any) -> Any:
        model.eval()
        rows = []
        for text in texts:
            z = model(*encode([text])).detach().numpy()[0]
            e = np.exp(z - z.max())
            rows.append(e / e.sum())
        return np.array(rows)

    return predict_proba


def _one_hot(logits: Any) -> Any:
    import torch

    return torch.eye(2)[logits.argmax(1)]


HALF_GONE = math.exp(-0.5 * (100 * (1 - math.sqrt(0.5)) / 25) ** 2)
ALL_GONE = math.exp(-0.5 * (100 / 25) ** 2)
ONE_OF_TWENTY = 100 * (1 - math.sqrt(0.95))
WIDTH = ONE_OF_TWENTY / math.sqrt(2 * math.log(2))


def check_width(answer: Any) -> str:
    keys = ("half_gone", "all_gone", "width", "limit")
    expect(isinstance(answer, dict), "the answer should be a dict with the keys " + ", ".join(map(repr, keys)))
    missing = [key for key in keys if key not in answer]
    expect(not missing, f"the dict lacks {', '.join(map(repr, missing))}")
    expect_number(
        answer["half_gone"], HALF_GONE, rtol=5e-3, what="half_gone",
        near_misses={
            HALF_GONE**2: "the square root around exp() is missing",
            math.exp(-0.5 * ((1 - math.sqrt(0.5)) / 25) ** 2): "the distance lacks its factor 100, and all weights become 1",
            math.exp(-0.5 * (50 / 25) ** 2): "the distance is 1 minus the cosine, and the cosine is the square root of the share kept",
            math.exp(-0.5 * (100 * math.sqrt(0.5) / 25) ** 2): "that is the cosine, not one minus the cosine",
        },
    )  # fmt: skip
    expect_number(
        answer["all_gone"], ALL_GONE, rtol=1e-2, what="all_gone",
        near_misses={
            ALL_GONE**2: "the square root around exp() is missing",
            math.exp(-0.5 / 25**2): "the distance lacks its factor 100",
            0: "small, but not zero: the distance of the empty text is 100, not infinite",
        },
    )  # fmt: skip
    expect_number(
        answer["width"], WIDTH, rtol=1e-2, what="width",
        near_misses={
            ONE_OF_TWENTY / math.sqrt(math.log(2)): "the square root around exp() is missing: exp(-D²/(2·width²)) = 1/2",
            WIDTH / 100: "the distance lacks its factor 100",
            5 / math.sqrt(2 * math.log(2)): "the cosine is the square root of the share kept: D = 100·(1 - √0.95)",
            ONE_OF_TWENTY: "that is the distance itself; at this width the weight is exp(-1/2) = 0.61",
        },
    )  # fmt: skip
    expect_choice(
        answer["limit"], "leave-one-out",
        {
            "shapley": "that is where a *wide* kernel leads: all subsets count. A narrow one leaves those next to the text",
            "zero": "so it is with the package's ridge penalty, which wins where samples have no weight; here the penalty vanishes as well",
            "gradient": "the units are words: there is no smaller step than taking one away",
        },
        what="limit",
    )  # fmt: skip
    return "half of the text may go before the weight halves: LIME's local is wide"


_NUMBERS = {"half_gone": HALF_GONE, "all_gone": ALL_GONE, "width": WIDTH, "limit": "leave-one-out"}

TASKS = [
    Task(
        id="27.surrogate", kind="build", title="The weighted local model", difficulty=2, minutes=15, limit=30.0,
        hints=(
            "For masks of zeros and ones the cosine with the whole text is the square root of the share of units kept. "
            "An empty text keeps the share 0: no division needed.",
            "Subtract the pi-weighted means from x and y; solve (xᵀ diag(pi) x + alpha·I) w = xᵀ diag(pi) y; "
            "then b = mean(y) - mean(x)·w.",
        ),
        check=check_surrogate,
        bank=Bank(
            wrong=[
                Case("factor 100 forgotten", lambda masks, y, width=25.0, alpha=1.0: _kernel_first(masks, y, width, alpha, times=1), "factor 100"),
                Case("no outer root", lambda masks, y, width=25.0, alpha=1.0: _kernel_first(masks, y, width, alpha, power=1.0), "lacks its square root"),
                Case("share instead of cosine", lambda masks, y, width=25.0, alpha=1.0: _kernel_first(masks, y, width, alpha, root=False), "square root of that share"),
                Case("unweighted", lambda masks, y, width=25.0, alpha=1.0: _ridge(masks, y, masks[:, 0] * 0 + 1, alpha), "not used in the fit"),
                Case("intercept shrunk", lambda masks, y, width=25.0, alpha=1.0: _shrunk_intercept(masks, y, _pi(masks, width), alpha), "shrinks the intercept"),
                Case("no penalty", lambda masks, y, width=25.0, alpha=1.0: _ridge(masks, y, _pi(masks, width), 0.0), "alpha is not used"),
                Case("arguments ignored", lambda masks, y, width=25.0, alpha=1.0: _kernel_first(masks, y), "not the defaults"),
                Case("empty text divides by zero", _by_cosine, "0/0"),
                Case("weights alone", lambda masks, y, width=25.0, alpha=1.0: _kernel_first(masks, y, width, alpha)[0], "two things"),
                Case("other way round", lambda masks, y, width=25.0, alpha=1.0: _kernel_first(masks, y, width, alpha)[::-1], "weights first"),
            ],
            right=[Case("scikit-learn", _scikit), Case("augmented least squares", _augmented)],
        ),
    ),
    Task(
        id="27.predict_proba", kind="debug", title="The repair that silenced the error", difficulty=2, minutes=10, limit=30.0,
        hints=(
            "Look at the values that the function returns. What could a straight line learn from them? "
            "Then call it twice with the same texts.",
            "model.eval() turns dropout off; logits.softmax(dim=1) gives each text its probabilities.",
        ),
        check=check_predict_proba,
        bank=Bank(
            wrong=[
                Case("as given", _wrapper(_one_hot, evaluate=False), "exactly 0 or 1"),
                Case("eval alone", _wrapper(_one_hot), "exactly 0 or 1"),
                Case("softmax alone", _wrapper(lambda z: z.softmax(1), evaluate=False), "dropout"),
                Case("softmax over texts", _wrapper(lambda z: z.softmax(0)), "over the texts"),
                Case("logits", _wrapper(lambda z: z), "logits"),
                Case("sigmoid", _wrapper(lambda z: z.sigmoid()), "sigmoid"),
                Case("log-probabilities", _wrapper(lambda z: z.log_softmax(1)), "log_softmax"),
                Case("one column", _wrapper(lambda z: z.softmax(1)[:, 1]), "column for every class"),
                Case("first text", _wrapper(lambda z: z.softmax(1), texts=lambda t: t[:1]), "first text alone"),
                Case("gradient", _with_gradient, "NumPy"),
                Case("probabilities, no function", lambda model, encode: model(*encode(["a"])).softmax(1), "a *function*"),
            ],
            right=[
                Case("one text at a time", _by_hand),
                Case("exp of log-softmax", _wrapper(lambda z: z.log_softmax(-1).exp())),
            ],
        ),
    ),
    Task(
        id="27.width", kind="reason", title="What a width of 25 means", difficulty=2, minutes=10,
        hints=(
            "All you need: D = 100·(1 - √s) for a share s of units kept, and the weight sqrt(exp(-D²/width²)).",
            "For the width: set exp(-D²/(2·width²)) = 1/2, so width = D / √(2 ln 2).",
        ),
        check=check_width,
        bank=Bank(
            wrong=[
                Case("no root", {**_NUMBERS, "half_gone": 0.2534}, "square root around exp() is missing"),
                Case("no factor", {**_NUMBERS, "half_gone": 0.99993}, "factor 100"),
                Case("share", {**_NUMBERS, "half_gone": 0.1353}, "square root of the share"),
                Case("zero", {**_NUMBERS, "all_gone": 0}, "not zero"),
                Case("width without root", {**_NUMBERS, "width": 3.04}, "square root around exp() is missing"),
                Case("width is the distance", {**_NUMBERS, "width": 2.532}, "distance itself"),
                Case("shapley", {**_NUMBERS, "limit": "Shapley"}, "*wide* kernel"),
                Case("zero limit", {**_NUMBERS, "limit": "zero"}, "penalty"),
                Case("a key missing", {k: v for k, v in _NUMBERS.items() if k != "width"}, "lacks 'width'"),
                Case("a number", 0.5034, "a dict"),
            ],
            right=[Case("rounded", {"half_gone": 0.503, "all_gone": 3.35e-4, "width": 2.15, "limit": " Leave-One-Out "})],
        ),
    ),
]  # fmt: skip
