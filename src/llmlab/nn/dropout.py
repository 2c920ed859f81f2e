"""Dropout and its relatives: what each one drops, and how each keeps the expected value.

============================  =====================================  ==========================================
what is dropped               drawn anew for                         here
============================  =====================================  ==========================================
single activations            every element                          :func:`dropout`, :class:`Dropout`
attention weights             every query and key                    ``dropout_p`` of :func:`llmlab.attention.attention`
weights of a layer            every weight, once a forward pass      :class:`DropConnectLinear`
tokens of the input           every position                         :func:`drop_tokens`
words of the vocabulary       every row of the table, once a pass    :class:`EmbeddingDropout`
a whole residual branch       every example of the batch             :class:`StochasticDepth`
============================  =====================================  ==========================================
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

__all__ = [
    "DropConnectLinear",
    "Dropout",
    "EmbeddingDropout",
    "StochasticDepth",
    "drop_tokens",
    "dropout",
    "mc_dropout",
]


def _checked(p: float) -> float:
    if isinstance(p, bool) or not isinstance(p, int | float) or not 0 <= p < 1:
        raise ValueError(f"p={p!r}: expected the share that is dropped, 0 <= p < 1 (at 1 nothing is left to scale up)")
    return float(p)


def dropout(x: Float[Tensor, "*shape"], p: float, *, training: bool = True) -> Float[Tensor, "*shape"]:
    """Inverted dropout: each element becomes 0 with probability ``p``, else ``x / (1 - p)``; the shape stays.

    So E[out] = x, and Var[out] = x² p / (1 - p). Because the mean is right while training, evaluation does nothing.
    The gradient passes through the elements that stayed, with the same factor 1 / (1 - p), and is 0 elsewhere.

    Args:
        p: the share dropped, 0 <= p < 1.
        training: False returns ``x`` itself.

    Raises:
        ValueError: ``p`` is not in [0, 1).

    Cost: O(elements) time and memory, the mask being kept for the backward pass. The mask is drawn from torch's
    generator, on the device of ``x``; with the same seed it is the one of ``torch.nn.functional.dropout`` on the CPU.
    Source: Srivastava et al., 2014, JMLR 15, section 10, which scales at test time; dividing while training instead
    is called *inverted*.
    """
    p = _checked(p)
    if not training or p == 0:
        return x
    # bernoulli_, not rand(...) > p: in bfloat16 a uniform number has 256 values, and a p of 0.001 becomes 0.004.
    keep = torch.empty_like(x).bernoulli_(1 - p)
    return x * keep.div_(1 - p)


class Dropout(nn.Module):
    """:func:`dropout` as a layer: on after ``train()``, off after ``eval()``.

    Raises:
        ValueError: ``p`` is not in [0, 1).
    """

    def __init__(self, p: float = 0.1) -> None:
        super().__init__()
        self.p = _checked(p)

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Drop single elements while training."""
        return dropout(x, self.p, training=self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class StochasticDepth(nn.Module):
    """Drops a whole residual branch, for each example of the batch apart (also called DropPath).

    ``x + StochasticDepth(p)(branch(x))`` is ``x`` with probability ``p`` and ``x + branch(x) / (1 - p)`` otherwise:
    the expected depth is shorter, the expected sum is the same. Its first axis must be the batch.

    Raises:
        ValueError: ``p`` is not in [0, 1).

    Source: Huang et al., 2016 (arXiv:1603.09382), section 3, drops a layer for the whole batch and scales at test
    time; dropping for each example and dividing while training is how Swin and ConvNeXt use it.
    """

    def __init__(self, p: float = 0.1) -> None:
        super().__init__()
        self.p = _checked(p)

    def forward(self, branch: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """The output of a residual branch, before it is added."""
        if not self.training or self.p == 0:
            return branch
        draw = torch.rand(branch.shape[0], *[1] * (branch.dim() - 1), device=branch.device)  # float32, see dropout
        return branch / (1 - self.p) * (draw >= self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class DropConnectLinear(nn.Linear):
    """A linear layer whose *weights* are dropped, one draw for the whole batch; the bias stays.

    For a single output it has the mean and variance of dropout on the inputs. The difference is what goes together:
    a dropped input is missing for all outputs of its token, a dropped weight for one output of all tokens.

    Args:
        in_features, out_features, bias: as in ``nn.Linear``.
        p: the share of weights dropped.

    Raises:
        ValueError: ``p`` is not in [0, 1).

    Source: Wan et al., 2013, Regularization of Neural Networks using DropConnect (ICML), who draw for each example;
    one draw a pass is the form that Merity et al., 2017 (arXiv:1708.02182), section 2, use in language models.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, p: float = 0.1) -> None:
        super().__init__(in_features, out_features, bias)
        self.p = _checked(p)

    def forward(self, input: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """``input`` times the weights that stayed."""
        return F.linear(input, dropout(self.weight, self.p, training=self.training), self.bias)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, p={self.p}"


class EmbeddingDropout(nn.Module):
    """Drops words of the vocabulary: a row of the embedding table vanishes wherever its word stands in the batch.

    Args:
        embedding: the table; its ``padding_idx`` stays what it is.
        p: the share of words dropped; the others are divided by 1 - p.

    Raises:
        ValueError: ``p`` is not in [0, 1).

    Source: Gal and Ghahramani, 2016, A Theoretically Grounded Application of Dropout in Recurrent Neural Networks
    (arXiv:1512.05287), section 4.2.
    """

    def __init__(self, embedding: nn.Embedding, p: float = 0.1) -> None:
        super().__init__()
        self.embedding, self.p = embedding, _checked(p)

    def forward(self, ids: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape d"]:
        """The vectors of ``ids``; while training, those of the dropped words are 0."""
        x = self.embedding(ids)
        if not self.training or self.p == 0:
            return x
        words = dropout(torch.ones(self.embedding.num_embeddings, 1, device=x.device, dtype=x.dtype), self.p)
        return x * words[ids]

    def extra_repr(self) -> str:
        return f"p={self.p}"


def drop_tokens(
    ids: Int[Tensor, "batch time"],
    p: float,
    replacement: int,
    *,
    real: Bool[Tensor, "batch time"] | None = None,
    training: bool = True,
) -> Int[Tensor, "batch time"]:
    """Replace each token by ``replacement`` (unknown, or a mask) with probability ``p``; nothing is scaled.

    Args:
        ids: token numbers.
        real: True where a token is real; padding is left alone.
        training: False returns ``ids`` itself.

    Raises:
        ValueError: ``p`` is not in [0, 1), or ``real`` has another shape than ``ids``.

    Source: Iyyer et al., 2015, Deep Unordered Composition Rivals Syntactic Methods for Text Classification (ACL),
    section 3.1, which leaves the words out; Bowman et al., 2015 (arXiv:1511.06349), section 3, replace them.
    """
    p = _checked(p)
    if real is not None and real.shape != ids.shape:
        raise ValueError(f"real has shape {tuple(real.shape)}, expected {tuple(ids.shape)}: one entry a token")
    if not training or p == 0:
        return ids
    gone = torch.rand(ids.shape, device=ids.device) < p
    return ids.masked_fill(gone if real is None else gone & real, replacement)


#: Layers that drop something while training: ours, and all of torch's.
DROPPING = (Dropout, StochasticDepth, DropConnectLinear, EmbeddingDropout, nn.modules.dropout._DropoutNd)


@contextmanager
def mc_dropout(model: nn.Module) -> Iterator[nn.Module]:
    """Inside the ``with``, the model evaluates (BatchNorm uses its running statistics), but its dropout layers drop.

    Each call of the model is then one draw from its ensemble of thinned networks; the mean of the predicted
    probabilities over T draws is the Monte Carlo estimate. Afterwards every module has the mode it had before.
    Dropout that a module applies by a function and not by a layer (attention weights, mostly) stays off.

    Raises:
        ValueError: no dropout layer with p > 0: every draw would be the same.

    Cost: T forward passes instead of one. Source: Gal and Ghahramani, 2015 (arXiv:1506.02142), section 4.
    """
    layers = [m for m in model.modules() if isinstance(m, DROPPING)]
    if not any(layer.p > 0 for layer in layers):
        raise ValueError(f"{type(model).__name__} has {len(layers)} dropout layers, none with p > 0: nothing is random")
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        for layer in layers:
            layer.training = True  # not train(): it would switch the layers inside on as well
        yield model
    finally:
        for module, mode in modes:
            module.training = mode
