"""Drills in a terminal and in JupyterLab."""

from __future__ import annotations

import argparse
import html
import random
import sys
from typing import Any

from llmlab.course.drills.kinds import KINDS, drill
from llmlab.course.drills.model import Drill
from llmlab.course.lessons import lesson
from llmlab.course.questions import fold

__all__ = ["drill_box", "main"]


def main(argv: list[str] | None = None) -> int:
    """``llmlab drills``: sums with fresh numbers. Returns 0, or 2 when the words make no sense."""
    parser = argparse.ArgumentParser(
        prog="llmlab drills", description="The sums that interviewers ask for, with fresh numbers."
    )
    parser.add_argument("kind", nargs="?", help="one kind; --list names them; any if left out")
    parser.add_argument("-n", type=int, default=5, metavar="N", help="how many (5)")
    parser.add_argument("--seed", type=int, help="the same seed gives the same drills")
    parser.add_argument("--list", action="store_true", help="name the kinds")
    parser.add_argument("--worked", action="store_true", help="print drills with their working, ask nothing")
    args = parser.parse_args(argv)
    if args.list:
        for name in KINDS:
            print(f"{name:18} {drill(0, name).text[:90]} …")
        return 0
    if args.kind is not None and args.kind not in KINDS:
        print(f"no drill {args.kind!r}; there are {', '.join(KINDS)}", file=sys.stderr)
        return 2
    if args.n < 1:
        print(f"-n {args.n}: expected one drill or more", file=sys.stderr)
        return 2
    first = random.randrange(10**6) if args.seed is None else args.seed
    right = asked = 0
    for i in range(args.n):
        one = drill(first + i, args.kind)
        print("\n" + "\n".join(fold(f"{i + 1}. {one.text}", indent="   ", first="")))
        if args.worked:
            print("\n".join(f"   {line}" for line in one.shown()))
            continue
        outcome = _ask(one)
        if outcome is None:
            break
        asked, right = asked + 1, right + outcome
    if not args.worked:
        print(f"\n{right} of {asked} right. The same ones again: llmlab drills --seed {first}")
    return 0


def _ask(one: Drill) -> bool | None:
    """Two tries, then the working; None when the reader has had enough."""
    for tries in (2, 1):
        try:
            typed = input("   > ").strip()
        except (EOFError, KeyboardInterrupt):
            print()
            return None
        if typed.lower() in ("q", "quit"):
            return None
        verdict = one.judge(typed)
        print("\n".join(fold(verdict.sentence, indent="   ")))
        if verdict.right:
            return tries == 2
    print("\n".join(f"   {line}" for line in one.shown()))
    print(f"   Notebook {one.notebook}: {lesson(one.notebook).title}.")
    return False


def drill_box(kind: str | None = None, *, seed: int = 0) -> None:
    """Ask drills one by one in JupyterLab; Enter checks, and the working is there when it is wanted."""
    from llmlab.course.widgets import _display

    box = Box(seed, kind)
    one = box.one
    steps = "".join(f"<li>{html.escape(line)}</li>" for line in one.shown())
    static = f"<p><strong>Drill.</strong> {html.escape(one.text)}</p>"
    static += f"<details><summary>Working</summary><ul>{steps}</ul></details>"
    _display(box.panel, {"text/html": static, "text/plain": f"Drill ({one.kind}): {one.text}"})


class Box:
    """The widget's state: which drill is asked, and what stands on the screen."""

    def __init__(self, seed: int, kind: str | None) -> None:
        import ipywidgets as w

        self.seed, self.right, self.asked, self.tried = seed, 0, 0, False
        style: dict[str, Any] = {
            "style": {"description_width": "6ch"},
            "layout": w.Layout(width="24em", max_width="98%"),
        }
        options = [("any", None)] + [(name.replace("_", " "), name) for name in KINDS]
        self.kind = w.Dropdown(options=options, value=kind, description="Kind", **style)
        self.text, self.said = w.HTML(), w.HTML()
        self.typed = w.Text(placeholder="3.15e23, 2.8 TB, 12 %", description="Answer", continuous_update=False, **style)
        self.show = w.Button(description="Show working")
        self.next = w.Button(description="Next drill", button_style="primary")
        self.kind.observe(lambda _: self.ask(), names="value")
        self.typed.observe(lambda change: self.judge(change["new"]), names="value")
        self.show.on_click(lambda _: self.work())
        self.next.on_click(lambda _: self.forward())
        self.panel = w.VBox(
            [self.kind, self.text, self.typed, w.HBox([self.show, self.next]), self.said],
            layout=w.Layout(padding="4px 12px", border="1px solid #8884"),
        )
        self.panel.add_class("llmlab-drills")
        self.ask()

    def ask(self) -> None:
        """Show the drill of the present seed and kind."""
        from llmlab.course.widgets import _prose

        self.one, self.tried = drill(self.seed, self.kind.value), False
        self.text.value = _prose(f"<p style='max-width:46em'>{html.escape(self.one.text)}</p>")
        self.typed.value = self.said.value = ""

    def judge(self, typed: str) -> None:
        """Say whether the answer is right. The first try counts."""
        if not typed.strip():
            return
        verdict = self.one.judge(typed)
        if not self.tried:
            self.asked, self.right, self.tried = self.asked + 1, self.right + verdict.right, True
        mark = "✓" if verdict.right else "✗"
        self.say(
            f"<p role='status'>{mark} {html.escape(verdict.sentence)} {self.right} of {self.asked} right at once.</p>"
        )

    def work(self) -> None:
        """Show the working."""
        steps = "".join(f"<li>{html.escape(line)}</li>" for line in self.one.shown())
        self.say(
            f"<ol>{steps}</ol><p>Notebook {self.one.notebook}: {html.escape(lesson(self.one.notebook).title)}.</p>"
        )

    def forward(self) -> None:
        """The next drill, ready to be typed into."""
        self.seed += 1
        self.ask()
        self.typed.focus()

    def say(self, text: str) -> None:
        from llmlab.course.widgets import _prose

        self.said.value = _prose(text)
