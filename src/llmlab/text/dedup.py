"""Find texts that occur more than once: equal ones by a key, similar ones by MinHash and LSH.

Similar means: the Jaccard similarity of the sets of character n-grams (shingles) is at least a threshold. Comparing all
pairs costs the square of their number. A MinHash signature is a short row of numbers in which two texts agree with
probability equal to their similarity; cut into bands, equal bands meet in a bucket, and only those pairs are compared.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float, UInt32

__all__ = [
    "Duplicates",
    "MinHash",
    "UnionFind",
    "candidate_pairs",
    "clusters",
    "estimated_jaccard",
    "exact_duplicates",
    "jaccard",
    "lsh_threshold",
    "near_duplicates",
    "s_curve",
    "shingles",
]

Pair = tuple[int, int]


def exact_duplicates(texts: Sequence[str], key: Callable[[str], Hashable] = str.strip) -> list[list[int]]:
    """The groups of two or more texts with an equal ``key``, each in order. Keep the first of each group.

    Cost: one pass.
    """
    groups: dict[Hashable, list[int]] = {}
    for index, text in enumerate(texts):
        groups.setdefault(key(text), []).append(index)
    return [group for group in groups.values() if len(group) > 1]


def shingles(text: str, n: int = 5) -> frozenset[str]:
    """The set of ``n`` characters in a row. A text shorter than that is its own only shingle; an empty one has none."""
    if n < 1:
        raise ValueError(f"n={n}: expected 1 or more")
    return frozenset(text[i : i + n] for i in range(max(len(text) - n + 1, 1))) if text else frozenset()


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """Size of the intersection over size of the union; 1 for two empty sets."""
    return len(a & b) / len(a | b) if a or b else 1.0


class MinHash:
    """Signatures of ``size`` numbers; two agree in a share of places that estimates the Jaccard similarity.

    Place k holds the least of a text's shingles under the k-th random order. The estimate has no bias to speak of, and
    a standard error of √(s(1-s)/size): 0.04 at s = 0.5 and 128 places.

    An order is (a·x + b mod 2⁶⁴) / 2³² of the shingle's hash x of 32 bits, a and b random (Dietzfelbinger 1996).
    Source: Broder, 1997, "On the resemblance and containment of documents".

    Args:
        size: places in a signature.
        n: characters in a shingle.
        seed: of the orders. Signatures of different seeds cannot be compared.
    """

    def __init__(self, size: int = 128, n: int = 5, seed: int = 0):
        if size < 1:
            raise ValueError(f"size={size}: expected 1 or more places")
        self.size, self.n = size, n
        rng = np.random.default_rng(seed)
        self._a = rng.integers(0, 2**64, size, dtype=np.uint64)
        self._b = rng.integers(0, 2**64, size, dtype=np.uint64)
        self._hashes: dict[str, int] = {}

    def signatures(self, texts: Sequence[str]) -> UInt32[np.ndarray, "texts size"]:
        """One row a text. An empty text has the largest number everywhere, and agrees with empty texts alone.

        Cost: O(size · characters).
        """
        out = np.full((len(texts), self.size), 2**32 - 1, dtype=np.uint32)
        for index, text in enumerate(texts):
            found = shingles(text, self.n)
            if found:
                x = np.fromiter((self._hash(shingle) for shingle in found), np.uint64, len(found))
                out[index] = ((x[:, None] * self._a + self._b) >> np.uint64(32)).min(0)
        return out

    def _hash(self, shingle: str) -> int:
        """32 bits, the same on every machine and in every process, which Python's own hash is not."""
        known = self._hashes.get(shingle)
        if known is None:
            digest = hashlib.blake2b(shingle.encode("utf-8", "surrogatepass"), digest_size=4).digest()
            known = self._hashes[shingle] = int.from_bytes(digest, "little")
        return known


def estimated_jaccard(
    a: UInt32[np.ndarray, "*rows size"], b: UInt32[np.ndarray, "*rows size"]
) -> Float[np.ndarray, "*rows"]:
    """The share of places in which two signatures agree."""
    return np.asarray((a == b).mean(-1))


# --- from signatures to pairs ---------------------------------------------------------------------------------------


def s_curve(similarity: float | Float[np.ndarray, "*n"], bands: int, rows: int) -> Float[np.ndarray, "*n"]:
    """The probability that two texts meet in at least one of ``bands`` buckets of ``rows`` places: 1 - (1 - sʳ)ᵇ.

    Source: Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, section 3.4.
    """
    return 1 - (1 - np.asarray(similarity, dtype=float) ** rows) ** bands


def lsh_threshold(bands: int, rows: int) -> float:
    """Where the S-curve is steepest, roughly: (1/b)^(1/r). Pairs well above it meet, pairs well below do not."""
    return float((1 / bands) ** (1 / rows))


