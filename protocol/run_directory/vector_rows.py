"""Stream the rows of vector segments. Only this module knows how the columns differ between the kinds of vectors.

dense        `vector` in a format of `storage.py`               → (dim,) float32
multivector  `vector` list<fixed_size_list<float16>[dim]>       → (tokens, dim), number format of the file
sparse       `indices` list<uint32>, `values` list<float32>     → SparseVector; and `stood_in` bool
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import RunDirectoryError, unreadable
from ..vectors.storage import dim_of
from .segment_stream import stream_batches
from .tables import dense_vectors

Form = Literal["dense", "sparse", "multivector"]
Indices = npt.NDArray[np.uint32]
Weights = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SparseVector:
    """Sorted indices and as many weights."""

    indices: Indices
    values: Weights


Array = npt.NDArray[np.floating[Any]]
Vector = Array | SparseVector


@dataclass(frozen=True, slots=True)
class VectorRow:
    """One row of a vector segment; `vector` is None if the row is in quarantine.

    `stood_in`: its sparse weights are from the chunk's metadata.
    """

    row: int
    id: str
    vector: Vector | None
    stood_in: bool = False


@dataclass(frozen=True, slots=True)
class VectorShape:
    """Form and dimensions of a segment's vectors. `dim` is 0 for sparse vectors, that of one token for multivectors."""

    form: Form
    dim: int


def read_shape(path: Path) -> VectorShape:
    """The shape of a segment's vectors, from its footer. RunDirectoryError if it is missing or torn."""
    try:
        return _shape(pq.read_schema(path))
    except FileNotFoundError:
        raise RunDirectoryError(f"{path} is gone; run the same command again, which makes it") from None
    except (OSError, ValueError, pa.ArrowException) as error:
        damage = f"{path}: not a whole segment ({error}); delete it and run the same command again"
        raise unreadable(path, error, damage) from error


def read_vectors(path: Path) -> Iterator[VectorRow]:
    """Yield the rows of a vector segment in order. RunDirectoryError if it is torn."""
    form = read_shape(path).form
    columns = ("indices", "values", "stood_in") if form == "sparse" else ("vector",)
    for batch in stream_batches(path, ("row", "id", "error", *columns)):
        rows, ids = batch.column("row").to_pylist(), batch.column("id").to_pylist()
        failed: list[bool] = batch.column("error").is_valid().to_pylist()
        marks: list[bool] = batch.column("stood_in").to_pylist() if form == "sparse" else [False] * len(rows)
        for row, name, bad, vector, mark in zip(rows, ids, failed, _READERS[form](batch), marks, strict=True):
            yield VectorRow(row, name, None if bad else vector, bool(mark))


def _shape(schema: Any) -> VectorShape:
    if "vector" not in schema.names:
        return VectorShape("sparse", 0)
    field = schema.field("vector")
    kind = field.type
    if pa.types.is_fixed_size_list(kind):
        return VectorShape("dense", dim_of(field))
    return VectorShape("multivector", int(kind.value_type.list_size))


def _dense(batch: Any) -> Iterator[Vector | None]:
    column = batch.column("vector")
    vectors = dense_vectors(pa.Table.from_batches([batch]))
    for valid, vector in zip(column.is_valid().to_pylist(), vectors, strict=True):
        yield vector if valid else None


def _multivector(batch: Any) -> Iterator[Vector | None]:
    column = batch.column("vector")
    tokens = column.values
    flat = tokens.values.to_numpy(zero_copy_only=False).reshape(-1, tokens.type.list_size)
    flat = flat[tokens.offset : tokens.offset + len(tokens)]
    for valid, part in zip(column.is_valid().to_pylist(), _parts(column), strict=True):
        yield flat[part] if valid else None


def _sparse(batch: Any) -> Iterator[Vector | None]:
    indices, values = batch.column("indices"), batch.column("values")
    flat_indices = np.asarray(indices.values.to_numpy(zero_copy_only=False), dtype=np.uint32)
    flat_values = np.asarray(values.values.to_numpy(zero_copy_only=False), dtype=np.float32)
    parts = zip(_parts(indices), _parts(values), strict=True)
    for valid, (where, weights) in zip(indices.is_valid().to_pylist(), parts, strict=True):
        yield SparseVector(flat_indices[where], flat_values[weights]) if valid else None


def _parts(column: Any) -> Iterator[slice]:
    """The slice of each list in the values of a list column."""
    return (slice(start, stop) for start, stop in pairwise(column.offsets.to_pylist()))


_READERS: dict[Form, Callable[[Any], Iterator[Vector | None]]] = {
    "dense": _dense,
    "sparse": _sparse,
    "multivector": _multivector,
}
