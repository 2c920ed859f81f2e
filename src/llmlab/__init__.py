"""Reference implementations and course machinery behind *Fifty questions, fifty experiments*."""

__version__ = "0.1.0"
