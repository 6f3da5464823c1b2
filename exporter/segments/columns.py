"""The vectors of one output while its segment is assembled: one class per form. Rows are set in any order, then written."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...protocol.errors import ProtocolError
from ...protocol.spec.int8_ranges import Int8Ranges
from ...protocol.spec.run_spec import Form, Storage
from ...protocol.vectors.storage import INT8_COSINE, measure_ranges, pack, pack_int8
from ...protocol.vectors.unit_length import not_normalized
from ...protocol.wire.arrays import Array

Bools = npt.NDArray[np.bool_]


class Column(Protocol):
    """Vectors of a segment's rows. `arrays` are those of one batch, with one row for each of `positions`, in their order."""

    def set(self, positions: Array, arrays: Mapping[str, Array]) -> Iterator[tuple[int, str]]:
        """Take the rows at `positions`; yield (position in the batch, reason) for values that must not be written."""
        ...

    def fields(self, bad: Bools) -> dict[str, pa.Array]:
        """The Arrow columns, null where `bad`."""
        ...


def make_column(
    form: Form, rows: int, dim: int, storage: Storage = "float32", ranges: Int8Ranges | None = None
) -> Column:
    """An empty column for `rows` rows. `ranges` are those of int8; None: those of the rows."""
    match form:
        case "dense":
            return DenseColumn(rows, dim, storage, ranges)
        case "sparse":
            return SparseColumn(rows)
        case "multivector":
            return MultivectorColumn(rows, dim)
        case "score":
            return ScoreColumn(rows)


class DenseColumn:
    """The column `vector`: (rows, dim) float32, each row of length 1, to be written as `storage`.

    After `fields`, `storage` is how it is written: float16 where int8 would be too coarse. `ranges` and `worst_cosine` are
    those of int8, else None; the cosine is None too if no row has a vector.
    """

    def __init__(self, rows: int, dim: int, storage: Storage = "float32", ranges: Int8Ranges | None = None) -> None:
        self.storage: Storage = storage
        self.ranges: Int8Ranges | None = None
        self._fixed = ranges
        self.worst_cosine: float | None = None
        self._dim = dim
        self._vectors = np.zeros((rows, dim), np.float32)

    def set(self, positions: Array, arrays: Mapping[str, Array]) -> Iterator[tuple[int, str]]:
        vectors = arrays["vector"]
        if vectors.shape != (len(positions), self._dim):
            raise ProtocolError(f"vectors of shape {vectors.shape} where {(len(positions), self._dim)} is due")
        self._vectors[positions] = vectors
        yield from not_normalized(vectors)

    def fields(self, bad: Bools) -> dict[str, pa.Array]:
        self._vectors[bad] = 0
        mask = pa.array(bad) if bad.any() else None
        packed = self._int8(bad) if self.storage == "int8" else pack(self._vectors, self.storage, None)
        flat = pa.array(packed.reshape(-1))
        return {"vector": pa.FixedSizeListArray.from_arrays(flat, packed.shape[1], mask=mask)}

    def _int8(self, bad: Bools) -> npt.NDArray[Any]:
        """Pack as int8, by the given ranges or those of these rows; as float16 if that is too coarse."""
        ranges = self._fixed or measure_ranges(self._vectors[~bad] if bad.any() else self._vectors)
        packed, cosines = pack_int8(self._vectors, ranges)
        worst = float(np.min(cosines, where=~bad, initial=1.0))
        if worst < INT8_COSINE:
            self.storage = "float16"
            return pack(self._vectors, self.storage, None)
        self.ranges, self.worst_cosine = ranges, None if bad.all() else round(worst, 6)
        return packed


