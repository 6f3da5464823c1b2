"""The tables in a run directory, chunk segments and vector segments: columns, file metadata, digest.

Chunk segment   `row` int64, `id` string, `text` string, `metadata` string (a JSON object) or null, `n_bytes` int32
Vector segment  `row` int64, `id` string, then by form
                  dense        `vector` fixed_size_list<float32>[dim], or another format of `storage.py`
                  sparse       `indices` list<uint32>, `values` list<float32>; last, `stood_in` bool: the weights are
                               from the chunk's metadata, since the model computed none
                  multivector  `vector` list<fixed_size_list<float16>[dim]>
                  score        `score` float32
                then `n_tokens` int32, `truncated` bool, `error` string; last of all `tokens_cut` int32, the tokens that
                truncation removed, null if not counted (0.1.0 has no such column). A quarantined row has
                no vector, and its reason in `error`.

The file metadata have a JSON object under the key `embedfleet`, a ChunkSegmentInfo or VectorSegmentInfo, and under
`embedfleet.crc32` a checksum of it and of the column names, since Parquet has no checksum of its footer.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import RunDirectoryError, unreadable
from ..spec.int8_ranges import Int8Ranges
from ..spec.run_spec import Form, Storage
from ..vectors.storage import RANGES_KEY, dense_field, ranges_of, storage_of, unpack
from .segment_info import ChunkSegmentInfo, TokenVectors, VectorSegmentInfo

FloatArray = npt.NDArray[np.float32]

INFO_KEY = b"embedfleet"
CHECK_KEY = b"embedfleet.crc32"

CHUNK_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("metadata", pa.string()),
        pa.field("n_bytes", pa.int32(), nullable=False),
    ]
)

_HEAD = [pa.field("row", pa.int64(), nullable=False), pa.field("id", pa.string(), nullable=False)]
_COMMON = [
    pa.field("n_tokens", pa.int32()),
    pa.field("truncated", pa.bool_()),
    pa.field("error", pa.string()),
]

TOKENS_CUT = pa.field("tokens_cut", pa.int32())
"""The last column of a vector segment. Not in `vector_schema`, whose columns files of 0.1.0 have too."""


Info = TypeVar("Info", ChunkSegmentInfo, VectorSegmentInfo)


def vector_schema(form: Form, dim: int, storage: Storage = "float32", ranges: Int8Ranges | None = None) -> pa.Schema:
    """Columns of a vector segment. `dim` is for dense vectors and for the tokens of multivectors.

    `storage` and `ranges` (for int8) apply to dense vectors only.
    """
    own: dict[Form, list[Any]] = {
        "dense": [dense_field(storage, dim, ranges)],
        "sparse": [pa.field("indices", pa.list_(pa.uint32())), pa.field("values", pa.list_(pa.float32()))],
        "multivector": [pa.field("vector", pa.list_(pa.list_(pa.float16(), dim)))],
        "score": [pa.field("score", pa.float32())],
    }
    last = [pa.field("stood_in", pa.bool_())] if form == "sparse" else []
    return pa.schema([*_HEAD, *own[form], *_COMMON, *last])


def with_info(table: pa.Table, info: ChunkSegmentInfo | VectorSegmentInfo) -> pa.Table:
    """The table with its info in the schema's metadata, which is written into the file."""
    raw = msgspec.json.encode(info)
    return table.replace_schema_metadata({INFO_KEY: raw, CHECK_KEY: _checksum(raw, table.schema)})


def read_info(path: Path, kind: type[Info]) -> Info:
    """The info in a segment file's footer. RunDirectoryError if the file is missing, torn, changed or not a segment."""
    try:
        schema = pq.read_schema(path)
        found = schema.metadata or {}
        # A file of an earlier version has no checksum. A file whose checksum key is damaged passes as one.
        if found.get(CHECK_KEY, expected := _checksum(found[INFO_KEY], schema)) != expected:
            raise ValueError("its footer is not as it was written")
        return msgspec.json.decode(found[INFO_KEY], type=kind)
    except FileNotFoundError:
        raise RunDirectoryError(f"{path} is gone; {remedy_of(kind)}") from None
    except (OSError, ValueError, pa.ArrowException, KeyError, msgspec.MsgspecError) as error:
        damage = f"{path}: not a whole segment ({error}); delete it and run the same command again"
        raise unreadable(path, error, damage) from error


