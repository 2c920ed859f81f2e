"""Sentences for lab checks: each predicate returns quietly or raises :class:`Wrong` with what is likely amiss.

A learner reads the sentence alone, so each says what was expected, what came, and, where the numbers betray it, the
mistake behind them: a turned sign, a missing factor, swapped axes, a forgotten return.
"""

from __future__ import annotations

import copy
import inspect
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = [
    "Wrong",
    "call",
    "expect",
    "expect_choice",
    "expect_close",
    "expect_finite",
    "expect_number",
    "expect_shape",
    "expect_type",
]

#: Wrong values that betray a known mistake, each with its sentence: a dict, or pairs where the value cannot be a key.
NearMisses = Mapping[Any, str] | Iterable[tuple[Any, str]]


class Wrong(Exception):
    """The learner's answer is not right; the text is the sentence that the learner reads."""


def expect(condition: object, sentence: str) -> None:
    """Raise ``Wrong(sentence)`` unless ``condition`` holds (a one-element tensor or array will do)."""
    if not bool(condition):
        raise Wrong(sentence)


def expect_type(got: Any, kind: type | tuple[type, ...], what: str = "the result") -> None:
    """Raise unless ``got`` is an instance of ``kind``."""
    if not isinstance(got, kind):
        wanted = " or ".join(_article(k.__name__) for k in (kind if isinstance(kind, tuple) else (kind,)))
        raise Wrong(f"{what} should be {wanted}; yours is {describe(got)}")


def expect_shape(got: Any, shape: Sequence[int | None], what: str = "the result", hint: str = "") -> None:
    """Raise unless ``got`` (tensor, array, nested list) has ``shape``; ``None`` stands for any length."""
    want = tuple(shape)
    own = getattr(got, "shape", None)
    have = tuple(own if isinstance(own, tuple) else as_array(got, what).shape)
    if len(have) == len(want) and all(w is None or h == w for h, w in zip(have, want)):
        return
    reason = ""
    if None not in want and have != want:
        if sorted(have) == sorted(want):  # type: ignore[type-var]
            reason = "the axes stand in another order"
        elif tuple(n for n in have if n != 1) == tuple(n for n in want if n != 1):
            more = len(have) - len(want)
            reason = "an axis of length 1 is " + ("left over" if more > 0 else "missing" if more < 0 else "misplaced")
        elif len(have) == len(want) - 1:
            reason = "an axis is missing"
        elif len(have) == len(want) + 1:
            reason = "there is an axis too many"
    shown = tuple("any" if w is None else w for w in want)
    text = f"({', '.join(map(str, shown))}{',' if len(shown) == 1 else ''})"
    raise Wrong(_join(f"{what} should have shape {text}; yours has {have}", reason, hint))


def expect_finite(got: Any, what: str = "the result", hint: str = "") -> None:
    """Raise if ``got`` holds a NaN or an infinity; says how many and where the first one is."""
    array = as_array(got, what)
    for name, bad in (("NaN", np.isnan(array)), ("infinite", np.isinf(array))):
        if bad.any():
            where = _where(bad)
            count = (
                "" if array.ndim == 0 else f" in {int(bad.sum())} of {array.size} places{where and ', first' + where}"
            )
            raise Wrong(_join(f"{what} is {name}{count}", hint))


