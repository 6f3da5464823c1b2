"""Check before the manifest is written that the files of a run add up: some may have been removed or replaced meanwhile.

Missing files are computed or read again by the same command. A file that is not the committed one is set aside, so that the
same command can write its own. A file that no run can have written is named, and left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ...protocol.errors import RunDirectoryError, is_host_failure
from ...protocol.run_directory.atomic_files import make_folder, sync_folder
from ...protocol.run_directory.layout import RunLayout, segment_file, segments_in
from ...protocol.run_directory.records.intake import IntakeCounts, read_intake
from ...protocol.run_directory.records.manifest import Counts
from ...protocol.run_directory.records.passes import pass_remedy, read_pass
from ...protocol.run_directory.segment_info import ChunkSegmentInfo, VectorSegmentInfo
from ...protocol.run_directory.tables import read_info, remedy_of
from ...protocol.spec.run_spec import RunSpec
from .file_stamps import FileStamps

COMPUTES, READS = remedy_of(VectorSegmentInfo), remedy_of(ChunkSegmentInfo)
SHOWN = 3
"""Faults that the message names, at most."""

_Span = tuple[int, int]
"""The first row of a segment, and its number of rows."""


def find_strays(layout: RunLayout, spec: RunSpec, segments: int) -> list[str]:
    """Messages on segments beyond the run's last one, which this run did not write."""
    folders = [layout.chunks, *(layout.vector_folder(one.vector) for one in spec.outputs)]
    paths = (folder / segment_file(one) for folder in folders for one in segments_in(folder) if one >= segments)
    return [
        f"{path} was not written by this run, whose source has {segments:,} segments; move it away and "
        "run the same command again"
        for path in paths
    ]


def find_imbalance(layout: RunLayout, spec: RunSpec, seen: FileStamps, segments: int | None) -> str:
    """Why the files do not add up, so that the run cannot be done; empty: they do.

    `segments` is the number that the intake announced in this session; None if it announced none.
    """
    intake = read_ended_intake(layout)
    if intake is None:
        faults = [f"{layout.intake} is gone; run the same command again, which reads the source to its end"]
    else:
        count = intake.segments if segments is None else segments
        spans: list[_Span] = []
        faults = [*find_strays(layout, spec, count), *_chunk_faults(layout, seen, intake, count, spans)]
        if not faults:  # else it is unknown which vectors must exist
            faults = [fault for one in spec.outputs for fault in _vector_faults(layout, one.vector, spans, seen)]
    if not faults:
        return ""
    more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    return f"the run is not done, its files changed while it worked: {'; '.join(faults[:SHOWN])}{more}"


def find_difference(counts: Counts, points: int | None) -> str:
    """Why the counts of a run do not add up; empty: they do. `points` counts its collection's, None if it has none."""
    if counts.chunks != counts.committed + counts.quarantined:
        return (
            f"the run is not done, its files changed while it worked: {counts.chunks:,} read, {counts.committed:,} "
            f"committed + {counts.quarantined:,} quarantined; run the same command again, which computes what is missing"
        )
    rows = counts.chunks - counts.rejected
    if points is not None and points != rows:
        return f"the collection holds {points:,} points for {rows:,} chunks; run the same command again, which makes it anew"
    return ""


def _chunk_faults(
    layout: RunLayout, seen: FileStamps, intake: IntakeCounts, expected: int, spans: list[_Span]
) -> Iterator[str]:
    """Yield the faults of chunk segments. `spans` gains the rows of each segment that is still as committed."""
    have, rejected = segments_in(layout.chunks), _rejected(layout)
    first_row = refused = 0
    for segment in range(expected):
        path, aside = layout.chunk_segment(segment), layout.damaged_chunk_segment(segment)
        if segment not in have:
            yield f"{path} is gone; {READS}"
            return  # later segments are read again with it
        info = _info(path, ChunkSegmentInfo)
        lines = rejected.get(segment, 0)
        if info is None or seen.differ(path) or (info.segment, info.first_row) != (segment, first_row):
            yield f"{path} is not the file that was committed{_set_aside(layout, path, aside)}; {READS}"
            return
        if info.rejected != lines:
            told = f"{layout.rejected_segment(segment)} has {lines} rejected records instead of {info.rejected}"
            _set_aside(layout, path, aside)  # they are read again with the chunks of their segment
            yield f"{told}; run the same command again, which reads them from the source"
            return
        spans.append((first_row, info.rows))
        first_row, refused = first_row + info.rows, refused + lines
    refused += rejected.get(expected, 0)  # after the last chunk
    claimed = (intake.rows, intake.rejected)
    if claimed != (first_row, refused):
        layout.intake.unlink()
        sync_folder(layout.intake.parent)
        told = f"{claimed[0]:,} rows and {claimed[1]:,} rejected records were read, but {first_row:,} and {refused:,} are there"
        yield f"{layout.chunks}: {told}; run the same command again, which reads the end of the source"


def _vector_faults(layout: RunLayout, vector: str, spans: Sequence[_Span], seen: FileStamps) -> Iterator[str]:
    have = set(segments_in(layout.vector_folder(vector)))
    try:
        about, what = read_pass(layout, vector) if spans else None, "is gone"
    except RunDirectoryError as error:
        if is_host_failure(error):
            raise
        about, what = None, "cannot be read"
    if spans and about is None:
        yield f"{layout.pass_file(vector)} {what}; {pass_remedy(layout, vector)}"
        return
    for segment, (first_row, rows) in enumerate(spans):
        path = layout.vector_segment(vector, segment)
        if segment not in have:
            yield f"{path} is gone; {COMPUTES}"
            continue
        info = _info(path, VectorSegmentInfo)
        wanted = (vector, segment, first_row, rows, about.fingerprint if about is not None else None)
        if info is None or seen.differ(path) or _said(info) != wanted:
            aside = layout.damaged_vector_segment(vector, segment)
            yield f"{path} is not the file that was committed{_set_aside(layout, path, aside)}; {COMPUTES}"


def _said(info: VectorSegmentInfo) -> tuple[object, ...]:
    return (info.vector, info.segment, info.first_row, info.rows, info.fingerprint)


def _set_aside(layout: RunLayout, path: Path, aside: Path) -> str:
    """Set aside a file in the place of the run's own. Return a phrase with its new name."""
    make_folder(aside.parent)
    path.rename(aside)
    sync_folder(path.parent)
    return f" (it is {aside.relative_to(layout.root)} now)"


def _rejected(layout: RunLayout) -> dict[int, int]:
    """Number of lines in each file of rejected records, by segment."""
    found: dict[int, int] = {}
    for segment in layout.rejected_segments():
        with layout.rejected_segment(segment).open("rb") as lines:
            found[segment] = sum(1 for _ in lines)
    return found


def read_ended_intake(layout: RunLayout) -> IntakeCounts | None:
    """The totals of the intake; None before its end, and if the file is damaged."""
    try:
        found = read_intake(layout)
    except RunDirectoryError:
        return None
    return found if found is not None and found.complete else None


def _info(path: Path, kind: type[Any]) -> Any:
    try:
        return read_info(path, kind)
    except (RunDirectoryError, msgspec.MsgspecError) as error:
        if is_host_failure(error):  # the file may be whole
            raise
        return None
