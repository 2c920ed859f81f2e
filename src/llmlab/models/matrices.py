"""Three ways to keep a matrix that is only read: float32, float16, int8. A decoder's step is little but reading them.

One token costs two operations a weight, so a step takes as long as it takes to bring the weights from memory, times
what the kernel loses on the way. A call of a matrix takes rows and gives rows, in float32 both times.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from llmlab.nn.onednn import product

__all__ = ["KINDS", "Float16Matrix", "Float32Matrix", "Int8Matrix", "Matrix"]


class Matrix(nn.Module):
    """``rows @ weight.T`` for a weight of (out, in), as ``nn.Linear`` without a bias."""

    def forward(self, rows: Float[Tensor, "rows in"]) -> Float[Tensor, "rows out"]:
        """The product, in float32."""
        raise NotImplementedError

    def bytes(self) -> int:
        """What is read for one product."""
        raise NotImplementedError


class Float32Matrix(Matrix):
    """Four bytes a number; several rows are multiplied by oneDNN, one row by MKL's batched product, in two halves.

    torch's CPU builds take float32 products from MKL, which gives an AMD processor its more careful code; for many rows
    oneDNN took less than half of its time (:mod:`llmlab.nn.onednn`). One row is bound by memory, and the same numbers
    came to it at very different rates: where this was written, a token's 538 MB took 32 ms as a plain product, 20 to 23
    by oneDNN, 17.6 as a batch of two halves, and the bare reading 13. A batch of one is handed to the plain product.
    """

    weight: Tensor

    def __init__(self, weight: Float[Tensor, "out in"]) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach().float().clone(), persistent=False)
        self.many = product if torch.backends.mkldnn.is_available() else F.linear
        self.halves = len(weight) % 2 == 0

    def forward(self, rows: Float[Tensor, "rows in"]) -> Float[Tensor, "rows out"]:
        """O(rows · in · out) operations, 4 · in · out bytes."""
        if len(rows) != 1 or not self.halves:
            return self.many(rows, self.weight)
        halves, column = self.weight.unflatten(0, (2, -1)), rows.mT
        return torch.bmm(halves, column.expand(2, -1, -1)).view(1, -1)

    def bytes(self) -> int:
        return self.weight.numel() * 4


class Float16Matrix(Matrix):
    """Two bytes a number; the arithmetic is float32, so only what float16 cannot hold of a weight is lost.

    Where a model was published in float16, that is nothing: float32 reads two bytes of zeros with every two of weight.
    FBGEMM's kernel widens the weights in registers. (torch's bfloat16 and float16 products also round their input and
    their output; this one does neither.)

    Raises:
        ValueError: a weight is beyond float16's 65504, or this torch has no FBGEMM (it has on x86 alone).
    """

    def __init__(self, weight: Float[Tensor, "out in"]) -> None:
        super().__init__()
        largest = float(weight.detach().abs().max())
        if not largest <= torch.finfo(torch.float16).max:
            raise ValueError(f"a weight of {largest:g} is not to be had in float16: use weights='float32'")
        if not self.available():
            raise ValueError("weights='float16' needs FBGEMM, which this torch lacks: use weights='float32'")
        self.shape = tuple(weight.shape)
        self.packed = torch.ops.quantized.linear_prepack_fp16(weight.detach().float().contiguous(), None)

    @staticmethod
    def available() -> bool:
        """Whether this torch has the kernel."""
        return "fbgemm" in torch.backends.quantized.supported_engines

    def forward(self, rows: Float[Tensor, "rows in"]) -> Float[Tensor, "rows out"]:
        """O(rows · in · out) operations, 2 · in · out bytes. ("dynamic" is torch's name; nothing is quantized.)"""
        product: Tensor = torch.ops.quantized.linear_dynamic_fp16(rows, self.packed)
        return product

    def bytes(self) -> int:
        return self.shape[0] * self.shape[1] * 2


class Int8Matrix(Matrix):
    """One byte a number and one scale a row of the weight: ``weight ≈ q · scale``, q from -127 to 127.

    The scale is the row's largest size over 127, in the kernel's bfloat16 *before* the numbers are rounded by it: so
    every number is within half a step of its own. Weights alone are quantized, but the input and the product are
    bfloat16, because torch's kernel is fast for no other dtype (for float32 it took ten times as long).

    Source: Dettmers et al., 2022 (arXiv:2208.07339), section 2, on row-wise absmax quantization.
    """

    weight: Tensor
    scale: Tensor

    def __init__(self, weight: Float[Tensor, "out in"]) -> None:
        super().__init__()
        # torch 2.13's kernel reads 16 numbers at a time and past the end of a row: wrong numbers, or a crash. So zeros.
        self.spare = -weight.shape[1] % 16
        weight = F.pad(weight.detach().float(), (0, self.spare))
        scale = (weight.abs().amax(1) / 127).clamp(min=torch.finfo(torch.bfloat16).tiny).bfloat16()
        steps = (weight / scale.float()[:, None]).round()  # a scale rounded down by 2^-8 gives 127.496: never 128
        self.register_buffer("weight", steps.to(torch.int8), persistent=False)
        self.register_buffer("scale", scale, persistent=False)

    def forward(self, rows: Float[Tensor, "rows in"]) -> Float[Tensor, "rows out"]:
        """O(rows · in · out) operations, in · out bytes."""
        rows = F.pad(rows, (0, self.spare)) if self.spare else rows
        return torch._weight_int8pack_mm(rows.bfloat16(), self.weight, self.scale).float()

    def bytes(self) -> int:
        return self.weight.numel()


KINDS: dict[str, type[Matrix]] = {"float32": Float32Matrix, "float16": Float16Matrix, "int8": Int8Matrix}
