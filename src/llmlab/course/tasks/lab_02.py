"""Lab 02, positional encoding: build RoPE, stretch it, mend codes given to the batch instead of time, choose a base."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmlab.course.checking import Bank, Case, Task, Wrong, call, expect, expect_close, expect_number, expect_shape


def _rope(
    *,
    layout: str = "half",
    sign: int = 1,
    step: int = 2,
    over: str = "d",
    from_one: bool = False,
    count: bool = False,
    crossed: bool = True,
    ten_thousand: bool = False,
    tables: str = "float64",
    keep_dtype: bool = True,
) -> Callable[..., Any]:
    """RoPE; with one thing changed a wrong answer."""

    def rope(x: Any, positions: Any, base: float = 10_000.0) -> Any:
        import torch

        d = x.shape[-1]
        i = torch.arange(d // 2, dtype=torch.float64) + from_one
        theta = (10_000.0 if ten_thousand else base) ** (-step * i / (d if over == "d" else d // 2))
        at = torch.arange(x.shape[-2]) if count else positions
        angles = (at.to(getattr(torch, tables))[:, None] * theta.to(getattr(torch, tables))) * sign
        cos, sin = angles.cos().double(), angles.sin().double()
        y = x.double()
        a, b = (y[..., 0::2], y[..., 1::2]) if layout == "interleaved" else y.chunk(2, -1)
        second = b * cos + a * sin if crossed else b * cos - a * sin
        pair = (a * cos - b * sin, second)
        turned = torch.stack(pair, -1).flatten(-2) if layout == "interleaved" else torch.cat(pair, -1)
        return turned.to(x.dtype) if keep_dtype else turned

    return rope


def _complex(x: Any, positions: Any, base: float = 10_000.0) -> Any:
    """A right answer written in another way: one complex product."""
    import torch

    half = x.shape[-1] // 2
    angles = positions.double()[:, None] / base ** (torch.arange(half).double() / half)
    z = torch.complex(x[..., :half].double(), x[..., half:].double()) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([z.real, z.imag], -1).to(x.dtype)


def _doubled_tables(x: Any, positions: Any, base: float = 10_000.0) -> Any:
    """The other usual way: tables of width d and rotate_half, in float32."""
    import torch

    d = x.shape[-1]
    theta = 1.0 / base ** (torch.arange(0, d, 2, dtype=torch.float32) / d)
    angles = torch.outer(positions.float(), theta).repeat(1, 2)
    half = torch.cat([-x[..., d // 2 :], x[..., : d // 2]], -1)
    return (x * angles.cos() + half * angles.sin()).to(x.dtype)


def check_rope(answer: Any) -> str:
    import torch

    g = torch.Generator().manual_seed(1)
    x = torch.randn(2, 3, 4, 8, generator=g, dtype=torch.float64)
    positions = torch.tensor([2, 3, 7, 9000])
    right = _rope()
    expect_close(
        call(answer, x, positions),
        right(x, positions),
        "the rotated vectors",
        atol=2e-4,
        near_misses=[
            (x, "nothing is rotated"),
            (
                _rope(layout="interleaved")(x, positions),
                "you paired neighbours, x[2i] and x[2i+1]; asked are the pairs x[i] and x[i + d/2]",
            ),
            (_rope(sign=-1)(x, positions), "the rotation runs backwards: the new first half is a·cos − b·sin"),
            (_rope(crossed=False)(x, positions), "the second half needs b·cos + a·sin: with a minus it is no rotation"),
            (_rope(count=True)(x, positions), "the argument `positions` is not used: the tokens are counted from 0"),
            (right(x, positions - 2), "the first token is put at 0; `positions` says where it stands"),
            (right(x, positions % 4096), "position 9,000 comes out as another: a rotation has no longest text"),
            (_rope(step=1)(x, positions), "the exponent is −2i/d; yours falls half as fast"),
            (_rope(over="half")(x, positions), "the exponent is −2i/d; yours falls twice as fast"),
            (_rope(from_one=True)(x, positions), "i runs from 0: the fastest pair turns by one radian a token"),
            (
                _rope()(x.transpose(1, 2)[:, :, [0, 1, 2, 2]], positions)[:, :, :3].transpose(1, 2),
                "the angles run along the heads; they belong to the tokens, the last axis but one",
            ),
        ],
    )
    expect_close(
        call(answer, x, positions, 500.0),
        right(x, positions, 500.0),
        "the vectors rotated with base 500",
        atol=2e-4,
        near_misses=[(right(x, positions), "the argument `base` is not used")],
    )
    one = torch.ones(1, 1, 4, 2, dtype=torch.float64)
    expect_close(call(answer, one, positions), right(one, positions), "a head of size 2, one pair", atol=2e-4)
    half = x.bfloat16()
    far = torch.tensor([4000, 4001, 4002, 4003])
    got = call(answer, half, far)
    expect(
        getattr(got, "dtype", None) == torch.bfloat16,
        f"bfloat16 queries should stay bfloat16; yours came back as {getattr(got, 'dtype', type(got).__name__)}",
    )
    expect_close(
        got.float(),
        right(half, far).float(),
        "bfloat16 vectors at positions 4000 to 4003",
        atol=0.06,
        rtol=0.02,
        near_misses=[
            (
                _rope(tables="bfloat16")(half, far).float(),
                "the angles were made in bfloat16, where 4001 is 4000: make them in float32",
            )
        ],
        hint="make the angles in float32, whatever x is: in bfloat16 4001 is 4000",
    )
    return "lengths kept, scores know distances alone, and bfloat16 texts keep their places"


def _stretch(kind_of: Callable[[int, float, float], Any], linear: Callable[[Any, float], Any] | None = None) -> Any:
    """An answer to 02.stretch from its NTK rule, and its linear rule if that is to be another."""

    def stretched(d: int, base: float, factor: float, kind: str) -> Any:
        plain = _theta(d, base)
        if kind == "linear":
            return plain / factor if linear is None else linear(plain, factor)
        return kind_of(d, base, factor)

    return stretched


def _theta(d: int, base: float) -> Any:
    import torch

    return base ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)


def _ntk(d: int, base: float, factor: float) -> Any:
    return _theta(d, base * factor ** (d / (d - 2)))


def _ntk_by_pairs(d: int, base: float, factor: float, kind: str) -> Any:
    """A right answer written differently: pair i is slowed by factor^(i / (d/2 − 1))."""
    import torch

    plain, pairs = _theta(d, base), d // 2
    slow = torch.arange(pairs).double() / (pairs - 1) if kind == "ntk" else torch.ones(pairs).double()
    return plain / factor**slow


def check_stretch(answer: Any) -> str:
    for d, base, factor in ((16, 10_000.0, 4.0), (64, 100_000.0, 2.0)):
        plain = _theta(d, base)
        got = call(answer, d, base, factor, "linear")
        expect_shape(got, (d // 2,), "the frequencies", "one for each pair")
        expect_close(
            got,
            plain / factor,
            f"the interpolated frequencies (factor {factor:g})",
            rtol=1e-4,
            near_misses=[
                (plain, "nothing is stretched"),
                (plain * factor, "a longer text needs slower pairs: divide by the factor"),
                (_theta(d, base * factor), "a larger base is the NTK rule; interpolation divides every frequency"),
            ],
        )
        expect_close(
            call(answer, d, base, factor, "ntk"),
            _ntk(d, base, factor),
            f"the NTK frequencies (factor {factor:g})",
            rtol=1e-4,
            near_misses=[
                (plain / factor, "that is interpolation again: the NTK rule leaves the fastest pair as it is"),
                (
                    _theta(d, base * factor),
                    "with base·factor the slowest pair is slowed by a little less than the factor: an exponent is missing",
                ),
                (_theta(d, base * factor ** ((d - 2) / d)), "the exponent is d/(d − 2); yours is its inverse"),
                (_theta(d, base / factor ** (d / (d - 2))), "a smaller base makes the pairs faster: multiply it"),
                (_theta(d, base * factor**2), "the exponent is d/(d − 2), a little more than one; yours is 2"),
            ],
        )
    return "interpolation slows every pair alike; NTK slows the slowest by the factor and the fastest not at all"


def _module(
    *,
    by: str = "time",
    start: int = 0,
    swap: bool = False,
    joined: bool = False,
    next_cos: bool = False,
    odd: bool = True,
    learned: bool = False,
    scaled: bool = False,
    rows: int | None = None,
) -> type:
    """A class for 02.batch; with one thing changed a wrong answer."""
    import torch

    class PositionalEncoding(torch.nn.Module):
        def __init__(self, d: int, max_length: int = 512) -> None:
            super().__init__()
            position = torch.arange(start, max_length + start, dtype=torch.float32)[:, None]
            theta = 10_000.0 ** (-torch.arange(0, d, 2) / d)
            sin, cos = (position * theta).sin(), (position * (theta * 10_000 ** (-1 / d) if next_cos else theta)).cos()
            if swap:
                sin, cos = cos, sin
            codes = torch.zeros(max_length, d)
            if joined:
                codes = torch.cat([sin, cos], -1)[:, :d]
            else:
                codes[:, 0::2] = sin
                codes[:, 1::2] = cos[:, : d // 2] if odd else cos
            if learned:
                self.codes = torch.nn.Parameter(codes)
            else:
                self.register_buffer("codes", codes)

        def forward(self, x: Any) -> Any:
            codes: dict[str, Any] = {"time": self.codes[: rows or x.shape[1]], "batch": self.codes[: x.shape[0], None]}
            codes["both"] = self.codes[: x.shape[0] * x.shape[1]].view(x.shape) if by == "both" else None
            codes["first"] = self.codes[:1]
            return (x * x.shape[-1] ** 0.5 if scaled else x) + codes[by]

    return PositionalEncoding


def _made_when_asked() -> type:
    """A right answer written differently: nothing is stored, the codes are made for the text at hand."""
    import torch

    class Codes(torch.nn.Module):
        def __init__(self, d: int, max_length: int = 512) -> None:
            super().__init__()
            self.d = d

        def forward(self, x: Any) -> Any:
            column = torch.arange(self.d)
            angles = torch.arange(x.shape[1])[:, None] / 10_000 ** ((column - column % 2) / self.d)
            return x + torch.where(column % 2 == 0, angles.sin(), angles.cos())

    return Codes


def _codes(length: int, d: int) -> Any:
    import torch

    column = torch.arange(d)
    angles = torch.arange(length).double()[:, None] / 10_000 ** ((column - column % 2).double() / d)
    return torch.where(column % 2 == 0, angles.sin(), angles.cos())


def check_batch(answer: Any) -> str:
    import torch

    module = answer(8)
    codes = _codes(9, 8)
    for batch in (3, 1):
        zeros = torch.zeros(batch, 5, 8)
        got = call(module, zeros)
        by_batch = codes[:batch, None].expand(batch, 5, 8)
        expect_close(
            got,
            codes[:5].expand(batch, 5, 8),
            f"what is added to {batch} text{'s' * (batch > 1)} of five tokens",
            atol=1e-4,
            near_misses=[
                (
                    by_batch,
                    "this is the code as given: all tokens of a text get the code of the text's number in the batch",
                ),
                (codes[:1].expand(batch, 5, 8), "every token gets the code of position 0"),
                (codes[1:6].expand(batch, 5, 8), "the first token stands at position 0, not 1"),
                (
                    torch.cat([codes[:5, 0::2], codes[:5, 1::2]], -1).expand(batch, 5, 8),
                    "sines and cosines stand in two halves; asked is sine, cosine, sine, cosine",
                ),
                (
                    codes[:5].view(5, 4, 2).flip(-1).flatten(1).expand(batch, 5, 8),
                    "sine and cosine have changed places: even columns hold the sine",
                ),
                (
                    _codes(5 * batch, 8).view(batch, 5, 8),
                    "the second text goes on counting where the first ended; every text starts at 0",
                ),
            ],
            hint="the sine and the cosine of a pair share one angle",
        )
    x = torch.randn(2, 9, 8, generator=torch.Generator().manual_seed(2))
    expect_close(
        call(module, x),
        x + codes,
        "the embeddings of nine tokens with their codes",
        atol=1e-4,
        near_misses=[(x * 8**0.5 + codes, "the embeddings are scaled; only the codes are asked to be added")],
    )
    try:
        odd = answer(7)
    except RuntimeError as error:
        raise Wrong(
            "an odd width still fails: for d = 7 there are four sines and only three cosines, so cut the angles to d // 2"
        ) from error
    expect_close(call(odd, torch.zeros(1, 5, 7))[0], _codes(5, 7), "the codes of width 7", atol=1e-4)
    expect(
        not any(p.requires_grad for p in module.parameters()),
        "the codes have become parameters, and training would change them: a buffer moves with the module and is not trained",
    )
    return "five tokens, five codes, in a batch of one as in a batch of three"


def check_turns(answer: Any) -> str:
    expect_number(
        answer,
        18,
        rtol=0.001,
        what="the number of pairs that never complete a turn",
        near_misses={
            46: "those are the pairs that do complete a turn",
            64: "that is all of them; the fastest turns once in 6.3 tokens",
            36: "those are numbers, two for each pair; pairs are asked",
            17: "one pair too few: pair 46 has a wavelength of 4,712 tokens",
            19: "one pair too many: pair 45 has a wavelength of 4,080 tokens and completes its turn",
            6: "a pair completes a turn after 2π/θ tokens, not after 1/θ",
            9: "the head has 128 numbers, so θ falls as 10,000^(−2i/128), over 64 pairs",
        },
    )
    return "18 of 64 pairs have angles that training never showed: they are what breaks first beyond 4,096"


def check_base(answer: Any) -> str:
    right = 10_000 * 8 ** (128 / 126)
    expect_number(
        answer,
        right,
        rtol=0.005,
        what="the new base",
        near_misses={
            80_000: "base times factor is close; the exponent d/(d − 2) makes the slowest pair slower by exactly 8",
            10_000 * 8 ** (126 / 128): "the exponent is d/(d − 2); yours is its inverse",
            10_000 * 8 ** (64 / 62): "d is the head size, 128, not the number of pairs",
            10_000 * 8**2: "64 times the base slows the slowest pair by nearly 64",
            1250: "a smaller base makes pairs faster",
            10_000 * 32_768 ** (128 / 126): "the factor is the new length divided by the trained one, 8",
        },
    )
    return "the fastest pair is untouched, the slowest turns eight times more slowly"


TASKS = [
    Task(
        id="02.rope",
        kind="build",
        title="Rotary positions, for any positions and any precision",
        difficulty=2,
        minutes=12,
        hints=(
            "Make a table of angles of shape (tokens, d/2), in float32: `positions[:, None] * theta`. Its cosine and "
            "sine broadcast over batch and heads.",
            "`a, b = x.chunk(2, dim=-1)`; the new halves are `a * cos - b * sin` and `b * cos + a * sin`.",
        ),
        check=check_rope,
        bank=Bank(
            wrong=[
                Case("neighbours", _rope(layout="interleaved"), "paired neighbours"),
                Case("backwards", _rope(sign=-1), "runs backwards"),
                Case("no rotation", _rope(crossed=False), "no rotation"),
                Case("counts by itself", _rope(count=True), "`positions` is not used"),
                Case("half the exponent", _rope(step=1), "half as fast"),
                Case("twice the exponent", _rope(over="half"), "twice as fast"),
                Case("i from one", _rope(from_one=True), "i runs from 0"),
                Case("base fixed", _rope(ten_thousand=True), "`base` is not used"),
                Case("bfloat16 angles", _rope(tables="bfloat16"), "the rotated vectors"),
                Case(
                    "angles in the dtype of x",
                    lambda x, positions, base=1e4: _rope(tables=str(x.dtype).removeprefix("torch."))(
                        x, positions, base
                    ),
                    "4001 is 4000",
                ),
                Case("starts at 0", lambda x, p, base=1e4: _rope()(x, p - p[0], base), "put at 0"),
                Case("wraps", lambda x, p, base=1e4: _rope()(x, p % 4096, base), "no longest text"),
                Case("returns float64", _rope(keep_dtype=False), "stay bfloat16"),
                Case("does nothing", lambda x, positions, base=1e4: x, "nothing is rotated"),
                Case("wrong arguments", lambda x: x, "calls"),
            ],
            right=[Case("complex product", _complex), Case("tables of width d", _doubled_tables)],
        ),
    ),
    Task(
        id="02.stretch",
        kind="build",
        title="Two ways to stretch a context",
        difficulty=1,
        minutes=6,
        hints=(
            "Interpolation divides every position by the factor, which is the same as dividing every frequency.",
            "For NTK, ask which base makes the slowest frequency, base^(−(d−2)/d), smaller by the factor.",
        ),
        check=check_stretch,
        bank=Bank(
            wrong=[
                Case("plain", lambda d, base, factor, kind: _theta(d, base), "nothing is stretched"),
                Case("multiplied", _stretch(_ntk, lambda plain, factor: plain * factor), "slower pairs"),
                Case("linear by the base", lambda d, base, factor, kind: _ntk(d, base, factor), "interpolated"),
                Case("ntk is linear", lambda d, base, factor, kind: _theta(d, base) / factor, "interpolation again"),
                Case("base times factor", _stretch(lambda d, b, s: _theta(d, b * s)), "exponent is missing"),
                Case("inverse exponent", _stretch(lambda d, b, s: _theta(d, b * s ** ((d - 2) / d))), "inverse"),
                Case("smaller base", _stretch(lambda d, b, s: _theta(d, b / s ** (d / (d - 2)))), "smaller base"),
                Case("squared", _stretch(lambda d, b, s: _theta(d, b * s**2)), "yours is 2"),
                Case("all numbers", lambda d, base, factor, kind: _theta(2 * d, base), "one for each pair"),
            ],
            right=[Case("pair by pair", _ntk_by_pairs)],
        ),
    ),
    Task(
        id="02.batch",
        kind="debug",
        title="A position for every token",
        difficulty=1,
        minutes=6,
        hints=(
            "Feed zeros of shape (1, 5, 8) and print the five rows that come back.",
            "Which axis of `x` is time? The table must be cut to that length, and have a leading axis for the batch.",
        ),
        check=check_batch,
        bank=Bank(
            wrong=[
                Case("as given", _module(by="batch"), "as given"),
                Case("position 0 for all", _module(by="first"), "position 0"),
                Case("goes on counting", _module(by="both"), "every text starts at 0"),
                Case("starts at 1", _module(start=1), "not 1"),
                Case("sine and cosine exchanged", _module(swap=True), "changed places"),
                Case("two halves", _module(joined=True), "two halves"),
                Case("angles not shared", _module(next_cos=True), "share one angle"),
                Case("odd widths fail", _module(odd=False), "odd width still fails"),
                Case("learned", _module(learned=True), "parameters"),
                Case("only five tokens", _module(rows=5), "must match the size"),
                Case("scaled embeddings", _module(scaled=True), "scaled"),
            ],
            right=[Case("made when asked", _made_when_asked()), Case("a buffer", _module())],
        ),
    ),
    Task(
        id="02.turns",
        kind="reason",
        title="What training never showed",
        difficulty=2,
        minutes=5,
        hints=(
            "Pair i turns by θ_i = 10,000^(−2i/128) radians a token. How many tokens does a full turn take?",
            "2π · 10,000^(2i/128) > 4,096 holds from i = 64 · ln(4,096 / 2π) / ln(10,000) on. The last i is 63.",
        ),
        check=check_turns,
        bank=Bank(
            wrong=[
                Case("the others", 46, "do complete"),
                Case("all", 64, "all of them"),
                Case("numbers", 36, "pairs are asked"),
                Case("one too few", 17, "too few"),
                Case("one too many", 19, "too many"),
                Case("without 2π", 6, "not after 1/θ"),
                Case("a head of 64", 9, "64 pairs"),
                Case("words", "most", "number"),
            ],
            right=[Case("as a float", 18.0)],
        ),
    ),
    Task(
        id="02.base",
        kind="reason",
        title="A base for 32 k",
        difficulty=2,
        minutes=4,
        hints=(
            "The slowest of 64 pairs has θ = base^(−126/128). It must become 8 times slower.",
            "base · 8^(128/126).",
        ),
        check=check_base,
        bank=Bank(
            wrong=[
                Case("base times 8", 80_000, "close"),
                Case("inverse", 10_000 * 8 ** (126 / 128), "inverse"),
                Case("pairs", 10_000 * 8 ** (64 / 62), "number of pairs"),
                Case("squared", 640_000, "nearly 64"),
                Case("smaller", 1250, "faster"),
                Case("length for factor", 10_000 * 32_768 ** (128 / 126), "trained one"),
            ],
            right=[Case("through the slowest pair", (8 * 10_000 ** (126 / 128)) ** (128 / 126))],
        ),
    ),
]
