"""Counted pairs of neighbours: the plain baseline of every language model, for what comes next and for a blank."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["Bigrams"]


class Bigrams:
    """A chain in which each token depends on the one before it, from counts.

    P(x | left) = (count(left, x) + prior · P(x)) / (count(left) + prior): a left neighbour that was seldom seen says
    little, and P(x) speaks for it (Dirichlet smoothing). P(x) itself gets half a count for each token.

    Args:
        text: one long text.
        vocabulary: number of tokens.
        prior: how many imagined pairs P(x) stands for.

    Raises:
        ValueError: fewer than two tokens, or one that is not in the vocabulary.

    Cost: vocabulary² numbers of memory.
    """

    def __init__(self, text: Int[Tensor, " time"], vocabulary: int, prior: float = 5.0) -> None:
        if len(text) < 2 or int(text.min()) < 0 or int(text.max()) >= vocabulary:
            raise ValueError(f"{len(text)} tokens for a vocabulary of {vocabulary}: expected two or more, all below it")
        alone = torch.bincount(text, minlength=vocabulary) + 0.5
        self.alone = (alone / alone.sum()).log()
        pairs = torch.bincount(text[:-1] * vocabulary + text[1:], minlength=vocabulary**2).view(vocabulary, -1).float()
        total = pairs.sum(1, keepdim=True)
        self.table = pairs.add_(prior * self.alone.exp()).div_(total + prior).log_()

    def after(self, left: Int[Tensor, " n"]) -> Float[Tensor, "n vocabulary"]:
        """log P(x | left): what a reader from the left expects."""
        return self.table[left]

    def between(self, left: Int[Tensor, " n"], right: Int[Tensor, " n"]) -> Float[Tensor, "n vocabulary"]:
        """log P(x | left, right) of the chain: P(x | left) · P(right | x), made to add up to 1."""
        return (self.table[left] + self.table[:, right].T).log_softmax(-1)
