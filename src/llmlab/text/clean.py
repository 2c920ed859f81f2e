"""Clean text without destroying it.

A cleaner for language models takes out what is not text (tags, controls, runs of blanks) and leaves what is: Chinese,
numbers, case, punctuation, stop words, emoji. Rules made for bags of words (lower case, ``[^a-z ]``, no digits) do not.
"""

from __future__ import annotations

import html
import re

from llmlab.text.normalize import normalize

__all__ = ["clean", "strip_tags"]

_HIDDEN = re.compile(r"<!--.*?-->|<(script|style)\b.*?</\1\s*>", re.DOTALL | re.IGNORECASE)
_BREAK = re.compile(r"<(?:br|/?(?:p|div|li|ul|ol|tr|table|h[1-6]))\b[^<>]*>", re.IGNORECASE)
_TAG = re.compile(r"</?[a-z][a-z0-9]*(?:\s[^<>]*)?/?>", re.IGNORECASE)


def clean(text: str) -> str:
    """The same text in form C, without controls, blanks at line ends, runs of blanks, or more than one empty line.

    A second time changes nothing. Blanks at the start of a line stay: code and poems need them.
    """
    text = normalize(text)
    text = re.sub(r"(?<=\S)[^\S\n]{2,}(?=\S)", " ", text)
    text = re.sub(r"(?<![^\S\n])[^\S\n]+$", "", text, flags=re.MULTILINE)  # begun once a run: linear
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n")


def strip_tags(text: str) -> str:
    """HTML's tags, comments, scripts and styles out, entities resolved; block tags become line ends.

    Only what is shaped like a tag goes: ``a < b``, ``<3`` and ``<|endoftext|>`` stay.
    """
    text = _BREAK.sub("\n", _HIDDEN.sub("", text))
    return html.unescape(_TAG.sub("", text))
