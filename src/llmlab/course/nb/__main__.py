"""``python -m llmlab.course.nb``: the same as ``llmlab nb``."""

import sys

from llmlab.course.nb.commands import main

sys.exit(main())
