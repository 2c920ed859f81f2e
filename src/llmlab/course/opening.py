"""The first cell of a notebook: seeds, threads, the look of its figures, and the card that says what it is about."""

from __future__ import annotations

import html

__all__ = ["begin"]

#: JupyterLab breaks long lines of printed text inside words; claims are sentences.
STYLE = "<style>.jp-OutputArea-output pre{word-break:normal;overflow-wrap:anywhere}</style>"


def begin(number: str, seed: int = 0) -> None:
    """Open a notebook: seed everything, set the threads, set the figures' style, show the header card.

    The card is made from the course table and the question bank, so it cannot fall out of step with them.

    Args:
        number: the notebook's number as two digits, ``"01"``.
        seed: for Python, NumPy and torch.

    Raises:
        KeyError: the course has no notebook of this number.
    """
    from IPython.display import display

    from llmlab import runtime
    from llmlab.course import lessons, questions

    lesson = lessons.lesson(number)
    runtime.setup(seed=seed)
    style_figures()
    asked = questions.for_notebook(number)
    needs = ", ".join(lesson.prerequisites) or "none"
    about = f"{lesson.minutes} minutes, then a lab of {lesson.lab_minutes}. Before this one: {needs}."
    items = "".join(
        f"<li><strong>{q.id}</strong> {html.escape(q.question_en)} "
        f"<span lang='zh'>{html.escape(q.question_zh)}</span></li>"
        for q in asked
    )
    card = (
        f"{STYLE}<div style='border-left:4px solid #0072B2;padding:2px 12px'><p>{about}</p>"
        f"<p>You will be able to answer: {html.escape(lesson.able)}</p>"
        f"<details><summary>The interview questions answered here ({len(asked)})</summary>"
        f"<ul>{items}</ul></details></div>"
    )
    text = "\n".join(
        [about, f"You will be able to answer: {lesson.able}", *(f"  {q.id} {q.question_en}" for q in asked)]
    )
    display({"text/html": card, "text/plain": text}, raw=True)


def style_figures() -> None:
    """Colours that people with the common colour-vision deficiencies can tell apart, and quiet axes."""
    import matplotlib as mpl

    from llmlab.course.show import COLORS

    mpl.rcParams.update(
        {
            "axes.prop_cycle": mpl.cycler(color=list(COLORS)),  # type: ignore[attr-defined]
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.25,
            "axes.titlesize": 11,
            "axes.titleweight": "bold",
            "axes.labelsize": 10,
            "legend.frameon": False,
            "figure.figsize": (7.0, 3.6),
            "image.cmap": "viridis",
        }
    )