def remedy_of(kind: type[ChunkSegmentInfo | VectorSegmentInfo]) -> str:
    """What to do about a missing segment, for a message."""
    return "run the same command again, which " + (
        "computes it" if kind is VectorSegmentInfo else "reads it from the source"
    )


def _checksum(raw: bytes, schema: pa.Schema) -> bytes:
    return f"{zlib.crc32('/'.join(schema.names).encode(), zlib.crc32(raw)):08x}".encode()


def dense_vectors(table: pa.Table) -> FloatArray:
    """The `vector` column as (rows, dim) float32, from any storage; NaN for rows in quarantine.

    ValueError if int8 vectors lack their ranges.
    """
    field: Any = table.schema.field("vector")
    column: Any = table.column("vector").combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    vectors = unpack(_components(column), storage_of(field), ranges_of(field))
    if column.null_count:
        vectors = vectors.copy()
        vectors[np.asarray(column.is_null())] = np.nan
    return vectors


def token_vectors(table: pa.Table) -> TokenVectors:
    """Token counts of the `vector` column of a multivector; zeros if every row is in quarantine."""
    lengths = np.asarray(_list_lengths(table.column("vector").drop_null()).to_numpy())
    if not len(lengths):
        return TokenVectors(0, 0, 0)
    return TokenVectors(int(lengths.sum(dtype=np.int64)), int(lengths.min()), int(lengths.max()))


def digest(table: pa.Table) -> str:
    """BLAKE2b-256 of the table's content: ids, stored vectors, token counts and errors; not of the file's encoding."""
    state = hashlib.blake2b(digest_size=32)
    for name in ("id", "error"):
        column = table.column(name)
        state.update("\0".join("" if one is None else one for one in column.to_pylist()).encode())
        state.update(b"\1")
    state.update(np.ascontiguousarray(table.column("row").to_numpy()).tobytes())
    if "stood_in" in table.column_names:
        state.update(np.asarray(_filled(table.column("stood_in"), False)).tobytes())
    state.update(np.ascontiguousarray(_filled(table.column("n_tokens"), 0).to_numpy()).tobytes())
    if TOKENS_CUT.name in table.column_names:
        state.update(np.ascontiguousarray(_filled(table.column(TOKENS_CUT.name), -1).to_numpy()).tobytes())
    for name in ("vector", "indices", "values", "score"):
        if name in table.column_names:
            state.update((table.schema.field(name).metadata or {}).get(RANGES_KEY, b""))
            for part in _contents(table.column(name)):
                state.update(np.ascontiguousarray(part).data)
    return state.hexdigest()


def _contents(column: Any) -> Iterator[Any]:
    """Yield the numbers of a column, and before them the lengths of its lists; nulls become zeros or empty lists."""
    array: Any = (
        column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.array([], column.type)])
    )
    kind: Any = array.type
    if pa.types.is_fixed_size_list(kind):
        numbers = _components(array)
        if array.null_count:
            numbers = numbers.copy()
            numbers[np.asarray(array.is_null())] = 0
        yield numbers
    elif pa.types.is_list(kind):
        yield np.asarray(_filled(_list_lengths(array), 0))
        yield from _contents(pa.chunked_array([array.flatten()]))
    else:
        yield np.asarray(_filled(array, 0).to_numpy(zero_copy_only=False))


def _filled(array: Any, value: Any) -> Any:
    """The array with `value` for its nulls. Only if it has any does Arrow import pyarrow.compute, which takes 25 ms."""
    return array.fill_null(value) if array.null_count else array


def _list_lengths(array: Any) -> Any:
    """The length of each list, null for null."""
    import pyarrow.compute

    compute: Any = pyarrow.compute  # its functions are created at import, so a type checker does not see them
    return compute.list_value_length(array)


def _components(array: Any) -> npt.NDArray[Any]:
    """The numbers of a fixed-size list array (rows, list size) in their own format; arbitrary for rows that are null."""
    width = int(array.type.list_size)
    values = array.values.slice(array.offset * width, len(array) * width)
    if values.null_count and pa.types.is_integer(values.type):
        values = values.fill_null(0)  # with nulls, to_numpy would convert integers to floats
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(-1, width)
