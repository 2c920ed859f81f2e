"""Lab checks: whatever a learner's code does, it gets a sentence, and the process lives on as it was."""

# ruff: noqa: SIM105, B012, NPY002 - learners write such code, and lime reads NumPy's global generator

import contextlib
import os
import random
import sys
import textwrap
import threading
import time
import warnings

import numpy as np
import pytest
import torch

from llmlab.course.checking import (
    Bank,
    Task,
    Wrong,
    call,
    check,
    expect,
    expect_choice,
    expect_close,
    expect_finite,
    expect_number,
    expect_shape,
    expect_type,
    run_check,
)
from llmlab.course.guard import Capture, Stopped, guarded

X = torch.tensor([[1.0, 2.0, 3.0], [0.0, 1000.0, 0.0]])


def check_softmax(answer):
    expect_close(
        call(answer, X), torch.softmax(X, -1), "the softmax", near_misses=[(torch.softmax(X, 0), "columns, not rows")]
    )
    return "rows sum to 1"


def task(function=check_softmax, limit=0.25, **changes):
    fields = dict(
        id="99.softmax", kind="build", title="Softmax", difficulty=1, minutes=5, hints=("a", "b"), check=function,
        bank=Bank(wrong=[], right=[]), limit=limit,
    )  # fmt: skip
    return Task(**{**fields, **changes})


def verdict(answer, **changes):
    return run_check(task(**changes), answer)


def right(x):
    return torch.softmax(x, -1)


# --- the three verdicts


def test_right_answer_passes_with_the_sentence_of_the_check():
    result = verdict(right)
    assert result
    assert repr(result) == "✓ 99.softmax: passed: rows sum to 1"


def test_wrong_answer_is_told_why():
    result = verdict(lambda x: x.softmax(0))
    assert not result
    assert repr(result) == "✗ 99.softmax: the softmax: columns, not rows"


def unfinished(x):
    raise NotImplementedError("write your answer here")


def only_docstring(x):
    """To be written."""


def dots(x): ...


def half_done(x):
    top = x.max(-1, keepdim=True).values
    shifted = ...
    return shifted.exp() / top


def returns_dots(x):
    y = x.exp()
    assert y is not None
    return ...


class Unfinished:
    def __call__(self, x):
        raise NotImplementedError


OPEN = [None, ..., (..., 1), {"a": ...}, unfinished, only_docstring, dots, half_done, returns_dots, Unfinished()]


@pytest.mark.parametrize("answer", OPEN, ids=[getattr(a, "__name__", repr(type(a).__name__)) for a in OPEN])
def test_unsolved_is_still_to_do(answer):
    result = verdict(answer)
    assert result.state == "todo"
    assert not result
    assert repr(result).startswith("○ 99.softmax: still to do")


def test_not_implemented_in_a_library_is_not_an_unsolved_answer():
    result = verdict(torch.nn.Module())
    assert result.state == "wrong"
    assert "forward" in result.message


class OpenModule(torch.nn.Module):
    def forward(self, x):
        raise NotImplementedError("write your answer here")


def calls_what_a_library_leaves_open(x):
    return torch.nn.Module().forward(x)


def test_whose_line_raised_it_decides():
    assert verdict(OpenModule()).state == "todo", "the learner's line, though torch called it"
    assert verdict(calls_what_a_library_leaves_open).state == "wrong", "torch's line, though the learner called it"


# --- what learners' code does


def none(x):
    x.exp()


def yields(x):
    yield x


async def coroutine(x):
    return x


def in_place(x):
    return x.sub_(1)


def raises(x):
    scores = x @ x
    return scores


def exits(x):
    sys.exit(3)


def exits_hard(x):
    os._exit(3)


def recurses(x):
    return recurses(x)


def stop_iteration(x):
    return next(iter([]))


def interrupted_by_generator_exit(x):
    raise GeneratorExit("odd")


class Unprintable(Exception):
    def __str__(self):
        raise ValueError


def raises_unprintable(x):
    raise Unprintable


