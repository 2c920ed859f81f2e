"""A language model as a classifier without training: ask, and compare the log-probabilities of the answer words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["PromptClassifier", "next_word_logprobs"]


@torch.inference_mode()
def next_word_logprobs(
    model: Any, tokenizer: Any, prompts: Sequence[str], words: Sequence[str], *, batch_size: int = 16
) -> Float[Tensor, "n words"]:
    """Natural log-probability of each word as the next token after each prompt.

    One forward pass a prompt serves every word. Prompts of a batch are padded on the right and the logits are read at
    each prompt's own last token, so the padding, which a causal model's earlier tokens cannot see, changes nothing.

    Args:
        model: a causal language model of transformers.
        tokenizer: its tokenizer.
        prompts: texts to be continued.
        words: candidates, with the leading space if one belongs there.

    Raises:
        ValueError: a word is more than one token, or a prompt is empty.
    """
    columns = []
    for word in words:
        ids = tokenizer.encode(word, add_special_tokens=False)
        if len(ids) != 1:
            raise ValueError(f"{word!r} is {len(ids)} tokens; expected one: choose another word (or add up its tokens)")
        columns.append(ids[0])
    rows = [tokenizer.encode(prompt, add_special_tokens=False) for prompt in prompts]
    if any(not row for row in rows):
        raise ValueError(
            f"prompt {next(i for i, r in enumerate(rows) if not r)} is empty: there is nothing to continue"
        )
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    result = torch.zeros(len(rows), len(words))
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        width = max(len(rows[i]) for i in batch)
        ids = torch.tensor([rows[i] + [0] * (width - len(rows[i])) for i in batch])
        last = torch.tensor([len(rows[i]) - 1 for i in batch])
        states = model.base_model(input_ids=ids).last_hidden_state[torch.arange(len(batch)), last]
        result[batch] = model.lm_head(states).float().log_softmax(-1)[:, columns]
    return result


class PromptClassifier:
    """Zero-shot classification with two answer words (a verbaliser).

    Args:
        model, tokenizer: a causal language model of transformers.
        template: holds ``{}`` where the text goes, and ends where the answer word follows.
        words: the answer words for (negative, positive), each one token, with its leading space.

    Attributes:
        bias: subtracted from the log-odds of positive; 0 until calibrated.
    """

    def __init__(self, model: Any, tokenizer: Any, template: str, words: tuple[str, str]) -> None:
        if "{}" not in template:
            raise ValueError(f"template {template!r} has no {{}}: there is no place for the text")
        self.model, self.tokenizer, self.template, self.words = model, tokenizer, template, words
        self.bias = 0.0

    def log_odds(self, texts: Sequence[str]) -> np.ndarray:
        """log p(positive word) - log p(negative word), before the bias."""
        prompts = [self.template.format(text) for text in texts]
        logs = next_word_logprobs(self.model, self.tokenizer, prompts, self.words)
        return (logs[:, 1] - logs[:, 0]).double().numpy()

    def calibrate(self, texts: Sequence[str] = ("N/A", "[MASK]", "")) -> PromptClassifier:
        """Set the bias to the mean log-odds of ``texts``.

        With texts that say nothing (the default) this is contextual calibration (Zhao et al., 2021,
        arXiv:2102.09690); with a sample of unlabelled texts of the task it is batch calibration (Zhou et al., 2023,
        arXiv:2309.17249), up to the mean being taken of log-odds. Neither needs a label.
        """
        self.bias = float(self.log_odds(texts).mean())
        return self

    def predict_proba(self, texts: Sequence[str]) -> np.ndarray:
        """Probabilities of (negative, positive), shape (n, 2), over the two words alone."""
        positive = 1 / (1 + np.exp(-(self.log_odds(texts) - self.bias)))
        return np.stack([1 - positive, positive], axis=1)
