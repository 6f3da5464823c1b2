"""The intake: reads the source once, checks every record, and spools chunk segments with rows from 0 without gaps."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import msgspec

from ...protocol.errors import RunDirectoryError
from ...protocol.run_directory.atomic_files import commit_bytes, make_folder
from ...protocol.run_directory.chunk_columns import read_chunk_columns
from ...protocol.run_directory.json_bytes import decode_json, read_json
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.records.intake import IntakeCounts, IntakeRecord, SegmentLimits
from ...protocol.run_directory.segment_info import Cursor
from ...protocol.source.check import fingerprint, read_trail, unchanged_files
from ...protocol.source.corpus import STDIN, Corpus, SourceFile, is_gone, survey
from ...protocol.source.intake_notes import ID_SHARED
from ...protocol.spec.run_spec import RunSpec
from ...protocol.text.preprocessing import FIRST
from ..reading.readers import read_records
from ..reading.records import Reject, excerpt
from .chunk_maker import ChunkMaker, PendingChunks
from .failure import check_usable
from .id_index import IdIndex, text_digest
from .resume_point import Spooled, SpooledSegment, clear_after, find_spooled
from .segment_writer import SegmentSpool
from .source_trail import SourceTrail

__all__ = ["ChunkLoader", "IntakeCounts", "SegmentLimits", "SpooledSegment"]


class ChunkLoader:
    """One intake into one run directory; a second one over the same directory goes on where the first ended."""

    def __init__(
        self,
        spec: RunSpec,
        layout: RunLayout,
        limits: SegmentLimits,
        on_segment: Callable[[SpooledSegment], None],
        stopping: Callable[[], bool],
        on_left_out: Callable[[str], None] = lambda _line: None,
    ) -> None:
        """`on_left_out` gets a line on names in the source that are not read, if there are any."""
        self._spec = spec
        self._layout = layout
        self._limits = limits
        self._on_segment = on_segment
        self._stopping = stopping
        self._maker = ChunkMaker(spec)
        self._on_left_out = on_left_out

    def load(self) -> IntakeCounts:
        """Report the segments that stand, then read and spool the rest; blocks, so it belongs in a thread.

        Ends early, with `complete` False, at the first block after `stopping()` turns true. SourceError where the
        source cannot be read or changed since the intake began; RunDirectoryError for a torn segment.
        """
        make_folder(self._layout.chunks)
        found, segments = find_spooled(self._layout)
        counts = self._finished(found)
        if counts is not None:
            # A source that is gone by now is no matter; one that says something else is.
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
        trail = SourceTrail(self._spec.source, files, read_trail(self._layout))
        clear_after(self._layout, found.segments)
        for segment in segments:
            self._on_segment(segment)
        with closing(IdIndex(self._layout.id_index)) as index:
            self._restore(index, segments)
            spool = SegmentSpool(self._layout, self._first_limits(), self._on_segment, found, trail.passed)
            with closing(spool):
                return self._read(files, found.cursor, index, spool, trail)

    def _survey(self) -> Corpus:
        return survey(self._spec.source, self._layout.root, self._spec.text_field)

    def _first_limits(self) -> SegmentLimits:
        """Those of the first session: what it was computed with may differ, but where a segment ends must not."""
        path = self._layout.limits
        try:
            return decode_json(path.read_bytes(), SegmentLimits)
        except FileNotFoundError:
            commit_bytes(path, msgspec.json.encode(self._limits))
            return self._limits
        except msgspec.MsgspecError as error:
            raise RunDirectoryError(f"{path}: damaged ({error}); start over with --restart") from error

    def _finished(self, found: Spooled) -> IntakeCounts | None:
        """The counts of an intake that came to its end and whose segments all stand."""
        path = self._layout.intake
        counts = read_json(path, IntakeCounts)
        if counts is None:
            return None
        if counts.complete and counts.segments == found.segments:
            return counts
        path.unlink()
        return None

    def _check_source(self, corpus: Corpus) -> list[SourceFile]:
        """The files to read, which must be those that the intake began with. If it begins now, their list is stored."""
        files = unchanged_files(self._spec.source, corpus, self._layout)
        if files is None:
            files = corpus.files
            commit_bytes(self._layout.source, msgspec.json.encode(fingerprint(files)))
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
        self, files: list[SourceFile], cursor: Cursor, index: IdIndex, spool: SegmentSpool, trail: SourceTrail
    ) -> IntakeCounts:
        begin = cursor
        for at in range(begin.file, len(files)):
            file = files[at]
            skip = begin.records if at == begin.file else 0
            pending = PendingChunks()
            with closing(read_records(file, skip, trail.open(at), first=self._spec.preprocessing == FIRST)) as blocks:
                for block in blocks:
                    if self._stopping():
                        return _counts(spool, complete=False)
                    if self._enough(spool):
                        break
                    trail.check()
                    self._maker.take(file, block, pending)
                    if pending.ripe:
                        cursor = self._check_ids(at, file, pending, index, spool)
                        pending = PendingChunks()
                    if not pending.last:
                        trail.hold(cursor)
            if pending.last:
                cursor = self._check_ids(at, file, pending, index, spool)
            if self._enough(spool):
                break
            trail.close(cursor)
        if self._stopping():
            return _counts(spool, complete=False)
        spool.finish(cursor)
        counts = _counts(spool, complete=True)
        check_usable(self._spec, counts, self._maker.refused)
        record = IntakeRecord(**msgspec.structs.asdict(counts), finished=trail.finished)
        commit_bytes(self._layout.intake, msgspec.json.encode(record))
        return counts

    def _enough(self, spool: SegmentSpool) -> bool:
        return self._spec.limit is not None and spool.next_row >= self._spec.limit

    def _check_ids(
        self, at: int, file: SourceFile, pending: PendingChunks, index: IdIndex, spool: SegmentSpool
    ) -> Cursor:
        """Check the ids, hand what is new to the spool, and say how far that reaches."""
        batch, rejects, notes, last = pending.batch, pending.rejects, pending.notes, pending.last
        duplicates: list[int] = []
        admission = index.admit(batch.ids, pending.digests, spool.next_row)
        if admission is not None:
            duplicates = [batch.numbers[position] for position in admission.duplicates]
            for position, row in admission.conflicts:
                id_ = batch.ids[position]
                reason = f"id {id_!r} was already used by row {row} with another text"
                rejects.append((batch.numbers[position], Reject(reason, excerpt(batch.texts[position]), id_)))
                notes.append((batch.numbers[position], ID_SHARED))
            rejects.sort(key=lambda one: one[0])
            batch = batch.only(admission.new)
        if self._spec.limit is not None and spool.next_row + len(batch) >= self._spec.limit:
            batch = batch.part(0, self._spec.limit - spool.next_row)
            last = batch.numbers[-1]
            rejects = [one for one in rejects if one[0] <= last]
            duplicates = [number for number in duplicates if number <= last]
            notes = [one for one in notes if one[0] <= last]
        spool.add(at, file.name, batch, rejects, duplicates, notes)
        return Cursor(file=at, records=last)


def _counts(spool: SegmentSpool, *, complete: bool) -> IntakeCounts:
    return IntakeCounts(
        segments=spool.segment,
        rows=spool.rows,
        rejected=spool.rejected,
        duplicates=spool.duplicates,
        complete=complete,
        notes=dict(sorted(spool.notes.items())),
    )
