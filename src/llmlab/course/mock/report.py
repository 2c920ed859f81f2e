"""What an interview showed, and what to study next: Markdown, and the same as a page of HTML."""

from __future__ import annotations

import html
import re
from collections import defaultdict

from llmlab.course.lessons import Lesson, lesson
from llmlab.course.mock.coding import coding_task
from llmlab.course.mock.plan import Item
from llmlab.course.mock.session import Answer, Interview, drill_of, rubric
from llmlab.course.questions import question

__all__ = ["clock_face", "html_report", "lesson_of", "markdown_report", "title_of"]


def markdown_report(interview: Interview, *, base: str = "") -> str:
    """The report as Markdown.

    Args:
        base: put before the links to notebooks, such as ``"notebooks/"`` from the course's root.
    """
    plan = interview.plan
    score = interview.score()
    said = "nothing was marked" if score is None else f"mark **{score:.0%}**"
    answered = sum(a.mark is not None for a in interview.answers)
    lines = [
        f"# Mock interview: {plan.role}",
        "",
        f"Seed {plan.seed}, {plan.minutes} minutes, {clock_face(interview.used)} used; {answered} of {len(plan.items)} "
        f"items marked; {said}. Marks are your own, except for calculations and code.",
        "",
        "| | Item | Kind | Time | Mark |",
        "|--:|:--|:--|--:|--:|",
    ]
    for i, (item, a) in enumerate(zip(plan.items, interview.answers), 1):
        mark = "–" if a.mark is None else f"{a.mark:.0%}"
        lines.append(f"| {i} | {_cell(title_of(item, plan.zh))} | {item.kind} | {clock_face(a.seconds)} | {mark} |")
    lines += ["", "## What to study next", "", *_next(interview, base), "", "## Item by item"]
    for i, (item, a) in enumerate(zip(plan.items, interview.answers), 1):
        lines += ["", f"### {i} · {title_of(item, plan.zh)}", "", *_details(item, a, plan.zh)]
    return "\n".join(lines).rstrip() + "\n"


def html_report(interview: Interview, *, base: str = "") -> str:
    """The report as a page that needs nothing else: readable at 200 %, in light and in dark."""
    import mistune

    convert = mistune.create_markdown(escape=True, plugins=["table"])
    style = (
        "body{font:18px/1.5 sans-serif;max-width:46em;margin:2em auto;padding:0 1em}"
        "table{border-collapse:collapse}td,th{padding:.2em .6em;border-bottom:1px solid #8888}"
        "blockquote{border-left:4px solid #8888;margin-left:0;padding-left:1em}"
        ":root{color-scheme:light dark}pre{white-space:pre-wrap}"
    )
    language = "zh" if interview.plan.zh else "en"
    body = convert(markdown_report(interview, base=base))
    title = html.escape(f"Mock interview: {interview.plan.role}")
    return (
        f'<!doctype html>\n<html lang="{language}"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{style}</style></head><body>\n{body}</body></html>\n"
    )


def clock_face(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def title_of(item: Item, zh: bool = False) -> str:
    """What is asked, in a line."""
    if item.kind == "calculation":
        return drill_of(item).text
    if item.kind == "coding":
        return f"{item.ref} {coding_task(item.ref).task.title}"
    q = question(item.ref)
    return f"{q.id} {q.question_zh if zh else q.question_en}"


def lesson_of(item: Item) -> Lesson:
    """The lesson that teaches an item."""
    if item.kind == "calculation":
        return lesson(drill_of(item).notebook)
    return lesson(item.ref[:2] if item.kind == "coding" else question(item.ref).notebook)


def _next(interview: Interview, base: str) -> list[str]:
    """The lessons of what was lost, the dearest first, as links where the notebook is there."""
    lost: dict[str, float] = defaultdict(float)
    why: dict[str, list[str]] = defaultdict(list)
    for i, (item, a) in enumerate(zip(interview.plan.items, interview.answers), 1):
        if a.mark is None:
            continue
        missed = 1 - a.mark + sum(0.5 for *_, right in a.followups if not right)
        if missed > 0:
            entry = lesson_of(item)
            lost[entry.number] += missed * item.minutes
            why[entry.number].append(str(i))
    if all(a.mark is None for a in interview.answers):
        return ["Nothing was marked, so nothing can be said."]
    if not lost:
        return ["Nothing was lost in what was marked. Draw another seed, or a longer interview."]
    lines = []
    for number in sorted(lost, key=lambda n: (-lost[n], n)):
        entry = lesson(number)
        name = f"{entry.number} {entry.title}"
        place = f"[{name}]({base}{entry.name}.ipynb)" if entry.exists() else f"{name} (planned)"
        items = f"item{'s' * (len(why[number]) > 1)} {', '.join(why[number])}"
        lines.append(f"- {place}: {items}. Cards: `llmlab cards --notebook {entry.number}`")
    return lines


def _details(item: Item, a: Answer, zh: bool) -> list[str]:
    if not a.given:
        return ["Not asked: the time was up."]
    lines = _quoted(a.text, code=item.kind == "coding")
    if item.kind == "calculation":
        one = drill_of(item)
        return [*lines, "", a.verdict, "", *(f"- {step}" for step in one.shown())]
    if item.kind == "coding":
        return [*lines, "", _fenced(a.verdict)]
    q = question(item.ref)
    if a.mark is not None:
        lines += ["", *(f"- {'✓' if ok else '✗'} {p.text}" for p, ok in zip(rubric(q), a.points))]
    lines += ["", f"**In sixty seconds:** {q.answer_zh if zh else q.answer_en}"]
    for asked, text, right in a.followups:
        lines += ["", f"**Then:** {asked} {'✓' if right else '✗'}", "", *_quoted(text)]
    return lines


def _quoted(text: str, *, code: bool = False) -> list[str]:
    """What was typed, in a fence, where no character of it means anything."""
    return _fenced(text, "python" if code else "text").splitlines() if text.strip() else ["(no answer)"]


def _fenced(text: str, language: str = "") -> str:
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    return f"{fence}{language}\n{text.strip()}\n{fence}"


def _cell(text: str) -> str:
    short = text if len(text) <= 90 else text[:89].rsplit(" ", 1)[0] + " …"
    return short.replace("|", "\\|").replace("\n", " ")
