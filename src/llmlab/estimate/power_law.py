"""A power law with a floor through measured losses: loss = E + A · tokens^-beta, with an interval for each number."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray

__all__ = ["PowerLaw", "bootstrap_power_law", "fit_power_law"]


class PowerLaw(NamedTuple):
    """Loss = E + A / tokens^beta, in nats, and the sum of squares that the fit leaves."""

    E: float
    A: float
    beta: float
    residual: float = 0.0

    def __call__(self, tokens: ArrayLike) -> NDArray[np.float64]:
        """The loss at so many tokens."""
        return self.E + self.A * np.asarray(tokens, float) ** -self.beta

    def tokens_for(self, loss: float) -> float:
        """The tokens that reach ``loss``; infinite at or below the floor E."""
        return float((self.A / (loss - self.E)) ** (1 / self.beta)) if loss > self.E else float("inf")


def fit_power_law(
    tokens: Float[ArrayLike, " runs"], losses: Float[ArrayLike, " runs"], *, floor: float | None = None
) -> PowerLaw:
    """The power law with the least sum of squares of the relative errors of the loss.

    For a given floor the law is a line in logarithms, so the search runs over E alone: a grid from 0 to just below the
    lowest loss, then a finer one around the best. E ≥ 0, since a cross-entropy cannot be less.

    Args:
        floor: fix E at this; 0 is the pure power law. None: E is fitted.

    Raises:
        ValueError: fewer runs than free numbers or sizes that do not fit; values that are not positive; a floor that is
            not below every loss.

    Source of the form: Hoffmann et al., 2022 (arXiv:2203.15556), equation 2, at one model size.
    """
    x, y = np.asarray(tokens, float), np.asarray(losses, float)
    free = 3 if floor is None else 2
    if x.shape != y.shape or x.ndim != 1 or len(np.unique(x)) < free:
        raise ValueError(
            f"{x.shape} tokens and {y.shape} losses: expected as many of each, at {free} different sizes or more"
        )
    if not (x > 0).all() or not (y > 0).all():
        raise ValueError("tokens and losses must be positive")
    if floor is not None:
        if not 0 <= floor < y.min():
            raise ValueError(f"floor={floor}: expected at least 0 and less than the lowest loss, {y.min():.4f}")
        return _given(x, y, np.array([floor]))[0]
    low, high = 0.0, float(y.min()) * (1 - 1e-6)
    for _ in range(8):
        grid = np.linspace(low, high, 41)
        laws = _given(x, y, grid)
        best = min(range(41), key=lambda i: laws[i].residual)
        low, high = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, 40)])
    return laws[best]


def _given(x: NDArray[np.float64], y: NDArray[np.float64], floors: NDArray[np.float64]) -> list[PowerLaw]:
    """The best law for each of these floors: a weighted line in logarithms, then Gauss and Newton's steps."""
    excess = y - floors[:, None]
    log_a, beta = _line(np.log(x), np.log(excess), (excess / y) ** 2)
    for _ in range(8):
        guess = np.exp(log_a - beta * np.log(x))
        more = _line(np.log(x), (excess - guess) / guess, (guess / y) ** 2)
        log_a, beta = log_a + more[0], beta + more[1]
    residual = (((excess - np.exp(log_a - beta * np.log(x))) / y) ** 2).sum(1)
    columns = (floors, np.exp(log_a)[:, 0], beta[:, 0], residual)
    return [PowerLaw(*map(float, row)) for row in zip(*columns)]


def _line(
    u: NDArray[np.float64], z: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weighted least squares of z = a - b·u for every row of z: a and b as columns."""
    share = weight / weight.sum(1, keepdims=True)
    mean_u, mean_z = (share * u).sum(1, keepdims=True), (share * z).sum(1, keepdims=True)
    slope = (share * (u - mean_u) * (z - mean_z)).sum(1, keepdims=True) / (share * (u - mean_u) ** 2).sum(
        1, keepdims=True
    )
    return mean_z - slope * mean_u, -slope


def bootstrap_power_law(
    tokens: Float[ArrayLike, " runs"], losses: Float[ArrayLike, " runs"], *, rounds: int = 200, seed: int = 0
) -> list[PowerLaw]:
    """Fits of data that might have been: the fitted losses, each moved by a relative residual of the fit drawn with
    replacement (and enlarged for the three numbers that were fitted). Quantiles of what they say are an interval.

    A run's residual holds its seed's luck and the law's own misfit; neither is known from two or three seeds a size.

    Raises:
        ValueError: as :func:`fit_power_law`; fewer than 4 runs.
    """
    x, y = np.asarray(tokens, float), np.asarray(losses, float)
    law = fit_power_law(x, y)
    if len(x) < 4:
        raise ValueError(f"{len(x)} runs: expected 4 or more, since three numbers are fitted")
    residuals = (y - law(x)) / law(x) * (len(x) / (len(x) - 3)) ** 0.5
    rng = np.random.default_rng(seed)
    return [fit_power_law(x, law(x) * (1 + rng.choice(residuals, len(x)))) for _ in range(rounds)]