SAYS = [
    (none, "`none` returned None: is its `return` missing?"),
    (yields, "`yield` written where `return` was meant"),
    (coroutine, "not `async def`"),
    (in_place, "`in_place` changes its input `x` in place"),
    (raises, "RuntimeError: mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3), at line {line} of `raises` (`scores = x @ x`)"),
    (exits, "asks Python to exit, at line"),
    (exits_hard, "asks Python to exit, at line"),
    (recurses, "calls itself without end, at line"),
    (stop_iteration, "your code raised StopIteration, at line"),
    (interrupted_by_generator_exit, "GeneratorExit: odd, at line"),
    (raises_unprintable, "Unprintable: (its message cannot be shown), at line"),
    (lambda x: x[0], "should have shape (2, 3); yours has (3,): an axis is missing"),
    (lambda x: x.softmax(-1).T, "should have shape (2, 3); yours has (3, 2): the axes stand in another order"),
    (lambda x: x.softmax(-1)[None], "an axis of length 1 is left over"),
    (lambda x: x * float("nan"), "NaN in 6 of 6 places, first at [0, 0]"),
    (lambda x: "abc", "made of numbers; yours is the string 'abc'"),
    (lambda x: {}, "made of numbers; yours is a dict of 0 values"),
    (lambda x: torch.Tensor, "the class `Tensor` itself"),
    (lambda x: -x.softmax(-1), "the sign is turned everywhere"),
    (lambda x: 2 * x.softmax(-1), "2 times the expected everywhere"),
    (lambda x: x.softmax(-1) + 1, "1 more than expected everywhere"),
    (lambda x: x.softmax(-1).flip(1), "axis 1 runs the other way round"),
    (lambda x: 0 * x, "zero everywhere"),
    (lambda x, y: x, "yours is `<lambda>(x, y)`: missing a required argument: 'y'"),
    (3, "a function was expected; your answer is the int 3"),
    ("softmax", "a function was expected; your answer is the string 'softmax'"),
    (X, "a function was expected; your answer is a tensor of shape (2, 3)"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "sentence"), SAYS, ids=[s[-1][:40] for s in SAYS])
def test_each_fault_gets_its_sentence(answer, sentence):
    if "{line}" in sentence:
        sentence = sentence.format(line=answer.__code__.co_firstlineno + 1)
    result = verdict(answer, limit=5)
    assert result.state == "wrong"
    assert sentence in result.message
    assert "Traceback" not in result.message
    assert verdict(right), "the next check works"


def test_exception_in_the_check_itself_names_the_answer():
    from_string = eval("lambda a: a.missing")  # its file is no file of the learner's
    message = verdict((1, 2), function=from_string).message
    assert message == (
        "✗ 99.softmax: the check could not use your answer, a tuple of 2 values: "
        "AttributeError: 'tuple' object has no attribute 'missing'"
    )


def test_message_holds_no_address():
    def shows(x):
        raise ValueError(object())

    assert "<object object at 0x…>" in verdict(shows).message


def test_prints_are_cut_and_shown():
    def floods(x):
        for i in range(5000):
            print("row", i)
        print("no end", end="")
        sys.stderr.write("\nand here\n")
        return right(x)

    lines = verdict(floods, limit=10).message.splitlines()
    assert lines[0] == "✓ 99.softmax: passed: rows sum to 1"
    assert lines[2:4] == ["  | row 0", "  | row 1"]
    assert lines[-1] == "  … and 4,996 more lines, not shown: print less"
    assert len(lines) < 12


def test_long_line_is_cut():
    capture = Capture()
    capture.write("x" * 10**6)
    assert capture.shown() == ["  | " + "x" * 120 + "…"]
    assert len(capture.text) < 10**4


def test_what_was_printed_is_kept_up_to_a_length_and_counted_beyond():
    capture = Capture()
    assert capture.shown() == [] and capture.writable() and capture.write("") == 0
    assert capture.write("x" * 3999) == 3999 and capture.write("yz\n") == 3
    assert capture.text == "x" * 3999 + "y" and capture.shown() == ["  | " + "x" * 120 + "…"]
    with pytest.raises(TypeError, match="write\\(\\) takes a str, not int"):
        capture.write(3)
    capture = Capture()
    capture.write("\n".join("x" * 120 for _ in range(6)))
    assert capture.shown() == ["  | " + "x" * 120] * 6
    capture.write("\n")
    assert len(capture.shown()) == 6, "a line that was ended is no further line"
    capture.write("one\ntwo")
    assert capture.shown()[6:] == ["  … and 2 more lines, not shown: print less"]
    assert capture.shown(most=1, width=3) == ["  | xxx…", "  … and 7 more lines, not shown: print less"]


