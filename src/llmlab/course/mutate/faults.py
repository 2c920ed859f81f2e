"""Small faults, one at a time: the text of a Python file in, every way to break it by one symbol out.

A fault replaces a span of the source, so that everything else, line numbers included, stays as it was. Nothing is
planted where a fault could not show or would not be one: docstrings, annotations, messages of errors and asserts,
``__all__``, ``TYPE_CHECKING`` blocks.

Source: mutation analysis, DeMillo, Lipton and Sayward 1978, "Hints on Test Data Selection"; the operators are the usual
ones of Offutt et al. 1996, "An Experimental Determination of Sufficient Mutant Operators", and a few of Python's own.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Fault", "faults", "planted"]

COMPARE: dict[type[ast.cmpop], str] = {
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.In: "not in",
    ast.NotIn: "in",
}
ARITHMETIC: dict[type[ast.operator], str] = {
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "/",
    ast.Div: "*",
    ast.FloorDiv: "*",
    ast.Mod: "*",
    ast.Pow: "*",
    ast.BitAnd: "|",
    ast.BitOr: "&",
    ast.MatMult: "*",
}


@dataclass(frozen=True)
class Fault:
    """Bytes ``start`` to ``stop`` of the source become ``new``.

    ``line`` is where it stands; ``first`` and ``last`` are the lines of the statement around it, or of the head of a
    compound one: whoever runs the fault runs one of them.
    """

    start: int
    stop: int
    new: str
    kind: str
    line: int
    first: int
    last: int


def planted(source: str, fault: Fault) -> str:
    """The source with the fault in it."""
    data = source.encode()
    return (data[: fault.start] + fault.new.encode() + data[fault.stop :]).decode()


def faults(source: str) -> list[Fault]:
    """Every fault that can be planted in ``source``, in the order of the text; each leaves it valid Python.

    Raises:
        SyntaxError: ``source`` is no Python. Cost: O(length) a fault, because each is compiled.
    """
    found = []
    for fault in sorted(_Walker(source).all(), key=lambda f: (f.start, f.stop, f.new)):
        broken = planted(source, fault)
        if broken == source:  # an operator beside a comment is left alone
            continue
        try:
            compile(broken, "<fault>", "exec", dont_inherit=True)
        except SyntaxError:
            continue
        found.append(fault)
    return found


class _Walker:
    def __init__(self, source: str) -> None:
        self.source = source.encode()
        self.tree = ast.parse(source)
        self.offsets = [0]
        for line in source.splitlines(keepends=True):
            self.offsets.append(self.offsets[-1] + len(line.encode()))

    def all(self) -> Iterator[Fault]:
        yield from self.body(self.tree.body)

    # Statements say which lines belong to a fault; expressions say what it is.

    def body(self, statements: list[ast.stmt]) -> Iterator[Fault]:
        for statement in statements:
            yield from self.statement(statement)

    def statement(self, s: ast.stmt) -> Iterator[Fault]:
        if isinstance(s, ast.Import | ast.ImportFrom | ast.Global | ast.Nonlocal | ast.Pass):
            return
        if isinstance(s, ast.Raise | ast.Assert):
            yield from self.dropped(s, "raise left out" if isinstance(s, ast.Raise) else "assert left out")
            return  # what the message says is not a fault of the code
        if isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant):
            return  # a docstring
        if isinstance(s, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = s.lineno, s.body[0].lineno
            for default in (*s.args.defaults, *(d for d in s.args.kw_defaults if d)):
                yield from self.expression(default, lines)
            if any("overload" in ast.unparse(d) for d in s.decorator_list):
                return
        yield from self.simple(s)
        for name in ("body", "orelse", "finalbody"):
            yield from self.body(getattr(s, name, []) if not self.typing_only(s) else [])
        for handler in getattr(s, "handlers", []):
            yield from self.body(handler.body)
        for case in getattr(s, "cases", []):
            yield from self.body(case.body)

    def typing_only(self, s: ast.stmt) -> bool:
        return isinstance(s, ast.If) and "TYPE_CHECKING" in ast.unparse(s.test)

    def simple(self, s: ast.stmt) -> Iterator[Fault]:
        """What stands in the statement itself, or in the head of a compound one."""
        if self.typing_only(s) or isinstance(s, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            return
        compound = isinstance(getattr(s, "body", None), list)
        lines = s.lineno, (s.body[0].lineno - 1 if compound else s.end_lineno) or s.lineno  # type: ignore[attr-defined]
        lines = lines[0], max(lines)
        if isinstance(s, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in s.targets):
            return
        if isinstance(s, ast.If | ast.While):
            yield self.fault(s.test, f"not ({self.text(s.test)})", "condition turned round", lines)
        if isinstance(s, ast.AugAssign):
            new = ARITHMETIC.get(type(s.op))
            if new:
                yield self.operator(s.target, s.value, f"{new}=", f"augmented assignment with {new}", lines)
            yield from self.dropped(s, "update left out")
        if isinstance(s, ast.Expr) and isinstance(s.value, ast.Call):
            yield from self.dropped(s, "call left out")
        if isinstance(s, ast.Continue | ast.Break):
            yield from self.dropped(s, "jump left out")
        for name in ("test", "iter", "value", "items", "subject", "exc"):
            part = getattr(s, name, None)
            if isinstance(s, ast.AnnAssign) and name != "value":
                continue
            for item in part if isinstance(part, list) else [part]:
                expression = getattr(item, "context_expr", item)
                if isinstance(expression, ast.expr):
                    yield from self.expression(expression, lines)

    def dropped(self, s: ast.stmt, kind: str) -> Iterator[Fault]:
        yield self.fault(s, "pass", kind, (s.lineno, s.end_lineno or s.lineno))

    def expression(self, root: ast.expr, lines: tuple[int, int]) -> Iterator[Fault]:
        stack: list[ast.AST] = [root]
        while stack:
            node = stack.pop()
            if isinstance(node, ast.JoinedStr):
                continue  # text for a reader
            if isinstance(node, ast.expr):
                yield from self.one(node, lines)
            stack += ast.iter_child_nodes(node)

    def one(self, node: ast.expr, lines: tuple[int, int]) -> Iterator[Fault]:
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            for left, op, right in zip(sides, node.ops, sides[1:]):
                new = COMPARE[type(op)]
                yield self.operator(left, right, new, f"comparison by {new}", lines)
        elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC and not self.is_text(node):
            new = ARITHMETIC[type(node.op)]
            yield self.operator(node.left, node.right, new, f"operator {new}", lines)
        elif isinstance(node, ast.BoolOp):
            new = "or" if isinstance(node.op, ast.And) else "and"
            for left, right in zip(node.values, node.values[1:]):
                yield self.operator(left, right, new, f"operator {new}", lines)
        elif isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.UAdd):
            yield self.fault(node, f"({self.text(node.operand)})", "sign or not left out", lines)
        elif isinstance(node, ast.Constant):
            yield from self.constant(node, lines)
        elif isinstance(node, ast.IfExp):
            yield self.fault(node.test, f"not ({self.text(node.test)})", "condition turned round", lines)
        elif isinstance(node, ast.Call):
            yield from self.keywords(node, lines)

    def constant(self, node: ast.Constant, lines: tuple[int, int]) -> Iterator[Fault]:
        value = node.value
        if isinstance(value, bool):
            yield self.fault(node, str(not value), f"{not value} for {value}", lines)
        elif isinstance(value, int | float):
            new = value + 1 if isinstance(value, int) else (value * 2 or 1.0)
            yield self.fault(node, repr(new), f"{new!r} for {value!r}", lines)

    def keywords(self, node: ast.Call, lines: tuple[int, int]) -> Iterator[Fault]:
        """Leave one keyword argument out, with the comma before or after it."""
        for keyword in node.keywords:
            if keyword.arg is None:
                continue
            start, stop = self.at(keyword.lineno, keyword.col_offset), self.stop(keyword)
            before = len(self.source[:start].rstrip())
            after = stop + len(self.source[stop:]) - len(self.source[stop:].lstrip())
            if self.source[before - 1 : before] == b",":
                start = before - 1
            elif self.source[after : after + 1] == b",":
                stop = after + 1
            yield Fault(start, stop, "", f"without {keyword.arg}=", keyword.lineno, *lines)

    @staticmethod
    def is_text(node: ast.BinOp) -> bool:
        return any(
            isinstance(x, ast.JoinedStr) or (isinstance(x, ast.Constant) and isinstance(x.value, str))
            for x in ast.walk(node)
        )

    # Positions

    def at(self, line: int, column: int) -> int:
        return self.offsets[line - 1] + column

    def stop(self, node: ast.expr | ast.stmt | ast.keyword) -> int:
        assert node.end_lineno is not None and node.end_col_offset is not None
        return self.at(node.end_lineno, node.end_col_offset)

    def text(self, node: ast.expr) -> str:
        return self.source[self.at(node.lineno, node.col_offset) : self.stop(node)].decode()

    def fault(self, node: ast.expr | ast.stmt, new: str, kind: str, lines: tuple[int, int]) -> Fault:
        return Fault(self.at(node.lineno, node.col_offset), self.stop(node), new, kind, node.lineno, *lines)

    def operator(self, left: ast.expr, right: ast.expr, new: str, kind: str, lines: tuple[int, int]) -> Fault:
        """Replace what stands between two operands, brackets and line ends kept."""
        start, stop = self.stop(left), self.at(right.lineno, right.col_offset)
        between = self.source[start:stop].decode()
        head = len(between) - len(between.lstrip(" \t\r\n)"))
        tail = len(between.rstrip(" \t\r\n(\\"))
        core = between[head:tail]
        if "#" in core or not core:  # a comment stands between: leave it alone by replacing nothing
            head, tail, new = 0, len(between), between
        start, stop = start + len(between[:head].encode()), start + len(between[:tail].encode())
        return Fault(start, stop, new, kind, left.end_lineno or left.lineno, *lines)
