"""From the cache into memory. Nothing here touches the network."""

from __future__ import annotations

import base64
import json
import lzma
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from llmlab.assets.convert import quiet_transformers
from llmlab.assets.store import path

if TYPE_CHECKING:
    import torch

__all__ = [
    "NewsSentences",
    "Poem",
    "Ratings",
    "Reviews",
    "Vocabulary",
    "load_conversations",
    "load_minilm",
    "load_novels",
    "load_peoples_daily",
    "load_reviews",
    "load_smollm2",
    "load_tang_poems",
    "load_vader",
    "load_vocabulary",
    "read_tiktoken",
]

#: Texts in the public domain that are part of the package; the README there says where they were copied from.
SHIPPED = Path(__file__).parent / "shipped"

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


@dataclass(frozen=True)
class NewsSentences:
    """Chinese news cut into words by hand: ``sentences[i]`` is a list of ``(word, tag)``.

    The tags are Peking University's: n noun, v verb, w punctuation, nr person, ns place, nt organisation, and so on.
    """

    sentences: list[list[tuple[str, str]]]

    def texts(self) -> list[str]:
        """Each sentence as it was printed, without spaces."""
        return ["".join(word for word, _ in sentence) for sentence in self.sentences]

    def words(self) -> list[list[str]]:
        """Each sentence as its words."""
        return [[word for word, _ in sentence] for sentence in self.sentences]

    def names(self, index: int) -> list[tuple[int, int, str]]:
        """The names in sentence ``index``: (first character, one behind the last, "PER", "LOC" or "ORG").

        Surname and given name stand as two words (江/nr 泽民/nr) and are one name: a surname (one character, or one of
        the double surnames) is joined with the nr behind it. In "朱/nr 镕基/nr 李/nr 瑞环/nr" that leaves two names.
        """
        kinds, start, open_surname = {"nr": "PER", "ns": "LOC", "nt": "ORG"}, 0, False
        found: list[tuple[int, int, str]] = []
        for word, tag in self.sentences[index]:
            end = start + len(word)
            if tag == "nr" and open_surname:
                found[-1] = (found[-1][0], end, "PER")
                open_surname = False
            elif tag in kinds:
                found.append((start, end, kinds[tag]))
                open_surname = tag == "nr" and (len(word) == 1 or word in _DOUBLE_SURNAMES)
            else:
                open_surname = False
            start = end
        return found


_DOUBLE_SURNAMES = frozenset(
    {"欧阳", "司马", "司徒", "诸葛", "上官", "东方", "夏侯", "令狐", "皇甫", "端木", "公孙", "慕容"}
)


class Poem(NamedTuple):
    """A poem of the Tang dynasty; ``text`` has a couplet a line."""

    title: str
    author: str
    text: str


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a byte-level tokenizer. ``ranks``: token -> number, which is also the order of the merges.

    ``special``: control tokens -> number; they stand outside the bytes and are never found by merging.
    """

    name: str
    ranks: dict[bytes, int]
    special: dict[str, int]


def load_smollm2(dtype: torch.dtype | None = None, attn_implementation: str = "sdpa") -> tuple[Any, Any]:
    """SmolLM2-135M-Instruct: ``(model, tokenizer)``, on the CPU, in evaluation mode. ``dtype`` None is float32.

    ``attn_implementation="eager"`` gives attention maps (``output_attentions=True``). Weights: 4-bit GGUF, dequantized
    (Ben Allal et al. 2025, arXiv 2502.02737, for the model).

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


def load_conversations() -> dict[str, list[str]]:
    """Language ("english", "spanish" ...) -> its sentences, each once: questions to a chatbot, and answers.

    Written by volunteers, stilted, and short; some are a name or a year, which no language owns.

    Raises:
        AssetMissing: it was not fetched; the message names the command.
    """
    files = sorted(path("conversations").glob("*.txt"))
    return {file.stem: file.read_text(encoding="utf-8").splitlines() for file in files if file.stem.islower()}


def load_peoples_daily(*, deduplicate: bool = False) -> NewsSentences:
    """People's Daily of January 1998 in the order of the paper: words and parts of speech, set by hand.

    A line of the file is a sentence or a short paragraph; digits and Latin letters are full-width (１９９８), as they
    were printed. ``deduplicate`` keeps the first of equal lines (480 repeat one before them).
    Source: Institute of Computational Linguistics, Peking University.

    Raises:
        AssetMissing: it was not fetched; the message names the command.
    """
    lines = (path("peoples_daily") / "199801.txt").read_text(encoding="utf-8").splitlines()
    kept = dict.fromkeys(lines) if deduplicate else lines
    return NewsSentences([[_word_and_tag(item) for item in line.split()] for line in kept])


def load_novels() -> dict[str, str]:
    """The six novels of Jane Austen, title -> text; a blank line between paragraphs, underscores around italics.

    4.02 million characters, 717 thousand words, printed 1811-1818, in the public domain and part of the package.
    """
    return dict(json.loads(lzma.decompress((SHIPPED / "austen.json.xz").read_bytes())))


def load_tang_poems() -> list[Poem]:
    """313 poems of the Tang dynasty, 24 thousand characters with punctuation; public domain, part of the package."""
    return [Poem(*entry) for entry in json.loads((SHIPPED / "tang.json").read_text(encoding="utf-8"))]


def _word_and_tag(item: str) -> tuple[str, str]:
    word, _, tag = item.rpartition("/")
    return word, tag


_VOCABULARIES = {"gpt2": "gpt2_vocabulary", "whisper": "gpt2_vocabulary", "qwen": "qwen_vocabulary"}


def load_vocabulary(name: Literal["gpt2", "whisper", "qwen"]) -> Vocabulary:
    """The tokens of GPT-2, of multilingual Whisper (50,256 each) or of Qwen (151,643), all learned from bytes.

    The files hold no control tokens. GPT-2's one and Qwen's first three are added here, in their places; Whisper's,
    which name languages and times, are not, and neither is the empty token that fills a gap in its file.

    Raises:
        ValueError: another name.
        AssetMissing: it was not fetched; the message names the command.
    """
    if name not in _VOCABULARIES:
        raise ValueError(f"name={name!r}: expected one of {', '.join(_VOCABULARIES)}")
    ranks = read_tiktoken((path(_VOCABULARIES[name]) / f"{name}.tiktoken").read_text(encoding="ascii"))
    ranks.pop(b"", None)
    control = {"gpt2": ["<|endoftext|>"], "whisper": [], "qwen": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]}[name]
    return Vocabulary(name, ranks, {token: len(ranks) + i for i, token in enumerate(control)})


def read_tiktoken(text: str) -> dict[bytes, int]:
    """Token -> number from tiktoken's format: a line each, base64 and number.

    Raises:
        ValueError: a line is something else; the message shows it.
    """
    ranks: dict[bytes, int] = {}
    for line in text.splitlines():
        token, _, number = line.partition(" ")
        try:
            ranks[base64.b64decode(token)] = int(number)
        except ValueError:
            raise ValueError(f"{line!r} is no line of a tiktoken file: expected base64, a blank, a number") from None
    return ranks