def test_long_messages_are_cut_and_the_limit_is_said_in_words():
    def shouts(x):
        raise ValueError("a" * 241)

    def screams(x):
        raise ValueError(f"{'b' * 228} {'c' * 11}")

    assert f"ValueError: {'a' * 239}…, at line" in verdict(shouts).message
    assert f"ValueError: {'b' * 228} {'c' * 11}, at line" in verdict(screams).message, "240 characters are not cut"
    assert "stopped after 1 second, your code was still running" in verdict(loops, limit=1).message


def test_the_innermost_line_that_the_learner_wrote_is_quoted():
    def outer(x):
        return (
            inner(x)
            + "a string that makes this line long enough to be cut, as it has more than a hundred characters in it"
        )

    def inner(x):
        return list(map(torch.linalg.inv, [x]))

    place = f", at line {inner.__code__.co_firstlineno + 1} of `inner` (`return list(map(torch.linalg.inv, [x]))`)"
    assert verdict(outer).message.endswith(place)

    def long(x):
        return x @ "a string that makes this line long enough to be cut, as it has more than a hundred characters in it"

    quoted = verdict(long).message.split("(`")[1].removesuffix("`)")
    assert len(quoted) == 100 and quoted.startswith('return x @ "a string')


def test_no_more_than_three_warnings_are_shown_and_none_of_a_library():
    def warns(x):
        for i in range(5):
            warnings.warn(f"number {i}", stacklevel=1)
        np.float64(1) / np.float64(0)
        warnings.warn_explicit("not ours", UserWarning, np.__file__, 1)
        return right(x)

    lines = verdict(warns).message.splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == [f"  Warned: UserWarning: number {i}" for i in range(3)]


def test_an_open_answer_is_told_no_more_than_that():
    def prints(x):
        print("working on it")
        raise NotImplementedError

    assert verdict(prints).message == "○ 99.softmax: still to do: write your answer, then run this cell again"
    found = verdict(half_done)
    assert found.message == (
        f"○ 99.softmax: still to do: a `...` is not replaced yet, at line {half_done.__code__.co_firstlineno + 3} "
        "of `half_done` (`return shifted.exp() / top`)"
    )
    assert repr(found) == found.message and found.task_id == "99.softmax"


def test_a_check_may_return_nothing_true_or_a_sentence():
    for returned, said in ((None, "passed"), (True, "passed"), ("well", "passed: well")):
        assert verdict(1, function=lambda answer, r=returned: r).message == f"✓ 99.softmax: {said}"


def test_warnings_of_the_learners_code_are_shown_once():
    def warns(x):
        for _ in range(3):
            warnings.warn("careful", stacklevel=1)
        return right(x)

    text = verdict(warns).message
    assert text.count("careful") == 1
    assert f"UserWarning: careful, at line {warns.__code__.co_firstlineno + 2}" in text


# --- what never ends


def loops(x):
    while True:
        pass


def sleeps(x):
    while True:
        time.sleep(0.02)


def swallows_exceptions(x):
    while True:
        try:
            time.sleep(0.01)
        except Exception:
            pass


def swallows_all(x):
    while True:
        try:
            time.sleep(0.01)
        except:  # noqa: E722
            pass


def swallows_twice(x):
    while True:
        try:
            while True:
                try:
                    try:
                        time.sleep(0.01)
                    except BaseException:
                        pass
                except BaseException:
                    pass
        except BaseException:
            pass


def deeper():
    while True:
        try:
            time.sleep(0.01)
        except BaseException:
            continue


def swallows_in_two_functions(x):
    while True:
        try:
            deeper()
        except BaseException:
            pass


def suppresses(x):
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(0.01)


