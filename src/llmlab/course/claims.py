"""A claim is a sentence with a condition: it prints when true and raises when false.

The ids of the claims are what the answers of the question bank rest on.
"""

from __future__ import annotations

import re
from typing import Any

__all__ = ["ClaimError", "claim"]

CLAIM_ID = re.compile(r"[A-E]\d\d\.[a-z][a-z0-9_]*")


class ClaimError(AssertionError):
    """A claim of the course is false on this machine."""


def claim(claim_id: str, text: str, condition: Any) -> None:
    """Print ``✓ id: text`` if ``condition`` is true; raise :class:`ClaimError` if it is not.

    Args:
        claim_id: the question's id, a dot, a short name: ``"A01.variance"``.
        text: one sentence that says what was found. It may hold numbers that the cell computed.
        condition: a ``bool`` (or a NumPy or torch scalar of type bool). Anything else is refused: the truth value of
            a list, a number or a string is not evidence.

    Raises:
        ClaimError: the condition is false.
        TypeError: the condition is no single truth value.
        ValueError: the id or the text is malformed.
    """
    if not CLAIM_ID.fullmatch(claim_id):
        raise ValueError(f"claim id {claim_id!r}: expected a question's id, a dot and a name, as in 'A01.variance'")
    if not text.strip():
        raise ValueError(f"claim {claim_id} has no text: say in one sentence what was found")
    if not _truth(claim_id, condition):
        raise ClaimError(f"{claim_id} does not hold here: {text}")
    print(f"✓ {claim_id}: {text}")


def _truth(claim_id: str, condition: Any) -> bool:
    """One truth value, or a TypeError that says what came instead."""
    if isinstance(condition, bool):
        return condition
    kind = str(getattr(condition, "dtype", ""))
    if kind in ("bool", "torch.bool"):
        count = condition.size if isinstance(condition.size, int) else condition.numel()
        if count == 1:
            return bool(condition)
        raise TypeError(f"claim {claim_id}: the condition holds {count} truth values; reduce it with .all() or .any()")
    raise TypeError(
        f"claim {claim_id}: the condition is {type(condition).__name__} {condition!r:.60}, not a truth value; "
        "compare it with something"
    )
