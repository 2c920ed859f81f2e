"""From a model to text: which token comes next, again and again.

:func:`generate` returns whole continuations, :func:`stream` yields each token as it is chosen. Both take the token with
the largest logit (greedy) or draw one; the filters say from which.
"""

from llmlab.generate.filters import min_p, temperature, top_k, top_p
from llmlab.generate.loop import Sampling, generate, left_pad, stream

__all__ = ["Sampling", "generate", "left_pad", "min_p", "stream", "temperature", "top_k", "top_p"]
