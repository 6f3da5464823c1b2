"""The tables in a run directory: chunk segments and vector segments, their columns, their file metadata, their digest.

Chunk segment   `row` int64, `id` string, `text` string, `metadata` string (a JSON object) or null, `n_bytes` int32
Vector segment  `row` int64, `id` string, `vector` fixed_size_list<float32>[dim]  |  `indices` list<uint32>, `values`
                list<float32>, `n_tokens` int32, `truncated` bool, `error` string. A quarantined row has a null vector and
                its reason in `error`.

Both carry one JSON object under the key `embedfleet` in the file metadata: ChunkSegmentInfo or VectorSegmentInfo.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from .errors import RunDirectoryError

FloatArray = npt.NDArray[np.float32]

INFO_KEY = b"embedfleet"

CHUNK_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("metadata", pa.string()),
        pa.field("n_bytes", pa.int32(), nullable=False),
    ]
)

_COMMON = [
    pa.field("n_tokens", pa.int32()),
    pa.field("truncated", pa.bool_()),
    pa.field("error", pa.string()),
]


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    """How far into the source a segment reaches: `records` records of file number `file` have been read."""

    file: int = 0
    records: int = 0


class ChunkSegmentInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a chunk segment says of itself; `cursor` is where the next segment begins."""

    segment: int
    first_row: int
    rows: int
    rejected: int
    duplicates: int
    n_bytes: int = 0
    """UTF-8 bytes of the texts."""
    cursor: Cursor


class VectorSegmentInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a vector segment says of itself. `digest` is `digest()` of its table."""

    vector: str
    segment: int
    first_row: int
    rows: int
    quarantined: int
    tokens: int
    fingerprint: str
    """Of the pass, as in its `pass.json`."""
    digest: str


Info = TypeVar("Info", ChunkSegmentInfo, VectorSegmentInfo)


def dense_schema(dim: int) -> pa.Schema:
    """Columns of a vector segment of `dim`-dimensional float32 vectors."""
    head = [pa.field("row", pa.int64(), nullable=False), pa.field("id", pa.string(), nullable=False)]
    return pa.schema([*head, pa.field("vector", pa.list_(pa.float32(), dim)), *_COMMON])


def sparse_schema() -> pa.Schema:
    """Columns of a vector segment of sparse vectors: sorted indices and their weights."""
    head = [pa.field("row", pa.int64(), nullable=False), pa.field("id", pa.string(), nullable=False)]
    lists = [pa.field("indices", pa.list_(pa.uint32())), pa.field("values", pa.list_(pa.float32()))]
    return pa.schema([*head, *lists, *_COMMON])


def with_info(table: pa.Table, info: ChunkSegmentInfo | VectorSegmentInfo) -> pa.Table:
    """The table with its info in the schema's metadata, so that it is written into the file."""
    return table.replace_schema_metadata({INFO_KEY: msgspec.json.encode(info)})


def read_info(path: Path, kind: type[Info]) -> Info:
    """The info of a segment file, read from its footer alone. RunDirectoryError where the file is torn or foreign."""
    try:
        raw = (pq.read_schema(path).metadata or {})[INFO_KEY]
        return msgspec.json.decode(raw, type=kind)
    except (OSError, pa.ArrowException, KeyError, msgspec.MsgspecError) as error:
        raise RunDirectoryError(
            f"{path}: not a whole segment ({error}); delete it and run the same command again"
        ) from error


def dense_vectors(table: pa.Table) -> FloatArray:
    """The `vector` column as (rows, dim) float32; NaN where a row is quarantined."""
    column: Any = table.column("vector").combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    dim = int(column.type.list_size)
    values = np.asarray(column.values.to_numpy(zero_copy_only=False), dtype=np.float32)
    vectors = values.reshape(-1, dim)[column.offset : column.offset + len(column)]
    if column.null_count:
        vectors = vectors.copy()
        vectors[np.asarray(column.is_null())] = np.nan
    return vectors


def digest(table: pa.Table) -> str:
    """BLAKE2b-256 of what the table says: ids, vectors, token counts and errors, whatever the file's encoding."""
    state = hashlib.blake2b(digest_size=32)
    for name in ("id", "error"):
        column = table.column(name)
        state.update("\0".join("" if one is None else one for one in column.to_pylist()).encode())
        state.update(b"\1")
    state.update(np.ascontiguousarray(table.column("row").to_numpy()).tobytes())
    state.update(np.ascontiguousarray(table.column("n_tokens").fill_null(0).to_numpy()).tobytes())
    if "vector" in table.column_names:
        vectors = dense_vectors(table)
        bad = np.asarray(table.column("vector").is_null())
        if bad.any():
            vectors[bad] = 0
        state.update(np.ascontiguousarray(vectors).data)
    else:
        for name in ("indices", "values"):
            column = table.column(name)
            lengths = np.asarray([len(one) if one.is_valid else 0 for one in column], dtype=np.int64)
            state.update(lengths.tobytes())
            flat: Any = column.combine_chunks()
            state.update(np.ascontiguousarray(flat.flatten().to_numpy(zero_copy_only=False)).tobytes())
    return state.hexdigest()