def expect_close(
    got: Any,
    want: Any,
    what: str = "the result",
    rtol: float = 1e-4,
    atol: float = 1e-6,
    *,
    hint: str = "",
    near_misses: NearMisses = (),
) -> None:
    """Raise unless ``got`` equals ``want`` in shape and values: ``|got - want| <= atol + rtol * |want|`` everywhere.

    Args:
        got: the learner's tensor, array, number or nested list.
        want: the right values. NaN or infinity in it must be met at the same place.
        what: the subject of the sentence: "the output", "the weights of head 2".
        rtol, atol: tolerances; the defaults suit float32.
        hint: the likely mistake, said when no near miss and no simple relation (sign, factor, transpose) fits.
        near_misses: values that known mistakes give, each with its sentence.
    """
    expect_shape(got, as_array(want, "the expected value").shape, what)
    have, right = as_array(got, what), as_array(want, "the expected value")
    if np.isfinite(right).all():
        expect_finite(have, what, hint)
    near = np.isclose(have, right, rtol=rtol, atol=atol, equal_nan=True)
    if near.all():
        return
    for value, sentence in _pairs(near_misses):
        miss = as_array(value, "a near miss")
        if miss.shape == have.shape and np.allclose(have, miss, rtol=rtol, atol=atol, equal_nan=True):
            raise Wrong(f"{what}: {sentence}")
    worst = np.where(near, -1.0, np.abs(np.nan_to_num(have - right, nan=np.inf)))
    at = np.unravel_index(int(worst.argmax()), worst.shape)
    place = f" at [{', '.join(map(str, at))}]" if have.ndim else ""
    first = f"{what} is not right: yours is {_number(have[at])}{place}, expected {_number(right[at])}"
    if have.size > 1:
        first += f" ({int((~near).sum())} of {have.size} values differ)"
    raise Wrong(_join(first, _relation(have, right, rtol, atol) or hint))


def expect_number(
    got: Any,
    want: float,
    rtol: float = 1e-3,
    unit: str = "",
    *,
    near_misses: NearMisses = (),
    what: str = "your number",
    hint: str = "",
) -> None:
    """Raise unless ``got`` is the number ``want`` within ``rtol``. The right number is never printed.

    Args:
        got: int, float, or a NumPy or torch value with one element.
        want: the right number, in ``unit``.
        rtol: relative tolerance (absolute where ``want`` is 0).
        unit: the unit asked for; it is said when the answer is off by a power of 10 or of 2.
        near_misses: ``{value: "you forgot the factor 2"}``, compared with the same tolerance.
        what: the subject of the sentence.
        hint: said when no near miss fits.
    """
    if isinstance(got, bool | np.bool_ | str | bytes | complex) or callable(got):
        raise Wrong(f"{what} should be a number{unit and ' in ' + unit}; yours is {describe(got)}")
    array = as_array(got, what)
    if array.size != 1:
        raise Wrong(f"{what} should be one number; yours is {describe(got)}")
    value = float(array.reshape(()))
    expect_finite(value, what)
    if math.isclose(value, want, rel_tol=rtol, abs_tol=rtol if want == 0 else 0.0):
        return
    for miss, sentence in _pairs(near_misses):
        if math.isclose(value, miss, rel_tol=rtol, abs_tol=rtol if miss == 0 else 0.0):
            raise Wrong(f"{what}, {_number(value)}{unit and ' ' + unit}, is not right: {sentence}")
    size = "too large" if value > want else "too small"
    opposite = want != 0 and value / want < 0
    reason = "its sign is wrong" if opposite else f"it is {size}{_off_by(value, want, rtol, unit)}"
    raise Wrong(_join(f"{what}, {_number(value)}{unit and ' ' + unit}, is not right: {reason}", hint))


def expect_choice(got: Any, want: str, wrong: Mapping[str, str], what: str = "your choice") -> None:
    """Raise unless ``got`` is the word ``want``; ``wrong`` gives each other choice the sentence that says why not."""
    choices = sorted([want, *wrong])
    listed = ", ".join(repr(c) for c in choices)
    if not isinstance(got, str):
        raise Wrong(f"{what} should be one of {listed}; yours is {describe(got)}")
    word = got.strip().casefold()
    for choice, sentence in wrong.items():
        if word == choice.casefold():
            raise Wrong(f"{what} {choice!r}: {sentence}")
    if word != want.casefold():
        raise Wrong(f"{what} should be one of {listed}; yours is {got[:60]!r}")


