"""Is it worth reading? Measures of a text, the rules that corpora are made with, and the likeness to a reference.

A rule is a measure and its limits. The published limits were chosen for English web pages; ``unit="characters"`` counts
every Chinese character as a word, so that the same measures mean something for Chinese.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from llmlab.text.contamination import Unit
from llmlab.text.langid import NgramBayes

__all__ = [
    "C4",
    "FINEWEB",
    "GOPHER",
    "GOPHER_REPETITION",
    "SHORT_CHINESE",
    "Rule",
    "failures",
    "fit_reference",
    "keep_terminal_lines",
    "likeness",
    "measures",
]

_STOP = {"the", "be", "to", "of", "and", "that", "have", "with"}
_TERMINAL = (".", "!", "?", '"', "'", "。", "！", "？", "”", "…")
_HAN = "\u3400-\u4dbf\u4e00-\u9fff"
_UNITS = {"words": re.compile(r"\S*\w\S*"), "characters": re.compile(rf"[{_HAN}]|[^\W{_HAN}_]+")}
_MARKUP = re.compile(r"</?[a-zA-Z][^<>]*>|&#?\w{2,8};|[{}]")


@dataclass(frozen=True)
class Rule:
    """A text passes if ``low <= measure <= high``."""

    measure: str
    low: float = -math.inf
    high: float = math.inf

    def passes(self, value: float) -> bool:
        """Whether a value lies within the limits."""
        return self.low <= value <= self.high


_above, _below = math.nextafter(0.12, 1), math.nextafter(0.67, 0)

#: Rae et al. 2021 (arXiv:2112.11446), appendix A.1: what an English page of prose has.
GOPHER = (
    Rule("words", 50, 100_000),
    Rule("word_length", 3, 10),
    Rule("hashes", high=0.1),
    Rule("ellipses", high=0.1),
    Rule("bullet_lines", high=0.9),
    Rule("ellipsis_lines", high=0.3),
    Rule("alphabetic_words", low=0.8),
    Rule("stop_words", low=2),
)
#: The same, Table A1: how often a page may repeat itself. (Paragraphs are left out: our texts have few.)
GOPHER_REPETITION = (
    Rule("duplicate_lines", high=0.3),
    Rule("duplicate_line_characters", high=0.2),
    *(Rule(f"top_{n}gram", high=high) for n, high in ((2, 0.20), (3, 0.18), (4, 0.16))),
    *(Rule(f"duplicate_{n}grams", high=(20 - n) / 100) for n in range(5, 11)),
)
#: Raffel et al. 2020 (arXiv:1910.10683), section 2.2, for whole pages; :func:`keep_terminal_lines` is for lines.
C4 = (Rule("sentences", low=3), Rule("curly_brackets", high=0), Rule("lorem_ipsum", high=0))
#: Penedo et al. 2024 (arXiv:2406.17557): three limits found by comparing a better corpus with a worse one. (For
#: repeated lines their released code has 0.01.)
FINEWEB = (
    Rule("terminal_lines", low=_above),
    Rule("duplicate_line_characters", high=math.nextafter(0.1, 0)),
    Rule("short_lines", high=_below),
)
#: Ours, for Chinese texts of a line or two, with unit="characters". Set by looking at what they drop.
SHORT_CHINESE = (
    Rule("words", 6, 5_000),
    Rule("alphabetic_words", low=0.7),
    Rule("symbols", high=0.35),
    Rule("markup", high=0),
    Rule("top_4gram", high=0.3),
    Rule("duplicate_5grams", high=0.3),
)


def measures(text: str, unit: Unit = "words") -> dict[str, float]:
    """Everything that a rule may ask about a text, by name. Cost: a dozen passes.

    ``words`` is a count (what holds a letter or digit, between blanks; or a Chinese character or Latin word);
    ``word_length`` a mean in characters; ``sentences``, ``stop_words`` (how many of eight English ones occur),
    ``markup`` (tags, entities, brackets), ``curly_brackets`` and ``lorem_ipsum`` are counts; ``hashes`` and
    ``ellipses`` are counts over words; the rest are shares of words, lines or characters. ``short_lines`` have 30
    characters or fewer. ``top_ngram``: characters in the most frequent n-gram; ``duplicate_ngrams``: in n-grams that
    stood before. An empty text has 0 everywhere.

    Raises:
        ValueError: another unit.
    """
    if unit not in _UNITS:
        raise ValueError(f"unit={unit!r}: expected words or characters")
    words = _UNITS[unit].findall(text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    letters = sum(map(len, words))
    seen = Counter(lines)
    out = {
        "words": float(len(words)),
        "word_length": _over(letters, len(words)),
        "hashes": _over(text.count("#"), len(words)),
        "ellipses": _over(text.count("...") + text.count("…"), len(words)),
        "bullet_lines": _over(sum(line.startswith(("•", "-", "*", "·")) for line in lines), len(lines)),
        "ellipsis_lines": _over(sum(line.endswith(("...", "…")) for line in lines), len(lines)),
        "terminal_lines": _over(sum(line.endswith(_TERMINAL) for line in lines), len(lines)),
        "short_lines": _over(sum(len(line) <= 30 for line in lines), len(lines)),
        "duplicate_lines": _over(len(lines) - len(seen), len(lines)),
        "duplicate_line_characters": _over(
            sum(len(line) * (count - 1) for line, count in seen.items()), sum(map(len, lines))
        ),
        "alphabetic_words": _over(sum(any(map(str.isalpha, word)) for word in words), len(words)),
        "stop_words": float(len(_STOP & {word.lower().strip(".,;:!?\"'()") for word in words})),
        "sentences": float(len(re.findall(r"[.!?。！？]+", text))),
        "symbols": _over(sum(not (c.isalnum() or c.isspace()) for c in text), len(text)),
        "markup": float(len(_MARKUP.findall(text))),
        "curly_brackets": float(text.count("{") + text.count("}")),
        "lorem_ipsum": float("lorem ipsum" in text.lower()),
    }
    return out | _repetition(words, letters)


def _repetition(words: Sequence[str], letters: int) -> dict[str, float]:
    out = {}
    for n in range(2, 11):
        grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
        if n <= 4:
            counts = Counter(grams)
            # A 2-gram that occurs once is no repetition, however short the text.
            top = max((sum(map(len, gram)) * count for gram, count in counts.items() if count > 1), default=0)
            out[f"top_{n}gram"] = min(1.0, _over(top, letters))
        else:
            out[f"duplicate_{n}grams"] = _over(_repeated(grams, words, n), letters)
    return out


def _repeated(grams: Sequence[tuple[str, ...]], words: Sequence[str], n: int) -> int:
    """Characters of the words inside an n-gram that stood earlier; each word once, however many n-grams it is in."""
    seen: set[tuple[str, ...]] = set()
    covered = 0
    end = 0
    for place, gram in enumerate(grams):
        if gram in seen:
            covered += sum(map(len, words[max(place, end) : place + n]))
            end = place + n
        seen.add(gram)
    return covered


def _over(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def failures(text: str, rules: Sequence[Rule], unit: Unit = "words") -> list[str]:
    """The measures by which a text fails ``rules``; an empty list means that it passes.

    Raises:
        ValueError: a rule asks for a measure that does not exist; the message lists those that do.
    """
    found = measures(text, unit)
    for rule in rules:
        if rule.measure not in found:
            raise ValueError(f"measure {rule.measure!r}: expected one of {', '.join(found)}")
    return [rule.measure for rule in rules if not rule.passes(found[rule.measure])]


def keep_terminal_lines(text: str, words: int = 5) -> str:
    """The lines that end like a sentence and have so many words; C4's rule that takes menus and buttons off a page.

    Source: Raffel et al. 2020, section 2.2.
    """
    kept = (line for line in text.splitlines() if line.strip().endswith(_TERMINAL) and len(line.split()) >= words)
    return "\n".join(kept)


# --- by example instead of by rule ----------------------------------------------------------------------------------


def fit_reference(reference: Sequence[str], raw: Sequence[str], **settings: float) -> NgramBayes:
    """A classifier of "reference" (what one wants) against "raw" (what there is): naive Bayes over characters.

    GPT-3 used logistic regression over hashed words (Brown et al. 2020, arXiv:2005.14165, appendix A), DCLM fastText
    (Li et al. 2024, arXiv:2406.11794). Whatever the model, quality then means: like the reference.
    """
    texts, labels = [*reference, *raw], ["reference"] * len(reference) + ["raw"] * len(raw)
    return NgramBayes(**settings).fit(texts, labels)  # type: ignore[arg-type]


def likeness(model: NgramBayes, texts: Sequence[str]) -> Float[np.ndarray, " texts"]:
    """Log odds of "reference" over "raw" per character, so that long texts are not surer than short ones."""
    scores = model.scores(texts)
    difference = scores[:, model.labels.index("reference")] - scores[:, model.labels.index("raw")]
    return difference / np.maximum([len(text) for text in texts], 1)
