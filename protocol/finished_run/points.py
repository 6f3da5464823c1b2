"""The points of a run, for collections and exports, streamed from the committed segments."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import msgspec

from ..errors import RunDirectoryError
from ..run_directory.layout import RunLayout
from ..run_directory.segment_stream import stream_batches
from ..run_directory.vector_rows import SparseVector, Vector, VectorRow, read_vectors
from .payload import Metadata, Payload, SegmentDigest
from .point_ids import point_id
from .published import segment_digest

_CHUNK_COLUMNS = ("row", "id", "text", "metadata")


class _ChunkRow(TypedDict):
    row: int
    id: str
    text: str
    metadata: str | None


@dataclass(frozen=True, slots=True)
class Point:
    """A chunk as a point. `id` is a UUIDv5 of the chunk's id. `payload` has `id`, `row`, `text`, `metadata` and, under
    RESERVED, `{"vectors": DIGEST}`, a digest of all stored vectors of the chunk's segment. It shows whether a point's vectors
    are those of the files, without reading them.

    `vectors` are by name, without those in quarantine and those without a term or token, which an index refuses.
    """

    id: str
    payload: Payload
    vectors: dict[str, Vector]


def as_lists(vectors: Mapping[str, Vector], sparse: Callable[[list[int], list[float]], Any]) -> dict[str, Any]:
    """The vectors as lists of numbers, for engines. `sparse` converts the indices and values of a sparse vector."""
    return {
        name: sparse(one.indices.tolist(), one.values.tolist()) if isinstance(one, SparseVector) else one.tolist()
        for name, one in vectors.items()
    }


def read_points(layout: RunLayout, names: Sequence[str], segment: int) -> Iterator[Point]:
    """Yield the points of one segment with the vectors `names`, in row order, with a few megabytes in memory.

    RunDirectoryError if a file is torn, or if the files have different rows.
    """
    made_of = SegmentDigest(vectors=segment_digest(layout, names, segment))
    streams = [read_vectors(layout.vector_segment(name, segment)) for name in names]
    try:
        for record, *rows in zip(_records(layout, segment), *streams, strict=True):
            yield Point(
                point_id(record["id"]), _payload(record, made_of), _vectors(layout, segment, record, names, rows)
            )
    except ValueError as error:  # from zip: one stream is shorter than another
        raise RunDirectoryError(
            f"{layout.root}: the files of segment {segment} differ in their number of rows; `embedfleet verify` says which"
        ) from error


def _records(layout: RunLayout, segment: int) -> Iterator[_ChunkRow]:
    for batch in stream_batches(layout.chunk_segment(segment), _CHUNK_COLUMNS):
        yield from batch.to_pylist()


def _vectors(
    layout: RunLayout, segment: int, record: _ChunkRow, names: Sequence[str], rows: Sequence[VectorRow]
) -> dict[str, Vector]:
    found: dict[str, Vector] = {}
    for name, row in zip(names, rows, strict=True):
        if (row.row, row.id) != (record["row"], record["id"]):
            raise RunDirectoryError(
                f"{layout.vector_segment(name, segment)}: has row {row.row} (id {row.id!r}) where the chunk is row "
                f"{record['row']} (id {record['id']!r}); delete it and run the same command again"
            )
        if row.vector is not None and len(row.vector.indices if isinstance(row.vector, SparseVector) else row.vector):
            found[name] = row.vector
    return found


def _payload(record: _ChunkRow, made_of: SegmentDigest) -> Payload:
    metadata: Metadata = msgspec.json.decode(record["metadata"]) if record["metadata"] else {}
    return Payload(id=record["id"], row=record["row"], text=record["text"], metadata=metadata, embedfleet=made_of)
