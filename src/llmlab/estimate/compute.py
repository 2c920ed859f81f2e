"""Operations of training: how many, how long they take, what they cost. One multiplication and one addition are two."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, NamedTuple

from llmlab.estimate.parameters import Architecture, non_embedding_parameters, parameters
from llmlab.estimate.sizes import need_fraction, need_positive

__all__ = [
    "CARDS",
    "Card",
    "forward_flops",
    "gpu_hours",
    "training_cost",
    "training_days",
    "training_flops",
    "training_flops_of",
    "utilisation",
]

Convention = Literal["matmul", "kaplan", "hoffmann", "palm"]


class Card(NamedTuple):
    """One accelerator: dense 16-bit FLOP/s, bytes/s and bytes of its memory, as in its maker's data sheet."""

    flops: float
    bandwidth: float
    memory: float


CARDS: dict[str, Card] = {
    "V100": Card(125e12, 0.9e12, 32e9),
    "A100": Card(312e12, 2.039e12, 80e9),
    "H100": Card(989e12, 3.35e12, 80e9),
    "H200": Card(989e12, 4.8e12, 141e9),
    "TPUv4": Card(275e12, 1.2e12, 32e9),
}


def training_flops(parameters: float, tokens: float) -> float:
    """6ND: two operations a parameter and token forward, twice as many backward.

    With mixtures of experts N is the active count. It leaves out attention over the context: see
    :func:`training_flops_of`. Source: Kaplan et al., 2020 (arXiv:2001.08361), section 2.1.
    """
    need_positive(parameters=parameters, tokens=tokens)
    return 6.0 * parameters * tokens


def _pair_size(a: Architecture) -> int:
    """Numbers that one query and one key multiply in all heads, and one weight and one value: the two products."""
    return a.heads * (a.size + (a.value_size if a.rank else a.size))


def _split(a: Architecture, context: int) -> tuple[float, float]:
    """Forward operations a token: all layers, and the head."""
    parts = parameters(replace(a, bias=False, qkv_bias=False), active=True)
    norms_inside = a.layers * (a.rank + (a.q_rank or 0)) if a.rank else 0
    matrices = parts["attention"] + parts["feed-forward"] + parts["experts"] - norms_inside
    return 2.0 * matrices + 2.0 * a.layers * context * _pair_size(a), 2.0 * a.vocab * a.d


def forward_flops(a: Architecture, context: int, *, convention: Convention = "matmul") -> float:
    """Operations of a decoder's forward pass, per token of a sequence of ``context`` tokens.

    - ``matmul``: every matrix product that a model without a causal shortcut does, the head included: what torch's
      ``FlopCounterMode`` counts. Narayanan et al., 2021 (arXiv:2104.04473) count so.
    - ``kaplan``: 2N + 2 · layers · context · width, N without embedding and head; of attention the first product only.
      Kaplan et al., 2020 (arXiv:2001.08361), table 1.
    - ``hoffmann``: adds the softmax (3 a head and pair) and the embedding as a product with the vocabulary.
      Hoffmann et al., 2022 (arXiv:2203.15556), appendix F; the ratios in its table A4 fit without embedding and head.
    - ``palm``: 2N + 4 · layers · width · context, N all parameters. Chowdhery et al., 2022 (arXiv:2204.02311),
      appendix B.

    With experts N and the matrices are those that one token visits. Causal attention that skips what the mask hides
    does half of the attention term.

    Raises:
        ValueError: not a decoder, a context below 1, or an unknown convention.
    """
    need_positive(context=context)
    if a.kind != "decoder":
        raise ValueError(f"kind={a.kind!r}: expected a decoder; of an encoder-decoder each token visits one stack only")
    width = a.heads * a.size
    layers, head = _split(a, context)
    if convention == "matmul":
        return layers + head
    if convention == "kaplan":
        return 2.0 * non_embedding_parameters(a, active=True) + 2.0 * a.layers * context * width
    if convention == "hoffmann":
        return layers + 3.0 * a.layers * a.heads * context + 2 * head
    if convention == "palm":
        return 2.0 * sum(parameters(a, active=True).values()) + 4.0 * a.layers * width * context
    raise ValueError(f"convention={convention!r}: expected matmul, kaplan, hoffmann or palm")


def training_flops_of(
    a: Architecture, tokens: float, *, context: int, convention: Convention = "matmul", recompute: bool = False
) -> float:
    """Operations of training on ``tokens`` tokens: three times the forward pass, attention over the context included.

    ``recompute``: every layer's forward pass runs a second time before its backward pass (not the head's): work for
    the hardware, none for the model. For a GPT this is then 96·l·h²·(1 + s/6h + V/16lh) a token, equation 3 of
    Narayanan et al., 2021 (arXiv:2104.04473).
    """
    need_positive(tokens=tokens)
    again = _split(a, context)[0] if recompute else 0.0
    return tokens * (3.0 * forward_flops(a, context, convention=convention) + again)


def gpu_hours(flops: float, *, peak: float, utilisation: float) -> float:
    """Hours of one device that does ``flops`` operations at a share ``utilisation`` of its ``peak`` FLOP/s."""
    need_positive(flops=flops, peak=peak)
    need_fraction(utilisation=utilisation)
    return flops / (peak * utilisation) / 3600


def training_days(flops: float, *, devices: int, peak: float, utilisation: float) -> float:
    """Days that ``devices`` devices take, if nothing stops."""
    need_positive(devices=devices)
    return gpu_hours(flops, peak=peak, utilisation=utilisation) / devices / 24


def training_cost(flops: float, *, peak: float, utilisation: float, price: float) -> float:
    """Price of the run, ``price`` being that of one device and hour: more devices are faster, not cheaper."""
    need_positive(price=price)
    return gpu_hours(flops, peak=peak, utilisation=utilisation) * price


def utilisation(flops: float, *, hours: float, peak: float) -> float:
    """The share of ``peak`` FLOP/s that a run of so many device hours reached (MFU, if ``flops`` are the model's)."""
    need_positive(flops=flops, hours=hours, peak=peak)
    return flops / (hours * 3600 * peak)
