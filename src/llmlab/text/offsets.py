"""Where in a text each token stands, in characters: what labels of names and answers, made by character, need.

A byte-level token may be a part of a character (中 is three bytes, which a vocabulary may cut). Then several tokens
have the same place, and a character has more than one token.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["offsets", "tokens_in"]


def offsets(tokens: Sequence[bytes], *, trim: bool = False) -> list[tuple[int, int]]:
    """``(first character, one behind the last)`` of each token of :meth:`llmlab.text.BPE.tokens`.

    A token that is a part of a character has that whole character. ``trim`` leaves the blanks in front of a word out
    (a token of blanks alone becomes empty, at its end), as ``trim_offsets`` of the ``tokenizers`` package does.

    Raises:
        TypeError: a token is no bytes: numbers and printed tokens (``Ġthe``) have no characters.
        ValueError: the tokens, joined, are no UTF-8: a part of a text that was cut within a character.

    Cost: O(bytes). In UTF-8 every byte of a character but its first is 10xxxxxx: the others count the characters.
    """
    for number, token in enumerate(tokens):
        if not isinstance(token, bytes):
            raise TypeError(f"token {number} is {type(token).__name__}, expected bytes: give BPE.tokens(text)")
    try:
        text = b"".join(tokens).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"the tokens are no whole text: {error.reason} at byte {error.start}; give all tokens of it"
        ) from None
    found, seen = [], 0  # seen: characters that have begun
    for token in tokens:
        begun = sum(byte & 0b1100_0000 != 0b1000_0000 for byte in token)
        inside = bool(token) and token[0] & 0b1100_0000 == 0b1000_0000
        start, seen = seen - inside, seen + begun
        if trim:
            start += len(text[start:seen]) - len(text[start:seen].lstrip(" "))
        found.append((start, seen))
    return found


def tokens_in(places: Sequence[tuple[int, int]], start: int, end: int) -> range:
    """The tokens that touch the characters from ``start`` to ``end`` (one behind the last); none for an empty span.

    Args:
        places: what :func:`offsets` returned.

    Raises:
        ValueError: ``start`` is negative or behind ``end``, or ``end`` behind the text.
    """
    size = places[-1][1] if places else 0
    if not 0 <= start <= end <= size:
        raise ValueError(f"span ({start}, {end}): expected 0 <= start <= end <= {size}, characters of the text")
    touched = [number for number, (a, b) in enumerate(places) if max(a, start) < min(b, end)]
    return range(touched[0], touched[-1] + 1) if touched else range(0)
