"""Lab 04: a block whose stream is free, one that has to be freed, and three reckonings about depth."""

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
    expect_choice,
    expect_close,
    expect_number,
    expect_type,
)

__all__ = ["TASKS"]


def _parts() -> tuple[Any, Any, Any, Any, Any]:
    """A stream with both signs, and four modules that cannot be confused."""
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(0)

    class Mix(nn.Module):
        """Takes an option, as attention takes a mask, and shows whether it came."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 4, generator=generator))

        def forward(self, x: Any, shift: float = 0.0) -> Any:
            return (x + shift).cumsum(1) @ self.weight

    class Think(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 4, generator=generator))

        def forward(self, x: Any) -> Any:
            return torch.tanh(x @ self.weight)

    norms = nn.LayerNorm(4), nn.LayerNorm(4)
    for norm in norms:
        norm.weight.data = torch.rand(4, generator=generator) + 0.5
        norm.bias.data = torch.randn(4, generator=generator)
    x = 3 * torch.randn(2, 3, 4, generator=generator)
    return x, Mix(), Think(), *norms


#: what goes wrong in a block, as (name, function of x, attend, feedforward, norm1, norm2), each with its sentence
def _wirings() -> dict[str, tuple[Callable[..., Any], str]]:
    import torch

    def parallel(x: Any, a: Any, f: Any, n1: Any, n2: Any) -> Any:
        return x + a(n1(x)) + f(n2(x))

    def normed_residual(x: Any, a: Any, f: Any, n1: Any, n2: Any) -> Any:
        x = n1(x)
        x = x + a(x)
        x = n2(x)
        return x + f(x)

    def relu_after(x: Any, a: Any, f: Any, n1: Any, n2: Any) -> Any:
        x = torch.relu(x + a(n1(x)))
        return torch.relu(x + f(n2(x)))

    def relu_at_end(x: Any, a: Any, f: Any, n1: Any, n2: Any) -> Any:
        x = x + a(n1(x))
        return torch.relu(x + f(n2(x)))

    def one_plus(x: Any, a: Any, f: Any, n1: Any, n2: Any) -> Any:
        return f(n2(x + a(n1(x))))

    def first_input(x: Any, a: Any, f: Any, n1: Any, n2: Any) -> Any:
        return x + f(n2(x + a(n1(x))))

    return {
        "post-norm": (
            lambda x, a, f, n1, n2: n2((y := n1(x + a(x))) + f(y)),
            "that is post-norm: the norms stand on the stream; each belongs on the branch, before its part",
        ),
        "norm after the part": (
            lambda x, a, f, n1, n2: (y := x + n1(a(x))) + n2(f(y)),
            "each part gets the raw stream, and its output is normed; pre-norm norms what the part reads",
        ),
        "norm on the residual": (
            normed_residual,
            "the normed copy is added, not the stream itself: keep x, and norm only what the part reads",
        ),
        "parallel": (parallel, "both parts read the block's input: the second has to read what the first one added"),
        "no residual": (lambda x, a, f, n1, n2: f(n2(a(n1(x)))), "there is no plus: nothing carries x on"),
        "second plus missing": (one_plus, "the feed-forward's output replaces the stream: its plus is missing"),
        "second plus too early": (
            first_input,
            "the second sum adds the block's input: what the attention wrote is not handed on",
        ),
        "norms exchanged": (
            lambda x, a, f, n1, n2: (y := x + a(n2(x))) + f(n1(y)),
            "the two norms are exchanged: norm1 belongs to the attention",
        ),
        "one norm twice": (lambda x, a, f, n1, n2: (y := x + a(n1(x))) + f(n1(y)), "norm1 is used twice, norm2 never"),
        "no norm": (lambda x, a, f, n1, n2: (y := x + a(x)) + f(y), "the norms are not used"),
        "feed-forward first": (
            lambda x, a, f, n1, n2: (y := x + f(n2(x))) + a(n1(y)),
            "the feed-forward comes first; the attention should",
        ),
        "ReLU after both sums": (relu_after, "a ReLU stands on the stream: no number in it can be negative any more"),
        "ReLU at the end": (relu_at_end, "a ReLU still stands after the last sum: no output is negative"),
    }


def _right(x: Any, a: Any, f: Any, n1: Any, n2: Any, **options: Any) -> Any:
    x = x + a(n1(x), **options)
    return x + f(n2(x))


def _misses(x: Any, parts: Any) -> list[tuple[Any, str]]:
    return [(wiring(x, *parts), sentence) for wiring, sentence in _wirings().values()]


def _expect_gradient(function: Callable[[Any], Any], x: Any, parts: Any) -> None:
    """The stream must carry the gradient as well as the values."""
    import torch

    def gradient(of: Callable[[Any], Any]) -> Any:
        start = x.clone().requires_grad_()
        out = of(start * 1)
        if not (isinstance(out, torch.Tensor) and out.requires_grad):
            raise Wrong("no gradient flows back through the block: is it cut off by detach, .data or no_grad?")
        return torch.autograd.grad(out.square().sum(), start, allow_unused=True)[0]

    got, right = gradient(function), gradient(lambda y: _right(y, *parts))
    expect(
        got is not None and torch.allclose(got, right, rtol=1e-4, atol=1e-4),
        "the output is right, the gradient at x is not: the identity path must carry it too, so nothing on it may be "
        "detached",
    )


def check_block(answer: Any) -> str:
    import torch
    from torch import nn

    expect_type(answer, type, "the answer (hand over the class itself)")
    x, *parts = _parts()
    block = call(answer, *parts)
    expect(isinstance(block, nn.Module), "your class is no torch module: derive it from nn.Module")
    with torch.no_grad():
        expect_close(call(block, x), _right(x, *parts), "the output", near_misses=_misses(x, parts))
        shifted = _right(x, *parts, shift=1.0)
        expect_close(
            call(block, x, shift=1.0),
            shifted,
            "the output when an option is given for the attention",
            near_misses=[(_right(x, *parts), "the option does not reach the attention: pass **options to it")],
        )
    _expect_gradient(block, x, parts)
    mine = {id(p) for p in block.parameters()}
    expect(
        all(id(p) in mine for part in parts for p in part.parameters()),
        "not every part is registered: set each as an attribute of self, so that an optimizer finds its parameters",
    )
    expect(
        sum(1 for _ in block.parameters()) == sum(1 for part in parts for _ in part.parameters()),
        "the block has parameters of its own; a residual needs none",
    )
    with torch.no_grad():
        for p in [*parts[0].parameters(), *parts[1].parameters()]:
            p.zero_()
    _expect_free(block, x)
    return "free stream, normed branches, options handed on, identity when the parts are silent"


def _module(function: Callable[..., Any], parts: Any, *, options: bool, registered: bool, gain: bool) -> Any:
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList(parts) if registered else None
            self.kept = tuple(parts)
            self.gain = nn.Parameter(torch.ones(())) if gain else None

        def forward(self, x: Any, **given: Any) -> Any:
            attend, *rest = self.kept
            return function(x, (lambda y: attend(y, **given)) if options else attend, *rest)

    return Block()


def _as_class(
    function: Callable[..., Any], *, options: bool = True, registered: bool = True, gain: bool = False
) -> type:
    """A class of blocks joined by ``function``; torch is imported when one is made."""

    class Block:
        def __new__(cls, attend: Any, feedforward: Any, norm1: Any, norm2: Any) -> Any:
            parts = (attend, feedforward, norm1, norm2)
            return _module(function, parts, options=options, registered=registered, gain=gain)

    return Block


def _in_place(x: Any, a: Any, f: Any, n1: Any, n2: Any) -> Any:
    x += a(n1(x))
    x += f(n2(x))
    return x


def check_mend(answer: Any) -> str:
    import torch

    x, *parts = _parts()
    with torch.no_grad():
        given = torch.relu(parts[2](x + parts[0](x)))
        given = torch.relu(parts[3](given + parts[1](given)))
        half = torch.relu(_right(x, *parts))
        normed = parts[3]((y := parts[2](x + parts[0](x))) + parts[1](y))
        got = call(answer, x, *parts)
        expect_close(
            got,
            _right(x, *parts),
            "the output",
            near_misses=[
                (given, "this is the code as given: norm and ReLU both stand on the stream"),
                (normed, "the ReLUs are gone, the norms still stand on the stream: norm what each part reads"),
                (half, "the norms are right, a ReLU is left after the last sum"),
                *_misses(x, parts),
            ],
        )
    _expect_gradient(lambda y: answer(y, *parts), x, parts)
    _expect_free(lambda y: call(answer, y, *[torch.zeros_like] * 2, *parts[2:]), x)
    return "nothing stands on the stream but the sums"


def _expect_free(silent: Callable[[Any], Any], x: Any) -> None:
    """Streams of any size pass a block whose parts say nothing: a bound that ordinary numbers never meet is one too."""
    import torch

    with torch.no_grad():
        for size in (1.0, 1e6):
            expect(
                torch.equal(silent(size * x), size * x),
                f"with parts that return zeros the block must return x itself, also when its numbers are of size {size:g}",
            )


def check_skip(answer: Any) -> str:
    import torch

    class Counted:
        def __init__(self, weight: float) -> None:
            self.weight, self.calls = weight, 0

        def __call__(self, x: Any) -> Any:
            self.calls += 1
            return x + torch.sin(self.weight * x + self.weight)

    x = torch.linspace(-1, 1, 6)
    loss = lambda y: float(y.square().sum())  # noqa: E731
    for count in (5, 1, 8):
        layers = [Counted(0.3 + 0.2 * i) for i in range(count)]

        def run(order: list[int], layers: list[Counted] = layers) -> float:
            y = x
            for i in order:
                y = layers[i](y)
            return loss(y)

        whole = run(list(range(count)))
        want = [run([i for i in range(count) if i != j]) - whole for j in range(count)]
        up_to = [run(list(range(j))) - whole for j in range(count)]
        only = [run([j]) - whole for j in range(count)]
        for layer in layers:
            layer.calls = 0
        got = call(answer, layers, x, loss)
        expect_close(
            got,
            want,
            f"the costs of {count} layers",
            near_misses=[
                (
                    [-w for w in want],
                    "the sign: what a missing layer costs is the loss without it minus the loss with all",
                ),
                ([w + whole for w in want], "those are the losses; the loss of the whole stack is to be taken off"),
                (up_to, "you stop at the layer that is left out; the later ones still run"),
                (only, "you keep one layer and leave out the others"),
            ],
            hint="leave out one layer, run all others in their order, compare with the whole stack",
        )
        made = sum(layer.calls for layer in layers)
        allowed = count + count * (count - 1) // 2
        expect(
            made <= allowed,
            f"right, but layers are called {made} times for {count} layers; {allowed} are enough: "
            "keep the stream after every layer, and start each run there",
        )
    return "right, and no layer runs before the cut"


def _skip(*, resume: bool = True, sign: float = 1.0, minus: bool = True, stop: bool = False) -> Callable[..., Any]:
    def costs(layers: Any, x: Any, loss: Any) -> list[float]:
        stream = [x]
        for layer in layers:
            stream.append(layer(stream[-1]))
        whole, found = loss(stream[-1]), []
        for j in range(len(layers)):
            y = stream[j] if resume else x
            rest = list(layers[j + 1 :]) if resume else [f for i, f in enumerate(layers) if i != j]
            for f in [] if stop else rest:
                y = f(y)
            found.append(sign * (loss(y) - (whole if minus else 0.0)))
        return found

    return costs


def _only_one(layers: Any, x: Any, loss: Any) -> list[float]:
    y = x
    for layer in layers:
        y = layer(y)
    return [loss(layer(x)) - loss(y) for layer in layers]


def _skip_backwards(layers: Any, x: Any, loss: Any) -> Any:
    """A right answer written differently: all shortened streams are carried along together."""
    whole = x
    without: list[Any] = []
    for layer in layers:
        without = [layer(y) for y in without] + [whole]
        whole = layer(whole)
    return tuple(loss(y) - loss(whole) for y in without)


def check_product(answer: Any) -> str:
    if not (isinstance(answer, tuple | list) and len(answer) == 2):
        raise Wrong("two numbers are asked for, (without the plus, with it)")
    expect_number(
        answer[0],
        0.5**64,
        rtol=0.01,
        what="the factor without the plus",
        near_misses={
            0.5**32: "a block has two parts: 32 blocks are 64 factors",
            0.25**64: "that is the squared length; the length is asked",
            1.5**64: "without the plus there is no identity: every factor is 0.5",
            0.5 * 64: "the factors of a chain are multiplied, not added",
        },
    )
    expect_number(
        answer[1],
        1.25**32,
        rtol=0.01,
        what="the factor with the plus",
        near_misses={
            1.5**64: "lengths add only when the two point the same way; at right angles their squares do",
            1.25**64: "that is the squared length; the length is asked",
            1.25**16: "a block has two parts: 32 blocks are 64 factors",
            1.5**32: "lengths add only when the two point the same way, and a block has two parts",
            0.5**64: "that is without the plus",
            1.0: "the identity path alone gives 1; what passes through the branches comes on top",
        },
    )
    return "nothing arrives without the plus; with it too much does, which is why branches are normed or begin small"


def check_patients(answer: Any) -> str:
    if not (isinstance(answer, tuple | list) and len(answer) == 4):
        raise Wrong("four words are asked for, one for each of A, B, C and D")
    why = {
        "A": (
            "tokens collapse",
            {
                "vanishing": "the first block still gets a quarter of what the last one gets",
                "exploding": "no gradient is large",
                "healthy": "look at the last column: every position holds the same vector",
            },
        ),
        "B": (
            "vanishing",
            {
                "tokens collapse": "the tokens are alike, too, but here the training signal dies on its way down; name that",
                "exploding": "compare the first block with the last: it gets a trillionth",
                "healthy": "a trillionth of the gradient reaches the first block",
            },
        ),
        "C": (
            "healthy",
            {
                "vanishing": "the first block gets more than the last, not less",
                "exploding": "a factor of 5 over 64 blocks is what pre-norm does; an explosion grows with every block",
                "tokens collapse": "almost half of the signal differs between tokens",
            },
        ),
        "D": (
            "exploding",
            {
                "vanishing": "the first block's gradient is the larger one, by far",
                "healthy": "a gradient of ten million makes one step that ruins the weights",
                "tokens collapse": "the tokens differ; look at the first two columns",
            },
        ),
    }
    for (name, (right, wrong)), word in zip(why.items(), answer):
        expect_choice(word, right, wrong, f"patient {name}")
    return "the gradient alone would have sent A home as healthy"


#: every wrong wiring, and a part of the sentence that it must get
SENTENCES = {
    "post-norm": "that is post-norm",
    "norm after the part": "its output is normed",
    "norm on the residual": "the normed copy is added",
    "parallel": "both parts read",
    "no residual": "there is no plus",
    "second plus missing": "its plus is missing",
    "second plus too early": "adds the block's input",
    "norms exchanged": "are exchanged",
    "one norm twice": "norm2 never",
    "no norm": "the norms are not used",
    "feed-forward first": "comes first",
    "ReLU after both sums": "ReLU stands on the stream",
    "ReLU at the end": "after the last sum",
}


def _named(name: str) -> Callable[..., Any]:
    def joined(*parts: Any) -> Any:
        return _wirings()[name][0](*parts)

    return joined


def _as_given(x: Any, attend: Any, feedforward: Any, norm1: Any, norm2: Any) -> Any:
    import torch

    x = torch.relu(norm1(x + attend(x)))
    return torch.relu(norm2(x + feedforward(x)))


def _only_relu_mended(x: Any, attend: Any, feedforward: Any, norm1: Any, norm2: Any) -> Any:
    x = norm1(x + attend(x))
    return norm2(x + feedforward(x))


def _updates_summed(x: Any, attend: Any, feedforward: Any, norm1: Any, norm2: Any) -> Any:
    """A right answer written differently: the two updates first, then one sum."""
    first = attend(norm1(x))
    second = feedforward(norm2(first + x))
    return x + (first + second)


def _detached(x: Any, attend: Any, feedforward: Any, norm1: Any, norm2: Any) -> Any:
    x = x.detach() + attend(norm1(x))
    return x.detach() + feedforward(norm2(x))


def _updates_in_a_loop(x: Any, attend: Any, feedforward: Any, norm1: Any, norm2: Any) -> Any:
    """A right answer written differently."""
    for norm, part in ((norm1, attend), (norm2, feedforward)):
        x = part(norm(x)) + x
    return x


TASKS = [
    Task(
        id="04.block",
        kind="build",
        title="A pre-norm block",
        difficulty=1,
        minutes=10,
        hints=(
            "Two lines in forward, one for each part. The norm is applied to what the part reads, never to x itself.",
            "x = x + attend(norm1(x), **options), then the same with the feed-forward, norm2 and the new x.",
        ),
        check=check_block,
        bank=Bank(
            wrong=[
                *(Case(name, _as_class(_named(name)), sentence) for name, sentence in SENTENCES.items()),
                Case("adds in place", _as_class(_in_place), "in place"),
                Case("stream detached", _as_class(_detached), "detached"),
                Case("options forgotten", _as_class(_right, options=False), "does not"),
                Case("parts not registered", _as_class(_right, registered=False), "registered"),
                Case("a gain of its own", _as_class(_right, gain=True), "parameters of its own"),
                Case("a function", _right, "class itself"),
            ],
            right=[Case("in a loop", _as_class(_updates_in_a_loop)), Case("by the formula", _as_class(_right))],
        ),
    ),
    Task(
        id="04.mend",
        kind="debug",
        title="A block that clips its stream",
        difficulty=2,
        minutes=7,
        hints=(
            "Put in a stream with negative numbers and parts that return zeros. What should come out?",
            "Four things stand on the stream: two ReLUs and two norms. The ReLUs go; the norms move to what each part reads.",
        ),
        check=check_mend,
        bank=Bank(
            wrong=[
                Case("as given", _as_given, "as given"),
                Case("only the ReLUs taken away", _only_relu_mended, "the norms still stand"),
                *(
                    Case(name, _named(name), sentence)
                    for name, sentence in SENTENCES.items()
                    if name not in ("post-norm", "ReLU at the end")
                ),
                Case("one ReLU left", _named("ReLU at the end"), "a ReLU is left"),
                Case("a bound on the stream", lambda *a: _right(*a).clamp(-50, 50), "of size 1e+06"),
                Case("adds in place", _in_place, "in place"),
                Case("stream detached", _detached, "detached"),
            ],
            right=[Case("updates summed", _updates_summed)],
        ),
    ),
    Task(
        id="04.skip",
        kind="build",
        title="What is each layer worth?",
        difficulty=2,
        minutes=10,
        hints=(
            "Run the whole stack once and keep the stream before every layer.",
            "Without layer j: start from the stream before it, and run layers j + 1 to the last.",
        ),
        check=check_skip,
        bank=Bank(
            wrong=[
                Case("from the start", _skip(resume=False), "times for"),
                Case("sign turned", _skip(sign=-1.0), "the sign"),
                Case("losses, not costs", _skip(minus=False), "taken off"),
                Case("stops at the cut", _skip(stop=True), "the later ones still run"),
                Case("one layer alone", _only_one, "keep one layer"),
                Case("one number", lambda layers, x, loss: loss(x), "shape"),
            ],
            right=[Case("all streams together", _skip_backwards), Case("as the solution", _skip())],
        ),
    ),
    Task(
        id="04.product",
        kind="reason",
        title="Sixty-four factors",
        difficulty=2,
        minutes=6,
        hints=(
            "Without the plus every part multiplies the length by 0.5. How many parts have 32 blocks?",
            "At right angles squares add: one part makes the squared length 1 + 0.5² times as large.",
        ),
        check=check_product,
        bank=Bank(
            wrong=[
                Case("one part a block", (0.5**32, 1.25**32), "two parts"),
                Case("squared", (0.25**64, 1.25**32), "squared length"),
                Case("lengths added", (0.5**64, 1.5**64), "same way"),
                Case("squares not undone", (0.5**64, 1.25**64), "squared length"),
                Case("half the parts", (0.5**64, 1.25**16), "two parts"),
                Case("identity alone", (0.5**64, 1.0), "on top"),
                Case("the same twice", (0.5**64, 0.5**64), "without the plus"),
                Case("one number", 0.5**64, "two numbers"),
            ],
            right=[Case("by logarithms", [math.exp(-64 * math.log(2)), math.exp(32 * math.log(1.25))])],
        ),
    ),
    Task(
        id="04.patients",
        kind="reason",
        title="Four deep networks and their troubles",
        difficulty=2,
        minutes=5,
        hints=(
            "Compare the first block with the last: a factor of a thousand in either direction is an illness.",
            "Then look at the last column. A network can be ill with healthy gradients.",
        ),
        check=check_patients,
        bank=Bank(
            wrong=[
                Case("gradients only", ("healthy", "vanishing", "healthy", "exploding"), "last column"),
                Case("all vanish", ("vanishing",) * 4, "a quarter"),
                Case("B collapsed", ("tokens collapse", "tokens collapse", "healthy", "exploding"), "on its way down"),
                Case("C explodes", ("tokens collapse", "vanishing", "exploding", "exploding"), "factor of 5"),
                Case("D vanishes", ("tokens collapse", "vanishing", "healthy", "vanishing"), "larger one"),
                Case("D healthy", ("tokens collapse", "vanishing", "healthy", "healthy"), "ten million"),
                Case("another word", ("collapse", "vanishing", "healthy", "exploding"), "one of"),
                Case("one word", "vanishing", "four words"),
            ],
            right=[Case("capitals", ["Tokens collapse", "Vanishing", "Healthy", "Exploding"])],
        ),
    ),
]
