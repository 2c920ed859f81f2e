"""A character transformer: reads a text character by character, averages what it found, answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from llmlab.nn import EncoderBlock, masked_mean
from llmlab.tasks.classify.data import normalise

__all__ = ["CharClassifier", "CharConfig", "Characters", "pad"]

PAD, UNKNOWN = 0, 1


@dataclass(frozen=True)
class Characters:
    """The characters a model knows. Number 0 is padding, 1 any other character, then those of ``known`` in order."""

    known: str
    max_length: int = 192

    @classmethod
    def learn(cls, texts: Iterable[str], at_least: int = 3, max_length: int = 192) -> Characters:
        """The characters that ``texts`` hold ``at_least`` so many times, the most frequent first."""
        counts = Counter(c for text in texts for c in normalise(text))
        kept = sorted((c for c, n in counts.items() if n >= at_least), key=lambda c: (-counts[c], c))
        return cls("".join(kept), max_length)

    def __len__(self) -> int:
        return len(self.known) + 2

    def encode(self, texts: Iterable[str]) -> list[list[int]]:
        """One list of numbers a text, cut at ``max_length``; an empty text becomes one unknown character."""
        number = {c: i + 2 for i, c in enumerate(self.known)}
        return [[number.get(c, UNKNOWN) for c in normalise(t)[: self.max_length]] or [UNKNOWN] for t in texts]


def pad(
    rows: Sequence[Sequence[int]], to: int | None = None
) -> tuple[Int[Tensor, "batch time"], Bool[Tensor, "batch time"]]:
    """Rows of different length as one tensor, and the mask that is True where a number is real.

    Raises:
        ValueError: ``to`` is shorter than the longest row.
    """
    longest = max(len(row) for row in rows)
    width = longest if to is None else to
    if width < longest:
        raise ValueError(f"to={to}, but a row has {longest} numbers: choose {longest} or more")
    ids = torch.full((len(rows), width), PAD)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
    return ids, ids != PAD


@dataclass(frozen=True)
class CharConfig:
    """Sizes of a :class:`CharClassifier`."""

    d: int = 96
    heads: int = 4
    layers: int = 2
    hidden: int = 256
    dropout: float = 0.3
    classes: int = 2


class CharClassifier(nn.Module):
    """Characters -> embeddings and positions -> encoder blocks -> masked mean -> one head.

    The head is one linear layer after a dropout: a second linear layer without a non-linearity between them would
    add parameters and no function.

    Args:
        characters: what it can read.
        config: its sizes.
    """

    def __init__(self, characters: Characters, config: CharConfig | None = None) -> None:
        super().__init__()
        self.characters, self.config = characters, config or CharConfig()
        c = self.config
        self.token = nn.Embedding(len(characters), c.d, padding_idx=PAD)
        self.position = nn.Embedding(characters.max_length, c.d)
        for table in (self.token, self.position):
            nn.init.normal_(table.weight, std=0.1)
        self.blocks = nn.ModuleList(EncoderBlock(c.d, c.heads, c.hidden, c.dropout) for _ in range(c.layers))
        self.norm, self.dropout = nn.LayerNorm(c.d), nn.Dropout(c.dropout)
        self.head = nn.Linear(c.d, c.classes)

    def forward(
        self, ids: Int[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch classes"]:
        """Logits. ``mask`` is True where a character is real; padding changes nothing."""
        where = torch.arange(ids.shape[1], device=ids.device).clamp(max=self.characters.max_length - 1)
        x = self.dropout(self.token(ids) + self.position(where))
        for block in self.blocks:
            x = block(x, mask)
        return self.head(self.dropout(masked_mean(self.norm(x), mask)))

    def loss(self, rows: Sequence[Sequence[int]], labels: Sequence[int], hide: float = 0.0) -> Float[Tensor, ""]:
        """Cross-entropy of encoded texts. ``hide`` is the share of characters replaced by the unknown one while
        training, so that no single character can be relied on."""
        ids, mask = pad(rows)
        if hide and self.training:
            ids = ids.masked_fill((torch.rand(ids.shape) < hide) & mask, UNKNOWN)
        return F.cross_entropy(self(ids, mask), torch.tensor(list(labels)))

    @torch.inference_mode()
    def predict_proba(self, texts: Sequence[str], batch_size: int = 64) -> np.ndarray:
        """Probabilities of (negative, positive), shape (n, 2). Sorted by length inside, returned in your order."""
        if not texts:
            return np.zeros((0, self.config.classes))
        self.eval()
        rows = self.characters.encode(texts)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        result = np.zeros((len(rows), self.config.classes))
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            result[batch] = self(*pad([rows[i] for i in batch])).double().softmax(-1).numpy()
        return result

    def describe(self) -> dict[str, object]:
        """Everything but the weights: what is needed to build this model again."""
        return {"known": self.characters.known, "max_length": self.characters.max_length, "config": asdict(self.config)}
