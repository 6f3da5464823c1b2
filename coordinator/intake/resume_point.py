"""The chunk segments on disk, and the point in the source where an intake resumes after them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ...protocol.errors import RunDirectoryError, is_host_failure
from ...protocol.run_directory.layout import REJECTED, RunLayout, segment_of, segments_in
from ...protocol.run_directory.own_files import is_intake_scratch
from ...protocol.run_directory.segment_info import ChunkSegmentInfo, Cursor
from ...protocol.run_directory.tables import read_info


@dataclass(frozen=True, slots=True)
class SpooledSegment:
    """A segment on disk. `n_bytes` is the size of its texts; `rejected` counts the records rejected while it was read.

    `metadata` is that of its rows as JSON, if it is still in memory because the segment was just written.
    """

    segment: int
    first_row: int
    rows: int
    n_bytes: int
    rejected: int
    metadata: Sequence[str | None] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """What an earlier intake left: the number of whole segments, and where the next one begins in the source."""

    segments: int = 0
    rows: int = 0
    rejected: int = 0
    duplicates: int = 0
    cursor: Cursor = field(default_factory=Cursor)
    notes: Mapping[str, int] = field(default_factory=dict[str, int])


def find_resume_point(layout: RunLayout) -> tuple[ResumePoint, list[SpooledSegment]]:
    """The resume point, with the segments on disk from the first one to the first gap or torn file.

    RunDirectoryError for a file that cannot be read now: it may be whole, and what follows a torn one is deleted.
    """
    standing = segments_in(layout.chunks)
    resume_point, segments = ResumePoint(), list[SpooledSegment]()
    for segment in range(len(standing)):
        if standing[segment] != segment:
            break
        path = layout.chunk_segment(segment)
        try:
            info = read_info(path, ChunkSegmentInfo)
        except RunDirectoryError as error:
            if is_host_failure(error):
                raise
            break  # torn: the source is read again from here on, and the vectors stay
        segments.append(SpooledSegment(segment, info.first_row, info.rows, info.n_bytes, info.rejected))
        resume_point = ResumePoint(
            segments=segment + 1,
            rows=info.first_row + info.rows,
            rejected=resume_point.rejected + info.rejected,
            duplicates=resume_point.duplicates + info.duplicates,
            cursor=info.cursor,
            notes=Counter(resume_point.notes) + Counter(info.notes),
        )
    return resume_point, segments


def clear_after(layout: RunLayout, segments: int) -> None:
    """Delete what an interrupted intake left after its first `segments` segments; it is read again."""
    for folder, suffixes in ((layout.chunks, (".parquet", REJECTED)), (layout.intake_folder, (REJECTED,))):
        for path in folder.iterdir():
            number = segment_of(path.name, *suffixes)
            if (number is not None and number >= segments) or is_intake_scratch(path.name):
                path.unlink()
