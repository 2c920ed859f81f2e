"""Chinese words as units."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

__all__ = ["chinese_words"]


def chinese_words(text: str) -> list[str]:
    """The words of ``text`` by jieba (dictionary and hidden Markov model); punctuation comes as words of its own.

    Joined, they give the text back. The first call loads the dictionary, about a second.
    """
    return list(_jieba().lcut(text))


@cache
def _jieba() -> Any:
    """jieba, quiet: it logs its start, and its source has escapes that Python warns of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import jieba
    jieba.setLogLevel("ERROR")
    return jieba
