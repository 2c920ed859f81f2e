"""Unicode: one text, several spellings. Each step says what it changes, and none changes letters' case.

- ``nfc``: e and an accent (two characters) become é (one). Nothing looks different.
- ``nfkc``: that, and look-alikes: ﬁ to fi, ① to 1, Ａ to A, ² to 2. There is no way back: 2⁵ has become 25.
- ``half_width``: ！ to !, １ to 1, Ａ to A, the ideographic blank to a blank. ² ① ﬁ ㎏ 。「」 stay.
- ``remove_controls``: invisible characters go. Tab, line end, and the joiners of emoji stay.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

__all__ = ["STEPS", "changes", "half_width", "nfc", "nfkc", "normalize", "remove_controls"]

# U+FF01 to U+FF5E repeat ASCII's ! to ~ at full width; U+3000 is the blank between them.
_HALF = {0xFF01 + i: 0x21 + i for i in range(0x5E)} | {0x3000: 0x20}

_LINE_END = re.compile("\r\n|[\r\x0b\x0c\x85]")

# Invisible, yet they carry meaning: they join emoji and shape Persian and Indic words.
_JOINERS = "\u200c\u200d"


def nfc(text: str) -> str:
    """Canonical composition (Unicode Annex 15): no visible change, equal texts become equal strings."""
    return unicodedata.normalize("NFC", text)


def nfkc(text: str) -> str:
    """Compatibility composition: look-alikes become the plain character, and what set them apart is lost."""
    return unicodedata.normalize("NFKC", text)


def half_width(text: str) -> str:
    """Full-width ASCII to ASCII, and nothing else: the part of NFKC that Chinese text mostly needs.

    It takes ，！？（） too, which are the proper signs of a Chinese sentence: use it for matching, not for show.
    """
    return text.translate(_HALF)


def remove_controls(text: str) -> str:
    """Without control characters but tab and line end, byte-order marks, zero-width blanks, bidi marks, soft hyphens.

    Every other way to end a line or page (CR LF, CR, form feed, NEL) becomes a line end. Invisible tag characters,
    which can hide text from a reader, go, and with them
    the flags of England, Scotland and Wales become black ones.
    """
    text = _LINE_END.sub("\n", text)
    return "".join(c for c in text if c in "\t\n" or c in _JOINERS or unicodedata.category(c) not in ("Cc", "Cf"))


#: name -> step.
STEPS: dict[str, Callable[[str], str]] = {
    "nfc": nfc,
    "nfkc": nfkc,
    "half_width": half_width,
    "remove_controls": remove_controls,
}


def normalize(text: str, steps: Sequence[str] = ("remove_controls", "nfc")) -> str:
    """``text`` after ``steps``, in this order. The default changes nothing that a reader can see.

    Raises:
        ValueError: no such step; the message lists those that exist.
    """
    for step in _known(steps):
        text = STEPS[step](text)
    return text


def changes(
    texts: Iterable[str], steps: Sequence[str] = ("remove_controls", "nfc")
) -> dict[str, Counter[tuple[str, str]]]:
    """What each step changes in ``texts``: step -> how often each (before, after) happens; after "" is a deletion."""
    found: dict[str, Counter[tuple[str, str]]] = {step: Counter() for step in _known(steps)}
    for text in texts:
        for step in steps:
            after = STEPS[step](text)
            if after != text:
                found[step].update(_differences(text, after, STEPS[step]))
            text = after  # noqa: PLW2901  (the next step sees what this one made)
    return found


def _differences(before: str, after: str, step: Callable[[str], str]) -> list[tuple[str, str]]:
    """The replaced parts. Mostly each character changes by itself; where neighbours matter, the two are aligned."""
    if "".join(map(step, before)) == after:
        return [(c, step(c)) for c in before if step(c) != c]
    aligned = difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    return [(before[a:b], after[c:d]) for what, a, b, c, d in aligned if what != "equal"]


def _known(steps: Sequence[str]) -> Sequence[str]:
    unknown = [step for step in steps if step not in STEPS] if not isinstance(steps, str) else [steps]
    if unknown:
        raise ValueError(f"steps={steps!r}: expected a list of {', '.join(STEPS)}")
    return steps
