"""``llmlab interview``: the mock interview in a terminal."""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

from llmlab.course.mock.coding import coding_task, judge
from llmlab.course.mock.plan import ROLES, draw
from llmlab.course.mock.report import clock_face, html_report, lesson_of, markdown_report, title_of
from llmlab.course.mock.session import Interview, begun, drill_of, rubric, start
from llmlab.course.nb.normal import write_atomic
from llmlab.course.questions import fold, question

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """Returns 0, or 2 when the words make no sense."""
    parser = argparse.ArgumentParser(
        prog="llmlab interview",
        description="A mock interview: drawn by a seed, against the clock, marked by yourself.",
    )
    parser.add_argument("--minutes", type=int, default=45, help="5 to 180 (45)")
    parser.add_argument("--role", default="LLM engineer", help=f"one of: {', '.join(ROLES)}")
    parser.add_argument("--seed", type=int, help="the same seed gives the same interview")
    parser.add_argument("--zh", action="store_true", help="questions and answers in Chinese")
    parser.add_argument("--new", action="store_true", help="begin a new one although one is open")
    parser.add_argument("--show", action="store_true", help="only print what would be asked")
    parser.add_argument("--report", metavar="FILE", type=Path, help="write the report: FILE.md or FILE.html")
    args = parser.parse_args(argv)
    try:
        if args.report and args.report.suffix not in (".md", ".html"):
            raise ValueError(f"--report {args.report}: expected a name that ends in .md or .html")
        seed = random.randrange(10**6) if args.seed is None else args.seed
        plan = draw(seed, minutes=args.minutes, role=args.role, zh=args.zh)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if args.show:
        for i, item in enumerate(plan.items, 1):
            print(
                "\n".join(
                    fold(f"{i}. {item.kind}, {item.minutes} min: {title_of(item, plan.zh)}", indent="   ", first="")
                )
            )
        return 0
    open_one = None if args.new else begun()
    if open_one is not None and args.seed in (None, open_one.plan.seed):
        interview = open_one
        print(f"Going on with the interview of seed {interview.plan.seed}, {clock_face(interview.used)} used.")
    else:
        interview = start(plan)
        print(f"{plan.role}, {plan.minutes} minutes, {len(plan.items)} items, seed {plan.seed}. Ctrl-C interrupts.")
    try:
        _run(interview)
    except (EOFError, KeyboardInterrupt):
        print("\nInterrupted. Go on with: llmlab interview")
        return 0
    interview.finish()
    _report(interview, args.report)
    return 0


def _run(interview: Interview) -> None:
    while (item := interview.item) is not None:
        at = interview.position
        answer = interview.answers[at]
        spent = f"{clock_face(interview.used)} of {interview.plan.minutes}:00"
        print(f"\n{at + 1} of {len(interview.plan.items)} · {item.kind} · {spent}\n")
        if item.kind == "coding":
            _code(interview)
            continue
        print("\n".join(fold(title_of(item, interview.plan.zh), indent="  ")))
        if not answer.given:
            interview.ask()
            interview.answer(_typed("\nYour answer; an empty line ends it:"))
        if item.kind == "calculation":
            print("\n".join(fold(interview.answers[at].verdict, indent="  ")))
            print("\n".join(f"    {step}" for step in drill_of(item).shown()))
            continue
        _mark(interview, at)
        _follow_up(interview, at)
    if interview.time_is_up:
        print("\nThe time is up.")


def _typed(prompt: str) -> str:
    print(prompt)
    lines = []
    while line := input("> "):
        lines.append(line)
    return "\n".join(lines)


def _mark(interview: Interview, at: int) -> None:
    q = question(interview.plan.items[at].ref)
    print("\n" + "\n".join(fold(q.answer_zh if interview.plan.zh else q.answer_en, indent="  ")) + "\n")
    lines = rubric(q)
    for i, point in enumerate(lines, 1):
        print("\n".join(fold(f"{i}. {point.text}", indent="     ", first="  ")))
    while True:
        word = input("Which of these did you reach? Numbers, all or none: ").strip().lower()
        if word in ("all", "none", ""):
            chosen = set(range(1, len(lines) + 1)) if word == "all" else set()
            break
        parts = word.replace(",", " ").split()
        if all(p.isdigit() and 1 <= int(p) <= len(lines) for p in parts):
            chosen = {int(p) for p in parts}
            break
        print(f"Numbers from 1 to {len(lines)}, such as: 1 3")
    interview.mark([i in chosen for i in range(1, len(lines) + 1)])


def _follow_up(interview: Interview, at: int) -> None:
    asked = interview.followup(at)
    if asked is None:
        return
    text, right = asked
    print("\n" + "\n".join(fold(f"Then: {text}", indent="  ")))
    said = _typed("\nYour answer; an empty line ends it:")
    print("\n".join(fold(right, indent="  ")))
    interview.followed(at, text, said, input("Did you say that? y or n: ").strip().lower().startswith("y"))


def _code(interview: Interview) -> None:
    """Write the program to a file, and check it as often as Enter is pressed."""
    at = interview.position
    item = interview.plan.items[at]
    coding = coding_task(item.ref)
    file = Path(f"interview_{item.ref.replace('.', '_')}.py")
    if not file.exists():
        file.write_text(coding.program, encoding="utf-8")
    print(f"  {coding.task.title}\n\n{coding.text}\n")
    print(f"  The program is in {file}. Change `{coding.name}`, save it, press Enter to check; s gives up.")
    if not interview.answers[at].given:
        interview.ask()
    while True:
        word = input("  [Enter] checks, s gives up: ").strip().lower()
        program = file.read_text(encoding="utf-8") if file.exists() else coding.program
        result = judge(coding, program)
        print(f"  {result.message}")
        if result or word == "s":
            if not interview.answers[at].given:
                interview.answer(program)
            interview.judged(bool(result), result.message)
            return


def _report(interview: Interview, file: Path | None) -> None:
    score = interview.score()
    print(f"\nMark: {'none' if score is None else f'{score:.0%}'}, {clock_face(interview.used)} used.")
    weak = {lesson_of(item).number for item, a in zip(interview.plan.items, interview.answers) if (a.mark or 0) < 1}
    print(f"Study next: notebooks {', '.join(sorted(weak)) or 'none'}.")
    if file is not None:
        make = html_report if file.suffix == ".html" else markdown_report
        try:
            write_atomic(file, make(interview, base="notebooks/"))
            print(f"Report: {file}")
        except OSError as error:
            print(f"The report could not be written ({error}); here it is:\n\n{markdown_report(interview)}")
    else:
        print(f"\n{markdown_report(interview, base='notebooks/')}")
