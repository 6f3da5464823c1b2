"""The points of a run: what every collection and every export of it holds, streamed from the committed segments."""

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
    """A chunk as a point. `id` is a UUIDv5 of the chunk's id; `payload` has `id`, `row`, `text`, `metadata` and, under
    RESERVED, `{"vectors": DIGEST}`: of all vectors of the segment that the chunk is in, as they are kept. So whoever has the
    payload can tell whether a point's vectors are those of the files without reading them.

    `vectors` are by name; one that is quarantined is left out, and so is one without a single term or token, which says
    nothing and which an index refuses.
    """

    id: str
    payload: Payload
    vectors: dict[str, Vector]


def as_lists(vectors: Mapping[str, Vector], sparse: Callable[[list[int], list[float]], Any]) -> dict[str, Any]:
    """The vectors as lists of numbers, which engines take; sparse ones as `sparse` makes them of their indices and values."""
    return {
        name: sparse(one.indices.tolist(), one.values.tolist()) if isinstance(one, SparseVector) else one.tolist()
        for name, one in vectors.items()
    }


def read_points(layout: RunLayout, names: Sequence[str], segment: int) -> Iterator[Point]:
    """The points of one segment with the vectors called `names`, in row order; a few megabytes are in memory at a time.

    RunDirectoryError where a file is torn, or where the rows of the files are not the same.
    """
    made_of = SegmentDigest(vectors=segment_digest(layout, names, segment))
    streams = [read_vectors(layout.vector_segment(name, segment)) for name in names]
    try:
        for record, *rows in zip(_records(layout, segment), *streams, strict=True):
            yield Point(
                point_id(record["id"]), _payload(record, made_of), _vectors(layout, segment, record, names, rows)
            )
    except ValueError as error:  # what zip raises: one stream is shorter than another
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
