"""An encoder block: every token looks at every real token of its text."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from llmlab.nn.heads import MultiHeadAttention

__all__ = ["EncoderBlock", "MultiHeadSelfAttention"]


class MultiHeadSelfAttention(MultiHeadAttention):
    """Self-attention in several heads over the real tokens of a text: every token looks at every real one.

    Args:
        d: width of a token's vector.
        heads: number of heads; each works in ``d / heads`` dimensions.
        dropout: share of the attention weights dropped while training.

    Raises:
        ValueError: ``d`` cannot be divided by ``heads``.

    Cost: O(time² · d) and O(time · d²) a text. Source: Vaswani et al., 2017 (arXiv:1706.03762), section 3.2.2.
    """

    def __init__(self, d: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__(d, heads, dropout=dropout)

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "batch time d"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time d"]:
        """Mix the tokens' vectors; ``mask`` is True where a token is real, and no token looks at the others."""
        return super().forward(x, mask=mask[:, None, None, :])


class EncoderBlock(nn.Module):
    """Attention, then a two-layer network, each added to its input after a LayerNorm (pre-norm).

    Args:
        d: width of a token's vector.
        heads: number of attention heads.
        hidden: width inside the feed-forward network, usually ``4 * d``.
        dropout: rate after each of the two parts.

    Source: Vaswani et al., 2017 (arXiv:1706.03762), with the norm moved inside the residual branch as in Xiong et
    al., 2020 (arXiv:2002.04745), which trains without a long warm-up.
    """

    def __init__(self, d: int, heads: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.attend = MultiHeadSelfAttention(d, heads)
        self.up, self.down = nn.Linear(d, hidden), nn.Linear(hidden, d)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "batch time d"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time d"]:
        """One round of mixing between tokens and of thinking inside each."""
        x = x + self.dropout(self.attend(self.norm1(x), mask))
        return x + self.dropout(self.down(F.gelu(self.up(self.norm2(x)))))
