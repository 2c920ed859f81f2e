"""How to spend a budget of operations: the model's size and the tokens that give the least loss, for training alone and
over a lifetime; and what tokens are worth that were read before."""

from __future__ import annotations

import math
from typing import NamedTuple

from llmlab.estimate.sizes import need_positive

__all__ = [
    "BESIROGLU",
    "HOFFMANN",
    "HOFFMANN_PRINTED",
    "MUENNIGHOFF",
    "Fit",
    "balanced",
    "cheapest",
    "compute_optimal",
    "effective_tokens",
    "fitted_loss",
    "least_compute",
    "tokens_for",
]


class Fit(NamedTuple):
    """Loss = E + A / N^alpha + B / D^beta, in nats a token, for N parameters and D tokens."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float


#: Hoffmann et al., 2022 (arXiv:2203.15556), approach 3, with the digits of the paper's TeX source that Besiroglu et al.
#: report; these give its table A3. The printed ones are rounded, which moves the optimum by a fifth.
HOFFMANN = Fit(E=1.6934, A=406.4, B=410.7, alpha=0.3392, beta=0.2849)
#: the same as printed, equation 10
HOFFMANN_PRINTED = Fit(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
#: the data of that paper's figure 4, fitted again by Besiroglu et al., 2024 (arXiv:2404.10102): agrees with its
#: approaches 1 and 2, about 20 tokens a parameter
BESIROGLU = Fit(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658)
#: R of :func:`effective_tokens`, fitted to English web text by Muennighoff et al., 2023 (arXiv:2305.16264), appendix A
MUENNIGHOFF = 15.387756


def fitted_loss(parameters: float, tokens: float, *, fit: Fit = BESIROGLU) -> float:
    """The loss, in nats a token, that the fit predicts for its own data and architecture."""
    need_positive(parameters=parameters, tokens=tokens)
    return fit.E + fit.A / parameters**fit.alpha + fit.B / tokens**fit.beta


def compute_optimal(flops: float, *, fit: Fit = BESIROGLU) -> tuple[float, float]:
    """Parameters N and tokens D with the least fitted loss among all with 6ND = ``flops``.

    N = G · (C/6)^(β/(α+β)) with G = (αA/βB)^(1/(α+β)), and D = C/6N. Source: Hoffmann et al., 2022
    (arXiv:2203.15556), equation 4.
    """
    need_positive(flops=flops)
    alpha, beta = fit.alpha, fit.beta
    constant = (alpha * fit.A / (beta * fit.B)) ** (1 / (alpha + beta))
    parameters = constant * (flops / 6) ** (beta / (alpha + beta))
    return parameters, flops / 6 / parameters


def balanced(flops: float, *, tokens_per_parameter: float = 20) -> tuple[float, float]:
    """Parameters and tokens with 6ND = ``flops`` at a fixed ratio: 20 is what Chinchilla was trained with."""
    need_positive(flops=flops, tokens_per_parameter=tokens_per_parameter)
    parameters = (flops / 6 / tokens_per_parameter) ** 0.5
    return parameters, tokens_per_parameter * parameters


def tokens_for(loss: float, parameters: float, *, fit: Fit = BESIROGLU) -> float:
    """Tokens with which a model of this size reaches ``loss``; infinite if no number of tokens does."""
    need_positive(loss=loss, parameters=parameters)
    left = loss - fit.E - fit.A / parameters**fit.alpha
    return (fit.B / left) ** (1 / fit.beta) if left > 0 else math.inf


def least_compute(loss: float, *, fit: Fit = BESIROGLU) -> tuple[float, float]:
    """Parameters and tokens that reach ``loss`` with the least 6ND: the inverse of :func:`compute_optimal`.

    At the optimum α·A/N^α = β·B/D^β, so the excess over E is shared in the ratio 1/α to 1/β.

    Raises:
        ValueError: a loss at or below E, which no model reaches.
    """
    if not loss > fit.E:
        raise ValueError(f"loss={loss}: expected more than E = {fit.E}, which no model and no text gets below")
    part = (loss - fit.E) * fit.beta / (fit.alpha + fit.beta)
    parameters = (fit.A / part) ** (1 / fit.alpha)
    return parameters, (fit.B / (loss - fit.E - part)) ** (1 / fit.beta)


def cheapest(loss: float, served: float, *, fit: Fit = BESIROGLU) -> tuple[float, float]:
    """Parameters and tokens that reach ``loss`` with the least operations over a lifetime: 6ND + 2N · ``served``.

    ``served`` tokens are read or written by the finished model, each for 2N operations. The more there are, the smaller
    and the longer trained the best model. Source: Sardana et al., 2023 (arXiv:2401.00448), equation 1.

    Raises:
        ValueError: a loss at or below E, or fewer than 0 served tokens.
    """
    if not served >= 0:
        raise ValueError(f"served={served}: expected 0 or more tokens")
    high = math.log(least_compute(loss, fit=fit)[0])
    low = math.log(fit.A / (loss - fit.E)) / fit.alpha  # a smaller model never gets there

    def cost(log_n: float) -> float:
        n = math.exp(log_n)
        tokens = tokens_for(loss, n, fit=fit)
        return math.log(n) + math.log(6 * tokens + 2 * served) if tokens < math.inf else math.inf

    for _ in range(200):  # the cost has one valley
        a, b = low + 0.382 * (high - low), low + 0.618 * (high - low)
        low, high = (low, b) if cost(a) < cost(b) else (a, high)
    parameters = math.exp((low + high) / 2)
    return parameters, tokens_for(loss, parameters, fit=fit)


def effective_tokens(unique: float, epochs: float, *, decay: float = MUENNIGHOFF) -> float:
    """Fresh tokens that are worth as much as ``unique`` tokens read ``epochs`` times.

    U + U·R·(1 − exp(−(epochs − 1)/R)): the value of an epoch decays, and all together are worth at most U·(1 + R). It
    never falls, so it knows nothing of overfitting. Source: Muennighoff et al., 2023 (arXiv:2305.16264), section 3.1;
    R from its appendix A.

    Raises:
        ValueError: no token, less than one epoch, or a decay of 0 or less.
    """
    need_positive(unique=unique, decay=decay)
    if not epochs >= 1:
        raise ValueError(f"epochs={epochs}: expected 1 or more")
    return unique * (1 + decay * (1 - math.exp(-(epochs - 1) / decay)))
