"""The faults are real faults, each is told apart, and a test that looks at a line is the one that is asked."""

import ast
import json
import textwrap
from pathlib import Path

import pytest

from llmlab.course.mutate.faults import faults, planted
from llmlab.course.mutate.run import Plan, draw, files_of, mutate, report
from llmlab.course.nb.choose import ToolError
from llmlab.course.places import repository

SOURCE = '''
"""A docstring with 3 numbers."""

__all__ = ["f"]


def f(x: int = 4, *, keep: bool = True) -> int:
    """Another, with 5."""
    if x < 2 and keep:
        raise ValueError(f"x={x + 1}: expected {2 * 3}")
    total = 0
    for i in range(1, x):
        total += sum((i, x), start=0) * (
            i - 1  # a comment with + in it
        )
    return -total if keep else total
'''


def changes(source):
    data = source.encode()
    return {(data[f.start : f.stop].decode().strip(), f.new, f.line) for f in faults(source)}


def test_every_kind_of_fault_is_planted_and_nothing_in_text():
    assert changes(SOURCE) == {
        ("4", "5", 7),
        ("True", "False", 7),
        ("x < 2 and keep", "not (x < 2 and keep)", 9),
        ("<", "<=", 9),
        ("2", "3", 9),
        ("and", "or", 9),
        ('raise ValueError(f"x={x + 1}: expected {2 * 3}")', "pass", 10),
        ("0", "1", 11),
        ("1", "2", 12),
        ("+=", "-=", 13),
        ("total += sum((i, x), start=0) * (\n            i - 1  # a comment with + in it\n        )", "pass", 13),
        (", start=0", "", 13),
        ("0", "1", 13),
        ("*", "/", 13),
        ("-", "+", 14),
        ("1", "2", 14),
        ("-total", "(total)", 16),
        ("keep", "not (keep)", 16),
    }


def test_faults_in_the_package_change_its_meaning_and_keep_its_lines():
    source = Path(files_of.__code__.co_filename).read_text()
    found = faults(source)
    assert len(found) > 50
    for fault in found:
        broken = planted(source, fault)
        assert ast.dump(ast.parse(broken)) != ast.dump(ast.parse(source)), fault
        assert fault.first <= fault.line <= fault.last or fault.kind.startswith("operator"), fault


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("a <= b > c >= d != e == f", [("<=", "<"), (">", ">="), (">=", ">"), ("!=", "=="), ("==", "!=")]),
        ("a is b", [("is", "is not")]), ("a is not b", [("is not", "is")]),
        ("a in b", [("in", "not in")]), ("a not in b", [("not in", "in")]),
        ("a + b - c", [("+", "-"), ("-", "+")]),
        ("a * b / c // d % e ** f & g | h @ i",
         [("*", "/"), ("/", "*"), ("//", "*"), ("%", "*"), ("**", "*"), ("&", "|"), ("|", "&"), ("@", "*")]),
        ("a or b or c", [("or", "and")] * 2), ("~a", [("~a", "(a)")]), ("+a", []), ("(a) < (b)", [("<", "<=")]),
        ("'x' + b", []), ("f'{a + 1}'", []), ("a < (\n    # + stands here\n    b\n)", []), ("x = (a  # note\n < b)", []),
        ("x @= y", [("x @= y", "pass"), ("@=", "*=")]), ("x <<= y", [("x <<= y", "pass")]),
        ("x: int", []), ("x: f(3) = 4", [("4", "5")]), ("x = [1.5, 0.0, 'two', None, ...]", [("1.5", "3.0"), ("0.0", "1.0")]),
        ("y = f(b=g, c=h, **k)", [("b=g,", ""), (", c=h", "")]), ("y = f(b=g)", [("b=g", "")]),
        ("while a:\n    break", [("a", "not (a)"), ("break", "pass")]), ("for i in a:\n    continue", [("continue", "pass")]),
        ("with f(3):\n    pass", [("3", "4")]), ("match a:\n    case 1:\n        f()", [("f()", "pass")]),
        ("try:\n    a()\nexcept E:\n    b()\nelse:\n    c()\nfinally:\n    d()", [(f"{n}()", "pass") for n in "abcd"]),
        ("if TYPE_CHECKING:\n    x = 1\nelse:\n    y = 2", []), ("__all__ = [1]", []), ("import a\ndel b", []),
        ("assert a < 2, 3", [("assert a < 2, 3", "pass")]), ("@overload\ndef f():\n    return 1", []),
        ("async def f(a=1):\n    return 2", [("1", "2"), ("2", "3")]), ("class A:\n    x = 1", [("1", "2")]),
        ("x = a if b else c", [("b", "not (b)")]), ("x = lambda y=1: y", [("1", "2")]),
        ("x = [i for i in a if i < b]", [("<", "<=")]), ("def f(*, a, b=1): pass", [("1", "2")]),
    ],
)  # fmt: skip
def test_each_kind_of_fault_by_itself(source, wanted):
    data = source.encode()
    assert [(data[f.start : f.stop].decode(), f.new) for f in faults(source)] == wanted


