"""The sentences of the lab predicates, each at the edge where it begins to apply."""

import fractions
import functools

import numpy as np
import pytest
import torch

from llmlab.course.expect import (
    Wrong,
    as_array,
    call,
    clone,
    describe,
    expect,
    expect_choice,
    expect_close,
    expect_finite,
    expect_number,
    expect_shape,
    expect_type,
    same,
)


def said(function, *args, **kwargs):
    with pytest.raises(Wrong) as caught:
        function(*args, **kwargs)
    return str(caught.value)


def test_expect_and_expect_type():
    expect(np.array([1]), "fine")
    assert said(expect, torch.tensor(False), "no") == "no"
    expect_type(True, int)
    assert said(expect_type, "a", int) == "the result should be an int; yours is the string 'a'"
    assert said(expect_type, 1, dict, "the cache") == "the cache should be a dict; yours is the int 1"


@pytest.mark.parametrize(
    ("got", "want", "reason"),
    [
        ((2, 3), (3, 2), "the axes stand in another order"),
        ((1, 3), (3,), "an axis of length 1 is left over"),
        ((3, 1, 1), (3,), "an axis of length 1 is left over"),
        ((3,), (3, 1), "an axis of length 1 is missing"),
        ((3,), (1, 1, 3), "an axis of length 1 is missing"),
        ((2,), (2, 3), "an axis is missing"),
        ((2, 3, 4), (2, 3), "there is an axis too many"),
        ((2, 3, 4, 5), (2, 3), ""),
        ((2,), (3, 4, 5), ""),
        ((2, 3), (2, 4), ""),
    ],
)
def test_a_wrong_shape_and_its_reason(got, want, reason):
    start = f"the result should have shape {want}; yours has {got}"
    assert said(expect_shape, torch.zeros(got), want) == start + (f": {reason}" if reason else "")
    assert said(expect_shape, np.zeros(got).tolist(), want, hint="why?") == start + (
        f": {reason}" if reason else ""
    ) + (": why?")


def test_a_shape_with_a_free_axis():
    for shape in ((2, 3), (0, 3)):
        expect_shape(np.zeros(shape), (None, 3))
    assert said(expect_shape, np.zeros(3), (None, 3), "x") == "x should have shape (any, 3); yours has (3,)"
    assert said(expect_shape, np.zeros((2, 2)), (None,)) == "the result should have shape (any,); yours has (2, 2)"
    assert said(expect_shape, np.zeros((3, 2)), [None, 3]) == "the result should have shape (any, 3); yours has (3, 2)"


def test_where_a_number_is_not_finite():
    expect_finite(np.zeros((0, 2)))
    x = np.array([[1.0, np.inf], [np.nan, np.nan]])
    assert said(expect_finite, x) == "the result is NaN in 2 of 4 places, first at [1, 0]"
    assert said(expect_finite, x[0], "the loss", "is log(0) taken?") == (
        "the loss is infinite in 1 of 2 places, first at [1]: is log(0) taken?"
    )
    assert said(expect_finite, -np.inf, "the loss") == "the loss is infinite"
    assert said(expect_close, x[0], [1.0, 2.0], hint="why?").endswith("first at [1]: why?")


def test_the_tolerance_of_values_is_what_the_docstring_says():
    for got, want in ((1 + 0.99e-4, 1.0), (1000.099, 1000.0), (0.99e-6, 0.0), (-0.99e-6, 0.0)):
        expect_close([got, 5.0], [want, 5.0])
    for got, want in ((1 + 1.5e-4, 1.0), (1000.15, 1000.0), (1.5e-6, 0.0)):
        assert "is not right" in said(expect_close, [got, 5.0], [want, 5.0])
    expect_close([1.0, 5.1], [1.0, 5.0], rtol=0.03)
    expect_close([0.1, 5.0], [0.0, 5.0], atol=0.11)
    with pytest.raises(Wrong):
        expect_close(np.array([np.nan]), np.array([np.inf]))


