"""Static word vectors from counts of who stands near whom: PPMI with SVD, word2vec's negative sampling, GloVe.

All three start from the same table of co-occurrences. Negative sampling and GloVe are written over the whole table at
once, not word by word through the text: the same objective without its noise, and small enough here for a laptop.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

__all__ = ["cooccurrence", "factorise", "glove_loss", "ppmi", "sgns_loss", "svd_vectors"]


def cooccurrence(words: Sequence[str], size: int, window: int = 5) -> tuple[list[str], Float[Tensor, "size size"]]:
    """The ``size`` most frequent words, and how often each pair stands at most ``window`` words apart.

    Rarer words keep their places and are not counted. Ties in frequency go to the word met first. The table is
    symmetric; a word beside itself counts twice, once from each side.

    Raises:
        ValueError: fewer than ``size`` distinct words, or ``window`` below 1.

    Cost: O(words · window) time, O(size²) memory.
    """
    frequent = [word for word, _ in Counter(words).most_common(size)]
    if len(frequent) < size or window < 1:
        raise ValueError(f"size={size}, window={window}: the text has {len(frequent)} words; window starts at 1")
    number = {word: i for i, word in enumerate(frequent)}
    ids = torch.tensor([number.get(word, -1) for word in words])
    table = torch.zeros(size * size)
    for away in range(1, window + 1):
        left, right = ids[:-away], ids[away:]
        both = (left >= 0) & (right >= 0)
        table += torch.bincount(left[both] * size + right[both], minlength=size * size)
    one_way = table.view(size, size)
    return frequent, one_way + one_way.T


def ppmi(counts: Float[Tensor, "size size"], shift: float = 1.0) -> Float[Tensor, "size size"]:
    """Positive pointwise mutual information: max(0, ln(p(i, j) / (p(i) p(j))) - ln shift); unseen pairs have 0.

    Source: Church and Hanks, 1990, Computational Linguistics 16; the shift, word2vec's number of negatives: Levy and
    Goldberg, 2014 (NIPS).
    """
    row = counts.sum(1, keepdim=True)
    return (torch.log(counts * counts.sum() / (row * row.T)) - math.log(shift)).nan_to_num(0.0, neginf=0.0).clamp(min=0)


def svd_vectors(matrix: Float[Tensor, "size size"], d: int) -> Float[Tensor, "size d"]:
    """U · sqrt(S) of the ``d`` largest singular values: the matrix's best copy of rank ``d``, shared between two sides.

    Source: Levy, Goldberg and Dagan, 2015, TACL 3, section 3.3 (the square root). Cost: a randomised SVD, O(size² d).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the sketch of the randomised SVD
        u, s, _ = torch.svd_lowrank(matrix, q=min(d + 10, len(matrix)), niter=4)
    return u[:, :d] * s[:d].sqrt()


def sgns_loss(
    w: Float[Tensor, "size d"], c: Float[Tensor, "size d"], counts: Float[Tensor, "size size"], negatives: float = 5
) -> Float[Tensor, ""]:
    """What skip-gram with negative sampling expects to lose a pair, over the whole table; negatives by frequency.

    -sum_ij [ #(i,j) ln sigma(w_i · c_j) + k #(i) p(j) ln sigma(-w_i · c_j) ] / sum #. Its optimum, were d large enough,
    is w_i · c_j = PMI(i, j) - ln k. Source: Mikolov et al., 2013 (arXiv:1310.4546), eq. 4; Levy and Goldberg, 2014.
    """
    row = counts.sum(1, keepdim=True)
    scores = w @ c.T
    unseen = negatives * row * (row / counts.sum()).T
    return -(counts * F.logsigmoid(scores) + unseen * F.logsigmoid(-scores)).sum() / counts.sum()


def glove_loss(
    w: Float[Tensor, "size d_plus_1"],
    c: Float[Tensor, "size d_plus_1"],
    counts: Float[Tensor, "size size"],
    most: float = 100.0,
) -> Float[Tensor, ""]:
    """GloVe's weighted least squares: the mean of f(X) (w · c + b + b~ - ln X)² over the pairs that were seen.

    f(X) = min(1, (X / most)^0.75). The last number of each vector is its bias. Pairs never seen have no part, which is
    what a singular value decomposition cannot say. Source: Pennington, Socher and Manning, 2014 (EMNLP), eq. 8 and 9.
    """
    seen = counts > 0
    weight = (counts / most).clamp(max=1) ** 0.75
    error = w[:, :-1] @ c[:, :-1].T + w[:, -1:] + c[:, -1:].T - counts.clamp(min=1e-9).log()
    return (weight * error**2)[seen].mean()


def factorise(
    loss: Callable[[Tensor, Tensor], Tensor], size: int, d: int, *, steps: int = 150, lr: float = 0.05, seed: int = 0
) -> tuple[Float[Tensor, "size d"], Float[Tensor, "size d"], list[float]]:
    """Words and contexts that make ``loss(words, contexts)`` small by AdaGrad, as GloVe does it; with every loss."""
    generator = torch.Generator().manual_seed(seed)
    w, c = ((torch.randn(size, d, generator=generator) / d**0.5).requires_grad_() for _ in range(2))
    optimizer, losses = torch.optim.Adagrad([w, c], lr=lr), []
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss(w, c)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return w.detach(), c.detach(), losses
