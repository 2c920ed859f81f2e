"""How to spend a budget of operations: the model's size and the number of tokens that give the least loss."""

from __future__ import annotations

from typing import NamedTuple

from llmlab.estimate.sizes import need_positive

__all__ = ["BESIROGLU", "HOFFMANN", "HOFFMANN_PRINTED", "Fit", "balanced", "compute_optimal", "fitted_loss"]


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
