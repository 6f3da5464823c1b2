"""Measure how far two computations of the same texts agree, for the results of every kind of encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...protocol.wire.arrays import Array

COSINE = {"float32": 1 - 1e-5}
COSINE_OF_HALF = 0.999
"""Rounding to bfloat16 alone takes 0.00006 off the cosine of MiniLM."""
SCORE = {"float32": 1 - 1e-4}
SCORE_OF_HALF = 0.98


def agree(found: float, ours: Any, dtype: str) -> bool:
    """Whether `found`, the agreement of `ours` with another computation, is close enough in this dtype."""
    if _is_scores(ours):
        return found >= SCORE.get(dtype, SCORE_OF_HALF)
    return found >= COSINE.get(dtype, COSINE_OF_HALF)


def agreement(ours: Any, theirs: Any) -> float:
    """The smallest cosine between two `compute` results, vector by vector; for scores, 1 minus the largest difference. -1 if
    shapes differ, and NaN if a result is not a number."""
    if _is_scores(ours):
        return 1.0 - float(np.abs(ours - theirs).max(initial=0.0))
    return min((_of_row(one, other) for one, other in zip(ours, theirs, strict=True)), default=1.0)


def _is_scores(part: Any) -> bool:
    return isinstance(part, np.ndarray) and part.ndim == 1


def _of_row(one: Any, other: Any) -> float:
    if isinstance(one, tuple):
        return _of_sparse(one, other)
    if isinstance(one, np.ndarray):
        return _least_cosine(*(np.atleast_2d(some).astype(np.float32) for some in (one, other)))
    return min(_of_row(getattr(one, name), getattr(other, name)) for name in ("dense", "sparse", "colbert"))


def _of_sparse(one: Sequence[Array], other: Sequence[Array]) -> float:
    width = 1 + max((int(indices.max(initial=0)) for indices, _ in (one, other)), default=0)
    whole = np.zeros((2, width), np.float32)
    for row, (indices, values) in zip(whole, (one, other), strict=True):
        row[indices] = values
    return 1.0 if not whole.any() else _least_cosine(whole[:1], whole[1:])


def _least_cosine(one: Array, other: Array) -> float:
    if one.shape != other.shape:
        return -1.0
    sizes = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    cosines = np.einsum("ij,ij->i", one, other) / np.maximum(sizes, np.finfo(np.float32).tiny)
    return float(np.min(cosines, initial=1.0))
