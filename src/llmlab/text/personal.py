"""Find and hide personal data that has a form: addresses and numbers. What has none, a name above all, is not found.

Digits of full width are not seen: use ``normalize(text, ["half_width"])`` before.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

__all__ = ["Found", "find_personal", "is_card_number", "is_chinese_id", "luhn", "mask_personal"]

# ASCII classes throughout: \w and \b would count a Chinese character as part of an address or a number beside it.
_EMAIL = re.compile(r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]+@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,}")
_ID = re.compile(r"(?<![0-9A-Za-z])[1-9][0-9]{16}[0-9Xx](?![0-9A-Za-z])")
_CARD = re.compile(
    r"(?<![0-9.+-])[2-6][0-9]{3}(?:(?:[ -]?[0-9]{4}){3}(?:[ -]?[0-9]{1,3})?|[ -]?[0-9]{6}[ -]?[0-9]{5})"
    r"(?![0-9]|[.-][0-9])"
)
_MOBILE = re.compile(
    r"(?<![0-9.+-])(?:(?:\+|00)?86[- ]?)?1[3-9][0-9](?:[0-9]{8}|[- ][0-9]{4}[- ][0-9]{4})(?![0-9]|\.[0-9])"
)
_LANDLINE = re.compile(
    r"(?<![0-9.-])(?:\(0[1-9][0-9]{1,2}\)|（0[1-9][0-9]{1,2}）|0[1-9][0-9]{1,2}[- ])[2-9][0-9]{6,7}(?![0-9-])"
)
_IP = re.compile(r"(?<![0-9A-Za-z.])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?!\.?[0-9A-Za-z])")

# The place of each digit modulo 11, and the last character for each remainder: GB 11643-1999 (ISO 7064, MOD 11-2).
_WEIGHTS = [2**place % 11 for place in range(17, 0, -1)]
_CHECK = "10X98765432"

# How the numbers of the large networks begin, and how long they are: UnionPay, Visa, Mastercard, American Express, JCB.
_NETWORKS = re.compile(r"62[0-9]{14,17}|4[0-9]{15}|5[1-5][0-9]{14}|2[2-7][0-9]{14}|3[47][0-9]{13}|35[0-9]{14}")


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


def luhn(number: str) -> bool:
    """Whether digits end with their check digit: from the right, every second one doubled (18 counts as 1 + 8), the sum
    is a multiple of 10. One wrong digit is always noticed; random digits pass one time in ten.

    Source: Luhn, 1960, US patent 2950048; ISO/IEC 7812-1.
    """
    if not number.isdecimal() or not number.isascii():
        return False
    digits = [int(digit) for digit in reversed(number)]
    return sum(digits[0::2] + [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]) % 10 == 0


def is_card_number(number: str) -> bool:
    """Whether digits, perhaps in groups, have the beginning, length and check digit of a bank card."""
    digits = re.sub("[ -]", "", number)
    return bool(_NETWORKS.fullmatch(digits)) and luhn(digits)


def _is_public_ip(text: str) -> bool:
    """An address that can belong to somebody; 127.0.0.1, 192.168.x.x and those kept for examples cannot."""
    try:
        return ipaddress.IPv4Address(text).is_global
    except ValueError:
        return False


@dataclass(frozen=True)
class Found:
    """A piece of personal data: what ``text[start:end]`` is."""

    kind: str
    start: int
    end: int


#: The first that matches a place has it: an identity number is 18 digits long, and so may a card's be.
_RULES: tuple[tuple[str, re.Pattern[str], Callable[[str], bool]], ...] = (
    ("EMAIL", _EMAIL, lambda found: True),
    ("ID", _ID, is_chinese_id),
    ("CARD", _CARD, is_card_number),
    ("PHONE", _MOBILE, lambda found: True),
    ("PHONE", _LANDLINE, lambda found: True),
    ("IP", _IP, _is_public_ip),
)


def find_personal(text: str) -> list[Found]:
    """E-mail addresses, Chinese identity numbers and bank cards with a right check digit, telephone numbers of mainland
    China, and public IPv4 addresses, in the order of the text and without overlap.

    An order number of 11 digits that starts like a mobile number is found with them, and 1.2.3.4 may be a version: a
    filter for personal data errs on that side. Cost: a pass for each kind.
    """
    found: list[Found] = []
    for kind, pattern, really in _RULES:
        for match in pattern.finditer(text):
            free = all(match.end() <= other.start or other.end <= match.start() for other in found)
            if free and really(match.group()):
                found.append(Found(kind, match.start(), match.end()))
    return sorted(found, key=lambda piece: piece.start)


def mask_personal(text: str) -> tuple[str, Counter[str]]:
    """``text`` with ``[EMAIL]``, ``[ID]``, ``[CARD]``, ``[PHONE]`` and ``[IP]`` in place of what :func:`find_personal`
    found, and how many of each. A second time changes nothing."""
    parts: list[str] = []
    counts: Counter[str] = Counter()
    end = 0
    for piece in find_personal(text):
        parts += [text[end : piece.start], f"[{piece.kind}]"]
        counts[piece.kind] += 1
        end = piece.end
    return "".join([*parts, text[end:]]), counts