def never_leaves_finally(x):
    while True:
        try:
            time.sleep(0.01)
        finally:
            continue


def prints_forever(x):
    while True:
        print("still here")


def computes(x):
    while True:
        x = torch.softmax(x, -1)


ENDLESS = [loops, sleeps, swallows_exceptions, swallows_all, swallows_twice, swallows_in_two_functions, suppresses, never_leaves_finally, prints_forever, computes]  # fmt: skip


@pytest.mark.parametrize("answer", ENDLESS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("where", ["main thread", "other thread"])
def test_endless_code_is_stopped(answer, where):
    results, trace = [], sys.gettrace()
    began = time.monotonic()
    if where == "main thread":
        results.append(verdict(answer))
    else:
        thread = threading.Thread(target=lambda: results.append(verdict(answer)), daemon=True)
        thread.start()
        thread.join(20)
    assert time.monotonic() - began < 5
    assert "stopped after 0.25 seconds" in results[0].message
    assert "does a loop never end?" in results[0].message
    assert sys.gettrace() is trace
    assert sys.exc_info() == (None, None, None)
    time.sleep(0.06)  # no alarm is left that would ring here
    assert verdict(right)


def test_code_that_ends_at_the_very_limit_is_either_done_or_stopped():
    """The alarm may ring just before or just after the end; neither may reach the caller."""

    def ends_at_the_limit():
        until = time.monotonic() + 0.0099
        while time.monotonic() < until:
            pass
        return 1

    def many():
        outcomes.extend(guarded(ends_at_the_limit, 0.01) for _ in range(40))

    outcomes = []
    many()
    thread = threading.Thread(target=many)
    thread.start()
    thread.join()
    assert len(outcomes) == 80
    assert [o for o in outcomes if o.value != 1 and not isinstance(o.error, Stopped)] == []
    assert verdict(right)


@pytest.mark.parametrize("where", ["main thread", "other thread"])
def test_time_of_imports_does_not_count(where, tmp_path, monkeypatch):
    name = f"slow_to_import_{where[0]}"
    (tmp_path / f"{name}.py").write_text("import time\ntime.sleep(0.5)\n")
    monkeypatch.syspath_prepend(tmp_path)

    def imports(x):
        __import__(name)
        return right(x)

    def imports_then_loops(x):
        __import__(name)
        loops(x)

    results = []

    def run():
        results.extend([verdict(imports), verdict(imports_then_loops)])

    if where == "main thread":
        run()
    else:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    assert [result.state for result in results] == ["passed", "wrong"]
    assert "stopped after 0.25 seconds" in results[1].message


def test_another_alarm_gets_its_time_back():
    signal = pytest.importorskip("signal")
    if not hasattr(signal, "setitimer"):
        pytest.skip("this system has no alarms")
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        signal.setitimer(signal.ITIMER_REAL, 50)
        verdict(loops)
        left, _ = signal.getitimer(signal.ITIMER_REAL)
        assert 40 < left < 50
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_keyboard_interrupt_reaches_the_learner():
    def stops(x):
        raise KeyboardInterrupt

    stdout = sys.stdout
    with pytest.raises(KeyboardInterrupt):
        verdict(stops)
    assert sys.stdout is stdout


# --- the state of the process


def test_global_state_is_put_back():
    def spoils(x):
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        torch.set_default_device("meta")
        torch.set_num_threads(torch.get_num_threads() + 1)
        torch.manual_seed(99)
        np.random.seed(99)
        np.seterr(all="raise")
        random.seed(99)
        sys.setrecursionlimit(5000)
        sys.stdout = None
        raise ValueError

    def state():
        return (
            torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_default_device(), torch.get_rng_state().sum().item(),
            np.random.get_state()[1].sum(), torch.get_num_threads(), np.geterr(), random.getstate(), sys.getrecursionlimit(), sys.stdout, os._exit,
        )  # fmt: skip

    before = state()
    assert "ValueError" in verdict(spoils).message
    assert state() == before


def test_random_code_meets_the_same_verdict_twice():
    seen = []

    def noisy(x):
        seen.append((torch.rand(1).item(), np.random.rand(), random.random()))
        return right(x)

    torch.manual_seed(5)
    verdict(noisy)
    verdict(noisy)
    assert seen[0] == seen[1]


def test_forked_child_can_still_leave():
    if not hasattr(os, "fork"):
        pytest.skip("this system cannot fork")

    def forks(x):
        child = os.fork()
        if child == 0:
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        return right(x)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of fork beside threads
        assert verdict(forks, limit=10)


def test_guard_returns_the_value_and_the_prints():
    outcome = guarded(lambda: print("hi") or 3, 1)
    assert (outcome.value, outcome.error, outcome.printed.text) == (3, None, "hi\n")


def test_kernel_lives_on_and_prints_once(tmp_path):
    """In a real kernel: a loop that swallows everything is stopped, and the next cell runs."""
    manager = pytest.importorskip("jupyter_client.manager")
    kernel, client = manager.start_new_kernel(
        kernel_name="python3", env={**os.environ, "LLMLAB_DATA": str(tmp_path), "JUPYTER_PLATFORM_DIRS": "1"}
    )
    cells = [
        """
        from llmlab.course import checking, labs
        from llmlab.course.checking import Bank, Task, call, expect_number
        task = Task("99.square", "build", "Square", 1, 5, ("a", "b"), lambda f: expect_number(call(f, 3), 9), Bank([], []), limit=0.3)
        labs.find = lambda name: task
        """,
        """
        import time
        def square(x):
            while True:
                try:
                    time.sleep(0.05)
                except:
                    pass
        checking.check("99.square")(square)
        """,
        'checking.check("99.square")(lambda x: x / 0)',
        'checking.check("99.square")(lambda x: x * x)',
        "from llmlab.course import progress; print(list(progress.passed()))",
    ]
    said = []
    try:
        for cell in cells:
            texts = []

            def hook(message, texts=texts):
                if message["msg_type"] not in ("status", "execute_input"):
                    texts.append(message["content"].get("text", str(message["content"])))

            client.execute_interactive(textwrap.dedent(cell), output_hook=hook, timeout=60)
            said.append("".join(texts))
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
    assert said[0] == ""
    assert said[1].startswith("✗ 99.square: stopped after 0.3 seconds")
    assert said[2] == (
        "✗ 99.square: your code raised ZeroDivisionError: division by zero, "
        'at line 1 (`checking.check("99.square")(lambda x: x / 0)`)\n'
    )
    assert said[3] == "✓ 99.square: passed\n"
    assert said[4] == "['99.square']\n"


# --- check()


def test_check_prints_and_records(monkeypatch, tmp_path, capsys):
    from llmlab.course import labs, progress

    monkeypatch.setenv("LLMLAB_DATA", str(tmp_path))
    monkeypatch.setattr(labs, "find", lambda name: task())
    assert not check("99.softmax")(none)
    assert progress.passed() == {}
    result = check("99.softmax")(right)
    assert capsys.readouterr().out.splitlines()[-1] == repr(result) == "✓ 99.softmax: passed: rows sum to 1"
    assert list(progress.passed()) == ["99.softmax"]


def test_check_of_an_unknown_task_says_so():
    with pytest.raises(LookupError, match="there is no lab '98'"):
        check("98.nothing")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("id", "softmax", "two digits, a dot"),
        ("kind", "guess", "expected 'build', 'debug' or 'reason'"),
        ("id", "99.Softmax", "two digits, a dot"),
        ("difficulty", 4, "expected 1, 2 or 3"),
        ("difficulty", 0, "expected 1, 2 or 3"),
        ("hints", ("one",), "expected two hints, got 1"),
        ("hints", ("a", "b", "c"), "expected two hints, got 3"),
        ("hints", "ab", "expected two hints, got 2"),
    ],
)
def test_malformed_task_is_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        task(**{field: value})


