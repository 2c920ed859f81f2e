"""Cut text into pieces before any merging: a token never crosses the edge of a piece.

The patterns are those of published tokenizers. Each matches every character of every text, so the pieces, joined, give
the text back. They differ in what may share a token: digits (all of a number, three, one), a letter with the sign
before it, line ends. None knows where a Chinese word ends: a clause without punctuation is one piece.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import regex  # Python's own re knows no \p{L} (letter of any script) and \p{N} (number)

__all__ = ["BYTE_ORDER", "PATTERNS", "as_printed", "pieces", "utf8"]

_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"  # English contractions, of either case
_REST = (
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"  # signs, line ends, blanks; the last blank goes with its word
)

#: name -> regular expression. "gpt2": Radford et al. 2019, as OpenAI published its encoder; "cl100k": tiktoken's for
#: GPT-4, whole numbers cut into threes; "qwen": the same with every digit by itself.
PATTERNS: dict[str, str] = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "cl100k": _ENDINGS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + _REST,
    "qwen": _ENDINGS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|" + _REST,
}

# GPT-2 numbers the bytes that print first, then the others. The order decides ties in training.
_PRINT = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
_HIDDEN = [byte for byte in range(256) if byte not in _PRINT]

#: The 256 bytes in the order of their token numbers in GPT-2: ``BYTE_ORDER[0] == b"!"``.
BYTE_ORDER: tuple[bytes, ...] = tuple(bytes([byte]) for byte in [*_PRINT, *_HIDDEN])

# A byte that prints stands for itself; the 68 others get the characters from U+0100 on (a blank becomes Ġ).
_PRINTED = {byte: chr(byte) for byte in _PRINT} | {byte: chr(256 + i) for i, byte in enumerate(_HIDDEN)}


def pieces(text: str, pattern: str = "gpt2") -> list[str]:
    """``text`` in pieces by a pattern's name (see ``PATTERNS``) or by a regular expression. Joined, they are the text.

    Raises:
        TypeError: ``text`` is no string.
        ValueError: the expression leaves characters out.
    """
    if not isinstance(text, str):
        raise TypeError(f"text is {type(text).__name__}, expected str; decode bytes first")
    found: list[str] = _compiled(PATTERNS.get(pattern, pattern)).findall(text)
    if sum(map(len, found)) != len(text):
        raise ValueError(
            f"pattern {pattern!r} leaves characters out: add an alternative such as |.|\\s that takes them"
        )
    return found


def utf8(text: str) -> bytes:
    """The bytes of ``text``.

    Raises:
        TypeError: it is no string.
        ValueError: it holds half a surrogate pair, which no UTF-8 can express; the message says where.
    """
    if not isinstance(text, str):
        raise TypeError(f"text is {type(text).__name__}, expected str; decode bytes first")
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"character {error.start} is U+{ord(text[error.start]):04X}, half of a surrogate pair, which is no text: "
            "read the source again as UTF-8 or UTF-16, or drop it with text.encode('utf-8', 'ignore').decode()"
        ) from None


def as_printed(token: bytes) -> str:
    """A token as GPT-2's and other vocabularies print it: ``b" the"`` is ``Ġthe``, three bytes of 中 are ``ä¸Ń``."""
    return "".join(_PRINTED[byte] for byte in token)


def from_printed(token: str) -> bytes:
    """The bytes of a token that :func:`as_printed` wrote.

    Raises:
        ValueError: a character stands for no byte.
    """
    byte_of = {character: byte for byte, character in _PRINTED.items()}
    strange = [character for character in token if character not in byte_of]
    if strange:
        raise ValueError(f"{token!r} is no byte-level token: {strange[0]!r} stands for no byte")
    return bytes(byte_of[character] for character in token)


def count_pieces(texts: Iterable[str], pattern: str = "gpt2") -> dict[bytes, int]:
    """How often each piece occurs, as bytes: what training needs to know of a text."""
    counts: dict[str, int] = {}
    for text in texts:
        utf8(text)  # raises, and says where, if it is no text
        for piece in pieces(text, pattern):
            counts[piece] = counts.get(piece, 0) + 1
    return {utf8(piece): count for piece, count in counts.items()}


@cache
def _compiled(expression: str) -> regex.Pattern[str]:
    return regex.compile(expression)
