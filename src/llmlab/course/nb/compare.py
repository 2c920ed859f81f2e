"""Do two outputs say the same? Numbers within a tolerance, measured values not at all, everything else exactly.

Pure functions on notebook outputs; what a kernel sends (``clear_output``, ``update_display``, Output widgets) has been
applied before by whoever executed the cell.
"""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import dataclass
from typing import Any

from llmlab.course.nb.normal import PNG_URI, normalise_outputs

__all__ = ["Tolerance", "compare_outputs", "compare_text"]

_MEASURED = r"⟨[^⟨⟩]*⟩"
# Digits that name something and are no quantity: arXiv ids, colours, and words such as A01 or fp16 (see _NUMBER).
_NAME = r"(?i:arxiv):?\s?\d{4}\.\d{4,5}|\#[0-9a-fA-F]{3,8}\b"
# A sign belongs to the number unless something stands right before it (3-5, x-1). 2.13.0 is a version, not a number.
_NUMBER = (
    r"(?<![\w.])(?:(?<![)\]])[-+−])?"
    r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+(?!\w|\.\d))?"
    r"(?!\d|\.\d)"
)
_TOKEN = re.compile(rf"(?P<measured>{_MEASURED})|(?P<name>{_NAME})|(?P<number>[ \t]*{_NUMBER})|(?P<space>[ \t]+)")
_BLANKS, _RULE = re.compile(r"[ \t]+"), re.compile(r"([-─=━_])\1{2,}")
_WIDE = 60


@dataclass(frozen=True)
class Tolerance:
    """Numbers a (reference) and b agree when |a − b| <= atol + rtol·|a|; whole numbers agree only when equal.

    ``whole`` makes whole numbers follow the tolerance too; it is set where the metadata names an ``rtol``.
    """

    rtol: float = 1e-4
    atol: float = 1e-8
    whole: bool = False

    @classmethod
    def of(cls, *layers: Any) -> Tolerance:
        """From the ``llmlab`` metadata of the notebook, then of the cell.

        Raises:
            ValueError: a value is not a number from 0 to below 1 (rtol) or from 0 (atol).
        """
        found: dict[str, Any] = {}
        for layer in layers:
            for key in ("rtol", "atol"):
                value = (layer or {}).get(key)
                if value is None:
                    continue
                top = 1.0 if key == "rtol" else math.inf
                if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < top:
                    limits = "from 0 to below 1" if key == "rtol" else "of 0 or more"
                    raise ValueError(f"metadata llmlab.{key} is {value!r}: expected a number {limits}")
                found[key] = float(value)
        return cls(**found, whole="rtol" in found)

    def agree(self, reference: str, new: str) -> bool:
        """Whether two written numbers agree."""
        a, b = _value(reference), _value(new)
        if a == b:
            return True
        if isinstance(a, int) and isinstance(b, int) and not self.whole:
            return False
        return abs(a - b) <= self.atol + self.rtol * abs(a)


def compare_outputs(reference: list[Any], new: list[Any], tolerance: Tolerance | None = None) -> str | None:
    """The first difference between a cell's reference outputs and its new ones, or None.

    Compared are the number and kinds of outputs, every text form (``text/plain`` beside a picture is the picture's
    alternative), stream texts, and the name and message of an exception. Not compared: pixels, tracebacks, widget
    model ids.
    """
    tolerance = tolerance or Tolerance()
    old, now = normalise_outputs(reference), normalise_outputs(new)
    for place, (a, b) in enumerate(zip(old, now), start=1):
        kinds = _kind(a), _kind(b)
        if kinds[0] != kinds[1]:
            return f"output {place}: the reference has {kinds[0]}, now there is {kinds[1]}: {_excerpt(_shown(b))}"
        difference = _compare_one(a, b, tolerance)
        if difference:
            return f"output {place} ({kinds[0]}): {difference}"
    if len(old) == len(now):
        return None
    word, odd = ("missing", old[len(now)]) if len(old) > len(now) else ("extra", now[len(old)])
    return f"{word} output: {_count(old)} in the reference, {_count(now)} now; first {word}: {_describe(odd)}"


def compare_text(reference: str, new: str, tolerance: Tolerance | None = None) -> str | None:
    """The first difference between two texts, as a sentence that quotes it with its line, or None.

    Numbers follow ``tolerance``. ``⟨…⟩`` agrees with any other ``⟨…⟩``; in a text that has one, the width of blanks
    and of rules is free, since a measured value may move the columns of its table.
    """
    tolerance = tolerance or Tolerance()
    if reference == new:
        return None
    if "⟨" in reference and "⟨" in new:
        reference, new = _collapse(reference), _collapse(new)
    old, now = _tokens(reference), _tokens(new)
    for i, (a, b) in enumerate(zip(old, now)):
        if a[1] == b[1] or _same(i, old, now, tolerance):
            continue
        if a[0] == b[0] == "number" and not tolerance.agree(a[1], b[1]):
            one, two = a[1].lstrip(), b[1].lstrip()
            return f"{one} became {two}{_off(one, two, tolerance)}{_where(reference, a[2], new, b[2])}"
        return _text_difference(reference, a[2], new, b[2])
    if len(old) == len(now):
        return None
    at = min(len(old), len(now))
    tail = reference[old[at][2] :] if len(old) > len(now) else new[now[at][2] :]
    return f"{_excerpt(tail)!r} {'is missing' if len(old) > len(now) else 'is new'} at the end"


Token = tuple[str, str, int]