def test_the_place_that_is_quoted_is_the_worst():
    got, want = [[1.0, 2.0, 3.5], [4.0, 7.0, 6.0]], [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    assert said(expect_close, got, want) == (
        "the result is not right: yours is 7 at [1, 1], expected 5 (2 of 6 values differ)"
    )
    assert said(expect_close, 3.0, 2.0) == "the result is not right: yours is 3, expected 2"
    assert said(expect_close, [3.0], [2.0]) == "the result is not right: yours is 3 at [0], expected 2"
    text = said(expect_close, [1.0, np.nan, 9.0], [1.0, np.inf, 3.0])
    assert text == "the result is not right: yours is nan at [1], expected inf (2 of 3 values differ)"
    assert "expected 2.12346" in said(expect_close, [9.0, 1.0], [2.123456789, 1.0])


def test_near_misses_come_before_relation_and_hint():
    misses = [
        (torch.tensor([1.0, 1.0, 1.0]), "another shape"),
        ([3.0, 6.0], "tripled"),
        (np.array([np.nan, 1.0]), "NaN"),
    ]
    assert said(expect_close, [3.0, 6.0], [1.0, 2.0], "x", near_misses=misses, hint="h") == "x: tripled"
    assert said(expect_close, [3.00001, 6.0], [1.0, 2.0], near_misses=misses) == "the result: tripled"
    assert said(expect_close, [np.nan, 1.0], [np.inf, 1.0], near_misses=misses) == "the result: NaN"
    assert "a factor is missing" in said(expect_close, [5.0, 10.0], [1.0, 2.0], near_misses=misses, hint="h")
    assert said(expect_close, [5.0, 1.0], [1.0, 2.0], near_misses=misses, hint="h").endswith(
        "(2 of 2 values differ): h"
    )
    assert "tripled" in said(expect_close, [4.0, 6.0], [1.0, 2.0], near_misses=misses, atol=1.5)
    assert "tripled" in said(expect_close, [3.3, 6.0], [1.0, 2.0], near_misses=misses, rtol=0.2)
    by_value = {3.0: "tripled"}
    assert said(expect_close, 3.0, 1.0, near_misses=by_value) == "the result: tripled"


WANT = np.array([[1.0, 2.0, 4.0], [3.0, 5.0, 9.0], [6.0, 0.5, 7.0]])


@pytest.mark.parametrize(
    ("got", "reason"),
    [
        (0 * WANT, "yours is zero everywhere"),
        (-WANT, "the sign is turned everywhere"),
        (WANT / 8, "yours is 0.125 times the expected everywhere: a factor is missing or too many"),
        (WANT - 0.5, "yours is -0.5 more than expected everywhere: a term is missing or too many"),
        (WANT.T, "it is the transpose of what was expected"),
        (WANT[::-1], "axis 0 runs the other way round"),
        (WANT[:, ::-1], "axis 1 runs the other way round"),
        (np.roll(WANT, 1), "the values are right, but they stand in other places"),
        (WANT**2, "why?"),
    ],
)
def test_relations_to_the_right_values(got, reason):
    text = said(expect_close, got, WANT, hint="why?")
    assert text.split(" values differ): ")[1] == reason
    if reason != "why?":  # a relation holds within the tolerance, and not beyond it
        assert said(expect_close, np.where(WANT == 3, got * (1 + 2e-5), got), WANT, hint="why?").endswith(reason)
        assert not said(expect_close, np.where(WANT == 5, got + 0.01, got), WANT, hint="why?").endswith(reason)


def test_relations_that_could_be_chance_are_not_told():
    assert said(expect_close, 3.0, 2.0, hint="h").endswith("expected 2: h"), "any number is a multiple of any other"
    assert said(expect_close, [2.0, 1.0], [1.0, 2.0], hint="h").endswith("axis 0 runs the other way round")
    assert said(expect_close, [2.0, 0.0], [0.0, 0.0], hint="h").endswith(": h"), "nothing is a multiple of zero"
    assert said(expect_close, [3.0, 1.0, 2.0], [1.0, 2.0, 3.0], hint="h").endswith("they stand in other places")
    assert said(expect_close, [[2.0], [1.0]], [[1.0], [2.0]]).endswith("axis 0 runs the other way round")
    stack = np.stack([WANT, 2 * WANT])
    assert said(expect_close, np.swapaxes(stack, 1, 2), stack).endswith("it is the transpose of what was expected")
    with np.errstate(invalid="ignore"):
        assert said(expect_close, [1.0, np.inf], [-1.0, np.inf], hint="h").endswith(": h"), (
            "infinities have no relation"
        )
    assert said(expect_close, [0.0, 2.0], [1e-7, 1.0], hint="h").endswith("2 times the expected everywhere: "
                                                                          "a factor is missing or too many")  # fmt: skip


def test_the_tolerance_of_a_number():
    for got in (14.013, 13.987, np.float64(14), torch.tensor([14.0]), fractions.Fraction(14)):
        expect_number(got, 14)
    expect_number(0.0009, 0)
    expect_number(15, 14, rtol=0.1)
    for got in (14.02, 13.98):
        assert "is not right" in said(expect_number, got, 14)
    assert said(expect_number, 0.0015, 0) == "your number, 0.0015, is not right: it is too large"
    assert said(expect_number, -0.0015, 0) == "your number, -0.0015, is not right: it is too small"
    assert said(expect_number, 0.0009, 0.0001) == "your number, 0.0009, is not right: it is too large"
    assert said(expect_number, 0, 14, what="the size") == "the size, 0, is not right: it is too small"


@pytest.mark.parametrize(
    ("got", "reason"),
    [
        (-14, "its sign is wrong"), (13, "it is too small"), (15, "it is too large"), (140.5, "it is too large by more than a factor of 10"),
        (28, "it is too large by a factor of 2"), (7, "it is too small by a factor of 2"), (56, "it is too large by a factor of 4"),
        (112, "it is too large by a factor of 8 (the answer is asked in GB)"),
        (1.4, "it is too small by a factor of 10 (the answer is asked in GB)"),
        (1400, "it is too large by a factor of 100 (the answer is asked in GB)"),
        (14e3, "it is too large by a factor of 1,000 (the answer is asked in GB)"),
        (14e6, "it is too large by a factor of 1,000,000 (the answer is asked in GB)"),
        (14e9, "it is too large by a factor of 1,000,000,000 (the answer is asked in GB)"),
        (14 * 1024, "it is too large by a factor of 1,024 (the answer is asked in GB)"),
        (14 * 2**20, "it is too large by a factor of 1,048,576 (the answer is asked in GB)"),
        (14 * 2**30, "it is too large by a factor of 1,073,741,824 (the answer is asked in GB)"),
        (28.02, "it is too large by a factor of 2"), (28.1, "it is too large"), (130, "it is too large"),
    ],
)  # fmt: skip
def test_how_far_off_a_number_is(got, reason):
    assert said(expect_number, got, 14, unit="GB") == f"your number, {got:.6g} GB, is not right: {reason}"
    assert said(expect_number, got, 14, hint="h") == (
        f"your number, {got:.6g}, is not right: {reason.removesuffix(' (the answer is asked in GB)')}: h"
    )


def test_near_misses_of_a_number():
    misses = {7: "two bytes a weight", 0: "nothing is kept"}
    assert said(expect_number, 7.006, 14, near_misses=misses) == "your number, 7.006, is not right: two bytes a weight"
    assert said(expect_number, 0.0009, 14, near_misses=misses) == "your number, 0.0009, is not right: nothing is kept"
    assert "nothing" not in said(expect_number, 0.0015, 14, near_misses=misses)
    assert "two bytes" not in said(expect_number, 7.02, 14, near_misses=misses)
    assert "two bytes" in said(expect_number, 7.1, 14, rtol=0.02, near_misses=list(misses.items()))


@pytest.mark.parametrize("odd", [True, np.bool_(True), "14", b"14", 14j, abs])
def test_what_is_no_number(odd):
    assert said(expect_number, odd, 14, unit="GB").startswith("your number should be a number in GB; yours is ")
    assert said(expect_number, odd, 14).startswith("your number should be a number; yours is ")


def test_two_numbers_are_not_one():
    assert said(expect_number, [14.0, 14.0], 14) == "your number should be one number; yours is a list of 2 values"
    assert said(expect_number, np.zeros(0), 14) == "your number should be one number; yours is an array of shape (0,)"


def test_choices_are_words_in_any_case():
    expect_choice("kV\n", "Kv", {"q": "no"})
    assert said(expect_choice, " Q", "kv", {"q": "not kept"}, "the answer") == "the answer 'q': not kept"
    assert said(expect_choice, "x" * 99, "kv", {"q": "no"}).endswith(f"one of 'kv', 'q'; yours is '{'x' * 60}'")


class Model:
    def method(self, x):
        return x

    def __call__(self, x):
        return x


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"), (..., "`...`"), (Model, "the class `Model` itself, not an object made from it"),
        ("x" * 40, f"the string '{'x' * 40}'"), ("x" * 41, f"the string '{'x' * 37}...'"), (True, "the bool True"),
        (1.5, "the float 1.5"), (np.float32(1.5), "the float32 1.5"), (10**80, f"the int 1{'0' * 51}"),
        (torch.zeros(2, 1), "a tensor of shape (2, 1)"), (torch.nn.Parameter(torch.zeros(3)), "a tensor of shape (3,)"),
        (np.zeros(()), "an array of shape ()"), ([], "a list of 0 values"), ((1,), "a tuple of 1 value"),
        ({1, 2}, "a set of 2 values"), ({1: 2}, "a dict of 1 value"), ((i for i in ()), "a generator"),
        (said, "the function `said` itself"), (Model().method, "the function `method` itself"), (Model(), "a Model"),
        (abs, "a builtin_function_or_method"), (object(), "an object"),
    ],
)  # fmt: skip
def test_a_value_in_a_few_words(value, text):
    assert describe(value) == text


