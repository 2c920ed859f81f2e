"""Reference implementations and course machinery behind *Fifty questions, fifty experiments*."""

import os

# torch's profiler writes its own log lines to the terminal, and so into notebooks; it reads this when torch is loaded.
os.environ.setdefault("KINETO_LOG_LEVEL", "9")

__version__ = "0.1.0"
