"""From the outputs of a graph (`graph.py`) to the results of a kind of encoder, on the host, in float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...protocol.wire.arrays import Array
from ..encoders.base import BoolArray, FloatArray
from ..encoders.heads import M3Row
from .record import ModelRecord

TINY = 1e-12
"""The smallest length by which a vector is divided, as in torch."""


@dataclass(frozen=True, slots=True)
class ResultOptions:
    """The options of a pass that change its results."""

    dim: int = 0
    """Leading components of dense vectors that are kept."""
    most: int | None = None
    """The most weights of a sparse vector."""
    pooling: Callable[[FloatArray], FloatArray] | None = None
    """Token pooling of a text's multivector."""


def results_of(record: ModelRecord, outputs: Sequence[Array], inputs: Sequence[Array], options: ResultOptions) -> Any:
    """The `compute` result of these texts. A text whose token vectors are not finite has a result that is not finite either."""
    *found, check = outputs
    return _RESULTS[record.kind](record, found, inputs, ~np.isfinite(check), options)


def _dense(_: ModelRecord, found: Sequence[Array], _inputs: Any, bad: BoolArray, options: ResultOptions) -> FloatArray:
    vectors = unit(found[0][:, : options.dim])
    vectors[bad] = np.nan
    return vectors


def _score(record: ModelRecord, found: Sequence[Array], _inputs: Any, bad: BoolArray, _: ResultOptions) -> FloatArray:
    scores: FloatArray = found[0].reshape(-1)
    if record.activation == "Sigmoid":
        with np.errstate(over="ignore"):
            scores = np.reciprocal(1 + np.exp(-scores))
    scores[bad] = np.nan
    return scores


def _sparse(_: ModelRecord, found: Sequence[Array], _inputs: Any, bad: BoolArray, options: ResultOptions) -> list[Any]:
    rows = [_active(row, options.most) for row in found[0]]
    for row in np.flatnonzero(bad).tolist():
        rows[row] = (np.zeros(1, np.uint32), np.full(1, np.nan, np.float32))
    return rows


def _active(weights: Array, most: int | None) -> tuple[Array, Array]:
    """The nonzero weights, at most so many, by index."""
    indices = np.flatnonzero(weights)
    if most is not None and len(indices) > most:
        largest = np.argpartition(-np.abs(weights[indices]), most - 1)[:most]
        indices = np.sort(indices[largest])
    return indices.astype(np.uint32), weights[indices]


def _multivector(
    record: ModelRecord, found: Sequence[Array], inputs: Sequence[Array], bad: BoolArray, options: ResultOptions
) -> list[FloatArray]:
    ids, mask, *_ = inputs
    kept = (mask == 1) & ~np.isin(ids, record.skipped)
    if record.kept is not None:
        kept &= np.isin(ids, record.kept)
    rows = [vectors[chosen] for vectors, chosen in zip(found[0], kept, strict=True)]
    if record.normalizes:
        rows = [unit(row) for row in rows]
    for row in np.flatnonzero(bad).tolist():
        rows[row][:] = np.nan
    return _pooled(rows, options)


def _heads(
    record: ModelRecord, found: Sequence[Array], inputs: Sequence[Array], bad: BoolArray, options: ResultOptions
) -> list[M3Row]:
    ids, mask, *_ = inputs
    rows: list[M3Row] = []
    for at, chosen in enumerate(mask == 1):
        hidden, weights, late = (one[at][chosen] for one in found)
        dense = unit(hidden[:1, : options.dim])[0]
        if bad[at]:
            dense[:] = np.nan
        (colbert,) = _pooled([unit(late[1:])], options)
        rows.append(M3Row(dense, _term_weights(ids[at][chosen], weights, record.special), colbert))
    return rows


def _term_weights(ids: Array, weights: Array, special: Sequence[int]) -> tuple[Array, Array]:
    """The largest weight of each token id, without special tokens and zeros."""
    weights = np.maximum(weights, 0)  # NaN stays
    kept = ~np.isin(ids, special) & (weights != 0)
    terms, place = np.unique(ids[kept], return_inverse=True)
    largest = np.zeros(len(terms), np.float32)
    np.maximum.at(largest, place, weights[kept])
    return terms.astype(np.uint32), largest


def _pooled(rows: list[FloatArray], options: ResultOptions) -> list[FloatArray]:
    return rows if options.pooling is None else [options.pooling(row) for row in rows]


def unit(vectors: Array) -> FloatArray:
    """The vectors (n, dim) with length 1."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=TINY)


_RESULTS: dict[str, Callable[[ModelRecord, Sequence[Array], Sequence[Array], BoolArray, ResultOptions], Any]] = {
    "dense": _dense,
    "sparse": _sparse,
    "multivector": _multivector,
    "rerank": _score,
    "bge-m3": _heads,
}
