"""Predict and explore: plain ipywidgets, each with a static form in the same output.

An output carries the live widget and its static form side by side. JupyterLab draws the first when a kernel runs; a
page without a kernel, a reader of the file and the reference outputs see the second.
"""

from __future__ import annotations

import base64
import html
import inspect
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from llmlab.course.show import _one_line, _require_alt, png

if TYPE_CHECKING:
    from ipywidgets import Widget

__all__ = ["explore", "predict"]

PREDICT_KEY = re.compile(r"\d\d\.[a-z][a-z0-9_]*")


def predict(key: str, question: str, choices: Mapping[str, str], answer: str) -> None:
    """Ask before the experiment shows the truth. Every choice has its explanation; a choice once made is kept.

    Args:
        key: the notebook's number, a dot, a short name: ``"01.sink"``. The first answer given is recorded under it.
        question: one question.
        choices: from what can be chosen to why it is right or wrong.
        answer: the choice that is right.

    Raises:
        ValueError: fewer than two choices, an empty explanation, an ``answer`` that is no choice, a malformed key.
    """
    import ipywidgets as widgets

    _validate_prediction(key, choices, answer)
    radio = widgets.RadioButtons(options=list(choices), value=None, layout=widgets.Layout(width="auto"))
    feedback = widgets.HTML()

    def chosen(change: Any) -> None:
        choice = change["new"]
        if choice is None:
            return
        _record(key, choice, choice == answer)
        feedback.value = _prose(_verdict(choices, choice, answer))

    radio.observe(chosen, names="value")
    title = widgets.HTML(_prose(f"<strong>Predict.</strong> {html.escape(question)}"))
    box = widgets.VBox([title, radio, feedback], layout=widgets.Layout(padding="4px 12px", border="1px solid #8884"))
    box.add_class(f"llmlab-predict-{key.replace('.', '-')}")
    items = "".join(f"<li>{html.escape(c)}</li>" for c in choices)
    static = (
        f"<p><strong>Predict.</strong> {html.escape(question)}</p><ul>{items}</ul>"
        f"<details><summary>Answer</summary>{_verdict(choices, answer, answer)}</details>"
    )
    text = "\n".join([f"Predict: {question}", *(f"  ( ) {c}" for c in choices)])
    _display(box, {"text/html": static, "text/plain": text})


def explore(fn: Callable[..., Any], *, alt: str | None = None, **controls: Any) -> None:
    """Answer "what if": call ``fn`` again whenever a control moves, and show what it returns.

    Args:
        fn: takes the controls by name and returns a matplotlib figure, a pair (figure, alt) or a string of HTML. Its
            default arguments are the state that the static form shows.
        alt: the text alternative, if ``fn`` returns a figure alone.
        controls: by name: ``(low, high)`` or ``(low, high, step)`` a slider, a list a menu, a bool a check box, a str
            a text box, or any ipywidget with a ``value``.

    Raises:
        TypeError: a control or a return value of another kind.
        ValueError: ``fn`` has no such argument, or a figure comes without its text alternative.
    """
    import ipywidgets as widgets

    defaults = {name: p.default for name, p in inspect.signature(fn).parameters.items()}
    for name in controls:
        if name not in defaults:
            raise ValueError(f"explore: {fn.__name__}() has no argument {name!r}; it takes {', '.join(defaults)}")
    width = f"{max(map(len, controls), default=0)}ch"  # one width for all names, so that the sliders begin in one line
    parts = {name: _control(name, spec, defaults[name], width) for name, spec in controls.items()}
    view = widgets.HTML()

    def refresh(_: Any = None) -> None:
        try:
            shown, text = _render(fn(**{name: part.value for name, part in parts.items()}), alt)
        except Exception as error:  # a learner's input may be anything; the widget answers with a sentence
            shown, text = {"text/html": f"<p>⚠ {html.escape(f'{type(error).__name__}: {error}')}</p>"}, ""
        view.value = _prose(shown.get("text/html") or _img(shown["image/png"], text))

    first, text = _render(fn(**{name: part.value for name, part in parts.items()}), alt)
    view.value = _prose(first.get("text/html") or _img(first["image/png"], text))
    for part in parts.values():
        part.observe(refresh, names="value")
    heading = widgets.HTML("<strong>Explore.</strong>")
    box = widgets.VBox(
        [heading, *parts.values(), view], layout=widgets.Layout(padding="4px 12px", border="1px solid #8884")
    )
    box.add_class("llmlab-explore")
    state = ", ".join(f"{name} = {part.value}" for name, part in parts.items())
    _display(box, {**first, "text/plain": f"Explore ({state}): {text}"})