def test_a_fault_knows_the_lines_of_its_statement():
    source = 'def f(a=1):\n    """Text."""\n    x = g(\n        2,\n    )\n    if (x\n        < y):\n        return 3\n'
    found = {(f.new, f.line, f.first, f.last) for f in faults(source)}
    assert found == {("2", 1, 1, 2), ("3", 4, 3, 5), ("not (x\n        < y)", 6, 6, 7), ("<=", 6, 6, 7), ("4", 8, 8, 8)}


def test_letters_beyond_ascii_do_not_shift_a_fault():
    (fault,) = faults('x = "中文 ⟨" if y else z\n')
    assert planted('x = "中文 ⟨" if y else z\n', fault) == 'x = "中文 ⟨" if not (y) else z\n'


@pytest.fixture
def home(tmp_path):
    """A package of one module with two functions, one of them well tested, and tests that know both."""
    package, tests = tmp_path / "src" / "llmlab", tmp_path / "tests" / "small"
    package.mkdir(parents=True)
    tests.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "small.py").write_text(
        textwrap.dedent(
            """
            from time import sleep

            def add(a, b):
                return a + b

            def unseen(a):
                return a - 1

            def forever(n):
                while n > 0:
                    sleep(0.01)
                    n -= 1
                return n
            """
        )
    )
    (tests / "test_small_module.py").write_text(
        textwrap.dedent(
            """
            from llmlab import small

            def test_add():
                assert small.add(2, 3) == 5

            def test_that_proves_nothing():
                small.unseen(1)

            def test_forever():
                assert small.forever(3) == 0
            """
        )
    )
    return tmp_path


def test_what_is_noticed_what_survives_and_what_never_ends(home, monkeypatch):
    monkeypatch.setattr("llmlab.course.mutate.run.PATIENCE", 6.0)
    said = []
    outcomes = mutate(Plan("small", most=0, jobs=2, preload=False), home, said.append)
    fate = {f"{o.line} => {o.becomes}": o.noticed for o in outcomes}
    assert fate.pop("return a + b => return a - b") == "tests/small/test_small_module.py::test_add"
    assert fate.pop("return a - 1 => return a + 1") is None
    assert fate.pop("return a - 1 => return a - 2") is None
    assert "no end" in fate.pop("n -= 1 => n += 1")
    assert "no end" in fate.pop("n -= 1 => pass")
    assert fate.pop("sleep(0.01) => pass") is fate.pop("sleep(0.01) => sleep(0.02)") is None
    assert fate.pop("while n > 0: => while n >= 0:").endswith("test_forever")
    assert (home / "src/llmlab/small.py").read_text().count("a + b") == 1  # only the copy was broken
    text, good = report(outcomes, 0.0)
    assert not good and "4 survived" in text and "return a - 1  =>  return a + 1" in text
    assert len(said) == len(outcomes) + 1


def test_a_fault_that_is_known_to_change_nothing_is_not_counted(home):
    rows = [{"file": "small.py", "line": "return a - 1", "becomes": "return a + 1", "why": "nobody looks"}]
    (home / "tests" / "equivalent_faults.json").write_text(json.dumps(rows))
    outcomes = draw(Plan("small", most=0), home)
    assert [o.equivalent for o in outcomes if o.becomes == "return a + 1"] == ["nobody looks"]
    assert sum(o.equivalent is not None for o in outcomes) == 1


def test_tests_that_fail_by_themselves_are_no_judges(home):
    (home / "tests/small/test_small_module.py").write_text("def test_no():\n    assert False\n")
    with pytest.raises(ToolError, match="do not pass without a fault"):
        mutate(Plan("small", most=1, jobs=1, preload=False), home, lambda _: None)


def test_a_module_or_tests_that_do_not_exist_are_named(home):
    with pytest.raises(ToolError, match="no module 'smal'"):
        draw(Plan("smal"), home)
    (home / "src/llmlab/other.py").write_text("x = 1\n")
    with pytest.raises(ToolError, match="tests/other does not exist"):
        mutate(Plan("other", preload=False), home, lambda _: None)


def test_the_draw_is_the_same_for_a_seed(home):
    plan = Plan("small", most=3, seed=1)
    assert [str(o) for o in draw(plan, home)] == [str(o) for o in draw(plan, home)]
    assert len(draw(plan, home)) == 3


def test_every_fault_known_to_change_nothing_stands_in_a_line_that_is_still_there():
    home = repository()
    rows = json.loads((home / "tests" / "equivalent_faults.json").read_text(encoding="utf8"))
    assert len({(row["file"], row["line"], row["becomes"]) for row in rows}) == len(rows), "one is listed twice"
    for row in rows:
        lines = {line.strip() for line in (home / "src/llmlab" / row["file"]).read_text(encoding="utf8").splitlines()}
        assert row["line"] in lines, f"{row['file']} has no such line any more: {row['line']}"
        assert row["becomes"] != row["line"] and len(row["why"].split()) >= 5, row
