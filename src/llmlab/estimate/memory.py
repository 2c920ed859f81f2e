"""Bytes: of a cache, of training by part, of adapters. Gigabytes are 10⁹ bytes wherever a test says GB."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

from llmlab.estimate.parameters import Architecture
from llmlab.estimate.sizes import bytes_of, need_positive

__all__ = [
    "OPTIMISERS",
    "activation_bytes",
    "adapter_memory",
    "cache_bytes",
    "kv_cache_bytes",
    "latent_cache_bytes",
    "lora_parameters",
    "quantised_bytes",
    "training_memory",
]

#: bytes a parameter that an optimiser keeps, beside an fp32 copy of the weights
OPTIMISERS: dict[str, float] = {"sgd": 0, "momentum": 4, "adamw": 8, "adamw-8bit": 2}


def kv_cache_bytes(
    *, layers: int, kv_heads: int, head_size: int, tokens: int = 1, batch: int = 1, dtype: str = "bfloat16"
) -> int:
    """Bytes of keys and values that a decoder keeps: 2 · layers · kv_heads · head_size numbers a token.

    The number of *query* heads is not in it. Source: Shazeer, 2019 (arXiv:1911.02150); Pope et al., 2022
    (arXiv:2211.05102).

    Raises:
        ValueError: a size below 1, or a dtype not in :data:`BYTES`.
    """
    need_positive(layers=layers, kv_heads=kv_heads, head_size=head_size, tokens=tokens, batch=batch)
    return math.ceil(2 * layers * kv_heads * head_size * tokens * batch * bytes_of(dtype))


def latent_cache_bytes(
    *, layers: int, rank: int, rope_size: int, tokens: int = 1, batch: int = 1, dtype: str = "bfloat16"
) -> int:
    """Bytes that latent attention keeps: layers · (rank + rope_size) numbers a token, for any number of heads.

    Source: DeepSeek-V2 (DeepSeek-AI, 2024, arXiv:2405.04434), table 1.
    """
    need_positive(layers=layers, rank=rank, tokens=tokens, batch=batch)
    return math.ceil(layers * (rank + rope_size) * tokens * batch * bytes_of(dtype))


def cache_bytes(a: Architecture, *, tokens: int, batch: int = 1, dtype: str = "bfloat16") -> int:
    """Bytes of a decoder's cache, whichever attention it has.

    Raises:
        ValueError: not a decoder, a size below 1, or an unknown dtype.
    """
    if a.kind != "decoder":
        raise ValueError(f"kind={a.kind!r}: expected a decoder, which is what keeps a cache")
    if a.rank:
        return latent_cache_bytes(
            layers=a.layers, rank=a.rank, rope_size=a.rope_size, tokens=tokens, batch=batch, dtype=dtype
        )
    return kv_cache_bytes(
        layers=a.layers, kv_heads=a.key_heads, head_size=a.size, tokens=tokens, batch=batch, dtype=dtype
    )


def training_memory(
    parameters: float,
    *,
    dtype: str = "bfloat16",
    optimiser: str = "adamw",
    master: bool = True,
    devices: int = 1,
    zero: int = 0,
) -> dict[str, float]:
    """Bytes on each device: ``weights``, ``gradients``, ``master`` (an fp32 copy of the weights), ``optimiser``.

    Mixed precision with AdamW takes 2 + 2 + 4 + 8 = 16 bytes a parameter. ZeRO shares among the devices the master copy
    and the optimiser's state (stage 1), the gradients too (2), the weights too (3). Activations come on top:
    :func:`activation_bytes`. Source: Rajbhandari et al., 2019 (arXiv:1910.02054), section 3.1 and figure 1.

    Raises:
        ValueError: a count below 1, a stage not in 0 to 3, an unknown dtype or optimiser.
    """
    need_positive(parameters=parameters, devices=devices)
    if optimiser not in OPTIMISERS:
        raise ValueError(f"optimiser={optimiser!r}: expected one of {', '.join(OPTIMISERS)}")
    if zero not in (0, 1, 2, 3):
        raise ValueError(f"zero={zero!r}: expected 0 for none, or stage 1, 2 or 3")
    one = bytes_of(dtype)
    return {
        "weights": parameters * one / (devices if zero >= 3 else 1),
        "gradients": parameters * one / (devices if zero >= 2 else 1),
        "master": parameters * (4 if master else 0) / (devices if zero >= 1 else 1),
        "optimiser": parameters * OPTIMISERS[optimiser] / (devices if zero >= 1 else 1),
    }


def activation_bytes(
    *,
    d: int,
    heads: int,
    tokens: int,
    batch: int = 1,
    layers: int = 1,
    recompute: Literal["none", "selective", "full"] = "none",
    tensor_parallel: int = 1,
    sequence_parallel: bool = False,
) -> float:
    """Bytes that ``layers`` GPT layers keep for the backward pass, in 16 bits: s·b·h·(34 + 5·a·s/h) a layer.

    ``selective`` recomputes the attention map and drops the second term (so does FlashAttention); ``full`` keeps each
    layer's input alone, 2·s·b·h. Tensor parallelism leaves 10·s·b·h whole on every device (the norms, the dropout after
    each block, and the blocks' inputs); sequence parallelism shares that as well. For layers with dropout and a
    feed-forward layer of 4d, without the embedding and the loss. Source: Korthikanti et al., 2022 (arXiv:2205.05198),
    sections 4 and 5 and table 2; that ``full`` is shared under sequence parallelism too is our addition.

    Raises:
        ValueError: a size below 1, or an unknown kind of recomputation.
    """
    need_positive(d=d, heads=heads, tokens=tokens, batch=batch, layers=layers, tensor_parallel=tensor_parallel)
    t = tensor_parallel
    one = float(tokens) * batch * d * layers
    if recompute == "full":
        return 2 * one / (t if sequence_parallel else 1)
    if recompute not in ("none", "selective"):
        raise ValueError(f"recompute={recompute!r}: expected none, selective or full")
    maps = 5 * heads * tokens / d / t if recompute == "none" else 0.0
    return one * ((34 / t if sequence_parallel else 10 + 24 / t) + maps)


def lora_parameters(a: Architecture, *, rank: int, targets: Iterable[str] = ("q", "v")) -> int:
    """Parameters of adapters: rank · (inputs + outputs) in every layer for each of q, k, v, o, gate, up, down named.

    Source: Hu et al., 2021 (arXiv:2106.09685), section 4.

    Raises:
        ValueError: a rank below 1, a matrix that the architecture lacks, or one with experts or latent attention.
    """
    need_positive(rank=rank)
    if a.kind != "decoder" or a.experts or a.rank:
        raise ValueError("expected a decoder with plain attention and no experts: count other matrices yourself")
    made, kept = a.heads * a.size, a.key_heads * a.size
    shapes = {
        "q": (a.d, made),
        "k": (a.d, kept),
        "v": (a.d, kept),
        "o": (made, a.d),
        "up": (a.d, a.ff),
        "down": (a.ff, a.d),
    }
    shapes |= {"gate": (a.d, a.ff)} if a.gated else {}
    if unknown := [name for name in targets if name not in shapes]:
        raise ValueError(f"targets {unknown}: expected some of {', '.join(shapes)}")
    return a.layers * rank * sum(sum(shapes[name]) for name in set(targets))


def quantised_bytes(parameters: float, *, bits: int = 4, block: int = 64, double: bool = True) -> float:
    """Bytes of weights in ``bits`` bits with one scale for each ``block`` of them.

    The scale is an fp32 number (32/64 = 0.5 bits a weight), or with double quantisation 8 bits with an fp32 scale of
    its own for every 256 (0.127 bits). Source: Dettmers et al., 2023 (arXiv:2305.14314), section 3.
    """
    need_positive(parameters=parameters, bits=bits, block=block)
    scale = 8 / block + 32 / (block * 256) if double else 32 / block
    return parameters * (bits + scale) / 8


def adapter_memory(
    a: Architecture, parameters: float, *, rank: int, targets: Iterable[str] = ("q", "v"), quantised: bool = False
) -> dict[str, float]:
    """Bytes of training adapters on ``parameters`` frozen ones: ``base``, ``adapters``, ``gradients``, ``optimiser``.

    The base has no gradient and no state: 2 bytes a parameter, or about half a byte in QLoRA's format. The adapters are
    trained in fp32 with AdamW. Activations come on top, and adapters do not shrink them.
    """
    need_positive(parameters=parameters)
    trained = lora_parameters(a, rank=rank, targets=targets)
    base = quantised_bytes(parameters) if quantised else 2.0 * parameters
    return {"base": base, "adapters": 4.0 * trained, "gradients": 4.0 * trained, "optimiser": 8.0 * trained}