class SparseColumn:
    """`indices` and `values`: lists of equal length, indices ascending."""

    def __init__(self, rows: int) -> None:
        self._indices = _Lists(rows, np.empty(0, np.uint32))
        self._values = _Lists(rows, np.empty(0, np.float32))

    def set(self, positions: Array, arrays: Mapping[str, Array]) -> Iterator[tuple[int, str]]:
        offsets, indices, values = arrays["offsets"], arrays["indices"], arrays["values"]
        if not _cover(offsets, len(positions), len(indices)) or len(indices) != len(values):
            raise ProtocolError("a sparse result whose offsets do not fit its indices and values")
        for position, (start, stop) in enumerate(_spans(offsets)):
            self._indices.parts[positions[position]] = indices[start:stop]
            self._values.parts[positions[position]] = values[start:stop]
            if not np.isfinite(values[start:stop]).all():
                yield position, "a weight is not finite"

    def put(self, position: int, indices: Array, values: Array) -> None:
        """Set one row from elsewhere."""
        self._indices.parts[position], self._values.parts[position] = indices, values

    def fields(self, bad: Bools) -> dict[str, pa.Array]:
        return {"indices": self._indices.array(bad), "values": self._values.array(bad)}


class MultivectorColumn:
    """`vector`: a list of float16 token vectors per row."""

    def __init__(self, rows: int, dim: int) -> None:
        self._dim = dim
        self._tokens = _Lists(rows, np.empty((0, dim), np.float16))

    def set(self, positions: Array, arrays: Mapping[str, Array]) -> Iterator[tuple[int, str]]:
        offsets, tokens = arrays["offsets"], arrays["tokens"]
        if not _cover(offsets, len(positions), len(tokens)) or tokens.ndim != 2 or tokens.shape[1] != self._dim:
            raise ProtocolError("a multivector result whose offsets or dimensions do not fit its tokens")
        for position, (start, stop) in enumerate(_spans(offsets)):
            self._tokens.parts[positions[position]] = tokens[start:stop]
            if not np.isfinite(tokens[start:stop]).all():
                yield position, "a component is not finite"

    def fields(self, bad: Bools) -> dict[str, pa.Array]:
        return {"vector": self._tokens.array(bad)}


class ScoreColumn:
    """`score`: one float32 per row."""

    def __init__(self, rows: int) -> None:
        self._scores = np.zeros(rows, np.float32)

    def set(self, positions: Array, arrays: Mapping[str, Array]) -> Iterator[tuple[int, str]]:
        scores = arrays["score"]
        if scores.shape != (len(positions),):
            raise ProtocolError(f"scores of shape {scores.shape} where {(len(positions),)} is due")
        self._scores[positions] = scores
        for position in np.flatnonzero(~np.isfinite(scores)).tolist():
            yield position, "the score is not finite"

    def fields(self, bad: Bools) -> dict[str, pa.Array]:
        return {"score": pa.array(self._scores, mask=bad)}


class _Lists:
    """One array per row, written as an Arrow list column."""

    def __init__(self, rows: int, empty: Array) -> None:
        self._empty = empty
        self.parts: list[Array] = [empty] * rows

    def array(self, bad: Bools) -> Any:
        parts = [self._empty if out else part for part, out in zip(self.parts, bad.tolist(), strict=True)]
        offsets = np.zeros(len(parts) + 1, np.int32)
        np.cumsum([len(part) for part in parts], out=offsets[1:])
        flat: Any = np.concatenate(parts) if parts else self._empty
        values = pa.array(flat.reshape(-1))
        if flat.ndim == 2:
            values = pa.FixedSizeListArray.from_arrays(values, flat.shape[1])
        return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(bad) if bad.any() else None)


def _cover(offsets: Array, rows: int, total: int) -> bool:
    """Whether the offsets divide `total` values into `rows` parts."""
    return len(offsets) == rows + 1 and offsets[0] == 0 and offsets[-1] == total and bool((np.diff(offsets) >= 0).all())


def _spans(offsets: Array) -> Iterator[tuple[int, int]]:
    bounds = offsets.tolist()
    return itertools.pairwise(bounds)