def test_numbers_in_any_dress_become_an_array():
    for value in (
        [torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])], ([1, 2], [3, 4]), torch.tensor([[1, 2], [3, 4]]),
        np.array([[1, 2], [3, 4]], np.int8), (np.array([1, 2]), torch.tensor([3.0, 4.0])),
    ):  # fmt: skip
        array = as_array(value, "x")
        assert array.dtype == np.float64 and array.tolist() == [[1, 2], [3, 4]]
    assert as_array([], "x").shape == (0,)
    for odd in ("1", b"1", {1: 2}, {1}, [1, "a"], [[1], [1, 2]], torch.tensor(1j), object()):
        assert said(as_array, odd, "x").startswith("x should be made of numbers; yours is ")
    assert said(as_array, None, "x") == "x is None: is a `return` missing?"
    with pytest.raises(NotImplementedError, match="x is `...`"):
        as_array(..., "x")
    assert said(as_array, (i for i in ()), "x") == "x is a generator: was `yield` written where `return` was meant?"


def test_the_call_that_does_not_fit_is_shown():
    assert said(call, lambda a: a, 1, 2) == (
        "the check calls `<lambda>(…, …)`, but yours is `<lambda>(a)`: too many positional arguments"
    )

    def typed(q: torch.Tensor, *, scale: float = 1.0) -> torch.Tensor:
        return q

    assert said(call, typed, 1, mask=2) == (
        "the check calls `typed(…, mask=…)`, but yours is `typed(q, *, scale=1.0)`: got an unexpected keyword argument 'mask'"
    )
    assert call(max, 1, 2) == 2, "a builtin may have no signature"
    assert call(Model(), 3) == 3
    assert said(call, Model(), 1, 2).startswith("the check calls `Model(…, …)`, but yours is `Model(x)`")
    assert call(functools.partial(lambda a, b: a + b, 1), 2) == 3
    with pytest.raises(NotImplementedError, match="returned `...`"):
        call(lambda: ...)


