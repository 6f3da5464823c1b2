"""Ensembles: one dense vector made of several models' vectors. Rows and queries are combined in the same way.

concat   the members, each scaled by the root of its weight, one after another. The dot product of two such vectors is the
         weighted mean of the members' cosines
average  the weighted sum of the members, normalized. Only for models with the same vector space, such as fine-tunings of
         one model; for unrelated models it is noise. With `project`, longer members are first projected to the dimensions
         of the shortest one (see `projection.py`)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..spec.ensemble_spec import EnsembleSpec
from .projection import project

FloatArray = npt.NDArray[np.float32]

SHORTEST = 1e-6
"""A sum shorter than this has no direction: its members cancel out."""


def combine(one: EnsembleSpec, members: Sequence[FloatArray]) -> FloatArray:
    """The ensemble's vectors (rows, dim) from those of its members, each (rows, its own dim), in their order.

    A row is NaN if a member is NaN there, or if the sum has no direction. Members are normalized first, so that rounding by
    storage and shortening by projection do not change their weights.
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
    """The members, all with the dimensions of the shortest. Members of equal dimensions get the same projection."""
    fewest = min(vectors.shape[1] for vectors in members)
    return [project(unit(vectors), fewest) if vectors.shape[1] > fewest else vectors for vectors in members]


def unit(vectors: FloatArray) -> FloatArray:
    """The rows of (rows, dim), normalized to length 1; NaN if a row is NaN or has no direction."""
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    norms[norms < SHORTEST] = np.nan
    return vectors / norms[:, None]
