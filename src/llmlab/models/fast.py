"""A decoder that only writes, made fast: the same function as :class:`llmlab.models.decoder.Decoder`, fewer steps.

    fast = FastDecoder.from_decoder(smollm2(), weights="float16")
    generate(fast, [prompt], 100)

A token of a small model is two hundred matrix products of one row, and between them hundreds of steps on vectors so
short that starting them is what they cost. So there are two things to do. Read fewer bytes, and faster: that is
:mod:`llmlab.models.matrices`. And start less:

- ``normed``: one row's mean square is one dot product, and what is left a product with one number.
- ``rotate``: pair i of a head is (x[i], x[i + d/2]). With the rows of the query and key matrices laid in another order
  the two are neighbours, one complex number; q · k does not mind the order. Rotating all heads of q and k is then one
  complex product, in place.
- ``attend``: one query needs no causal rule and no tiles: two small products and a softmax.
- ``FastCache``: one tensor for all layers, cut once a step instead of four times a layer.
- gate and up are one matrix, as q, k and v already are.

``llmlab bench decode --ablate`` puts each plain step back and says what it is worth. Where this was written, of 12 ms
a token in float16 the rotation saved 1.2, the two products 0.5, ``normed`` and gate with up about 0.3 each; the cuts
saved nothing that could be told from noise. How matrices are kept and multiplied saved 20.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from llmlab.attention import attention
from llmlab.models.decoder import Decoder, new_positions
from llmlab.models.matrices import KINDS, Float16Matrix, Float32Matrix, Matrix

__all__ = ["FastCache", "FastDecoder", "Weights"]

Weights = Literal["float32", "float16", "int8"]


class FastCache:
    """Keys and values of all layers in one tensor (layers, 2, batch, kv_heads, capacity, d); it doubles when full.

    Args:
        capacity: tokens to make room for at first.
    """

    def __init__(self, capacity: int = 0) -> None:
        self.length, self.capacity = 0, capacity
        self.kept: Tensor | None = None

    def grow(self, new: int, shape: tuple[int, int, int, int], device: torch.device) -> tuple[list[Tensor], ...]:
        """Make room for ``new`` tokens. For every layer: where they are to be written, and all that is then kept.

        Args:
            shape: layers, texts, key heads, features of a head.

        Raises:
            ValueError: the cache holds another number of texts.
        """
        layers, batch, heads, d = shape
        if self.kept is not None and self.kept.shape[2] != batch:
            raise ValueError(f"the cache holds {self.kept.shape[2]} text(s) and is given {batch}: make a new one")
        start, self.length = self.length, self.length + new
        if self.kept is None or self.length > self.capacity:
            self.capacity = max(self.length, self.capacity if self.kept is None else 2 * self.capacity)
            grown = torch.zeros(layers, 2, batch, heads, self.capacity, d, device=device)
            if self.kept is not None:
                grown[..., :start, :] = self.kept[..., :start, :]
            self.kept = grown
        kept = self.kept[..., : self.length, :]
        return list(kept[..., start:, :].unbind()), list(kept.unbind())


class _Layer(NamedTuple):
    norm1: Tensor
    qkv: Matrix
    out: Matrix
    norm2: Tensor
    gate_up: Matrix
    down: Matrix


class FastDecoder(nn.Module):
    """The Llama family, for inference; make it with :meth:`from_decoder`. Called as a Decoder is, it gives its logits.

    Its numbers are float32 between the matrices, whatever these are kept in; it has copies of them and shares only the
    token table with its model. There are no gradients.
    """

    turns: Tensor

    def __init__(self, model: Decoder, weights: Weights = "float32") -> None:
        super().__init__()
        config = model.config
        if weights not in KINDS:
            raise ValueError(f"weights={weights!r}: expected one of {', '.join(KINDS)}")
        if model.rotary is None or config.norm != "rms" or config.activation != "swiglu" or config.bias:
            raise ValueError(
                f"positions={config.positions!r}, norm={config.norm!r}, activation={config.activation!r}, "
                f"bias={config.bias}: FastDecoder has the Llama family alone ('rotary', 'rms', 'swiglu', False); "
                "generate with the Decoder itself"
            )
        self.config, self.weights = config, weights
        self.heads, self.kv_heads = config.heads, config.kv_heads or config.heads
        self.d = config.head_size or config.d // config.heads
        self.token = model.token
        turns = torch.complex(model.rotary.cos.float(), model.rotary.sin.float())
        self.register_buffer("turns", turns[:, None], persistent=False)  # (context, 1 for all heads, pairs)
        self.layers = [self._layer(block) for block in model.blocks]
        head = model.token if model.head is None else model.head
        self.norm, self.head = _weight(model.norm), self.keep(head.weight, is_head=True)
        self.eval()

    @classmethod
    def from_decoder(cls, model: Decoder, weights: Weights = "float32") -> FastDecoder:
        """The fast version of ``model``, which stays as it is.

        Args:
            weights: how matrices are kept. "float32": the same logits up to the order of sums. "float16": half the
                bytes, and the same again if the model was published in float16, as SmolLM2 is here. "int8": a quarter
                but for the head, which stays in float16 since it decides between tokens; and other logits.

        Raises:
            ValueError: a model that is not of the Llama family, or another kind of weights.
        """
        return cls(model, weights)

    @torch.inference_mode()
    def forward(
        self,
        ids: Int[Tensor, "batch time"],
        mask: Bool[Tensor, "batch keys"] | None = None,
        cache: FastCache | None = None,
        *,
        last: int | None = None,
    ) -> Float[Tensor, "batch time vocabulary"]:
        """The logits of the token after each one; arguments and errors as :meth:`Decoder.forward`."""
        cache = FastCache() if cache is None else cache
        positions = new_positions(ids, mask, cache.length, self.config.context)
        (batch, time), turns = ids.shape, self.turns[positions]
        shape = len(self.layers), batch, self.kv_heads, self.d
        places = cache.grow(time, shape, ids.device)
        x = self.token.weight[ids.flatten()].float()  # rows: (batch · time, d), one after the other
        for layer, new, kept in zip(self.layers, *places):
            qkv = layer.qkv(self.normed(x, layer.norm1)).view(batch, time, -1, self.d)
            q, k, v = self.rotate(qkv, turns).split([self.heads, self.kv_heads, self.kv_heads], dim=2)
            new[0], new[1] = k.transpose(1, 2), v.transpose(1, 2)
            x = x + layer.out(self.attend(q.transpose(1, 2), kept[0], kept[1], mask))
            x = x + layer.down(self.gate(layer.gate_up(self.normed(x, layer.norm2))))
        x = x.view(batch, time, -1)
        x = x if last is None else x[:, -last:]
        logits: Tensor = self.head(self.normed(x.flatten(0, 1), self.norm))
        return logits.view(batch, x.shape[1], -1)

    def new_cache(self, capacity: int = 0) -> FastCache:
        """An empty cache with room for ``capacity`` tokens."""
        return FastCache(capacity)

    def bytes(self) -> int:
        """What a step reads of the weights: every matrix once."""
        matrices = [m for layer in self.layers for m in layer if isinstance(m, Matrix)]
        return sum(matrix.bytes() for matrix in [*matrices, self.head])

    def normed(self, x: Float[Tensor, "rows d"], weight: Float[Tensor, " d"]) -> Float[Tensor, "rows d"]:
        """RMSNorm. For one row the mean square is a dot product, and what is left a product with one number."""
        if len(x) > 1:
            return F.rms_norm(x, (x.shape[1],), weight, self.config.norm_eps)
        row = x[0]
        return x * (float(row.dot(row)) / len(row) + self.config.norm_eps) ** -0.5 * weight

    def rotate(
        self, qkv: Float[Tensor, "batch time all_heads d"], turns: Tensor
    ) -> Float[Tensor, "batch time all_heads d"]:
        """Turn the heads of q and k in place; pairs are neighbours. A turn is a product with cos + i sin."""
        qk = qkv[:, :, : self.heads + self.kv_heads]
        torch.view_as_complex(qk.unflatten(-1, (-1, 2))).mul_(turns)
        return qkv

    def attend(
        self,
        q: Float[Tensor, "batch heads time d"],
        k: Float[Tensor, "batch kv_heads keys d"],
        v: Float[Tensor, "batch kv_heads keys d"],
        mask: Bool[Tensor, "batch keys"] | None,
    ) -> Float[Tensor, "rows heads_d"]:
        """Causal attention. One new token of each text, and no padding: every key is seen, the query heads that share
        a key head are the rows of one product, and the scale is part of it."""
        batch, heads, time, d = q.shape
        if time > 1 or mask is not None:
            keys = None if mask is None else mask[:, None, None, :]
            mixed = attention(q, k, v, causal=True, mask=keys, enable_gqa=True)
            return mixed.transpose(1, 2).reshape(batch * time, heads * d)
        q, k, v = q.reshape(batch * self.kv_heads, -1, d), k.flatten(0, 1), v.flatten(0, 1)
        scores = torch.baddbmm(q.new_zeros(1), q, k.mT, alpha=d**-0.5)
        return torch.bmm(scores.softmax(dim=-1), v).view(batch, heads * d)

    def gate(self, both: Float[Tensor, "rows two_hidden"]) -> Float[Tensor, "rows hidden"]:
        """SwiGLU's middle: silu of the first half times the second."""
        gate, up = both.chunk(2, dim=-1)
        return F.silu(gate) * up

    def _layer(self, block: nn.Module) -> _Layer:
        part: Any = block
        qkv, feedforward = part.attend.qkv.weight.detach(), part.feedforward
        rows = qkv.unflatten(0, (-1, self.d))
        turned = rows[: self.heads + self.kv_heads].unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)
        qkv = torch.cat([turned, rows[self.heads + self.kv_heads :]]).flatten(0, 1)
        gate_up = torch.cat([feedforward.gate.weight, feedforward.up.weight])
        return _Layer(
            _weight(part.norm1),
            self.keep(qkv),
            self.keep(part.attend.out.weight),
            _weight(part.norm2),
            self.keep(gate_up),
            self.keep(feedforward.down.weight),
        )

    def keep(self, weight: Float[Tensor, "out in"], is_head: bool = False) -> Matrix:
        """A copy of a matrix, ready to be read."""
        if is_head and self.weights == "int8":
            return (Float16Matrix if Float16Matrix.available() else Float32Matrix)(weight)
        return KINDS[self.weights](weight)


def _weight(norm: Any) -> Float[Tensor, " d"]:
    """A copy of a norm's weight. Folding it into the matrix behind saves a product a norm, and was measured to save no
    time; but then the matrix has to be rounded again, where alone it may be exact."""
    weight: Tensor = norm.weight.detach().float().clone()
    return weight
