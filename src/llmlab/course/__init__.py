"""The side of the package that a notebook talks to: claims, figures, predictions, explorations and lab checks.

The library never imports this module; a reader can take ``llmlab.attention`` away and use it without the course.
"""

from llmlab.course.claims import ClaimError, claim
from llmlab.course.opening import begin
from llmlab.course.show import COLORS, figure, link, measured, source_of, table
from llmlab.course.widgets import explore, predict

__all__ = [
    "COLORS",
    "ClaimError",
    "begin",
    "check",
    "claim",
    "explore",
    "figure",
    "hint",
    "link",
    "measured",
    "predict",
    "source_of",
    "table",
    "task_card",
]


def __getattr__(name: str) -> object:
    """Load the lab machinery when a lab asks for it."""
    if name == "check":
        from llmlab.course.checking import check

        return check
    if name in ("hint", "task_card"):
        from llmlab.course import labs

        return getattr(labs, name)
    raise AttributeError(f"module 'llmlab.course' has no attribute {name!r}")