def candidate_pairs(signatures: UInt32[np.ndarray, "texts size"], bands: int) -> set[Pair]:
    """The pairs (i < j) that agree in all places of at least one band.

    Raises:
        ValueError: the places do not divide into ``bands``.

    Cost: O(texts · bands), and the square of every bucket: put equal texts together before.
    """
    rows = _rows(signatures.shape[1], bands)
    found: set[Pair] = set()
    for band in range(bands):
        buckets: defaultdict[bytes, list[int]] = defaultdict(list)
        for index, part in enumerate(np.ascontiguousarray(signatures[:, band * rows : (band + 1) * rows])):
            buckets[part.tobytes()].append(index)
        for bucket in buckets.values():
            found.update(combinations(bucket, 2))
    return found


class UnionFind:
    """Which of ``size`` things are connected. Cost of a call: almost constant (Tarjan 1975)."""

    def __init__(self, size: int):
        self._parent = list(range(size))

    def find(self, item: int) -> int:
        """The one that stands for the group of ``item``: its least member."""
        root = item
        while self._parent[root] != root:
            root = self._parent[root]
        while self._parent[item] != root:  # the next call has a short way
            self._parent[item], item = root, self._parent[item]
        return root

    def union(self, a: int, b: int) -> None:
        """Connect the groups of ``a`` and ``b``."""
        low, high = sorted((self.find(a), self.find(b)))
        self._parent[high] = low


def clusters(size: int, pairs: Iterable[Pair]) -> list[list[int]]:
    """The groups of two or more among ``size`` texts that ``pairs`` connect, each in order.

    Connection is passed on: the ends of a chain of near copies may have little in common.
    """
    groups = UnionFind(size)
    for a, b in pairs:
        groups.union(a, b)
    members: defaultdict[int, list[int]] = defaultdict(list)
    for index in range(size):
        members[groups.find(index)].append(index)
    return [group for group in members.values() if len(group) > 1]


@dataclass(frozen=True)
class Duplicates:
    """What :func:`near_duplicates` found.

    Attributes:
        clusters: groups of text numbers, each in order; keep the first of each.
        pairs: pairs of distinct texts (by their first numbers) at or above the threshold, with their similarity.
        candidates: pairs of distinct texts that met in a bucket; those not in ``pairs`` were false alarms.
        distinct: texts that remain after exact duplicates are put together.
        texts: all.
    """

    clusters: list[list[int]]
    pairs: dict[Pair, float]
    candidates: int
    distinct: int
    texts: int

    def kept(self) -> list[int]:
        """The numbers of the texts that stay: all but the second and later ones of each cluster."""
        dropped = {index for group in self.clusters for index in group[1:]}
        return [index for index in range(self.texts) if index not in dropped]


def near_duplicates(
    texts: Sequence[str],
    threshold: float = 0.7,
    *,
    n: int = 5,
    bands: int = 32,
    rows: int = 4,
    seed: int = 0,
    key: Callable[[str], str] = str.strip,
) -> Duplicates:
    """Texts that are equal, and those whose shingles are similar. Each pair is checked with the exact similarity.

    So no pair below the threshold is reported; pairs above it are missed with the probability 1 - :func:`s_curve`
    (32 bands of 4: 0.0002 at similarity 0.7, 0.02 at 0.58). A text shorter than ``n`` characters equals only itself.

    Args:
        texts: any.
        threshold: least similarity, above 0 and at most 1.
        n: characters in a shingle: 5 for sentences; smaller sets meet by chance, and larger ones break at every edit.
        bands, rows: the signature has ``bands`` times ``rows`` places.
        seed: of the signatures.
        key: what is compared: lower case, no blanks and the like. The texts themselves stay as they are.

    Raises:
        ValueError: a threshold outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold={threshold}: expected a similarity above 0 and at most 1")
    same: dict[str, list[int]] = {}
    for index, text in enumerate(texts):
        same.setdefault(key(text), []).append(index)
    keys, firsts = list(same), [group[0] for group in same.values()]
    candidates = candidate_pairs(MinHash(bands * rows, n, seed).signatures(keys), bands)
    grams = {index: shingles(keys[index], n) for pair in candidates for index in pair}
    pairs = {}
    for a, b in sorted(candidates):
        similarity = jaccard(grams[a], grams[b])
        if similarity >= threshold:
            pairs[firsts[a], firsts[b]] = similarity
    equal = ((group[0], other) for group in same.values() for other in group[1:])
    return Duplicates(clusters(len(texts), [*equal, *pairs]), pairs, len(candidates), len(keys), len(texts))


def _rows(size: int, bands: int) -> int:
    if bands < 1 or size % bands:
        raise ValueError(f"bands={bands}: expected a divisor of the {size} places of a signature")
    return size // bands
