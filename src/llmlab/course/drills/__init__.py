"""Reason drills: the sums that interviewers ask for, with fresh numbers each time.

``drill(seed)`` makes one, ``Drill.judge`` checks what was typed and names the likely slip, ``Drill.working`` shows the
way step by step. ``llmlab drills`` asks them in a terminal, ``drill_box`` in JupyterLab.
"""

from llmlab.course.drills.ask import drill_box, main
from llmlab.course.drills.kinds import KINDS, drill
from llmlab.course.drills.model import Drill, Step, Verdict, number

__all__ = ["KINDS", "Drill", "Step", "Verdict", "drill", "drill_box", "main", "number"]