# --- the predicates


def said(function, *args, **kwargs):
    with pytest.raises(Wrong) as caught:
        function(*args, **kwargs)
    return str(caught.value)


def test_expect_number():
    expect_number(14.0, 14, unit="GB")
    expect_number(torch.tensor(14.001), 14)
    expect_number(np.float32(0), 0)
    assert said(expect_number, 7, 14, unit="GB", near_misses={7: "two bytes a weight"}) == (
        "your number, 7 GB, is not right: two bytes a weight"
    )
    assert "too large by a factor of 1,000 (the answer is asked in GB)" in said(expect_number, 14000, 14, unit="GB")
    assert "its sign is wrong" in said(expect_number, -14, 14)
    assert "more than a factor of 10" in said(expect_number, 900, 14)
    assert (
        said(expect_number, 9, 14, hint="count the biases")
        == "your number, 9, is not right: it is too small: count the biases"
    )
    assert "14" not in said(expect_number, 9, 14)
    for value, text in [
        ("14", "the string '14'"), (True, "the bool True"), (len, "should be a number"), ([1, 2], "a list of 2 values"),
        (float("nan"), "your number is NaN"), (None, "is None"), (1j, "the complex 1j"), (X, "one number; yours is a tensor"),
    ]:  # fmt: skip
        assert text in said(expect_number, value, 14, unit="GB")


