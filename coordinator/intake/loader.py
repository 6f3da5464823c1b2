"""The intake: reads the source once, checks every record, and writes chunk segments with rows from 0 without gaps."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import msgspec

from ...protocol.run_directory.atomic_files import commit_bytes, make_folder
from ...protocol.run_directory.chunk_columns import read_chunk_columns
from ...protocol.run_directory.json_bytes import read_json
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.records.intake import IntakeCounts, IntakeRecord, SegmentLimits, read_limits
from ...protocol.run_directory.segment_info import Cursor
from ...protocol.source.check import note_stamps, read_trail, unchanged_files
from ...protocol.source.corpus import STDIN, Corpus, is_gone, survey
from ...protocol.source.intake_notes import ID_SHARED
from ...protocol.source.shared_ids import shared_id_reason
from ...protocol.source.source_file import SourceFile
from ...protocol.spec.run_spec import RunSpec
from ...protocol.text.preprocessing import FIRST
from ..reading.readers import lines_before, read_records
from ..reading.records import Reject, excerpt
from .chunk_maker import ChunkMaker, PendingChunks
from .failure import check_usable
from .id_index import IdIndex, text_digest
from .resume_point import ResumePoint, SpooledSegment, clear_after, find_resume_point
from .segment_writer import SegmentWriter
from .source_trail import SourceTrail

__all__ = ["ChunkLoader", "IntakeCounts", "SegmentLimits", "SpooledSegment"]


class _Stopped(Exception):
    """The intake must stop before the end of the source."""


class ChunkLoader:
    """One intake into a run directory. A later one over the same directory continues where the earlier one ended."""

    def __init__(
        self,
        spec: RunSpec,
        layout: RunLayout,
        limits: SegmentLimits,
        on_segment: Callable[[SpooledSegment], None],
        stopping: Callable[[], bool],
        on_left_out: Callable[[str], None] = lambda _line: None,
        *,
        numbered: bool | None = None,
    ) -> None:
        """`on_left_out` gets a line about names in the source that are not read, if there are any.

        `numbered`: whether the lines of a part of a file are numbered as in the whole file, for which what is before it must be
        read. None: so are those of files that are here, and of other files the ids of records without one.
        """
        self._spec = spec
        self._layout = layout
        self._limits = limits
        self._on_segment = on_segment
        self._stopping = stopping
        self._maker = ChunkMaker(spec, self._lines_before)
        self._on_left_out = on_left_out
        self._numbered = numbered
        self._counted: dict[str, int] = {}
        """By file, the lines before its part."""

    def load(self) -> IntakeCounts:
        """Report the segments on disk, then read the rest and write it. Blocks, so call it on a thread.

        Ends early, with `complete` False, at the first block after `stopping()` turns true. SourceError if the source
        cannot be read or has changed since the intake began; RunDirectoryError for a torn segment.
        """
        make_folder(self._layout.chunks)
        resume_point, segments = find_resume_point(self._layout)
        limits = self._first_limits()
        counts = self._finished(resume_point)
        if counts is not None:
            # The source may be gone by now, but it must not have changed.
            if self._spec.source != STDIN and not is_gone(self._spec.source):
                self._check_source(self._survey())
            self._layout.id_index.unlink(missing_ok=True)
            for segment in segments:
                self._on_segment(segment)
            return counts
        corpus = self._survey()
        files = self._check_source(corpus)
        if line := corpus.left_out.line():
            self._on_left_out(line)
        files = [self._with_lines(file) for file in files]
        trail = SourceTrail(self._spec.source, files, read_trail(self._layout))
        make_folder(self._layout.intake_folder)
        clear_after(self._layout, resume_point.segments)
        for segment in segments:
            self._on_segment(segment)
        with closing(IdIndex(self._layout.id_index)) as index:
            self._restore(index, segments)
            in_shard = self._spec.shard is not None
            writer = SegmentWriter(
                self._layout, limits, self._on_segment, resume_point, trail.passed, note_records=in_shard
            )
            with closing(writer):
                try:
                    return self._read(files, resume_point.cursor, index, writer, trail)
                except _Stopped:
                    return _counts(writer, complete=False)

    def _survey(self) -> Corpus:
        return survey(self._spec.source, self._layout.root, self._spec.text_field, self._spec.shard)

    def _with_lines(self, file: SourceFile) -> SourceFile:
        whole = file.url is None if self._numbered is None else self._numbered
        return file if whole or file.format != "jsonl" else replace(file, own_lines=True)

    def _lines_before(self, file: SourceFile) -> int:
        """The lines of a file before those that are numbered, read once if there are any."""
        if not file.own_lines or self._numbered is False:
            return 0
        if file.name not in self._counted:
            self._counted[file.name] = 0
            for count in lines_before(file):
                self._go_on()
                self._counted[file.name] = count
        return self._counted[file.name]

    def _first_limits(self) -> SegmentLimits:
        """The limits of the first session: later devices may differ, but the segments' bounds must stay the same."""
        if (found := read_limits(self._layout)) is not None:
            return found
        make_folder(self._layout.intake_folder)
        commit_bytes(self._layout.limits, msgspec.json.encode(self._limits))
        return self._limits

    def _finished(self, resume_point: ResumePoint) -> IntakeCounts | None:
        """The counts of an intake that ended and whose segments are all on disk; else None."""
        path = self._layout.intake
        counts = read_json(path, IntakeCounts)
        if counts is None:
            return None
        if counts.complete and counts.segments == resume_point.segments:
            return counts
        path.unlink()
        return None

    def _check_source(self, corpus: Corpus) -> list[SourceFile]:
        """The files to read; SourceError unless the intake began with the same ones. A new intake stores their list."""
        files = unchanged_files(self._spec.source, corpus, self._layout)
        if files is None:
            files = corpus.files
            note_stamps(self._layout, files)
        return files

    def _restore(self, index: IdIndex, segments: list[SpooledSegment]) -> None:
        for segment in segments:
            if self._stopping():
                return
            table = read_chunk_columns(self._layout, segment.segment, ("id", "text"))
            ids: list[str] = table.column("id").to_pylist()
            texts: list[str] = table.column("text").to_pylist()
            index.admit(ids, [text_digest(text.encode()) for text in texts], segment.first_row)

    def _read(
        self, files: list[SourceFile], cursor: Cursor, index: IdIndex, writer: SegmentWriter, trail: SourceTrail
    ) -> IntakeCounts:
        begin = cursor
        for at in range(begin.file, len(files)):
            file = files[at]
            skip = begin.records if at == begin.file else 0
            pending = PendingChunks()
            first, digest = self._spec.preprocessing == FIRST, trail.open(at)
            with closing(read_records(file, skip, digest, first=first)) as blocks:
                for block in blocks:
                    self._go_on()
                    if self._enough(writer):
                        break
                    trail.check()
                    self._maker.take(file, block, pending)
                    if pending.ripe:
                        cursor = self._check_ids(at, file, pending, index, writer)
                        pending = PendingChunks()
                    if not pending.last:
                        trail.hold(cursor)
            if pending.last:
                cursor = self._check_ids(at, file, pending, index, writer)
            if self._enough(writer):
                break
            trail.close(cursor)
        self._go_on()
        writer.finish(cursor)
        counts = _counts(writer, complete=True)
        check_usable(self._spec, counts, self._maker.refused)
        record = IntakeRecord(**msgspec.structs.asdict(counts), finished=trail.finished)
        commit_bytes(self._layout.intake, msgspec.json.encode(record))
        return counts

    def _go_on(self) -> None:
        """Raise _Stopped if the intake must stop."""
        if self._stopping():
            raise _Stopped

    def _enough(self, writer: SegmentWriter) -> bool:
        return self._spec.limit is not None and writer.next_row >= self._spec.limit

    def _check_ids(
        self, at: int, file: SourceFile, pending: PendingChunks, index: IdIndex, writer: SegmentWriter
    ) -> Cursor:
        """Check the ids and pass new chunks to the writer. Return the cursor after them."""
        batch, rejects, notes, last = pending.batch, pending.rejects, pending.notes, pending.last
        duplicates: list[int] = []
        admission = index.admit(batch.ids, pending.digests, writer.next_row)
        if admission is not None:
            duplicates = [batch.numbers[position] for position in admission.duplicates]
            for position, row in admission.conflicts:
                id_ = batch.ids[position]
                reason = shared_id_reason(id_, row)
                rejects.append((batch.numbers[position], Reject(reason, excerpt(batch.texts[position]), id_)))
                notes.append((batch.numbers[position], ID_SHARED))
            rejects.sort(key=lambda one: one[0])
            batch = batch.only(admission.new)
        if self._spec.limit is not None and writer.next_row + len(batch) >= self._spec.limit:
            batch = batch.part(0, self._spec.limit - writer.next_row)
            last = batch.numbers[-1]
            rejects = [one for one in rejects if one[0] <= last]
            duplicates = [number for number in duplicates if number <= last]
            notes = [one for one in notes if one[0] <= last]
        writer.add(at, file.name, batch, rejects, duplicates, notes, from_byte=file.from_byte)
        return Cursor(file=at, records=last)


def _counts(writer: SegmentWriter, *, complete: bool) -> IntakeCounts:
    return IntakeCounts(
        segments=writer.segment,
        rows=writer.rows,
        rejected=writer.rejected,
        duplicates=writer.duplicates,
        complete=complete,
        notes=dict(sorted(writer.notes.items())),
    )
