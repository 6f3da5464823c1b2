"""Collects chunks in memory and commits each segment as soon as it is full."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from ...protocol.run_directory.atomic_files import commit_file
from ...protocol.run_directory.chunk_columns import write_chunks
from ...protocol.run_directory.layout import RunLayout, damaged_of
from ...protocol.run_directory.records.intake import SegmentLimits
from ...protocol.run_directory.segment_info import ChunkSegmentInfo, Cursor, Passed, RecordSpan
from ...protocol.run_directory.tables import CHUNK_SCHEMA, with_info
from ...protocol.text.token_estimates import BYTES_PER_TOKEN
from ..reading.records import Reject
from .chunk_batch import ChunkBatch
from .reject_file import RejectFile
from .resume_point import ResumePoint, SpooledSegment

MAX_HELD_BYTES = 64 << 20
"""A segment ends when its texts, ids and metadata take this much memory, even with few rows."""


class SegmentWriter:
    """Collects chunks and commits each segment as soon as it is full."""

    def __init__(
        self,
        layout: RunLayout,
        limits: SegmentLimits,
        on_segment: Callable[[SpooledSegment], None],
        resume_point: ResumePoint,
        passed: Callable[[Cursor], Passed],
        *,
        note_records: bool = False,
    ) -> None:
        """`passed` returns the digests of the source up to a cursor; cursors ascend. `note_records`: keep the place of each
        row's record, for a segment of a shard."""
        self.segment = resume_point.segments
        self.rows = resume_point.rows
        self.rejected = resume_point.rejected
        self.duplicates = resume_point.duplicates
        self.notes = Counter(resume_point.notes)
        """Number of records by intake note, of all sessions."""
        self._layout = layout
        self._limits = limits
        self._on_segment = on_segment
        self._passed = passed
        self._note_records = note_records
        self._rejects = RejectFile(layout.intake_folder)
        self._start()

    def _start(self) -> None:
        self._batch = ChunkBatch()
        self._n_bytes = 0
        self._held = 0
        self._duplicates = 0
        self._notes: Counter[str] = Counter()
        self._records: list[RecordSpan] = []
        self._full = False

    @property
    def next_row(self) -> int:
        return self.rows + len(self._batch)

    def add(
        self,
        at: int,
        file: str,
        batch: ChunkBatch,
        rejects: list[tuple[int, Reject]],
        duplicates: list[int],
        notes: Sequence[tuple[int, str]] = (),
        *,
        from_byte: int = 0,
    ) -> None:
        """Take chunks, rejects, duplicates (record numbers) and notes of the file with index `at`, whose records are numbered
        from a byte on.

        Chunks and rejects come in order of record number. A reject, a duplicate or a note belongs to the segment of its
        record's chunk, or of the first chunk after it.
        """
        start = 0
        while start < len(batch):
            stop = self._fill(batch, start)
            self._batch.extend(batch.part(start, stop) if (start, stop) != (0, len(batch)) else batch)
            if self._note_records:
                self._records += spans_of(at, batch.numbers[start:stop], from_byte)
            start = stop
            if not self._full:
                break
            end = batch.numbers[stop - 1]
            rejects = self._take_rejects(file, rejects, end, from_byte)
            self._duplicates += sum(number <= end for number in duplicates)
            duplicates = [number for number in duplicates if number > end]
            self._notes.update(note for number, note in notes if number <= end)
            notes = [one for one in notes if one[0] > end]
            self.commit(Cursor(file=at, records=end))
        for number, reject in rejects:
            self._rejects.add(file, number, reject, from_byte)
        self._duplicates += len(duplicates)
        self._notes.update(note for _, note in notes)

    def _take_rejects(
        self, file: str, rejects: list[tuple[int, Reject]], end: int, from_byte: int
    ) -> list[tuple[int, Reject]]:
        for number, reject in rejects:
            if number <= end:
                self._rejects.add(file, number, reject, from_byte)
        return [one for one in rejects if one[0] > end]

    def _fill(self, batch: ChunkBatch, start: int) -> int:
        """Count chunks from `start` until the segment is full. Return the position after the last one."""
        rows, tokens = self._limits.of(self.segment)
        room, most = rows - len(self._batch), tokens * BYTES_PER_TOKEN
        stop = start
        for position in range(start, min(len(batch), start + room)):
            metadata = batch.metadata[position]
            self._n_bytes += batch.n_bytes[position]
            self._held += batch.n_bytes[position] + len(batch.ids[position]) + (len(metadata) if metadata else 0)
            stop += 1
            if self._n_bytes >= most or self._held >= MAX_HELD_BYTES:
                self._full = True
                break
        self._full |= stop - start == room
        return stop

    def commit(self, cursor: Cursor) -> None:
        """Write the collected chunks as a segment, the rejects first, and report it. Without chunks, do nothing."""
        rows = len(self._batch)
        if not rows:
            return
        rejected = self._rejects.count
        self._rejects.commit(self._layout.rejected_segment(self.segment))
        info = ChunkSegmentInfo(
            segment=self.segment,
            first_row=self.rows,
            rows=rows,
            rejected=rejected,
            duplicates=self._duplicates,
            n_bytes=self._n_bytes,
            cursor=cursor,
            notes=dict(sorted(self._notes.items())),
            passed=self._passed(cursor),
            records=tuple(self._records),
        )
        table = with_info(_table(self._batch, self.rows), info)
        path = self._layout.chunk_segment(self.segment)
        commit_file(path, lambda partial: write_chunks(table, partial))
        for aside in (
            self._layout.damaged_chunk_segment(self.segment),
            damaged_of(path),
        ):  # now, and in earlier versions
            aside.unlink(missing_ok=True)
        written = SpooledSegment(self.segment, self.rows, rows, self._n_bytes, rejected, self._batch.metadata)
        self.segment += 1
        self.rows += rows
        self.rejected += rejected
        self.duplicates += self._duplicates
        self.notes += self._notes
        self._start()
        self._on_segment(written)

    def finish(self, cursor: Cursor) -> None:
        """Commit the last segment, and the rejects, duplicates and notes after the last chunk."""
        self.commit(cursor)
        self.rejected += self._rejects.count
        self.duplicates += self._duplicates
        self.notes += self._notes
        self._rejects.commit(self._layout.rejected_segment(self.segment))

    def close(self) -> None:
        """Drop what was not committed."""
        self._rejects.close()


def _table(batch: ChunkBatch, first_row: int) -> pa.Table:
    columns = [
        pa.array(np.arange(first_row, first_row + len(batch), dtype=np.int64)),
        pa.array(batch.ids, pa.string()),
        pa.array(batch.texts, pa.string()),
        pa.array(batch.metadata, pa.string()),
        pa.array(batch.n_bytes, pa.int32()),
    ]
    return pa.Table.from_arrays(columns, schema=CHUNK_SCHEMA)


def spans_of(file: int, numbers: Sequence[int], from_byte: int = 0) -> list[RecordSpan]:
    """The records of a file with these ascending numbers, counted from a byte on, as spans of numbers without gaps."""
    found = np.asarray(numbers, np.int64)
    starts = np.flatnonzero(np.diff(found, prepend=-1) != 1)
    stops = [*starts[1:].tolist(), len(found)][: len(starts)]
    return [
        RecordSpan(file, int(found[start]), stop - start, from_byte)
        for start, stop in zip(starts.tolist(), stops, strict=True)
    ]