def test_expect_close():
    expect_close([1.0, 2.0], torch.tensor([1.0, 2.0]))
    expect_close(torch.tensor([1.0, 2.0], dtype=torch.bfloat16, requires_grad=True), np.array([1.0, 2.0]))
    expect_close([torch.tensor(1.0), torch.tensor(2.0)], [1, 2])
    expect_close(np.array([np.inf, np.nan]), np.array([np.inf, np.nan]))
    expect_close(torch.zeros(0, 3), torch.zeros(0, 3))
    text = said(expect_close, [1.0, 2.0, 9.0], [1.0, 2.0, 3.0], "the row", hint="is the mask added?")
    assert text == "the row is not right: yours is 9 at [2], expected 3 (1 of 3 values differ): is the mask added?"
    assert "infinite" in said(expect_close, [1.0, np.inf], [1.0, 2.0])
    assert "yours is 1 at [0], expected inf" in said(expect_close, [1.0, 1.0], [np.inf, 1.0])
    assert "transpose" in said(expect_close, X[:, :2].T, X[:, :2])
    assert "other places" in said(expect_close, [1.0, 3.0, 2.0, 4.0], [1.0, 2.0, 3.0, 4.0])


def test_expect_shape_type_finite_choice_and_call():
    expect_shape(torch.zeros(2, 5), (2, None))
    assert "shape (3,); yours has (2,)" in said(expect_shape, [1, 2], (3,))
    assert "(any, 3)" in said(expect_shape, torch.zeros(2, 4), (None, 3))
    expect_type(3, (int, float))
    assert said(expect_type, "a", (int, float)) == "the result should be an int or a float; yours is the string 'a'"
    expect_finite(X)
    assert said(expect_finite, float("inf"), "the loss") == "the loss is infinite"
    expect_choice(" KV ", "kv", {"q": "no"})
    assert said(expect_choice, "q", "kv", {"q": "queries are not kept"}) == "your choice 'q': queries are not kept"
    assert "one of 'kv', 'q'; yours is 'x'" in said(expect_choice, "x", "kv", {"q": "no"})
    assert "yours is the int 1" in said(expect_choice, 1, "kv", {"q": "no"})
    expect(torch.tensor(True), "fine")
    assert said(expect, False, "no") == "no"


def test_call_copies_and_compares_nested_inputs():
    def pops(rows, table, *rest, flag=None):
        rows[0].pop()
        return 1

    def adds(rows, table, *rest, flag=None):
        flag["new"] = 1
        return 1

    def writes(rows, table, *rest, flag=None):
        rest[0][0] = 5
        return 1

    rows, table, array, flag = [[1, 2]], {"a": torch.ones(2)}, np.array([np.nan, 1.0]), {}
    assert call(lambda *a, **k: 3, rows, table, array, flag=flag) == 3
    assert "`rows`" in said(call, pops, rows, table, array)
    assert "`flag`" in said(call, adds, rows, table, array, flag=flag)
    assert "`argument 3`" in said(call, writes, rows, table, array)
    assert (rows, flag, array[1]) == ([[1, 2]], {}, 1.0)
    assert np.isnan(array[0])