def call(fn: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Call the learner's ``fn`` on copies of the inputs and return what it returns.

    Raises:
        Wrong: ``fn`` is not callable, does not take these arguments, returns None or a generator, or changes an
            input in place (tensors, arrays, lists, dicts, sets, also nested). What ``fn`` itself raises passes through.
            A function that is meant to change its input or to return None is called directly, without ``call``.
    """
    name = getattr(fn, "__name__", type(fn).__name__)
    if not callable(fn):
        raise Wrong(f"a function was expected; your answer is {describe(fn)}")
    names = _bind(fn, name, args, kwargs)
    given_args, given_kwargs = clone(args), clone(kwargs)
    result = fn(*given_args, **given_kwargs)
    pairs = [*zip(args, given_args), *((kwargs[key], given_kwargs[key]) for key in kwargs)]
    for label, (before, after) in zip(names, pairs):
        if not same(before, after):
            raise Wrong(
                f"`{name}` changes its input `{label}` in place, so the caller loses it: "
                "work on a copy, or use the operation that returns a new value"
            )
    if result is None:
        raise Wrong(f"`{name}` returned None: is its `return` missing?")
    if result is Ellipsis:
        raise NotImplementedError(f"`{name}` returned `...`")
    _no_generator(result, f"`{name}`")
    return result


def clone(value: Any) -> Any:
    """A copy of tensors, arrays and containers at any depth; anything else is handed on as it is."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    if isinstance(value, np.ndarray | set | bytearray):
        return copy.copy(value)
    if type(value) is dict:
        return {key: clone(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(clone(item) for item in value)
    return value


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal in type, shape and content, NaN being equal to NaN."""
    torch = sys.modules.get("torch")
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if torch is not None and isinstance(a, torch.Tensor):
        if a.shape != b.shape or a.dtype != b.dtype:
            return False
        return bool(((a == b) | ((a != a) & (b != b))).all())  # noqa: PLR0124 - NaN is what differs from itself
    if isinstance(a, np.ndarray):
        return a.shape == b.shape and a.dtype == b.dtype and bool(((a == b) | ((a != a) & (b != b))).all())  # noqa: PLR0124
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    return bool(a == b)


def as_array(value: Any, what: str) -> np.ndarray:
    """``value`` as a float64 array, from a tensor of any dtype, an array, a number or nested lists of them."""
    torch = sys.modules.get("torch")
    _no_generator(value, what)
    if value is None:
        raise Wrong(f"{what} is None: is a `return` missing?")
    if value is Ellipsis:
        raise NotImplementedError(f"{what} is `...`")
    try:
        if torch is not None and isinstance(value, torch.Tensor):
            if value.is_complex():
                raise TypeError
            return value.detach().to("cpu", torch.float64).numpy()
        if isinstance(value, list | tuple) and value and all(hasattr(item, "shape") for item in value):
            return np.stack([as_array(item, what) for item in value])
        if isinstance(value, str | bytes | dict | set):
            raise TypeError
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise Wrong(f"{what} should be made of numbers; yours is {describe(value)}") from error


def describe(value: Any) -> str:
    """What a value is, in a few words: "a tensor of shape (2, 3)", "a list of 4 values", "the string 'abc'"."""
    if value is None or value is Ellipsis:
        return "None" if value is None else "`...`"
    if isinstance(value, type):
        return f"the class `{value.__name__}` itself, not an object made from it"
    if isinstance(value, str):
        return f"the string {(value if len(value) <= 40 else value[:37] + '...')!r}"
    if isinstance(value, bool | int | float | complex | np.generic):
        return f"the {type(value).__name__} {value}"[:60]
    if hasattr(value, "shape") and not callable(value):
        name = "tensor" if type(value).__name__ in ("Tensor", "Parameter") else "array"
        return f"{_article(name)} of shape {tuple(value.shape)}"
    if isinstance(value, list | tuple | set | dict):
        many = len(value)
        return f"{_article(type(value).__name__)} of {many} value{'s' * (many != 1)}"
    if inspect.isgenerator(value):
        return "a generator"
    if inspect.isfunction(value) or inspect.ismethod(value):
        return f"the function `{value.__name__}` itself"
    return _article(type(value).__name__)


def _bind(fn: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
    """The parameter that each argument falls on; raises when ``fn`` does not take these arguments."""
    plain = [f"argument {i + 1}" for i in range(len(args))] + list(kwargs)
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
        return plain
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        shown = ", ".join(["…"] * len(args) + [f"{key}=…" for key in kwargs])
        raise Wrong(f"the check calls `{name}({shown})`, but yours is `{name}{_bare(signature)}`: {error}") from error
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = [p.name for p in signature.parameters.values() if p.kind in kinds][: len(args)]
    return positional + plain[len(positional) :]


def _bare(signature: inspect.Signature) -> str:
    """The signature without annotations, which would fill the line."""
    empty = inspect.Parameter.empty
    parameters = [p.replace(annotation=empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty))


def _no_generator(value: Any, what: str) -> None:
    if inspect.isgenerator(value):
        raise Wrong(f"{what} is a generator: was `yield` written where `return` was meant?")
    if inspect.iscoroutine(value):
        value.close()  # or Python warns that it was never awaited
        raise Wrong(f"{what} is a coroutine: write `def`, not `async def`")


def _pairs(near_misses: NearMisses) -> list[tuple[Any, str]]:
    return list(near_misses.items() if isinstance(near_misses, Mapping) else near_misses)


def _relation(have: np.ndarray, want: np.ndarray, rtol: float, atol: float) -> str:
    """The simple transformation that turns the right values into the given ones, if there is one."""

    def equal(a: np.ndarray, b: np.ndarray) -> bool:
        return a.shape == b.shape and bool(np.allclose(a, b, rtol=rtol, atol=atol))

    if not (np.isfinite(have).all() and np.isfinite(want).all()) or not np.abs(want).max() > atol:
        return ""
    if not have.any():
        return "yours is zero everywhere"
    if equal(have, -want):
        return "the sign is turned everywhere"
    top = np.unravel_index(int(np.abs(want).argmax()), want.shape)
    factor, offset = have[top] / want[top], have[top] - want[top]
    if have.size > 1 and equal(have, factor * want):
        return f"yours is {_number(factor)} times the expected everywhere: a factor is missing or too many"
    if have.size > 1 and equal(have, want + offset):
        return f"yours is {_number(offset)} more than expected everywhere: a term is missing or too many"
    if have.ndim >= 2 and equal(have, np.swapaxes(want, -1, -2)):
        return "it is the transpose of what was expected"
    for axis in range(have.ndim):
        if equal(have, np.flip(want, axis)):
            return f"axis {axis} runs the other way round"
    if have.size > 2 and equal(np.sort(have, axis=None), np.sort(want, axis=None)):
        return "the values are right, but they stand in other places"
    return ""


def _off_by(value: float, want: float, rtol: float, unit: str) -> str:
    """How far off, where that betrays a slip of units; otherwise only the order of magnitude."""
    if want == 0 or value == 0:
        return ""
    ratio = max(value / want, want / value)
    for power in (2, 4, 8, 10, 100, 1000, 10**6, 10**9, 1024, 1024**2, 1024**3):
        if math.isclose(ratio, power, rel_tol=rtol):
            return f" by a factor of {power:,}" + (f" (the answer is asked in {unit})" if unit and power >= 8 else "")
    return " by more than a factor of 10" if ratio > 10 else ""


def _where(mask: np.ndarray) -> str:
    return f" at [{', '.join(str(int(i)) for i in np.argwhere(mask)[0])}]" if mask.ndim else ""


def _number(value: Any) -> str:
    return f"{float(value):.6g}"


def _article(name: str) -> str:
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _join(*parts: str) -> str:
    return ": ".join(part for part in parts if part)
