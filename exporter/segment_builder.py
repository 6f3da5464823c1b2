"""Assembling one segment of one pass from the results of its batches, which come in any order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..protocol.arrays import Array
from ..protocol.errors import ProtocolError
from ..protocol.segments import dense_schema, sparse_schema

NORM_TOLERANCE = 1e-3


class SegmentBuilder:
    """Rows of a segment; `complete` once each has a result or a reason. `dim` is 0 for sparse vectors."""

    def __init__(self, rows: int, dim: int) -> None:
        self.rows, self.dim = rows, dim
        self.errors: dict[int, str] = {}
        self._missing = np.ones(rows, np.bool_)
        self._n_tokens = np.zeros(rows, np.int32)
        self._truncated = np.zeros(rows, np.bool_)
        self._dense = np.zeros((rows, dim), np.float32) if dim else None
        self._sparse: list[tuple[Array, Array] | None] = [] if dim else [None] * rows

    @property
    def complete(self) -> bool:
        return not self._missing.any()

    @property
    def tokens(self) -> int:
        return int(self._n_tokens.sum(dtype=np.int64))

    def add(self, arrays: Mapping[str, Array], errors: Mapping[int, str]) -> None:
        """Take one batch. `errors` are by position in the batch. ProtocolError for arrays that do not fit."""
        positions = arrays["positions"]
        self._check_positions(positions)
        count = len(positions)
        if any(len(arrays[name]) != count for name in ("n_tokens", "truncated")):
            raise ProtocolError(f"a result of {count} rows with arrays of another length")
        self._n_tokens[positions] = arrays["n_tokens"]
        self._truncated[positions] = arrays["truncated"].astype(np.bool_)
        if self._dense is not None:
            self._add_dense(positions, arrays["vector"], errors)
        else:
            self._add_sparse(positions, arrays)
        for position, reason in errors.items():
            self.errors[int(positions[position])] = reason
        self._missing[positions] = False

    def give_up(self, positions: npt.NDArray[np.int32], reason: str) -> None:
        """These rows get no result."""
        self._check_positions(positions)
        for position in positions.tolist():
            self.errors[position] = reason
        self._missing[positions] = False

    def table(self, rows: Any, ids: Any) -> pa.Table:
        """The segment as a table, given the `row` and `id` columns of its chunks."""
        bad = np.zeros(self.rows, np.bool_)
        bad[list(self.errors)] = True
        errors = pa.array(
            [self.errors.get(n) for n in range(self.rows)] if self.errors else [None] * self.rows, pa.string()
        )
        tail = [pa.array(self._n_tokens), pa.array(self._truncated), errors]
        if self._dense is not None:
            self._dense[bad] = 0
            mask = pa.array(bad) if self.errors else None
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(self._dense.reshape(-1)), self.dim, mask=mask)
            return pa.Table.from_arrays([rows, ids, vectors, *tail], schema=dense_schema(self.dim))
        indices, values = self._lists(bad)
        return pa.Table.from_arrays([rows, ids, indices, values, *tail], schema=sparse_schema())

    def _check_positions(self, positions: Array) -> None:
        if len(positions) and (int(positions.min()) < 0 or int(positions.max()) >= self.rows):
            raise ProtocolError(f"a result for a row outside its segment of {self.rows} rows")

    def _add_dense(self, positions: Array, vectors: Array, errors: Mapping[int, str]) -> None:
        assert self._dense is not None, "dim > 0"
        if vectors.shape != (len(positions), self.dim):
            raise ProtocolError(f"vectors of shape {vectors.shape} where {(len(positions), self.dim)} is due")
        squares = np.einsum("ij,ij->i", vectors, vectors)
        wrong = ~(np.abs(squares - 1.0) <= 2 * NORM_TOLERANCE)  # NaN compares false, and so counts as wrong
        for position in np.flatnonzero(wrong).tolist():
            if position not in errors:
                row = int(positions[position])
                self.errors[row] = f"the vector is not normalized: squared length {squares[position]:.6g}"
        self._dense[positions] = vectors

    def _add_sparse(self, positions: Array, arrays: Mapping[str, Array]) -> None:
        offsets, indices, values = arrays["offsets"], arrays["indices"], arrays["values"]
        if len(offsets) != len(positions) + 1 or int(offsets[-1]) != len(indices) or len(indices) != len(values):
            raise ProtocolError("a sparse result whose offsets do not fit its indices and values")
        for number, position in enumerate(positions.tolist()):
            part = slice(int(offsets[number]), int(offsets[number + 1]))
            self._sparse[position] = (indices[part], values[part])
            if not np.isfinite(values[part]).all():
                self.errors[position] = "a weight is not finite"

    def _lists(self, bad: npt.NDArray[np.bool_]) -> tuple[Any, Any]:
        empty = (np.empty(0, np.uint32), np.empty(0, np.float32))
        placed = [empty if one is None or bad[row] else one for row, one in enumerate(self._sparse)]
        offsets = np.zeros(self.rows + 1, np.int32)
        np.cumsum([len(one) for one, _ in placed], out=offsets[1:])
        mask = pa.array(bad) if bad.any() else None
        flat_indices = np.concatenate([one for one, _ in placed]) if placed else empty[0]
        flat_values = np.concatenate([one for _, one in placed]) if placed else empty[1]
        return tuple(
            pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat), mask=mask)
            for flat in (flat_indices, flat_values)
        )
