"""Find the fault: short programs that run and are wrong. Say what is wrong, mend it, and the check decides.

Each fault is one that a document, a tutorial or a colleague has; the program around it is our own. ``llmlab faults``
in a terminal, ``fault_box`` in JupyterLab.

How to write one
================

A module ``part_N.py`` of this package holds the faults of a part of the course in a tuple ``FAULTS``. See
:class:`~llmlab.course.faults.model.Fault` for the fields, :mod:`llmlab.course.checking` for how a check is written: it
gets the object named ``name`` after the learner's program has run, and raises :class:`~llmlab.course.checking.Wrong`
with the likely mistake. ``tests/course/test_faults.py`` holds every fault to its bank: the broken program and every
wrong mending are rejected, each with its sentence; the mended one and another right one are accepted.
"""

from llmlab.course.faults.ask import fault_box, main
from llmlab.course.faults.model import Fault, faults, find_fault, run_fault_bank, try_mending

__all__ = ["Fault", "fault_box", "faults", "find_fault", "main", "run_fault_bank", "try_mending"]
