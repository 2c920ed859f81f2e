"""The notebook tools: ``llmlab nb regen | check | labs | start | mutate``.

``execute`` runs a notebook in a closed kernel, ``normal`` gives its file one form, ``compare`` says whether two outputs
say the same, ``regen`` writes the reference outputs, ``plugin`` checks them under pytest, ``labs`` cuts the labs out of
the solutions.
"""

from llmlab.course.nb.commands import main

__all__ = ["main"]
