"""How much of each source: sampling with a temperature, passes over each source, and how even a mixture is."""

from __future__ import annotations

import math
from collections.abc import Mapping

__all__ = ["effective_sources", "passes", "temperature_weights"]


def temperature_weights(sizes: Mapping[str, float], temperature: float = 1.0) -> dict[str, float]:
    """Shares proportional to ``size ** (1 / temperature)``: 1 follows the sizes, infinity gives every source the same.

    The exponent 1 / temperature is 0.7 in multilingual BERT and 0.3 in XLM-R (Conneau et al. 2020, arXiv:1911.02116).

    Raises:
        ValueError: no source, a size that is not positive, or a temperature that is not.
    """
    if not sizes or not all(size > 0 for size in sizes.values()) or not temperature > 0:
        raise ValueError(f"sizes={dict(sizes)}, temperature={temperature}: expected positive sizes and temperature")
    raised = {name: math.exp(math.log(size) / temperature) for name, size in sizes.items()}
    total = sum(raised.values())
    return {name: value / total for name, value in raised.items()}


def passes(sizes: Mapping[str, float], weights: Mapping[str, float], budget: float) -> dict[str, float]:
    """How often each source is read when ``budget`` tokens are drawn by ``weights`` (which are shared out of their
    sum): below 1 a part is never seen, and beyond about 4 reading again is worth less than fresh text (Muennighoff et
    al. 2023, arXiv:2305.16264).

    Raises:
        ValueError: a source with a weight and without a size.
    """
    lacking = [name for name in weights if not sizes.get(name, 0) > 0]
    if lacking:
        raise ValueError(f"weights of {', '.join(lacking)}, which have no positive size; sizes: {dict(sizes)}")
    total = sum(weights.values())
    return {name: budget * weight / total / sizes[name] for name, weight in weights.items()}


def effective_sources(weights: Mapping[str, float]) -> float:
    """exp of the entropy of the shares: n for n even sources, 1 for a single one, 1.6 for shares of 4 : 1.

    It counts sources by their size in the mixture, and knows nothing of what is in them.
    """
    total = sum(weights.values())
    shares = [weight / total for weight in weights.values() if weight > 0]
    return math.exp(-sum(share * math.log(share) for share in shares))
