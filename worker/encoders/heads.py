"""Combine and check the results of a model with three heads, such as bge-m3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...protocol.wire.arrays import Array
from .base import BoolArray, DenseResults, FloatArray, IntArray, SparseResults, shape_of
from .multivector import MultivectorResults


@dataclass(frozen=True, slots=True)
class M3Row:
    """One text: `dense` (dim), `sparse` as (token ids uint32 sorted, weights float32), `colbert` (tokens, token dim)."""

    dense: FloatArray
    sparse: tuple[Array, Array]
    colbert: FloatArray


class HeadsResults(DenseResults, SparseResults, MultivectorResults):
    """For encoders whose `compute` returns a list of M3Row; `gather` names `dense/…`, `sparse/…` and `multivector/…`."""

    def fits(self, part: Any, count: int, /) -> bool:
        return (
            len(part) == count
            and all(shape_of(one.dense) == (self.fingerprint.dim,) for one in part)
            and SparseResults.fits(self, [one.sparse for one in part], count)
            and MultivectorResults.fits(self, [one.colbert for one in part], count)
        )

    def gather(self, count: int, parts: Sequence[tuple[IntArray, Any]]) -> dict[str, Array]:
        named = {
            "dense": DenseResults.gather(self, count, [(rows, [one.dense for one in part]) for rows, part in parts]),
            "sparse": SparseResults.gather(self, count, [(rows, [one.sparse for one in part]) for rows, part in parts]),
            "multivector": MultivectorResults.gather(
                self, count, [(rows, [one.colbert for one in part]) for rows, part in parts]
            ),
        }
        return {f"{head}/{name}": array for head, arrays in named.items() for name, array in arrays.items()}

    def unusable(self, part: Any) -> BoolArray:
        dense = DenseResults.unusable(self, np.stack([one.dense for one in part]))
        sparse = SparseResults.unusable(self, [one.sparse for one in part])
        return dense | sparse | MultivectorResults.unusable(self, [one.colbert for one in part])

    def empty_too_large(self, part: Any, /) -> dict[int, str]:
        """The row keeps its other two vectors."""
        late = [one.colbert for one in part]
        refused = MultivectorResults.empty_too_large(self, late)
        for position in refused:
            part[position] = replace(part[position], colbert=late[position])
        return refused
