"""LIME for text: explain one prediction by a linear model that is fitted around it.

Source: Ribeiro, Singh and Guestrin, "Why Should I Trust You?" (2016), arXiv:1602.04938, section 3. With ``z`` a vector
that says which units of the text are kept, ``f`` the model's probability of one class, the explanation is the linear
``g(z) = b + w.z`` that minimises (equations 1 and 2)

    sum_z  pi(z) * (f(text kept by z) - g(z))**2  +  alpha * |w|**2,       pi(z) = exp(-D(z)**2 / sigma**2)

The paper fits K chosen features by least squares; the authors' package ``lime`` fits a ridge regression with alpha = 1
and takes the square root of pi. Given the same seed and settings, what stands here equals the package's numbers.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

__all__ = ["Explanation", "Units", "ask", "cut", "explain", "fit", "kernel", "sample_masks", "weighted_ridge"]

#: What is explained: a list of n texts in, an array (n, classes) of probabilities out.
PredictProba = Callable[[list[str]], Shaped[np.ndarray, "n classes"]]
#: How a text is cut: a function to a list of tokens (``list``, ``jieba.lcut``), or a pattern of what separates them.
Split = Callable[[str], Sequence[str]] | str


@dataclass(frozen=True)
class Units:
    """A text cut into the units that can be taken away.

    ``pieces`` joined give the text back; ``places[u]`` says which pieces belong to unit ``u``. What stands between the
    units (spaces, and with a pattern the punctuation) is no unit and always stays.
    """

    pieces: tuple[str, ...]
    names: tuple[str, ...]
    places: tuple[tuple[int, ...], ...]
    mask_string: str = ""

    def __len__(self) -> int:
        return len(self.names)

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.pieces)

    def without(self, removed: Iterable[int]) -> str:
        """The text with the units ``removed`` taken out (or replaced by ``mask_string``)."""
        gone = {place for unit in removed for place in self.places[unit]}
        return "".join(self.mask_string if i in gone else piece for i, piece in enumerate(self.pieces))

    def texts(self, masks: Shaped[np.ndarray, "n units"]) -> list[str]:
        """One text a row of ``masks``, where 0 or False takes the unit of that column away."""
        return [self.without(np.flatnonzero(row == 0)) for row in np.asarray(masks)]


def cut(text: str, split: Split = list, *, bow: bool = True, mask_string: str = "") -> Units:
    """Cut ``text`` into units.

    Args:
        text: the text to explain.
        split: ``list`` for characters, ``jieba.lcut`` for Chinese words, any function to tokens that stand in the text
            in this order, or a regular expression for what separates units (the package's default is ``r"\\W+"``).
        bow: equal tokens are one unit and go together, as for a bag-of-words model. False: one unit a position.
        mask_string: with ``bow=False``, what stands for a unit taken away. (The package's default is ``"UNKWORDZ"``,
            which is 8 characters more for a model that reads characters; ours is nothing.)

    Raises:
        TypeError: ``text`` is no string.
        ValueError: no unit, or one only; tokens that do not stand in the text; ``mask_string`` with ``bow=True``.
    """
    if not isinstance(text, str):
        raise TypeError(f"cut() explains one text at a time: expected a str, got {type(text).__name__}")
    if bow and mask_string:
        raise ValueError(
            f"mask_string={mask_string!r} is used with bow=False only: with bow=True a unit is taken out everywhere"
        )
    pieces, is_unit = _by_pattern(text, split) if isinstance(split, str) else _by_tokens(text, list(split(text)))
    where: dict[object, list[int]] = {}
    for i, piece in enumerate(pieces):
        if is_unit(piece):
            where.setdefault(piece if bow else i, []).append(i)
    if len(where) < 2:
        found = repr([pieces[p[0]] for p in where.values()])
        raise ValueError(
            f"a linear model around a text needs two units or more, and the text {text[:40]!r} has {len(where)}: "
            f"{found}. Give a longer text, or a finer split (split=list cuts into characters)"
        )
    names = tuple(pieces[p[0]] for p in where.values())
    return Units(tuple(pieces), names, tuple(map(tuple, where.values())), mask_string)


def _by_pattern(text: str, pattern: str) -> tuple[list[str], Callable[[str], bool]]:
    """Pieces between and of the separators; a piece is a unit unless the separator matches at its start."""
    separator = re.compile(rf"({pattern})|$")
    return [piece for piece in separator.split(text) if piece], lambda piece: not separator.match(piece)


def _by_tokens(text: str, tokens: list[str]) -> tuple[list[str], Callable[[str], bool]]:
    """The tokens and what stands between them; a piece is a unit if it is one of the tokens."""
    pieces, at = [], 0
    for token in tokens:
        start = text.find(token, at)
        if start < 0:
            raise ValueError(
                f"the split gave the token {token!r}, which does not stand in the rest of the text {text[at:][:40]!r}: "
                "it must cut the text, not change it (no lower-casing, no added marks)"
            )
        pieces += [text[at:start], token] if start > at else [token]
        at = start + len(token)
    known = set(tokens) - {""}
    return [piece for piece in [*pieces, text[at:]] if piece], lambda piece: piece in known


def sample_masks(n_units: int, n_samples: int, random: np.random.RandomState) -> Float[np.ndarray, "n_samples n_units"]:
    """Which units stay in each perturbed text; the first row is the text itself.

    The *number* of units that go is drawn uniformly from 1 to all of them, then which ones. So half of the texts have
    lost more than half of their units: the neighbourhood is wide before any kernel. (Paper: "uniformly at random
    (where the number of such draws is also uniformly sampled)", section 3.3.) The draws are in the package's order.
    """
    if n_samples < 2:
        raise ValueError(f"n_samples={n_samples}: the text itself is the first sample, so two or more are needed")
    sizes = random.randint(1, n_units + 1, n_samples - 1)
    masks = np.ones((n_samples, n_units))
    for row, size in enumerate(sizes, start=1):
        masks[row, random.choice(n_units, size, replace=False)] = 0
    return masks


def kernel(masks: Float[np.ndarray, "n units"], width: float = 25.0) -> Float[np.ndarray, " n"]:
    """How much each perturbed text counts: ``sqrt(exp(-D**2 / width**2))``, D = 100 * cosine distance to the text.

    The text itself is the vector of ones, so the distance depends on the *share* s of units kept alone:
    ``D = 100 * (1 - sqrt(s))``. The factor 100 is the package's; without it a width of 25 weighs all texts alike.
    """
    if not width > 0:
        raise ValueError(f"kernel width {width}: expected a positive number (the package's default is 25)")
    distance = 100 * (1 - np.sqrt(np.asarray(masks, float).mean(axis=1)))
    return np.sqrt(np.exp(-(distance**2) / width**2))


def weighted_ridge(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, " n"], weight: Float[np.ndarray, " n"], alpha: float = 1.0
) -> tuple[Float[np.ndarray, " d"], float]:
    """The ``(w, b)`` that minimise ``sum_i weight_i * (y_i - b - w.x_i)**2 + alpha * |w|**2``; b is not shrunk.

    Subtracting the weighted means takes b out; then the normal equations are solved, O(n d^2 + d^3).
    """
    share = weight / weight.sum()
    x_mean, y_mean = share @ x, share @ y
    xc, yc = x - x_mean, y - y_mean
    gram = (xc * weight[:, None]).T @ xc + alpha * np.eye(x.shape[1])
    moment = (xc * weight[:, None]).T @ yc
    w = np.linalg.solve(gram, moment) if alpha > 0 else np.linalg.lstsq(gram, moment, rcond=None)[0]
    return w, float(y_mean - x_mean @ w)


def weighted_r2(y: Float[np.ndarray, " n"], guess: Float[np.ndarray, " n"], weight: Float[np.ndarray, " n"]) -> float:
    """1 - weighted residual / weighted variance. A constant ``y`` has no variance to explain: then ``nan``.

    (scikit-learn, and with it the package's ``score``, answers 1.0 there: a perfect mark for an empty explanation.)
    """
    spread = float(weight @ (y - weight @ y / weight.sum()) ** 2)
    return float("nan") if spread <= 1e-24 * weight.sum() else 1 - float(weight @ (y - guess) ** 2) / spread


@dataclass(frozen=True)
class Explanation:
    """A linear model of the classifier around one text: ``intercept + weights.z``."""

    units: Units
    weights: Float[np.ndarray, " units"]
    intercept: float
    label: int
    prediction: float
    """What the model says for the whole text."""
    r2: float
    """Weighted R^2 on the samples that the surrogate was fitted to. On fresh ones: ``local_fidelity``."""
    width: float
    n_samples: int

    @property
    def surrogate(self) -> float:
        """What the linear model says for the whole text. Compare with ``prediction``."""
        return float(self.intercept + self.weights.sum())

    def order(self) -> Int[np.ndarray, " units"]:
        """Units from the largest absolute weight to the smallest; equal ones in the order of the text."""
        return np.argsort(-np.abs(self.weights), kind="stable")

    def top(self, k: int = 10) -> list[tuple[str, float]]:
        """The k units with the largest absolute weights, with their weights."""
        return [(self.units.names[u], float(self.weights[u])) for u in self.order()[:k]]


def explain(
    text: str | Units,
    predict_proba: PredictProba,
    *,
    label: int = 1,
    split: Split = list,
    bow: bool = True,
    mask_string: str = "",
    n_samples: int = 1000,
    width: float = 25.0,
    alpha: float = 1.0,
    n_features: int | None = None,
    select: str = "auto",
    allow_labels: bool = False,
    seed: int | np.random.RandomState = 0,
) -> Explanation:
    """Explain the probability of ``label`` for one text: ``n_samples`` calls of the model, then a weighted ridge.

    Args:
        text: a string, cut by :func:`cut` with ``split``, ``bow`` and ``mask_string``; or units already cut.
        predict_proba: a list of n texts in, probabilities (n, classes) out.
        label: the column to explain.
        n_samples: texts to ask about, the text itself among them.
        width, alpha: of :func:`kernel` and :func:`weighted_ridge`.
        n_features: keep this many units and give the others the weight 0 (the package's ``num_features``). None: all.
        select: how they are chosen: ``"forward_selection"``, ``"highest_weights"``, or ``"auto"`` as in the package
            (forward for 6 or fewer).
        allow_labels: explain a model whose probabilities are all 0 or 1. Otherwise that is taken for a mistake.
        seed: an int or a ``RandomState``. The same seed gives the package's samples.

    Raises:
        TypeError, ValueError: see :func:`cut` and :func:`ask`.
    """
    units = text if isinstance(text, Units) else cut(text, split, bow=bow, mask_string=mask_string)
    random = seed if isinstance(seed, np.random.RandomState) else np.random.RandomState(seed)
    masks = sample_masks(len(units), n_samples, random)
    y = ask(predict_proba, units.texts(masks), label, allow_labels=allow_labels)
    return fit(units, masks, y, label=label, width=width, alpha=alpha, n_features=n_features, select=select)


def fit(
    units: Units,
    masks: Float[np.ndarray, "n units"],
    y: Float[np.ndarray, " n"],
    *,
    label: int = 1,
    width: float = 25.0,
    alpha: float = 1.0,
    n_features: int | None = None,
    select: str = "auto",
) -> Explanation:
    """The second half of LIME: from what the model answered to the linear model. The first row is the text itself.

    Apart from :func:`explain`, it serves to fit again without asking again: another width, fewer samples, log-odds.

    Raises:
        ValueError: not one answer a mask, not one column a unit, or a first mask that lacks a unit.
    """
    if masks.shape != (len(y), len(units)) or not np.all(masks[0] == 1):
        raise ValueError(
            f"fit() got masks of shape {masks.shape} and {len(y)} answers for {len(units)} units: expected one "
            "answer a row, one column a unit, and the whole text (all ones) as the first row"
        )
    weight = kernel(masks, width)
    used = _select(masks, y, weight, n_features, select)
    w, b = weighted_ridge(masks[:, used], y, weight, alpha)
    weights = np.zeros(len(units))
    weights[used] = w
    r2 = weighted_r2(y, masks @ weights + b, weight)
    return Explanation(units, weights, b, label, float(y[0]), r2, width, len(y))


def _select(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, " n"], weight: Float[np.ndarray, " n"], k: int | None, how: str
) -> list[int]:
    """The columns the surrogate may use."""
    if how not in ("auto", "forward_selection", "highest_weights"):
        raise ValueError(f"select={how!r}: expected 'auto', 'forward_selection' or 'highest_weights'")
    if k is None or k >= x.shape[1]:
        return list(range(x.shape[1]))
    if k < 1:
        raise ValueError(f"n_features={k}: expected 1 or more, or None for all units")
    if how == "highest_weights" or (how == "auto" and k > 6):
        w, _ = weighted_ridge(x, y, weight, 0.01)
        return [int(u) for u in np.argsort(-np.abs(w), kind="stable")[:k]]
    used: list[int] = []
    for _ in range(k):  # the unit that raises R^2 most, k times
        rest = [u for u in range(x.shape[1]) if u not in used]
        fits = [weighted_ridge(x[:, [*used, u]], y, weight, 0.0) for u in rest]
        scores = [weighted_r2(y, x[:, [*used, u]] @ w + b, weight) for u, (w, b) in zip(rest, fits)]
        used.append(rest[int(np.nanargmax(scores))] if not np.isnan(scores).all() else rest[0])
    return used


def ask(
    predict_proba: PredictProba, texts: list[str], label: int, *, allow_labels: bool = False
) -> Float[np.ndarray, " n"]:
    """Call the model on all texts and return the probability of ``label``, after checking that it is one.

    Raises:
        TypeError: the model is not callable (a module or an estimator was given instead of its method).
        ValueError: labels instead of probabilities, a wrong shape, rows that do not sum to one, NaN, no such class.
    """
    if not callable(predict_proba):
        kind = type(predict_proba).__name__
        raise TypeError(f"predict_proba is a {kind}, not a function: give its method, e.g. model.predict_proba")
    p = np.asarray(predict_proba(texts))
    want = f"LIME needs probabilities, shape ({len(texts)}, classes), for {len(texts)} texts"
    if p.ndim == 1 and len(p) == len(texts):
        raise ValueError(f"{want}; the function returned one {p.dtype} each: labels? Use predict_proba, not predict")
    if p.ndim != 2 or len(p) != len(texts) or p.shape[1] < 2:
        raise ValueError(f"{want}; the function returned shape {p.shape}")
    if not np.issubdtype(p.dtype, np.number) or not np.isfinite(p).all():
        raise ValueError(f"{want}; the function returned {p.dtype} values that are not all finite numbers")
    off = np.abs(p.sum(axis=1) - 1).max()
    if off > 1e-3 or p.min() < -1e-6:
        raise ValueError(f"{want}; a row sums to {1 + off:.4g} or holds a negative: logits? Apply a softmax first")
    if not -p.shape[1] <= label < p.shape[1]:
        raise ValueError(f"label={label}: the model has the classes 0 to {p.shape[1] - 1}")
    if not allow_labels and len(p) > 1 and np.isin(p, (0, 1)).all():
        raise ValueError(
            f"{want}; every value is exactly 0 or 1: one-hot labels, which hide how sure the model is. "
            "Give probabilities, or allow_labels=True if the model really is that sure"
        )
    return p[:, label].astype(float)


@cache
def all_masks(n_units: int) -> Bool[np.ndarray, "two_to_the_units n_units"]:
    """Every way to keep or take away ``n_units`` units; all kept first, none kept last. Read-only."""
    masks = np.array(list(itertools.product([True, False], repeat=n_units)))
    masks.flags.writeable = False
    return masks
