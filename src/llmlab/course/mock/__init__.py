"""A mock interview: drawn by a seed, answered against the clock, marked by oneself, followed up, and reported.

``llmlab interview --minutes 45 --role "LLM engineer" --seed 7`` in a terminal, ``interview_panel`` in JupyterLab. Every
step is a row of the progress file, so an interview that is interrupted goes on where it stood.
"""

from llmlab.course.mock.panel import interview_panel
from llmlab.course.mock.plan import ROLES, Item, Plan, draw
from llmlab.course.mock.report import html_report, markdown_report
from llmlab.course.mock.session import Interview, begun, start
from llmlab.course.mock.terminal import main

__all__ = [
    "ROLES",
    "Interview",
    "Item",
    "Plan",
    "begun",
    "draw",
    "html_report",
    "interview_panel",
    "main",
    "markdown_report",
    "start",
]
