"""From the cache into memory. Nothing here touches the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from llmlab.assets.convert import quiet_transformers
from llmlab.assets.store import path

if TYPE_CHECKING:
    import torch

__all__ = ["Ratings", "Reviews", "load_minilm", "load_reviews", "load_smollm2", "load_vader"]

Domain = Literal["movies", "amazon", "nyt", "tweets"]


@dataclass(frozen=True)
class Reviews:
    """Chinese reviews: ``labels[i]`` is 1 where ``texts[i]`` stood among the positive ones, 0 among the negative.

    ``counts``: "lines" in both files, "blank" ones, "distinct" texts, those "with both labels", and "texts", "positive"
    and "negative" as returned.
    """

    texts: list[str]
    labels: list[int]
    counts: dict[str, int]


@dataclass(frozen=True)
class Ratings:
    """English snippets, each with its mean human rating: -4 (extremely negative) to 4 (extremely positive)."""

    texts: list[str]
    ratings: list[float]
    domain: str


def load_smollm2(dtype: torch.dtype | None = None, attn_implementation: str = "sdpa") -> tuple[Any, Any]:
    """SmolLM2-135M-Instruct: ``(model, tokenizer)``, on the CPU, in evaluation mode. ``dtype`` None is float32.

    ``attn_implementation="eager"`` gives attention maps (``output_attentions=True``). Weights: 4-bit GGUF, dequantized
    (Allal et al. 2025, arXiv 2502.02737, for the model).

    Raises:
        AssetMissing: it was not fetched; the message names the command.
    """
    folder = path("smollm2")
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    with quiet_transformers():
        model = LlamaForCausalLM.from_pretrained(
            folder, dtype=dtype or torch.float32, attn_implementation=attn_implementation, local_files_only=True
        )
    return model.eval(), PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)


def load_minilm(dtype: torch.dtype | None = None, attn_implementation: str = "sdpa") -> tuple[Any, Any]:
    """all-MiniLM-L6-v2: ``(BertModel, tokenizer)``, on the CPU, in evaluation mode. ``dtype`` None is float32.

    A sentence vector is the mean of ``last_hidden_state`` over the tokens that are not padding, divided by its length
    (Reimers and Gurevych 2019, arXiv 1908.10084; the model: Wang et al. 2020, arXiv 2002.10957). The model has no head
    for masked words, and most Chinese characters are ``[UNK]`` to it.

    Raises:
        AssetMissing: it was not fetched; the message names the command.
    """
    folder = path("minilm")
    import torch
    from transformers import AutoTokenizer, BertModel

    with quiet_transformers():
        model = BertModel.from_pretrained(
            folder, dtype=dtype or torch.float32, attn_implementation=attn_implementation, local_files_only=True
        )
    return model.eval(), AutoTokenizer.from_pretrained(folder, local_files_only=True)


def load_reviews(*, deduplicate: bool = True) -> Reviews:
    """The Chinese reviews, positive ones first, in the order of the files; the same on every machine.

    Half of the lines are repeats: split before removing them and the test set is in the training set. With
    ``deduplicate`` each text comes once, at its first place, without the blanks around it; a text that has both labels
    is left out, since neither is right. Without it the lines come as they stand. Some reviews hold telephone numbers:
    show none of those.

    Raises:
        AssetMissing: it was not fetched; the message names the command.
    """
    folder = path("reviews")
    lines = [
        (line, label)
        for label, name in ((1, "pos.txt"), (0, "neg.txt"))
        for line in (folder / name).read_text(encoding="utf-8").removesuffix("\n").split("\n")
    ]
    seen: dict[str, set[int]] = {}
    for line, label in lines:
        if line.strip():
            seen.setdefault(line.strip(), set()).add(label)
    certain = [(text, next(iter(labels))) for text, labels in seen.items() if len(labels) == 1]
    kept = certain if deduplicate else lines
    positive = sum(label for _, label in kept)
    counts = {
        "lines": len(lines),
        "blank": sum(not line.strip() for line, _ in lines),
        "distinct": len(seen),
        "with both labels": sum(len(labels) == 2 for labels in seen.values()),
        "texts": len(kept),
        "positive": positive,
        "negative": len(kept) - positive,
    }
    return Reviews([text for text, _ in kept], [label for _, label in kept], counts)


def load_vader(domain: Domain = "movies") -> Ratings:
    """English snippets with mean human ratings, in the order of the file (Hutto and Gilbert 2014, ICWSM).

    ``domain``: "movies" (film reviews), "amazon" (product reviews), "nyt" (editorials), "tweets".

    Raises:
        ValueError: another domain.
        AssetMissing: it was not fetched; the message names the command.
    """
    domains = ("movies", "amazon", "nyt", "tweets")
    if domain not in domains:
        raise ValueError(f"domain={domain!r}: expected one of {', '.join(domains)}")
    # errors="replace": two bytes among the tweets are not UTF-8
    text = (path("vader") / f"{domain}.txt").read_text(encoding="utf-8", errors="replace")
    rows = [line.split("\t") for line in text.split("\n") if line.strip()]
    return Ratings([row[2].strip() for row in rows], [float(row[1]) for row in rows], domain)
