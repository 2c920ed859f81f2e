"""What a notebook shows: figures with a text alternative, tables, measured values, source code.

Everything has a ``text/plain`` form that says what the picture says. It is what the reference outputs compare, what a
screen reader reads, and what stands there where nothing can be drawn.
"""

from __future__ import annotations

import base64
import html
import inspect
import io
import math
import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["figure", "link", "measured", "source_of", "table"]

#: The colours of the course: distinguishable with the common colour-vision deficiencies (Okabe and Ito, 2008).
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

NUMBER = re.compile(r"⟨?[+\-−±]?(?!0\d)\.?\d")
WORD = re.compile(r"[^\W\d_]{5,}")


def figure(fig: Figure, alt: str, *, caption: str | None = None) -> None:
    """Show a matplotlib figure as a PNG, with ``alt`` as its text alternative.

    Args:
        fig: the figure; it is closed afterwards, so that it is not shown twice.
        alt: what the figure shows, with its key numbers. It is compared with the reference output.
        caption: a line of HTML under the figure, if the picture needs one.

    Raises:
        ValueError: ``alt`` is shorter than 20 characters: it cannot say what the figure shows.
    """
    from IPython.display import display

    _require_alt(alt)
    bundle = {"image/png": base64.b64encode(png(fig)).decode(), "text/plain": f"Figure: {_one_line(alt)}"}
    display(bundle, raw=True)
    if caption:
        display({"text/html": f"<p><em>{caption}</em></p>", "text/plain": caption}, raw=True)


def table(
    rows: Iterable[Sequence[Any]], headers: Sequence[str], *, caption: str | None = None, digits: int = 4
) -> None:
    """Show rows as an HTML table, and as aligned text where HTML is not drawn.

    Args:
        rows: one sequence of cells a row; floats are shown with ``digits`` significant digits, the rest with ``str``.
        headers: one name a column.
        caption: a line above the table.
        digits: significant digits of floats.

    Raises:
        ValueError: a row has another number of cells than there are headers.
    """
    from IPython.display import display

    cells = [[_cell(value, digits) for value in row] for row in rows]
    for i, row in enumerate(cells):
        if len(row) != len(headers):
            raise ValueError(f"row {i} has {len(row)} cells, but there are {len(headers)} headers: {row}")
    display(
        {"text/html": _html_table(cells, headers, caption), "text/plain": _text_table(cells, headers, caption)},
        raw=True,
    )


def measured(value: float, unit: str = "", digits: int = 3) -> str:
    """A value that depends on this machine, marked ``⟨12.3 ms⟩``: yours will differ, and no test compares it."""
    return f"⟨{_significant(float(value), digits)}{' ' + unit if unit else ''}⟩"


def source_of(thing: Any, *, doc: bool = False) -> None:
    """Show the source of a function or class of the package, by default without its docstring."""
    from IPython.display import display

    code = textwrap.dedent(inspect.getsource(inspect.unwrap(thing)))
    if not doc:
        code = _without_docstring(code)
    name = f"{thing.__module__}.{thing.__qualname__}"
    bundle = {
        "text/markdown": f"`{name}`\n\n```python\n{code.rstrip()}\n```",
        "text/plain": f"{name}\n\n{code.rstrip()}",
    }
    display(bundle, raw=True)


def link(thing: Any) -> None:
    """One line that says where a function, class or module of the package stands, and what it does."""
    from pathlib import Path

    from IPython.display import display

    import llmlab

    home = Path(llmlab.__file__).parent
    file = Path(inspect.getsourcefile(inspect.unwrap(thing)) or "").resolve().relative_to(home.resolve()).as_posix()
    name = getattr(thing, "__qualname__", thing.__name__)
    what = (inspect.getdoc(thing) or "").strip().split("\n\n")[0].replace("\n", " ")
    bundle = {
        "text/markdown": f"[`{name}`](../src/llmlab/{file}) · {what}",
        "text/plain": f"{name} (src/llmlab/{file}): {what}",
    }
    display(bundle, raw=True)


def png(fig: Figure, dpi: int = 110) -> bytes:
    """The figure as PNG bytes without date or software stamp, so that two runs agree; closes the figure."""
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight", metadata={"Software": None})
    plt.close(fig)
    return buffer.getvalue()


def _require_alt(alt: str) -> None:
    if len(alt.strip()) < 20:
        raise ValueError(f"alt={alt!r} is too short: say what the figure shows, with its key numbers")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _significant(value: float, digits: int) -> str:
    """``value`` with ``digits`` significant digits, no exponent between 1e-4 and 1e9, thousands separated."""
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e9:
        return f"{value:.{digits - 1}e}"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{places}f}"


def _cell(value: Any, digits: int) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float) or (hasattr(value, "item") and not isinstance(value, str)):
        return _cell(value.item(), digits) if hasattr(value, "item") else _significant(value, digits)
    return str(value)


def _is_number(text: str) -> bool:
    """A number, perhaps with a sign and a short unit; "01 Self-attention" is a title."""
    return bool(NUMBER.match(text)) and not WORD.search(text)


def _html_table(cells: list[list[str]], headers: Sequence[str], caption: str | None) -> str:
    numeric = [all(_is_number(row[j]) for row in cells if row[j]) and bool(cells) for j in range(len(headers))]

    def line(tag: str, row: Sequence[str]) -> str:
        side = ["right" if n else "left" for n in numeric]
        return "".join(f'<{tag} style="text-align:{side[j]}">{html.escape(c)}</{tag}>' for j, c in enumerate(row))

    body = "".join(f"<tr>{line('td', row)}</tr>" for row in cells)
    head = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    return f"<table>{head}<thead><tr>{line('th', list(headers))}</tr></thead><tbody>{body}</tbody></table>"


def _text_table(cells: list[list[str]], headers: Sequence[str], caption: str | None) -> str:
    grid = [list(headers), *cells]
    widths = [max(len(row[j]) for row in grid) for j in range(len(headers))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in grid]
    lines.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join([caption, *lines] if caption else lines)


def _without_docstring(code: str) -> str:
    import ast

    node = ast.parse(code).body[0]
    if not isinstance(node, ast.FunctionDef | ast.ClassDef) or ast.get_docstring(node) is None:
        return code
    first, lines = node.body[0], code.splitlines()
    return "\n".join(lines[: first.lineno - 1] + lines[first.end_lineno :])