def _validate_prediction(key: str, choices: Mapping[str, str], answer: str) -> None:
    if not PREDICT_KEY.fullmatch(key):
        raise ValueError(f"predict key {key!r}: expected a notebook's number, a dot and a name, as in '01.sink'")
    if len(choices) < 2:
        raise ValueError(f"predict {key} has {len(choices)} choice(s): a question needs two or more")
    if answer not in choices:
        raise ValueError(f"predict {key}: the answer {answer!r} is none of the choices {list(choices)}")
    for choice, why in choices.items():
        if not why.strip():
            raise ValueError(f"predict {key}: the choice {choice!r} has no explanation")


def _verdict(choices: Mapping[str, str], choice: str, answer: str) -> str:
    """The explanation of the choice, and of the right answer if it is another; the rest folded away."""
    mark = "✓ Right" if choice == answer else "✗ Not this"
    lines = [f"<p><strong>{mark}: {html.escape(choice)}.</strong> {html.escape(choices[choice])}</p>"]
    if choice != answer:
        lines.append(f"<p><strong>✓ {html.escape(answer)}.</strong> {html.escape(choices[answer])}</p>")
    rest = [
        f"<li><em>{html.escape(c)}</em>: {html.escape(w)}</li>" for c, w in choices.items() if c not in (choice, answer)
    ]
    if rest:
        lines.append(f"<details><summary>The other choices</summary><ul>{''.join(rest)}</ul></details>")
    return "".join(lines)


def _record(key: str, choice: str, right: bool) -> None:
    """Keep the answer; a store that cannot be written must not stop a reader."""
    from llmlab.course import progress

    progress.record_prediction(key, choice, right)


def _prose(text: str) -> str:
    """HTML with the line height of text; the widgets' own, 28 pixels, is made for a row of controls."""
    return f'<div style="line-height:1.5">{text}</div>'


def _control(name: str, spec: Any, default: Any, width: str) -> Widget:
    import ipywidgets as widgets

    style = {"description": name.replace("_", " "), "style": {"description_width": width}}
    given = {} if default is inspect.Parameter.empty else {"value": default}
    if isinstance(spec, widgets.Widget) and hasattr(spec, "value"):
        return spec
    if isinstance(spec, bool):
        return widgets.Checkbox(**{"value": spec, **given}, **style)
    if isinstance(spec, str):
        wide = widgets.Layout(width="95%")
        return widgets.Text(**{"value": spec, **given}, layout=wide, continuous_update=False, **style)
    if isinstance(spec, list):
        return widgets.Dropdown(options=spec, **given, **style)
    if isinstance(spec, tuple) and len(spec) in (2, 3):
        kind = widgets.IntSlider if all(isinstance(x, int) for x in spec) else widgets.FloatSlider
        step = {"step": spec[2]} if len(spec) == 3 else {}
        wide = widgets.Layout(width="60%")
        return kind(min=spec[0], max=spec[1], **step, **given, layout=wide, continuous_update=False, **style)
    raise TypeError(
        f"explore: control {name}={spec!r}; expected (low, high), (low, high, step), a list, a bool, a str or a widget"
    )


def _render(result: Any, alt: str | None) -> tuple[dict[str, str], str]:
    """What ``fn`` returned, as a mime bundle and its text alternative."""
    from matplotlib.figure import Figure

    if isinstance(result, str):
        text = html.unescape(_one_line(re.sub(r"<[^>]+>", " ", result)))
        return {"text/html": result}, text
    fig, text = result if isinstance(result, tuple) else (result, alt)
    if not isinstance(fig, Figure):
        raise TypeError(
            f"explore: the function returned {type(fig).__name__}; expected a figure, (figure, alt) or HTML"
        )
    if text is None:
        raise ValueError("explore: the figure has no text alternative; return (figure, alt) or pass alt=")
    _require_alt(text)
    return {"image/png": base64.b64encode(png(fig)).decode()}, _one_line(text)


def _img(data: str, alt: str) -> str:
    return f'<img alt="{html.escape(alt, quote=True)}" src="data:image/png;base64,{data}" style="max-width:100%">'


def _display(widget: Widget, static: dict[str, str]) -> None:
    """One output: the live widget beside its static form."""
    from IPython.display import display

    bundle = widget._repr_mimebundle_()
    live = bundle[0] if isinstance(bundle, tuple) else bundle
    view = {k: v for k, v in (live or {}).items() if k.startswith("application/vnd.jupyter.widget-view")}
    display({**view, **static}, raw=True)
