"""What every estimate needs: bytes of a number, and sentences for sizes that make no sense."""

from __future__ import annotations

__all__ = ["BYTES", "bytes_of", "need_fraction", "need_positive"]

#: bytes of one number. Four bits also need scales, one a block of weights: :func:`llmlab.estimate.quantised_bytes`.
BYTES: dict[str, float] = {
    "float64": 8,
    "float32": 4,
    "bfloat16": 2,
    "float16": 2,
    "float8": 1,
    "int8": 1,
    "int4": 0.5,
}


def bytes_of(dtype: str) -> float:
    """Bytes of one number of ``dtype``.

    Raises:
        ValueError: a dtype not in :data:`BYTES`.
    """
    if dtype not in BYTES:
        raise ValueError(f"dtype={dtype!r}: expected one of {', '.join(BYTES)}")
    return BYTES[dtype]


def need_positive(**sizes: float) -> None:
    """Raise a ValueError that names every size that is not above zero."""
    if bad := {name: size for name, size in sizes.items() if not size > 0}:
        raise ValueError(f"{bad}: expected more than 0 of each")


def need_fraction(**shares: float) -> None:
    """Raise a ValueError that names every share outside (0, 1]."""
    if bad := {name: share for name, share in shares.items() if not 0 < share <= 1}:
        raise ValueError(f"{bad}: expected a share in (0, 1], such as 0.4 for 40 %")
