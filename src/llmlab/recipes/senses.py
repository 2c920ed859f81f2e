"""Does a word's vector know its sense? MiniLM and SmolLM2 after every layer, with the context cut in four ways.

``python -m llmlab.recipes senses`` writes ``senses.json``: for every condition and layer, how many of each word's 20
sentences find their sense. Nothing is trained.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from llmlab import assets, runtime
from llmlab.assets import Sense
from llmlab.models.senses import sense_scores, word_states

__all__ = ["CONTEXTS", "by_word", "in_context", "main"]

CONTEXTS = ("whole", "before", "after", "twice")


def in_context(entry: Sense, context: str) -> tuple[str, tuple[int, int]]:
    """The text and the word's place in it: the whole sentence, all up to the word, all from it on, or said twice.

    Said twice, the word that counts is the second one: everything that followed the first one stands before it.
    """
    start, end = entry.start, entry.start + len(entry.word)
    if context == "whole":
        return entry.text, (start, end)
    if context == "before":
        return entry.text[:end], (start, end)
    if context == "after":
        return entry.text[start:], (0, end - start)
    if context == "twice":
        again = len(entry.text) + 2
        return f"{entry.text}. {entry.text}", (start + again, end + again)
    raise ValueError(f"context={context!r}: expected one of {', '.join(CONTEXTS)}")


def by_word(states: Float[Tensor, "points texts d"], entries: Sequence[Sense]) -> list[list[float]]:
    """For every point in the model, the score of each word's sentences, summed; words in the order of the entries."""
    words = list(dict.fromkeys(entry.word for entry in entries))
    rows = {word: [i for i, entry in enumerate(entries) if entry.word == word] for word in words}
    sums = []
    for point in states:
        scores = []
        for word in words:
            senses = sorted({entries[i].sense for i in rows[word]})
            labels = torch.tensor([senses.index(entries[i].sense) for i in rows[word]])
            scores.append(sense_scores(point[rows[word]], labels).sum().item())
        sums.append(scores)
    return sums


def main() -> None:
    """Read every sentence in every context, score, write."""
    from llmlab.tasks.classify.checkpoints import FOLDER

    runtime.setup(seed=0, threads=1)
    began = time.process_time()
    entries = assets.load_senses()
    words = list(dict.fromkeys(entry.word for entry in entries))
    curves: dict[str, dict[str, list[list[float]]]] = {}
    for name in ("minilm", "smollm2"):
        # bfloat16 for the larger model: three times as fast, and the states keep two digits or more
        model, tokenizer = assets.load_minilm() if name == "minilm" else assets.load_smollm2(dtype=torch.bfloat16)
        tokenizer.padding_side = "right"
        for context in CONTEXTS:
            parts = []
            for word in words:
                texts, spans = zip(*(in_context(entry, context) for entry in entries if entry.word == word))
                parts.append(word_states(model, tokenizer, texts, spans).float())
            curves.setdefault(name, {})[context] = by_word(torch.cat(parts, 1), entries)
            shares = [f"{sum(point) / len(entries):.2f}" for point in curves[name][context]]
            print(name, context, *shares, f"{time.process_time() - began:.0f} s", flush=True)
    record = {
        "words": words,
        "dtype": {"minilm": "float32", "smollm2": "bfloat16"},
        "texts_a_word": len(entries) // len(words),
        "right_by_point_and_word": curves,
        "made_with": {"python": platform.python_version(), "torch": torch.__version__.partition("+")[0]},
        "cpu_seconds": round(time.process_time() - began),
    }
    file = FOLDER / "senses.json"
    file.write_text(json.dumps(record) + "\n", encoding="utf-8")
    print(file)


if __name__ == "__main__":
    main()