def test_every_input_that_was_changed_is_named():
    def spoil(which):
        def function(first, /, second, *rest, key=None, **more):
            {"first": first, "second": second, "rest": rest and rest[-1], "key": key, "more": more.get("extra")}[
                which
            ].append(1)
            return 1

        return function

    for which, label in (
        ("first", "first"), ("second", "second"), ("rest", "argument 4"), ("key", "key"), ("more", "extra")
    ):  # fmt: skip
        text = said(call, spoil(which), [], [], [], [], key=[], extra=[])
        assert f"`function` changes its input `{label}` in place" in text


def test_copies_go_all_the_way_down_and_keep_what_they_were():
    tensor = torch.ones(2, requires_grad=True)
    given = {"t": [tensor, (np.ones(2), {1})], "b": bytearray(b"x"), "o": said}
    copied = clone(given)
    assert same(given, copied) and list(copied) == list(given)
    assert copied["t"][0] is not tensor and copied["t"][0].requires_grad and copied["t"][0].is_leaf
    assert not clone(torch.ones(2)).requires_grad
    for path in (lambda x: x["t"], lambda x: x["t"][1][0], lambda x: x["t"][1][1], lambda x: x["b"]):
        assert path(copied) is not path(given)
    assert copied["o"] is said and isinstance(copied["t"][1], tuple)


NAN = float("nan")


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        (1, 1, True), (1, 2, False), (1, 1.0, False), (1, True, False), ("a", "a", True),
        (torch.tensor([1.0, NAN]), torch.tensor([1.0, NAN]), True), (torch.tensor([1.0, NAN]), torch.tensor([NAN, 1.0]), False),
        (torch.tensor([1.0, NAN]), torch.tensor([1.0, 2.0]), False), (torch.tensor([1.0, 2.0]), torch.tensor([1.0, NAN]), False),
        (torch.tensor([1.0]), torch.tensor([2.0]), False), (torch.ones(2), torch.ones(1, 2), False),
        (torch.ones(2), torch.ones(2, dtype=torch.float64), False),
        (np.array([1.0, NAN]), np.array([1.0, NAN]), True), (np.array([1.0, NAN]), np.array([NAN, 1.0]), False),
        (np.array([1.0, 2.0]), np.array([1.0, NAN]), False), (np.array([NAN]), np.array([1.0]), False),
        (np.ones(2), np.ones((1, 2)), False), (np.ones(2), np.ones(2, np.float32), False), (np.ones(2), np.zeros(2), False),
        ({"a": [1]}, {"a": [1]}, True), ({"a": [1]}, {"a": [2]}, False), ({"a": 1}, {"b": 1}, False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, False), ({}, {"a": 1}, False),
        ([1, 2], [1, 2], True), ([1, 2], [1], False), ([1], [1, 2], False), ((1, [2]), (1, [3]), False), ([1], (1,), False),
        ({1, 2}, {2, 1}, True), (bytearray(b"x"), bytearray(b"y"), False),
    ],
)  # fmt: skip
def test_equal_means_type_shape_and_content(a, b, equal):
    assert same(a, b) == equal
    assert same(a, a)
