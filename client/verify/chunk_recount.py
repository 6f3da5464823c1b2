"""Recount all chunk segments of a run: no gaps, consecutive rows, unique ids, and the counts of its intake."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...protocol.errors import RunDirectoryError
from ...protocol.run_directory.layout import RunLayout, segments_in
from ...protocol.run_directory.records.intake import IntakeRecord, read_limits
from ...protocol.run_directory.segment_info import ChunkSegmentInfo
from ...protocol.run_directory.tables import read_info, remedy_of
from ...protocol.source.check import read_stamps
from ..run_directory.files import AGAIN, count_lines, read_table, rejected_files, spans
from .chunk_checks import Ids, count_chunks
from .claims import differences


@dataclass(slots=True)
class ChunkRecount:
    """The result for all chunk segments."""

    rows: dict[int, int] = field(default_factory=dict[int, int])
    """By segment, the number of rows; only segments that could be read."""
    duplicates: int = 0
    rejected: int = 0
    problems: list[str] = field(default_factory=list[str])

    @property
    def total(self) -> int:
        """Rows of all segments."""
        return sum(self.rows.values())


def recount_chunks(layout: RunLayout, claimed: IntakeRecord | None, *, at_work: bool) -> ChunkRecount:
    """Read every column of every chunk segment. `claimed` are the intake's final counts. `at_work`: segments may still be
    missing."""
    recount, lines, hashes, first_row = ChunkRecount(), _RejectedLines(), list[Ids](), 0
    segments = segments_in(layout.chunks)
    expected = max(segments[-1] + 1 if segments else 0, claimed.segments if claimed is not None else 0)
    missing = sorted(set(range(expected)) - set(segments))
    if missing and not at_work:
        recount.problems.append(
            f"{layout.chunks}: lacks segments {spans(missing)}; {remedy_of(ChunkSegmentInfo)}, and keeps the vectors"
        )
    for segment in segments:
        path = layout.chunk_segment(segment)
        try:
            info = read_info(path, ChunkSegmentInfo)
            count = count_chunks(path, info)
        except RunDirectoryError as error:
            recount.problems.append(str(error))
            continue
        recount.problems += count.problems
        if info.segment != segment:
            recount.problems.append(
                f"{path}: its footer says that it is segment {info.segment}; {AGAIN} with --restart"
            )
        if not missing and info.first_row != first_row:
            recount.problems.append(f"{path}: begins at row {info.first_row}, not {first_row}")
        hashes.append(count.hashes)
        recount.rows[segment] = count.rows
        first_row += count.rows
        recount.duplicates += info.duplicates
        rejected = lines.count(layout.rejected_segment(segment), recount.problems)
        if rejected != info.rejected:
            recount.problems.append(f"{path}: {info.rejected} records were rejected before it, {rejected} are on file")
    recount.problems.extend(_used_twice(layout, list(recount.rows), hashes))
    recount.rejected = sum(lines.count(path, recount.problems) for path in rejected_files(layout))
    return recount


def intake_problems(layout: RunLayout, claimed: IntakeRecord | None, counted: ChunkRecount) -> Iterator[str]:
    """Problems of the intake's final counts (`claimed`), and of its record of the source."""
    if claimed is None:
        yield f"{layout.root}: the source was not read to its end; {AGAIN}"
        return
    if read_stamps(layout) is None:
        yield (
            f"{layout.source}: gone or damaged; {AGAIN}: it makes it anew where the source is what was read, or asks for "
            "--restart"
        )
    try:
        limits = read_limits(layout)
    except RunDirectoryError as error:
        yield str(error)
    else:
        if limits is None:
            yield f"{layout.limits}: is gone; {AGAIN}, which writes it again"
    counts = {"segments": len(counted.rows), "rows": counted.total, "rejected": counted.rejected}
    yield from differences(layout.intake, claimed, counts)


def _used_twice(layout: RunLayout, segments: list[int], hashes: list[Ids]) -> Iterator[str]:
    """A problem for each id that occurs again. Hashes find the candidates, since all ids may not fit in memory."""
    values, times = np.unique(np.concatenate(hashes) if hashes else np.empty(0, np.int64), return_counts=True)
    candidates, seen = set(values[times > 1].tolist()), set[str]()
    for segment in segments if candidates else ():
        path = layout.chunk_segment(segment)
        for name in read_table(path, ("id",)).column("id").to_pylist():
            if hash(name) in candidates:
                if name in seen:
                    yield f"{path}: the id {name!r} stands in two rows; {AGAIN} with --restart"
                seen.add(name)


class _RejectedLines:
    """Counts the records in the files of rejected records; reads each file once."""

    def __init__(self) -> None:
        self._counts: dict[Path, int] = {}

    def count(self, path: Path, problems: list[str]) -> int:
        """The number of records; 0 for a damaged file, which adds to `problems`."""
        if path not in self._counts:
            try:
                self._counts[path] = count_lines(path) if path.exists() else 0
            except RunDirectoryError as error:
                problems.append(str(error))
                self._counts[path] = 0
        return self._counts[path]
