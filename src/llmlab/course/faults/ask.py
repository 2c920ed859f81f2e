"""Find the fault in a terminal and in JupyterLab."""

from __future__ import annotations

import argparse
import html
import sys
from pathlib import Path

from llmlab.course.faults.model import Fault, faults, find_fault, try_mending
from llmlab.course.lessons import lesson
from llmlab.course.questions import fold

__all__ = ["fault_box", "main"]


def main(argv: list[str] | None = None) -> int:
    """``llmlab faults [ID] [--save FILE | --check FILE]``. Returns 0; 1 for a wrong mending; 2 for nonsense."""
    parser = argparse.ArgumentParser(
        prog="llmlab faults", description="Short programs that run and are wrong: say what is wrong, then mend it."
    )
    parser.add_argument("id", nargs="?", help="a fault, or a notebook's number; a list of all if left out")
    parser.add_argument("--save", metavar="FILE", type=Path, help="write the program to FILE, to be mended there")
    parser.add_argument("--check", metavar="FILE", type=Path, help="judge the mended program in FILE")
    args = parser.parse_args(argv)
    if args.id is None or (args.id.isdigit() and not (args.save or args.check)):
        return _list(args.id)
    try:
        fault = find_fault(args.id)
        if args.check:
            result = try_mending(fault, args.check.read_text(encoding="utf-8"))
            print(result.message)
            return 0 if result else 1
        if args.save:
            if args.save.exists():
                raise ValueError(f"{args.save} is there already; name another file")
            args.save.write_text(fault.program, encoding="utf-8")
            print(f"{args.save}: written. Mend `{fault.name}`, then: llmlab faults {fault.id} --check {args.save}")
            return 0
    except (LookupError, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    _show(fault)
    return 0


def _list(number: str | None) -> int:
    from llmlab.course import progress

    passed = progress.passed()
    chosen = [fault for fault in faults() if number is None or fault.notebook == f"{int(number):02d}"]
    for fault in chosen:
        mark = "✓" if f"fault:{fault.id}" in passed else "·"
        print(f"{mark} {fault.id:32} {fault.title}")
    print(
        f"\n{len(chosen)} faults. One of them: llmlab faults {chosen[0].id}"
        if chosen
        else "No fault for that notebook."
    )
    return 0 if chosen else 2


def _show(fault: Fault) -> None:
    print("\n".join(fold(f"{fault.id} · {fault.title}")))
    print("\n".join(fold(fault.story)))
    print("\n" + "\n".join(f"    {line}" for line in fault.program.splitlines()) + "\n")
    choices = fault.choices()
    print("What is wrong?")
    for i, choice in enumerate(choices, 1):
        print("\n".join(fold(f"{i}. {choice}", indent="   ", first="")))
    try:
        typed = input("> ").strip()
    except (EOFError, KeyboardInterrupt):
        typed = ""
    if typed.isdigit() and 1 <= int(typed) <= len(choices):
        choice, why = list(choices.items())[int(typed) - 1]
        right = choice == fault.diagnosis
        print("\n".join(fold(f"{'✓' if right else '✗'} {why}")))
        if not right:
            print("\n".join(fold(f"It is: {fault.diagnosis}")))
    print(f"\nMend it: llmlab faults {fault.id} --save {fault.name}.py")
    print(f"Notebook {fault.notebook}: {lesson(fault.notebook).title}.")


def fault_box(id: str | None = None) -> None:
    """Choose a fault, say what is wrong, mend the program in the box, and have it checked."""
    from llmlab.course.widgets import _display

    box = Box(find_fault(id) if id else faults()[0])
    fault = box.fault
    items = "".join(f"<li>{html.escape(choice)}</li>" for choice in fault.choices())
    static = (
        f"<p><strong>Find the fault.</strong> {html.escape(fault.story)}</p><pre>{html.escape(fault.program)}</pre>"
        f"<ul>{items}</ul><details><summary>Answer</summary><p>{html.escape(fault.diagnosis)}</p></details>"
    )
    _display(box.panel, {"text/html": static, "text/plain": f"Find the fault ({fault.id}): {fault.story}"})


class Box:
    """The widget's state: one fault, what was said about it, and the program as it is being mended."""

    def __init__(self, fault: Fault) -> None:
        import ipywidgets as w

        wide = w.Layout(width="98%")
        self.menu = w.Dropdown(
            options=[(f"{one.id} · {one.title}", one.id) for one in faults()],
            value=fault.id, description="Fault", layout=wide,
        )  # fmt: skip
        self.story, self.why, self.verdict = w.HTML(), w.HTML(), w.HTML()
        self.choice = w.RadioButtons(options=[], layout=w.Layout(width="auto"))
        self.code = w.Textarea(layout=w.Layout(width="98%", height="24em"), continuous_update=False)
        self.code.add_class("llmlab-code")
        self.check = w.Button(description="Check", button_style="primary")
        self.again = w.Button(description="Start over", tooltip="put the program back as it was")
        self.menu.observe(lambda change: self.take(find_fault(change["new"])), names="value")
        self.choice.observe(lambda change: self.said(change["new"]), names="value")
        self.check.on_click(lambda _: self.judge())
        self.again.on_click(lambda _: self.reset())
        style = w.HTML("<style>.llmlab-code textarea { font-family: monospace; line-height: 1.4 }</style>")
        self.panel = w.VBox(
            [
                style,
                self.menu,
                self.story,
                self.choice,
                self.why,
                self.code,
                w.HBox([self.check, self.again]),
                self.verdict,
            ],
            layout=w.Layout(padding="4px 12px", border="1px solid #8884"),
        )
        self.panel.add_class("llmlab-faults")
        self.take(fault)

    def take(self, fault: Fault) -> None:
        """Show another fault."""
        from llmlab.course.widgets import _prose

        self.fault = fault
        self.story.value = _prose(f"<p style='max-width:46em'>{html.escape(fault.story)} <b>What is wrong?</b></p>")
        self.choice.options = [*fault.choices()]
        self.choice.value = None
        self.why.value = self.verdict.value = ""
        self.code.value = fault.program

    def said(self, choice: str | None) -> None:
        """Say whether the diagnosis is right."""
        from llmlab.course.widgets import _prose

        if choice is not None:
            mark = "✓" if choice == self.fault.diagnosis else "✗"
            self.why.value = _prose(f"<p role='status'>{mark} {html.escape(self.fault.choices()[choice])}</p>")

    def judge(self) -> None:
        """Run the check on the program in the box."""
        result = try_mending(self.fault, self.code.value)
        self.verdict.value = f"<pre role='status' style='white-space:pre-wrap'>{html.escape(result.message)}</pre>"

    def reset(self) -> None:
        """Put the program back as it was."""
        self.code.value, self.verdict.value = self.fault.program, ""
