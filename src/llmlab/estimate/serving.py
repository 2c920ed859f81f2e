"""What serving a decoder needs at least: bytes, and the time that memory or arithmetic bounds."""

from __future__ import annotations

from llmlab.estimate.compute import forward_flops
from llmlab.estimate.memory import cache_bytes
from llmlab.estimate.parameters import Architecture, active_parameters, feed_forward_parameters, total_parameters
from llmlab.estimate.sizes import bytes_of, need_fraction, need_positive

__all__ = ["decode_bound", "largest_batch", "prefill_seconds", "serving_memory", "weights_read"]


def serving_memory(
    a: Architecture, *, tokens: int, batch: int = 1, dtype: str = "bfloat16", cache_dtype: str = "bfloat16"
) -> dict[str, float]:
    """Bytes of ``weights`` and ``cache`` for ``batch`` sequences of ``tokens`` tokens; activations come on top."""
    weights = total_parameters(a) * bytes_of(dtype)
    return {"weights": weights, "cache": cache_bytes(a, tokens=tokens, batch=batch, dtype=cache_dtype)}


def largest_batch(
    a: Architecture,
    *,
    memory: float,
    tokens: int,
    dtype: str = "bfloat16",
    cache_dtype: str = "bfloat16",
    share: float = 0.9,
) -> int:
    """Sequences of ``tokens`` tokens whose cache fits beside the weights in a ``share`` of ``memory`` bytes.

    Raises:
        ValueError: a size of 0 or less, or a share outside (0, 1].
    """
    need_positive(memory=memory)
    need_fraction(share=share)
    parts = serving_memory(a, tokens=tokens, dtype=dtype, cache_dtype=cache_dtype)
    return max(0, int((memory * share - parts["weights"]) // parts["cache"]))


def weights_read(a: Architecture, *, batch: int = 1, dtype: str = "bfloat16") -> float:
    """Bytes of weights that one decoding step reads, for the whole batch.

    A dense model is read once. Of experts only those are read that some token of the batch visits: of E with k a token
    these are E·(1 − (1 − k/E)^batch) on average, if the router draws evenly and independently.
    """
    need_positive(batch=batch)
    numbers: float = active_parameters(a)
    if a.experts:
        one = feed_forward_parameters(d=a.d, ff=a.expert_ff or a.ff, gated=a.gated, bias=a.bias)
        visited = a.experts * (1 - (1 - a.experts_per_token / a.experts) ** batch)
        numbers += (a.layers - a.dense_layers) * one * (visited - a.experts_per_token)
    return numbers * bytes_of(dtype)


def decode_bound(
    a: Architecture,
    *,
    bandwidth: float,
    flops: float,
    tokens: int,
    batch: int = 1,
    dtype: str = "bfloat16",
    cache_dtype: str = "bfloat16",
) -> float:
    """The most tokens a second (of all sequences together) at ``tokens`` tokens in each cache.

    A step reads the weights once and every sequence's cache, and computes one token of each sequence; it takes at
    least the longer of the two. Source: the roofline (Williams et al., 2009); Pope et al., 2022 (arXiv:2211.05102),
    section 2.
    """
    need_positive(bandwidth=bandwidth, flops=flops)
    read = weights_read(a, batch=batch, dtype=dtype) + cache_bytes(a, tokens=tokens, batch=batch, dtype=cache_dtype)
    return batch / max(read / bandwidth, batch * forward_flops(a, tokens) / flops)


def prefill_seconds(a: Architecture, *, tokens: int, flops: float, batch: int = 1, utilisation: float = 1.0) -> float:
    """The least seconds to read a prompt of ``tokens`` tokens: all matrix products, the head's for every token."""
    need_positive(flops=flops, batch=batch)
    need_fraction(utilisation=utilisation)
    return batch * tokens * forward_flops(a, tokens) / (flops * utilisation)