def _tokens(text: str) -> list[Token]:
    """(kind, text, position) of every piece; kinds: measured, name, number, space, text."""
    result: list[Token] = []
    at = 0
    for match in _TOKEN.finditer(text):
        if match.start() > at:
            result.append(("text", text[at : match.start()], at))
        result.append((match.lastgroup or "text", match[0], match.start()))
        at = match.end()
    if at < len(text):
        result.append(("text", text[at:], at))
    return result


def _same(i: int, old: list[Token], now: list[Token], tolerance: Tolerance) -> bool:
    a, b = old[i], now[i]
    if a[0] != b[0]:
        return False
    if a[0] == "measured":
        return True
    # 9.9999 and 10.0000 may agree; then the blanks that align them, before or behind, differ by one.
    moved = i > 0 and old[i - 1][0] == "number" and len(old[i - 1][1].strip()) != len(now[i - 1][1].strip())
    if a[0] == "number":
        one, two = a[1].lstrip(), b[1].lstrip()
        aligned = len(a[1]) - len(one) == len(b[1]) - len(two) or len(a[1]) == len(b[1]) or moved
        return aligned and tolerance.agree(one, two)
    return a[0] == "space" and moved


def _value(number: str) -> int | float:
    plain = number.replace(",", "").replace("−", "-")
    return float(plain) if set(plain) & set(".eE") else int(plain)


def _off(reference: str, new: str, tolerance: Tolerance) -> str:
    a, b = _value(reference), _value(new)
    if isinstance(a, int) and isinstance(b, int) and not tolerance.whole:
        return " (whole numbers are compared exactly)"
    relative = abs(a - b) / abs(a) if a else math.inf
    return f" (off by {relative:.1e} relative, allowed {tolerance.rtol:g}, absolute {tolerance.atol:g})"


def _text_difference(reference: str, i: int, new: str, j: int) -> str:
    """The words that differ first behind position ``i`` of ``reference`` and ``j`` of ``new``."""
    same = len(os.path.commonprefix([reference[i:], new[j:]]))
    i, j = i + same, j + same
    if i == len(reference) or j == len(new):
        return f"{_excerpt(reference[i:] or new[j:])!r} {'is new' if i == len(reference) else 'is missing'} at the end"
    return f"{_word(reference, i)!r} became {_word(new, j)!r}{_where(reference, i, new, j)}"


def _word(text: str, at: int) -> str:
    """The word that ``at`` stands in, or the blanks."""
    left, right = re.search(r"\S*\Z", text[:at]), re.match(r"\S+|\s+", text[at:])
    return _excerpt((left[0] if left and not text[at].isspace() else "") + (right[0] if right else ""))


def _where(reference: str, i: int, new: str, j: int) -> str:
    return f"\n  reference: {_line(reference, i)}\n  now:       {_line(new, j)}"


def _line(text: str, at: int) -> str:
    """The line of ``text`` around position ``at``, at most two windows wide."""
    start, end = text.rfind("\n", 0, at) + 1, text.find("\n", at)
    end = len(text) if end < 0 else end
    left, right = max(start, at - _WIDE), min(end, at + _WIDE)
    return f"{'…' if left > start else ''}{text[left:right]}{'…' if right < end else ''}"


def _collapse(text: str) -> str:
    return _RULE.sub(r"\1\1\1", _BLANKS.sub(" ", text)).replace(" \n", "\n")


def _kind(output: Any) -> str:
    kind = output["output_type"]
    if kind == "stream":
        return str(output["name"])
    return "an exception" if kind == "error" else str(kind)


def _compare_one(old: Any, new: Any, tolerance: Tolerance) -> str | None:
    if old["output_type"] == "stream":
        return compare_text(old["text"], new["text"], tolerance)
    if old["output_type"] == "error":
        if old["ename"] != new["ename"]:
            return f"{old['ename']} became {new['ename']}: {_excerpt(new['evalue'])}"
        return compare_text(old["evalue"], new["evalue"], tolerance)
    missing, extra = old["data"].keys() - new["data"].keys(), new["data"].keys() - old["data"].keys()
    if missing or extra:
        return "; ".join([f"no {key} any more" for key in sorted(missing)] + [f"{key} is new" for key in sorted(extra)])
    for key in sorted(old["data"]):
        a, b = _text_of(key, old["data"][key]), _text_of(key, new["data"][key])
        difference = None if a is None or b is None else compare_text(a, b, tolerance)
        if difference:
            return f"{key}: {difference}"
    return None


def _text_of(key: str, value: Any) -> str | None:
    """What is compared of one form of an output; None for pictures, whose text alternative stands beside them."""
    if key.startswith(("image/", "application/pdf", "audio/", "video/")):
        return None
    if not isinstance(value, str):
        return json.dumps(value, sort_keys=True, ensure_ascii=False)
    return PNG_URI.sub("data:image/png;base64,…", value)


def _shown(output: Any) -> str:
    if output["output_type"] == "stream":
        return str(output["text"])
    if output["output_type"] == "error":
        return f"{output['ename']}: {output['evalue']}"
    return str(output["data"].get("text/plain", ", ".join(output["data"])))


def _describe(output: Any) -> str:
    return f"{_kind(output)}, {_excerpt(_shown(output))!r}"


def _count(outputs: list[Any]) -> str:
    return f"{len(outputs)} output{'' if len(outputs) == 1 else 's'}"


def _excerpt(text: str) -> str:
    text = text.strip("\n").split("\n")[0] or text
    return text if len(text) <= _WIDE else f"{text[:_WIDE]}…"
