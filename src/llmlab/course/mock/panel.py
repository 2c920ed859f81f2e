"""The mock interview in JupyterLab."""

from __future__ import annotations

import html
import time
from collections.abc import Callable
from typing import Any

from llmlab.course.mock.coding import coding_task, judge
from llmlab.course.mock.plan import ROLES, draw
from llmlab.course.mock.report import clock_face, html_report, markdown_report, title_of
from llmlab.course.mock.session import Interview, begun, drill_of, rubric, start
from llmlab.course.questions import question

__all__ = ["interview_panel"]


def interview_panel(*, minutes: int = 45, seed: int = 7, clock: Callable[[], float] = time.monotonic) -> None:
    """Draw an interview, answer it in the box, mark it, read the report. An open one is offered to go on with.

    Args:
        minutes, seed: what the menus show at first.
        clock: seconds; a stopped clock leaves all the time in the world.
    """
    from llmlab.course.widgets import _display

    panel = Panel(minutes, seed, clock)
    say = "A mock interview. Without a kernel, in a terminal: llmlab interview --minutes 45 --seed 7"
    _display(panel.box, {"text/html": f"<p>{html.escape(say)}</p>", "text/plain": say})


class Panel:
    """The widget's state: the interview and the screen that is shown of it."""

    def __init__(self, minutes: int, seed: int, clock: Callable[[], float]) -> None:
        import ipywidgets as w

        self.clock = clock
        self.interview: Interview | None = None
        style: dict[str, Any] = {
            "style": {"description_width": "9ch"},
            "layout": w.Layout(width="20em", max_width="98%"),
        }
        self.role = w.Dropdown(options=[*ROLES], description="Role", **style)
        self.minutes = w.BoundedIntText(value=minutes, min=5, max=180, description="Minutes", **style)
        self.seed = w.BoundedIntText(value=seed, min=0, max=10**6, description="Seed", **style)
        self.language = w.Dropdown(options=[("English", False), ("中文", True)], description="Language", **style)
        self.begin = w.Button(description="Begin", button_style="primary")
        self.resume = w.Button(description="Go on with the open one", layout=w.Layout(width="auto"))
        self.head, self.text, self.said = w.HTML(), w.HTML(), w.HTML()
        self.code = w.Textarea(layout=w.Layout(width="98%", height="12em"))
        self.code.add_class("llmlab-code")
        self.points = w.VBox([])
        self.submit = w.Button(description="Submit", button_style="primary")
        self.other = w.Button(description="Give up")
        self.download = w.HTML()
        self.begin.on_click(lambda _: self.go(start(self._plan(), clock=self.clock)))
        self.resume.on_click(lambda _: self.go(begun(clock=self.clock)))
        self.submit.on_click(lambda _: self._submit())
        self.other.on_click(lambda _: self._give_up())
        self.box = w.VBox([], layout=w.Layout(padding="4px 12px", border="1px solid #8884"))
        self.box.add_class("llmlab-interview")
        self.style = w.HTML("<style>.llmlab-code textarea { font-family: monospace; line-height: 1.4 }</style>")
        self._menu()

    def _plan(self) -> Any:
        return draw(self.seed.value, minutes=self.minutes.value, role=self.role.value, zh=self.language.value)

    def _menu(self) -> None:
        buttons = [self.begin] + ([self.resume] if begun() is not None else [])
        import ipywidgets as w

        self.box.children = [self.role, self.minutes, self.seed, self.language, w.HBox(buttons), self.said]

    def go(self, interview: Interview | None) -> None:
        """Show the item that is asked now, of this interview."""
        if interview is None:
            self._say("There is no open interview.")
            return
        self.interview = interview
        self.said.value = ""
        self._draw()

    def _draw(self) -> None:
        """The screen of the present state: an answer, a marking, a follow-up, or the report."""
        interview = self.interview
        assert interview is not None
        self.following: tuple[int, str, str] | None = None
        item = interview.item
        if item is None:
            self._finish()
            return
        at = interview.position
        if interview.answers[at].given and item.kind in ("concept", "design"):
            self._marking(at)
            return
        self._header(at)
        body = html.escape(title_of(item, interview.plan.zh))
        if item.kind == "coding":
            coding = coding_task(item.ref)
            body = f"{html.escape(coding.task.title)}</p>{_markdown(coding.text)}<p>Change <code>{coding.name}</code>."
            self.code.value = coding.program
            self.code.layout.height = "28em"
        else:
            self.code.value = ""
            self.code.layout.height = "12em"
        self.submit.description = "Check" if item.kind == "coding" else "Submit"
        self.other.description = "Give up" if item.kind == "coding" else "Skip"
        self._text(
            f"<p style='font-size:115%'><strong>{body}</strong></p>" if item.kind != "coding" else f"<p>{body}</p>"
        )
        self.box.children = [self.style, self.head, self.text, self.code, self._row(self.submit, self.other), self.said]
        interview.ask()
        self.code.focus()

    def _marking(self, at: int) -> None:
        import ipywidgets as w

        interview = self.interview
        assert interview is not None
        q = question(interview.plan.items[at].ref)
        answer = q.answer_zh if interview.plan.zh else q.answer_en
        said = html.escape(interview.answers[at].text) or "(nothing)"
        self._text(
            f"<p><strong>You said:</strong> {said}</p><p><strong>In sixty seconds:</strong> {html.escape(answer)}</p>"
            "<p><strong>Which of these did you reach?</strong></p>"
        )
        wide = w.Layout(width="98%")
        self.points.children = [
            w.Checkbox(value=False, description=point.text, indent=False, layout=wide) for point in rubric(q)
        ]
        self.submit.description = "Mark"
        self.box.children = [self.style, self.head, self.text, self.points, self._row(self.submit), self.said]
        self.points.children[0].focus()

    def _submit(self) -> None:
        interview = self.interview
        assert interview is not None
        self.said.value = ""
        if self.following is not None:
            self._followed()
            return
        at = interview.position
        item = interview.plan.items[at]
        if item.kind == "coding":
            result = judge(coding_task(item.ref), self.code.value)
            self._say(result.message, pre=True)
            if result:
                interview.answer(self.code.value)
                interview.judged(True, result.message)
                self._draw()
                self._say(result.message, pre=True)
        elif not interview.answers[at].given:
            interview.answer(self.code.value)
            if item.kind == "calculation":
                steps = "\n".join(drill_of(item).shown())
                self._draw()
                self._say(f"{interview.answers[at].verdict}\n{steps}", pre=True)
            else:
                self._marking(at)
        else:
            interview.mark([box.value for box in self.points.children])
            asked = interview.followup(at)
            if asked is None:
                self._draw()
            else:
                self._ask_further(at, *asked)

    def _give_up(self) -> None:
        interview = self.interview
        assert interview is not None
        at = interview.position
        item = interview.plan.items[at]
        if self.following is not None:
            self._draw()
        elif item.kind == "coding":
            result = judge(coding_task(item.ref), self.code.value)
            interview.answer(self.code.value)
            interview.judged(bool(result), result.message)
            self._draw()
        else:
            self.code.value = ""
            self._submit()

    def _ask_further(self, at: int, asked: str, right: str) -> None:
        self.following = (at, asked, right)
        self.code.value, self.code.layout.height = "", "8em"
        self._text(f"<p style='font-size:115%'><strong>Then: {html.escape(asked)}</strong></p>")
        self.submit.description, self.other.description = "Submit", "Skip"
        self.points.children = []
        self.box.children = [self.style, self.head, self.text, self.code, self._row(self.submit, self.other), self.said]
        self.code.focus()

    def _followed(self) -> None:
        """First the answer is shown, with one box to tick; then the mark is taken."""
        import ipywidgets as w

        interview = self.interview
        assert interview is not None and self.following is not None
        at, asked, right = self.following
        if not self.points.children:
            self._text(f"<p><strong>{html.escape(asked)}</strong></p><p>{html.escape(right)}</p>")
            self.points.children = [w.Checkbox(value=False, description="I said that", indent=False)]
            self.submit.description = "Mark"
            self.box.children = [self.style, self.head, self.text, self.points, self._row(self.submit), self.said]
            self.points.children[0].focus()
            return
        interview.followed(at, asked, self.code.value, self.points.children[0].value)
        self._draw()

    def _finish(self) -> None:
        interview = self.interview
        assert interview is not None
        up = interview.time_is_up
        interview.finish()
        page = html_report(interview)
        self._text(("<p><strong>The time is up.</strong></p>" if up else "") + _markdown(markdown_report(interview)))
        import base64

        data = base64.b64encode(page.encode()).decode()
        name = f"interview-{interview.plan.seed}.html"
        self.download.value = f"<a download='{name}' href='data:text/html;base64,{data}'>Save the report as a page</a>"
        self.box.children = [self.text, self.download, self._row(self.begin)]

    def _header(self, at: int) -> None:
        interview = self.interview
        assert interview is not None
        used = f"{clock_face(interview.used)} of {interview.plan.minutes}:00 used"
        kind = interview.plan.items[at].kind
        self.head.value = f"<p>{at + 1} of {len(interview.plan.items)} · {kind} · {used}</p>"

    def _row(self, *buttons: Any) -> Any:
        import ipywidgets as w

        return w.HBox(list(buttons))

    def _text(self, text: str) -> None:
        from llmlab.course.widgets import _prose

        lang = "zh" if self.interview and self.interview.plan.zh else "en"
        self.text.value = _prose(f"<div style='max-width:46em;overflow-x:auto' lang='{lang}'>{text}</div>")

    def _say(self, sentence: str, *, pre: bool = False) -> None:
        tag = "pre style='white-space:pre-wrap'" if pre else "p"
        self.said.value = f"<{tag} role='status'>{html.escape(sentence)}</{tag.split(maxsplit=1)[0]}>"


def _markdown(text: str) -> str:
    import mistune

    return str(mistune.create_markdown(escape=True, plugins=["table"])(text))
