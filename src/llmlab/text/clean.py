"""Clean text without destroying it, and hide personal data.

A cleaner for language models takes out what is not text (tags, controls, runs of blanks) and leaves what is: Chinese,
numbers, case, punctuation, stop words, emoji. Rules made for bags of words (lower case, ``[^a-z ]``, no digits) do not.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Callable
from datetime import date

from llmlab.text.normalize import normalize

__all__ = ["clean", "is_chinese_id", "mask_personal", "strip_tags"]

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


# --- personal data --------------------------------------------------------------------------------------------------

# ASCII classes throughout: \w and \b would count a Chinese character as part of an address or a number beside it.
_EMAIL = re.compile(r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]+@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,}")
_ID = re.compile(r"(?<![0-9A-Za-z])[1-9][0-9]{16}[0-9Xx](?![0-9A-Za-z])")
_MOBILE = re.compile(
    r"(?<![0-9.+-])(?:(?:\+|00)?86[- ]?)?1[3-9][0-9](?:[0-9]{8}|[- ][0-9]{4}[- ][0-9]{4})(?![0-9]|\.[0-9])"
)
_LANDLINE = re.compile(
    r"(?<![0-9.-])(?:\(0[1-9][0-9]{1,2}\)|（0[1-9][0-9]{1,2}）|0[1-9][0-9]{1,2}[- ])[2-9][0-9]{6,7}(?![0-9-])"
)

# The place of each digit modulo 11, and the last character for each remainder: GB 11643-1999 (ISO 7064, MOD 11-2).
_WEIGHTS = [2**place % 11 for place in range(17, 0, -1)]
_CHECK = "10X98765432"


def is_chinese_id(number: str) -> bool:
    """Whether 18 characters are a Chinese identity number: a date of birth that exists, and the right last character.

    One wrong digit, or two neighbours exchanged, is always noticed; of random digits with a valid date one in eleven
    passes. Source: GB 11643-1999.
    """
    if not _ID.fullmatch(number):
        return False
    try:
        date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    remainder = sum(int(digit) * weight for digit, weight in zip(number, _WEIGHTS)) % 11
    return _CHECK[remainder] == number[17].upper()


def mask_personal(text: str) -> tuple[str, Counter[str]]:
    """``text`` with ``[EMAIL]``, ``[ID]`` and ``[PHONE]`` in place of such data, and how many of each.

    E-mail addresses; Chinese identity numbers with a right checksum; mobile and land-line numbers of mainland China.
    Digits of full width are not seen: use ``normalize(text, ["half_width"])`` before. Names and postal addresses are
    not found by patterns. An order number of 11 digits that starts like a mobile number
    is masked with them: a filter for personal data errs on that side.
    """
    counts: Counter[str] = Counter()
    rules: list[tuple[str, re.Pattern[str], Callable[[str], bool]]] = [
        ("EMAIL", _EMAIL, lambda found: True),
        ("ID", _ID, is_chinese_id),
        ("PHONE", _MOBILE, lambda found: True),
        ("PHONE", _LANDLINE, lambda found: True),
    ]
    for kind, pattern, really in rules:

        def mask(match: re.Match[str], kind: str = kind, really: Callable[[str], bool] = really) -> str:
            if not really(match.group()):
                return match.group()
            counts[kind] += 1
            return f"[{kind}]"

        text = pattern.sub(mask, text)
    return text, counts
