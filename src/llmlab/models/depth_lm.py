"""A small causal character model that differs from its siblings in two things: how deep it is, and how it is wired."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmlab.nn.blocks import PlainBlock, PostNormBlock, PreNormBlock, ReluAfterSumBlock, ReZeroBlock, deepnorm_constants
from llmlab.nn.feedforward import FeedForward
from llmlab.nn.heads import MultiHeadAttention

__all__ = ["DepthLM", "Wiring", "gradient_by_block"]

Wiring = Literal[
    "no residual, no norm", "no residual", "ReLU after the sum", "post-norm", "DeepNorm", "pre-norm", "ReZero"
]


class DepthLM(nn.Module):
    """Embeddings, ``layers`` blocks of one wiring, one head.

    Every matrix of a block starts Xavier-normal times ``gain`` and every bias at zero, so that two models of one seed
    and one depth start from the same weights, whatever the wiring (DeepNorm scales some of them, as it must).

    Args:
        vocabulary: number of characters.
        wiring: see :data:`Wiring`; those without a norm hold ``nn.Identity``.
        layers: number of blocks.
        d, heads: width and number of heads; the feed-forward is ``4 * d`` wide.
        longest: rows of the position table.
        gain: factor on the blocks' matrices at the start.

    Raises:
        ValueError: an unknown wiring, or fewer layers than one.
    """

    def __init__(
        self,
        vocabulary: int,
        wiring: Wiring,
        layers: int,
        *,
        d: int = 48,
        heads: int = 4,
        longest: int = 64,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        if wiring not in get_args(Wiring):
            raise ValueError(f"wiring={wiring!r}: expected one of {', '.join(get_args(Wiring))}")
        if layers < 1:
            raise ValueError(f"layers={layers}: expected 1 or more")
        self.token, self.position = nn.Embedding(vocabulary, d), nn.Embedding(longest, d)
        self.blocks = nn.ModuleList(_block(wiring, d, heads, layers) for _ in range(layers))
        self.norm = nn.Identity() if wiring in ("no residual, no norm", "post-norm", "DeepNorm") else nn.LayerNorm(d)
        self.head = nn.Linear(d, vocabulary)
        for name, weight in self.blocks.named_parameters():
            if weight.dim() == 2:
                _xavier_(name, weight, gain, layers if wiring == "DeepNorm" else None)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)

    def stream(self, ids: Int[Tensor, "batch time"]) -> list[Float[Tensor, "batch time d"]]:
        """What flows between the blocks: ``layers + 1`` tensors, the embedding first."""
        points = [self.token(ids) + self.position.weight[: ids.shape[1]]]
        for block in self.blocks:
            points.append(block(points[-1]))
        return points

    def forward(self, ids: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time vocabulary"]:
        """Logits of every next character."""
        return self.head(self.norm(self.stream(ids)[-1]))

    def loss(self, windows: Int[Tensor, "batch time_and_one"]) -> Float[Tensor, ""]:
        """Mean cross-entropy in nats a character, each predicted from those before it."""
        return F.cross_entropy(self(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())


def gradient_by_block(model: DepthLM, windows: Int[Tensor, "batch time_and_one"]) -> list[float]:
    """The norm of the loss's gradient with respect to the parameters of each block, first block first."""
    model.zero_grad()
    model.loss(windows).backward()
    squares = [sum(p.grad.double().square().sum() for p in b.parameters() if p.grad is not None) for b in model.blocks]
    model.zero_grad()
    return [float(s) ** 0.5 for s in squares]


def _block(wiring: Wiring, d: int, heads: int, layers: int) -> nn.Module:
    attend, feedforward = MultiHeadAttention(d, heads, causal=True), FeedForward(d, 4 * d)
    if wiring == "no residual, no norm":
        return PlainBlock(attend, feedforward, nn.Identity(), nn.Identity())
    if wiring == "ReZero":
        return ReZeroBlock(attend, feedforward, nn.Identity(), nn.Identity())
    norms = nn.LayerNorm(d), nn.LayerNorm(d)
    if wiring == "DeepNorm":
        return PostNormBlock(attend, feedforward, *norms, alpha=deepnorm_constants(layers)[0])
    kind = {
        "no residual": PlainBlock,
        "ReLU after the sum": ReluAfterSumBlock,
        "post-norm": PostNormBlock,
        "pre-norm": PreNormBlock,
    }[wiring]
    return kind(attend, feedforward, *norms)


@torch.no_grad()
def _xavier_(name: str, weight: Tensor, gain: float, deepnorm_layers: int | None) -> None:
    """Xavier-normal in place; query, key and value are three matrices although they lie in one."""
    beta = 1.0 if deepnorm_layers is None else deepnorm_constants(deepnorm_layers)[1]
    if not name.endswith("qkv.weight"):
        nn.init.xavier_normal_(weight, gain * beta)
        return
    q, k, v = weight.chunk(3)
    for part, factor in ((q, 1.0), (k, 1.0), (v, beta)):
        nn.init.xavier_normal_(part, gain * factor)
