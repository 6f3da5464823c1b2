"""Ensembles: one dense vector made of several models' vectors, for rows and for queries in the same way.

concat   each member, scaled by the root of its weight, one after another: the dot product of two such vectors is the
         weighted mean of the members' cosines
average  the weighted sum of the members, normalized again; for models whose spaces agree in dimension *and* meaning,
         such as fine-tunings of one model. Of unrelated models it is noise. With `project`, longer members are brought
         down to the dimensions of the shortest one first (see `projection.py`)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from .errors import UsageError
from .projection import projection

Method = Literal["concat", "average"]
FloatArray = npt.NDArray[np.float32]

SHORTEST = 1e-6
"""A sum shorter than this has no direction: its members cancel each other out."""


class EnsembleSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One aggregated vector. `weights` are one for each member, positive; they count relative to their sum."""

    vector: str
    method: Method
    members: tuple[str, ...]
    """Names of dense vectors of the run."""
    weights: tuple[float, ...]
    project: bool = False
    """average: members may differ in their dimensions."""

    @property
    def shares(self) -> tuple[float, ...]:
        """The weights, made to sum to 1."""
        total = math.fsum(self.weights)
        return tuple(weight / total for weight in self.weights)


def check_ensemble(one: EnsembleSpec, dense: Sequence[str]) -> None:
    """Raise UsageError for an ensemble that cannot be made of the run's dense vectors."""
    flag = f"--ensemble {one.method}"
    for name in one.members:
        if name not in dense:
            raise UsageError(f"{flag}: {name!r} is no dense vector of this run; it has {', '.join(dense) or 'none'}")
    if len(one.members) < 2 or len(set(one.members)) < len(one.members):
        raise UsageError(f"{flag}: give at least two different dense models, with --dense or --heads")
    if len(one.weights) != len(one.members):
        raise UsageError(
            f"--weights: {len(one.weights)} weights for {len(one.members)} dense vectors; give one for each, "
            f"in the order {', '.join(one.members)}"
        )
    if not all(math.isfinite(weight) and weight > 0 for weight in one.weights):
        raise UsageError(f"--weights {','.join(f'{weight:g}' for weight in one.weights)}: give numbers above 0")


def ensemble_dim(one: EnsembleSpec, dims: Mapping[str, int]) -> int:
    """Dimensions of the ensemble, given those of its members; UsageError where they cannot be averaged."""
    if one.method == "concat":
        return sum(dims[name] for name in one.members)
    if one.project:
        return min(dims[name] for name in one.members)
    if len({dims[name] for name in one.members}) > 1:
        named = ", ".join(f"{name} has {dims[name]}" for name in one.members)
        raise UsageError(
            f"--ensemble average needs vectors of equal dimensions, and {named}. Make them equal with --truncate-dim "
            "where the models allow it, use --ensemble concat, or give --project too"
        )
    return dims[one.members[0]]


def combine(one: EnsembleSpec, members: Sequence[FloatArray]) -> FloatArray:
    """The ensemble's vectors (rows, dim) from those of its members, each (rows, its own dim), in their order.

    A row is NaN where a member is, or where the sum has no direction. Members are normalized first: what storage has
    rounded counts no more than what it has not, nor what a projection has shortened.
    """
    if one.project:
        members = _projected(members)
    scaled = [
        unit(vectors) * np.float32(math.sqrt(share) if one.method == "concat" else share)
        for vectors, share in zip(members, one.shares, strict=True)
    ]
    if one.method == "concat":
        return np.concatenate(scaled, axis=1)
    total = scaled[0]
    for vectors in scaled[1:]:
        total += vectors
    return unit(total)


def _projected(members: Sequence[FloatArray]) -> list[FloatArray]:
    """All with the dimensions of the shortest. Those of the same length go the same way: a space that they share stays one."""
    fewest = min(vectors.shape[1] for vectors in members)
    return [
        vectors @ projection(vectors.shape[1], fewest) if vectors.shape[1] > fewest else vectors for vectors in members
    ]


def unit(vectors: FloatArray) -> FloatArray:
    """Rows (rows, dim) of length 1; NaN where a row is NaN or has no direction."""
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    norms[norms < SHORTEST] = np.nan
    return vectors / norms[:, None]
