"""A language model as a classifier that can be trained: the answer is one of a few words, read at the last token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from llmlab.models.decoder import Decoder

__all__ = ["AnswerClassifier"]


class AnswerClassifier(nn.Module):
    """A decoder, a template, and answer words: the logits of those words after the prompt, and of no others.

    Untrained it is a prompt; with adapters (:func:`llmlab.train.lora.add_lora`) or with all its weights it is trained
    by the same cross-entropy over the words; and :meth:`features` is what a probe reads. So the ways to adapt a
    model differ in what may move and in nothing else.

    Args:
        model: the decoder. What requires gradients in it is left as it is.
        tokenizer: its tokenizer.
        template: holds ``{}`` where the text goes, and ends where the answer word follows.
        words: the answer word of each class, one token each, with its leading space.
        max_tokens: a longer prompt loses the end of its text, never the end of the template.

    Raises:
        ValueError: a template without ``{}`` or without an end, or a word that is not one token.
    """

    def __init__(
        self, model: Decoder, tokenizer: Any, template: str, words: Sequence[str], max_tokens: int = 64
    ) -> None:
        super().__init__()
        before, found, after = template.partition("{}")
        if not found or not after:
            raise ValueError(f"template {template!r}: expected {{}} where the text goes, and an end that asks")
        self.model, self.tokenizer, self.max_tokens = model, tokenizer, max_tokens
        self.before, self.after = before, self._ids(after)
        self.words = [self._ids(word) for word in words]
        if long := [word for word, ids in zip(words, self.words) if len(ids) != 1]:
            raise ValueError(f"{long[0]!r} is not one token: choose another word")

    def features(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """The final state (after the last norm) of each prompt's last token."""
        room = self.max_tokens - len(self.after)
        rows = [self._ids(self.before + text)[:room] + self.after for text in texts]
        width = max(len(row) for row in rows)
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])  # causal: nobody sees the padding
        for x in self.model.stream(ids):
            state = x
        last = torch.tensor([len(row) - 1 for row in rows])
        return self.model.norm(state[torch.arange(len(rows)), last])

    def forward(self, texts: Sequence[str]) -> Float[Tensor, "n words"]:
        """The logits of the answer words."""
        table = self.model.token if self.model.head is None else self.model.head
        return self.features(texts) @ table.weight[[ids[0] for ids in self.words]].T

    def loss(self, texts: Sequence[str], labels: Sequence[int]) -> Float[Tensor, ""]:
        """Cross-entropy of a batch over the answer words, in float32."""
        return F.cross_entropy(self(texts).float(), torch.tensor(list(labels)))

    @torch.no_grad()
    def predict_proba(self, texts: Sequence[str], batch_size: int = 16) -> np.ndarray:
        """Probabilities of the classes, shape (n, words), in the order of ``texts``."""
        self.eval()
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        result = np.zeros((len(texts), len(self.words)))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            result[rows] = self([texts[i] for i in rows]).double().softmax(-1).numpy()
        return result

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)
