"""The chunk segments that stand on disk: what is said of each, and what an earlier intake left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ...protocol.errors import RunDirectoryError
from ...protocol.run_directory.layout import RunLayout, segment_of, segments_in
from ...protocol.run_directory.own_files import is_chunk_scratch
from ...protocol.run_directory.segment_info import ChunkSegmentInfo, Cursor
from ...protocol.run_directory.tables import read_info


@dataclass(frozen=True, slots=True)
class SpooledSegment:
    """A segment that stands on disk. `n_bytes` is of its texts, `rejected` counts the bad rows met on the way.

    `metadata` are its rows' as JSON, where they are still in memory: of a segment that was just written.
    """

    segment: int
    first_row: int
    rows: int
    n_bytes: int
    rejected: int
    metadata: Sequence[str | None] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Spooled:
    """What an earlier intake left: so many whole segments, and where the next one begins in the source."""

    segments: int = 0
    rows: int = 0
    rejected: int = 0
    duplicates: int = 0
    cursor: Cursor = field(default_factory=Cursor)
    notes: Mapping[str, int] = field(default_factory=dict[str, int])


def find_spooled(layout: RunLayout) -> tuple[Spooled, list[SpooledSegment]]:
    """The segments that stand, without a gap from the first."""
    standing = segments_in(layout.chunks)
    found, segments = Spooled(), list[SpooledSegment]()
    for segment in range(len(standing)):
        if standing[segment] != segment:
            break
        path = layout.chunk_segment(segment)
        try:
            info = read_info(path, ChunkSegmentInfo)
        except RunDirectoryError:  # torn: from there on the source is read again, and the vectors stay
            break
        segments.append(SpooledSegment(segment, info.first_row, info.rows, info.n_bytes, info.rejected))
        found = Spooled(
            segments=segment + 1,
            rows=info.first_row + info.rows,
            rejected=found.rejected + info.rejected,
            duplicates=found.duplicates + info.duplicates,
            cursor=info.cursor,
            notes=Counter(found.notes) + Counter(info.notes),
        )
    return found, segments


def clear_after(layout: RunLayout, segments: int) -> None:
    """Delete what a broken-off intake left beyond its first `segments` segments; it will be read again."""
    for path in layout.chunks.iterdir():
        number = segment_of(path.name, ".parquet", ".rejected.jsonl")
        if (number is not None and number >= segments) or is_chunk_scratch(path.name):
            path.unlink()
