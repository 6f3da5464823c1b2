"""Chunks with their vectors as Arrow record batches, a few megabytes at a time.

`row` int64, `id`, `text` and `metadata` strings as in the chunk segments, then by form for each vector
  dense        NAME fixed_size_list<float32>[dim], however it is stored
  sparse       NAME.indices list<uint32>, NAME.values list<float32>
  multivector  NAME list<list<float32>>, a list for each token
  score        NAME float32
A row in quarantine has null for its vector.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import RunDirectoryError, unreadable
from ..run_directory.layout import RunLayout
from ..run_directory.segment_stream import stream_batches
from ..run_directory.tables import CHUNK_SCHEMA, dense_vectors
from ..run_directory.vector_rows import read_shape
from ..spec.run_spec import Form, Output

CHUNK_COLUMNS = ("row", "id", "text", "metadata")

_STORED: dict[Form, tuple[str, ...]] = {
    "dense": ("vector",),
    "sparse": ("indices", "values"),
    "multivector": ("vector",),
    "score": ("score",),
}


@dataclass(frozen=True, slots=True)
class TableColumns:
    """The columns of a table: some of CHUNK_COLUMNS, and vectors of a run with its dimensions (0 for sparse ones)."""

    chunk: tuple[str, ...]
    vectors: tuple[tuple[Output, int], ...]

    @property
    def schema(self) -> pa.Schema:
        """The columns in order, without metadata."""
        fields = [CHUNK_SCHEMA.field(name) for name in self.chunk]
        return pa.schema([*fields, *(field for output, dim in self.vectors for field in _fields(output, dim))])


def table_columns(
    layout: RunLayout, chunk: Sequence[str], outputs: Sequence[Output], segments: Sequence[int]
) -> TableColumns:
    """The columns for these vectors. Dimensions are read from the first segment; 0 if the run has none."""
    return TableColumns(tuple(chunk), tuple((one, _dim(layout, one, segments)) for one in outputs))


def table_batches(layout: RunLayout, columns: TableColumns, segment: int, rows: int) -> Iterator[pa.RecordBatch]:
    """Yield a segment in batches of at most `rows` rows, in row order. RunDirectoryError if a file is torn, or if the files
    have different rows."""
    schema = columns.schema
    paths = [layout.chunk_segment(segment), *(layout.vector_segment(one.vector, segment) for one, _ in columns.vectors)]
    wanted = [("row", *columns.chunk), *(("row", *_STORED[one.form]) for one, _ in columns.vectors)]
    streams = [
        stream_batches(path, list(dict.fromkeys(names)), rows) for path, names in zip(paths, wanted, strict=True)
    ]
    try:
        for batches in zip(*streams, strict=True):
            _check_rows(paths, batches)
            arrays = [batches[0].column(name) for name in columns.chunk]
            for (output, dim), batch in zip(columns.vectors, batches[1:], strict=True):
                arrays += _arrays(output.form, dim, batch)
            cast = [array.cast(field.type) for array, field in zip(arrays, schema, strict=True)]
            yield pa.RecordBatch.from_arrays(cast, schema=schema)
    except (ValueError, pa.ArrowException) as error:  # from zip: one file is shorter than another
        raise RunDirectoryError(
            f"{layout.root}: the files of segment {segment} do not fit together ({error}); `embedfleet verify` says which"
        ) from error


def rows_within(layout: RunLayout, columns: TableColumns, segment: int, most_bytes: int, most_rows: int) -> int:
    """The number of rows that take about `most_bytes` of memory in this segment: at least 1, at most `most_rows`."""
    per_row = _bytes_per_row(layout.chunk_segment(segment))
    for output, dim in columns.vectors:
        stored = _bytes_per_row(layout.vector_segment(output.vector, segment))
        # dense vectors and tokens become float32
        per_row += {"dense": 4.0 * dim, "multivector": 2 * stored}.get(output.form, stored)
    return max(1, min(most_rows, int(most_bytes / max(per_row, 1))))


def _dim(layout: RunLayout, output: Output, segments: Sequence[int]) -> int:
    if not segments or output.form in ("sparse", "score"):
        return 0
    return read_shape(layout.vector_segment(output.vector, segments[0])).dim


def _fields(output: Output, dim: int) -> list[Any]:
    name = output.vector
    match output.form:
        case "dense":
            return [pa.field(name, pa.list_(pa.float32(), dim))]
        case "sparse":
            types = {"indices": pa.list_(pa.uint32()), "values": pa.list_(pa.float32())}
            return [pa.field(f"{name}.{part}", kind) for part, kind in types.items()]
        case "multivector":
            return [pa.field(name, pa.list_(pa.list_(pa.float32())))]
        case "score":
            return [pa.field(name, pa.float32())]


def _arrays(form: Form, dim: int, batch: Any) -> list[Any]:
    match form:
        case "dense":
            return [_dense(batch, dim)]
        case "multivector":
            return [_multivector(batch.column("vector"), dim)]
        case _:
            return [batch.column(name) for name in _STORED[form]]


def _dense(batch: Any, dim: int) -> Any:
    vectors = dense_vectors(pa.Table.from_batches([batch]))
    if vectors.shape[1] != dim:
        raise ValueError(f"{vectors.shape[1]} dimensions instead of {dim}")
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), dim, mask=_nulls(batch.column("vector")))


def _multivector(column: Any, dim: int) -> Any:
    """The token vectors as float32; lists of any length, since many readers know no others within a list."""
    tokens = column.flatten()  # without those of null rows
    if tokens.type.list_size != dim:
        raise ValueError(f"{tokens.type.list_size} dimensions instead of {dim}")
    numbers = np.asarray(tokens.flatten().to_numpy(zero_copy_only=False), np.float32)
    inner = pa.ListArray.from_arrays(pa.array(np.arange(len(tokens) + 1, dtype=np.int32) * dim), pa.array(numbers))
    nulls = np.asarray(column.is_null())
    lengths = np.diff(np.asarray(column.offsets))
    lengths[nulls] = 0
    offsets = np.concatenate([np.zeros(1, np.int32), np.cumsum(lengths, dtype=np.int32)])
    return pa.ListArray.from_arrays(pa.array(offsets), inner, mask=_nulls(column))


def _nulls(column: Any) -> Any:
    """A mask for Arrow; None if there is no null."""
    return column.is_null() if column.null_count else None


def _check_rows(paths: Sequence[Path], batches: Sequence[Any]) -> None:
    first = batches[0].column("row")
    for path, batch in zip(paths[1:], batches[1:], strict=True):
        if not batch.column("row").equals(first):
            raise ValueError(f"{path.parent.name} has other rows than the chunks")


def _bytes_per_row(path: Path) -> float:
    """Of a segment's data before compression."""
    try:
        meta: Any = pq.read_metadata(path)
    except FileNotFoundError:
        raise RunDirectoryError(f"{path} is gone; run the same command again, which makes it") from None
    except (OSError, ValueError, pa.ArrowException) as error:
        damage = f"{path}: not a whole segment ({error}); delete it and run the same command again"
        raise unreadable(path, error, damage) from error
    size = sum(meta.row_group(number).total_byte_size for number in range(meta.num_row_groups))
    return size / max(meta.num_rows, 1)
