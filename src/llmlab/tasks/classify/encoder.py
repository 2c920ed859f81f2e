"""An encoder as a classifier: frozen with a trained head, with its biases fine-tuned too, or trained throughout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from llmlab.nn import masked_mean

__all__ = ["EncoderClassifier", "sentence_features"]


def _batches(texts: Sequence[str], size: int) -> list[list[int]]:
    """Indices in batches of similar length."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    return [order[start : start + size] for start in range(0, len(order), size)]


def pooled(model: Any, tokenizer: Any, texts: Sequence[str], max_tokens: int = 96) -> Float[Tensor, "n d"]:
    """The masked mean of the encoder's last states for one batch, with gradients."""
    batch = tokenizer(list(texts), padding=True, truncation=True, max_length=max_tokens, return_tensors="pt")
    return masked_mean(model(**batch).last_hidden_state, batch["attention_mask"].bool())


@torch.inference_mode()
def sentence_features(
    model: Any, tokenizer: Any, texts: Sequence[str], *, max_tokens: int = 96, batch_size: int = 32
) -> Float[Tensor, "n d"]:
    """The masked mean of an encoder's last states, one vector a text, in the order of ``texts``.

    Args:
        model: an encoder of transformers (BertModel and relatives).
        tokenizer: its tokenizer.
        max_tokens: longer texts are cut here.
        batch_size: texts read at once, after sorting by length so that little padding is read.

    Source: Reimers and Gurevych, Sentence-BERT, 2019 (arXiv:1908.10084).
    """
    model.eval()
    result = torch.zeros(len(texts), model.config.hidden_size)
    for rows in _batches(texts, batch_size):
        result[rows] = pooled(model, tokenizer, [texts[i] for i in rows], max_tokens).float()
    return result


class EncoderClassifier(nn.Module):
    """A pre-trained encoder, the masked mean of its states, dropout, one linear head.

    Args:
        body, tokenizer: an encoder of transformers and its tokenizer.
        train: what may learn: ``"head"`` alone (a linear probe on frozen features); ``"biases"``, that is the head,
            the biases and the norms: 0.2 % of MiniLM, and a checkpoint of 70 kB instead of 90 MB
            (BitFit, Ben Zaken et al., 2021, arXiv:2106.10199); or ``"all"`` (the unused pooler excepted), as in
            BERT's own fine-tuning (Devlin et al., 2018, arXiv:1810.04805, section 3.2).
    """

    def __init__(self, body: Any, tokenizer: Any, train: str = "head", classes: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        if train not in ("head", "biases", "all"):
            raise ValueError(f"train={train!r}: expected 'head', 'biases' or 'all'")
        self.body, self.tokenizer = body, tokenizer
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(body.config.hidden_size, classes)
        for name, parameter in body.named_parameters():
            small = name.endswith(".bias") or "LayerNorm" in name
            wanted = train == "all" or (train == "biases" and small)
            parameter.requires_grad = wanted and not name.startswith("pooler")
        self.learning = {name for name, p in self.named_parameters() if p.requires_grad}

    def forward(self, texts: Sequence[str]) -> Float[Tensor, "n classes"]:
        """Logits."""
        return self.head(self.dropout(pooled(self.body, self.tokenizer, texts)))

    def loss(self, texts: Sequence[str], labels: Sequence[int]) -> Float[Tensor, ""]:
        """Cross-entropy of a batch."""
        return F.cross_entropy(self(texts), torch.tensor(list(labels)))

    @torch.inference_mode()
    def predict_proba(self, texts: Sequence[str], batch_size: int = 32) -> np.ndarray:
        """Probabilities of (negative, positive), shape (n, 2), in the order of ``texts``."""
        self.eval()
        result = np.zeros((len(texts), self.head.out_features))
        for rows in _batches(texts, batch_size):
            result[rows] = self([texts[i] for i in rows]).double().softmax(-1).numpy()
        return result

    def trained_state(self) -> dict[str, Tensor]:
        """The tensors that were allowed to learn: all that a checkpoint must hold, given the body."""
        return {name: p.detach().clone() for name, p in self.named_parameters() if name in self.learning}

    def load_trained(self, state: dict[str, Tensor]) -> EncoderClassifier:
        """Put a :meth:`trained_state` into this model.

        Raises:
            ValueError: the names are not those that this model trains.
        """
        mine = {name: p for name, p in self.named_parameters() if name in self.learning}
        if mine.keys() != state.keys():
            odd = sorted(mine.keys() ^ state.keys())[:3]
            raise ValueError(f"the checkpoint holds other tensors, such as {odd}: build the model with the same train=")
        with torch.no_grad():
            for name, value in state.items():
                mine[name].copy_(value)
        return self.eval()
