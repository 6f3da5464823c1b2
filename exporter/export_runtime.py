"""ExportRuntime: one run's results on their way to disk.

Messages come in on the main thread, which assembles segments. Whole segments go to one thread that commits them and
derives the ensembles; segments of which every vector stands go on to one that publishes them. What they report is taken
with `take`. Once the run is done, `export_for_local_qdrant` writes what others read.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import orjson

from ..protocol.errors import DamagedChunks, EmbedfleetError
from ..protocol.finished_run.done_run import open_done_run
from ..protocol.index.collection import Quantization
from ..protocol.process.system_refusals import not_written
from ..protocol.run_directory.atomic_files import commit_bytes
from ..protocol.run_directory.layout import segments_in
from ..protocol.run_directory.records.manifest import ManifestPass
from ..protocol.spec.fingerprint import Fingerprint
from ..protocol.spec.output_dims import output_dims
from ..protocol.wire import arrays
from ..protocol.wire.export import (
    ChunksDamaged,
    Closed,
    CloseRun,
    Committed,
    ExportFailed,
    FailedRows,
    Record,
    Rows,
    Scrubbed,
    SegmentDamaged,
    SourceRead,
)
from .command_line import held
from .formats.export_record import ExportRecord
from .formats.exported_file import ExportedFile
from .formats.writers import write_formats
from .index.edge_index import EdgeIndex
from .run_directory.balance import find_difference, find_imbalance
from .run_directory.file_stamps import FileStamps
from .run_directory.manifest import covered, recount, truncations, write_manifest, write_quarantine
from .run_directory.owned_directory import RunDirectory
from .run_directory.scrub import ScrubbedSegment, scrub
from .run_directory.stats import add_figures, merge_stats, read_stats
from .segments.builder import SegmentBuilder
from .segments.ensembles import Ensembles
from .segments.metadata_weights import stand_in
from .segments.writer import commit_segment

UNCOMMITTED_SEGMENTS = 3
"""Whole segments waiting for the disk before the assembling thread waits too."""


Report = Committed | SegmentDamaged | ChunksDamaged | Scrubbed | ExportFailed


class ExportRuntime:
    """`take()` yields reports; a byte on `wake_fd` says that there are some."""

    def __init__(self, directory: RunDirectory, run: str) -> None:
        self._directory, self._layout, self._spec, self._run = directory, directory.layout, directory.spec, run
        passes = range(len(self._spec.passes))
        self._fingerprints: dict[int, Fingerprint] = {}
        for number in passes:
            before = directory.fingerprint(number)
            if before is not None:
                self._fingerprints[number] = before
        self._committed = [set(directory.committed(number)) for number in passes]
        self._standing = [set(segments) for segments in self._committed]
        self._ensembles = Ensembles(directory, self._standing)
        self._seen = FileStamps()
        """Stamps of the segments that were committed or read again in this session. Only the committing thread uses them."""
        self._segments: int | None = None
        """How many the run has, once that is known."""
        self._builders: list[dict[int, SegmentBuilder]] = [{} for _ in passes]
        self._index = EdgeIndex(self._layout, self._spec) if self._spec.index == "edge" else None
        self._committer = ThreadPoolExecutor(1, "commit")
        self._publisher = ThreadPoolExecutor(1, "publish")
        self._room = threading.BoundedSemaphore(UNCOMMITTED_SEGMENTS)
        self._reports: deque[Report] = deque()
        self.wake_fd, self._write_fd = os.pipe()
        os.set_blocking(self.wake_fd, False)
        self._events: BinaryIO = self._layout.events.open("ab")
        self._seconds = {"commit": 0.0, "publish": 0.0}
        self._failed, self._why = False, ""
        self._wrote = False
        self._closing = threading.Event()
        self._scrubber = ThreadPoolExecutor(1, "scrub")
        before = self.committed
        self._unscrubbed = set[int]().union(*before)
        """Segments of earlier sessions that nobody has looked at yet; the committing thread's."""
        self._spooled = {at for at, segment in enumerate(segments_in(self._layout.chunks)) if at == segment}
        """The chunk segments that stand without a gap: those behind one are the intake's to remove and to read again."""
        self._unread = set[int]()
        """Segments that stand and wait for their chunks; the committing thread's."""
        self._scrubber.submit(self._guard, lambda: self._scrub(before))

    @staticmethod
    def export_for_local_qdrant(
        root: Path, formats: Sequence[str], quantization: Quantization, say: Callable[[ExportedFile], None]
    ) -> ExportRecord:
        """Write `formats` (none: all that apply) of the done run in `root`; `say` is told of each file that stands.

        Exporting again replaces the files of these formats and keeps the others, unless those are of other vectors than the
        run has now. UsageError for a format that is not known or does not apply, RunDirectoryError where the run is not
        done or another process writes there.
        """
        open_done_run(root)  # before anything, the lock file included, is written there
        return held(root, lambda: write_formats(open_done_run(root), formats, quantization, say), "export again")

    @property
    def root(self) -> Path:
        """The run directory."""
        return self._layout.root

    @property
    def committed(self) -> tuple[tuple[int, ...], ...]:
        """Per pass: the segments that stand."""
        return tuple(tuple(sorted(segments)) for segments in self._committed)

    @property
    def fingerprints(self) -> tuple[Fingerprint | None, ...]:
        """Per pass: what its committed segments were computed with."""
        return tuple(self._fingerprints.get(number) for number in range(len(self._spec.passes)))

    def begin_pass(self, number: int, fingerprint: Fingerprint, placement: str = "") -> None:
        """The pass's model is known; SpecMismatch where it is not the one of the committed segments."""
        self._directory.begin_pass(number, fingerprint, placement)
        self._fingerprints = self._fingerprints | {number: fingerprint}  # a new one: other threads go through it

    def source_read(self, message: SourceRead) -> None:
        """No more chunk segments come: complete the segments that waited for their chunks."""

        def work() -> None:
            self._segments = message.segments
            for segment in sorted(self._unread):
                self._complete(segment, ours=False)

        self._committer.submit(self._guard, work)

    def add(self, message: Rows, frames: list[Any]) -> None:
        """Take a batch's results."""
        builder = self._builder(message.number, message.segment, message.rows)
        if builder is None:
            return
        found = arrays.unpack(message.arrays, frames)
        builder.add(found, message.errors)
        self._commit_if_whole(message.number, message.segment)

    def give_up(self, message: FailedRows) -> None:
        """Take rows that will have no result."""
        builder = self._builder(message.number, message.segment, message.rows)
        if builder is None:
            return
        builder.give_up(np.asarray(message.positions, np.int32), message.reason)
        self._commit_if_whole(message.number, message.segment)

    def record(self, message: Record) -> None:
        """Write a line to events.jsonl."""
        line = {"time": message.time, "event": message.event, **message.fields}
        self._events.write(orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS) + b"\n")
        self._events.flush()

    def take(self) -> list[Report]:
        """What happened since the last call."""
        try:
            os.read(self.wake_fd, 4096)
        except BlockingIOError:
            return []
        taken: list[Report] = []
        while self._reports:
            report = self._reports.popleft()
            if isinstance(report, SegmentDamaged):  # on this thread, before anybody hears of it: results may come again
                self._committed[report.number].discard(report.segment)
            taken.append(report)
        return taken

    def close(self, message: CloseRun) -> Closed:
        """Wait for what is whole, publish it, write stats, quarantine and (for `done`) the manifest; OSError from the disk."""
        self._closing.set()
        self._scrubber.shutdown(wait=True)
        self._committer.shutdown(wait=True)
        # What an interrupted run does not publish now, the next one does.
        self._publisher.shutdown(wait=True, cancel_futures=message.status != "done")
        points, publishing, problem = 0, None, ""
        if message.status == "done" and not self._failed:
            problem = find_imbalance(self._layout, self._spec, self._seen, self._segments)
            message = self._failed_by(problem, message)
        if self._index is not None:
            if message.status == "done":
                self._guard(self._publish_rest)
            points, publishing = self._close_index(self._index), self._index.figures
        lenient = message.status != "done"  # it may end before damage was found: that is for the next session to tell
        counts, passes = recount(self._layout, self._spec, lenient=lenient)
        if message.status == "done" and not self._failed:
            problem = find_difference(counts, points if self._index is not None else None)
            if problem and self._index is not None:
                self._layout.published.unlink(missing_ok=True)  # the next run makes the collection anew
            message = self._failed_by(problem, message)
        write_quarantine(self._layout, self._spec, lenient=lenient)
        if self._failed and message.status == "done":
            message = CloseRun("failed", self._why, message.stats)
        self._write_stats(message, passes)
        if message.status == "done":
            write_manifest(self._layout, self._spec, self._run, counts, passes, points)
        self._events.flush()
        os.fsync(self._events.fileno())
        self._events.close()
        self._directory.release()
        told = (counts.chunks, counts.committed, counts.quarantined, counts.skipped_duplicates, points)
        float16 = {one.vector: one.float16_segments for one in passes if one.float16_segments}
        return Closed(*told, *covered(self._spec, passes), publishing, float16, truncations(passes), problem)

    def _close_index(self, index: EdgeIndex) -> int:
        """Close the shard, and return its points; 0 if the engine cannot read it any more."""
        counted = [0]

        def close() -> None:
            counted[0] = index.count()
            index.close()

        self._guard(close)
        return counted[0]

    def _failed_by(self, problem: str, message: CloseRun) -> CloseRun:
        """The end of a run, turned into a failure if there is a problem."""
        return CloseRun("failed", f"{self.root}: {problem}", message.stats) if problem else message

    def _write_stats(self, message: CloseRun, passes: list[ManifestPass]) -> None:
        """`passes` as `recount` found them."""
        before = read_stats(self._layout.stats)
        if message.status == before.get("status") == "done" and not self._wrote:
            return  # a session that found nothing to do has nothing to tell
        rows = {one.vector: one.rows for one in passes}
        by_pass = {one.vector: min(rows[output.vector] for output in one.outputs) for one in self._spec.passes}
        stats = merge_stats(before, message.stats, by_pass)
        found = truncations(passes)
        for one in self._spec.passes:  # all vectors of a pass come from the same tokens
            if (cut := found.get(one.outputs[0].vector)) is not None:
                add_figures(stats, one.vector, cut.record())
        stats |= {"status": message.status, "error": message.error, "export_seconds": self._seconds}
        commit_bytes(self._layout.stats, orjson.dumps(stats, default=str, option=orjson.OPT_INDENT_2) + b"\n")

    def _builder(self, number: int, segment: int, rows: int) -> SegmentBuilder | None:
        if segment in self._committed[number] or self._failed:
            return None  # committed before, or nothing can be committed any more
        builders = self._builders[number]
        if segment not in builders:
            builders[segment] = self._new_builder(number, rows)
        return builders[segment]

    def _new_builder(self, number: int, rows: int) -> SegmentBuilder:
        outputs, dims = self._spec.passes[number].outputs, self._dims()
        return SegmentBuilder(rows, outputs, [dims[output.vector] for output in outputs])

    def _dims(self) -> dict[str, int]:
        return output_dims(self._spec, self._fingerprints)

    def _commit_if_whole(self, number: int, segment: int) -> None:
        if not self._builders[number][segment].complete:
            return
        builder = self._builders[number].pop(segment)
        self._committed[number].add(segment)
        self._room.acquire()
        self._committer.submit(self._commit_guarded, number, segment, builder)

    def _commit_guarded(self, number: int, segment: int, builder: SegmentBuilder) -> None:
        try:
            self._guard(lambda: self._commit(number, segment, builder))
        finally:
            self._room.release()

    def _commit(self, number: int, segment: int, builder: SegmentBuilder) -> None:
        one = self._spec.passes[number]
        if one.stood_in is not None:
            stand_in(self._layout, one, segment, builder)
        start = time.monotonic()
        done = commit_segment(self._layout, segment, self._fingerprints[number].digest(), builder)
        self._standing[number].add(segment)
        self._seen.note_first(self._layout.chunk_segment(segment))
        for output in self._spec.passes[number].outputs:
            self._seen.note(self._layout.vector_segment(output.vector, segment))
        self._complete(segment)  # before the report: the coordinator takes the segment for done then
        seconds = time.monotonic() - start
        self._seconds["commit"] += seconds
        self._report(Committed(number, segment, done.rows, done.quarantined, seconds))

    def _scrub(self, committed: Sequence[Sequence[int]]) -> None:
        """What earlier sessions left is read again; then what is whole is published, and what is not goes."""
        for found in scrub(self._layout, self._spec, committed, self._closing.is_set):
            if found.chunks:
                self._report(ChunksDamaged(found.segment, found.chunks))
                return
            # One at a time: what is computed now must not wait behind hundreds of segments that an ensemble lacks.
            self._committer.submit(self._guard, lambda found=found: self._take_over(found)).result()
        if not self._closing.is_set():  # else it may have stopped before the end
            self._committer.submit(self._guard, lambda: self._report(Scrubbed()))

    def _take_over(self, found: ScrubbedSegment) -> None:
        self._unscrubbed.discard(found.segment)
        for number, vector, reason in found.damaged:
            self._standing[number].discard(found.segment)
            self._ensembles.forget(found.segment)
            self._layout.vector_segment(vector, found.segment).unlink(missing_ok=True)
            self._report(SegmentDamaged(number, found.segment, f"{vector}: {reason}"))
        self._ensembles.drop_damaged(found.segment)
        for output in self._spec.outputs:
            self._seen.note(self._layout.vector_segment(output.vector, found.segment))
        if found.segment in self._spooled:  # else the intake reads it again
            self._seen.note(self._layout.chunk_segment(found.segment))
        self._complete(found.segment, ours=False)

    def _complete(self, segment: int, *, ours: bool = True) -> None:
        """Derive the ensembles that the segment allows; publish it once every vector stands."""
        self._wrote |= ours
        if segment in self._unscrubbed:  # what another pass has of it may be damaged: it is taken over later
            return
        if not ours and self._segments is None and segment not in self._spooled:
            self._unread.add(segment)
            return
        if self._ensembles.derive(segment, self._fingerprints):
            self._wrote = True
            for one in self._spec.ensembles:
                self._seen.note(self._layout.vector_segment(one.vector, segment))
        if self._ensembles.stand(segment) and all(segment in standing for standing in self._standing):
            self._publish(segment)

    def _publish(self, segment: int) -> None:
        index = self._index
        if index is None:
            return
        dims = self._dims()

        def work() -> None:
            start = time.monotonic()
            index.publish(segment, dims)
            self._seconds["publish"] += time.monotonic() - start

        self._publisher.submit(self._guard, work)

    def _publish_rest(self) -> None:
        """A run that is done has all its segments in the shard, also where that was made anew."""
        assert self._index is not None, "asked where there is one"
        segments = segments_in(self._layout.chunks)
        self._index.complete(segments, self._dims() if segments else {})

    def _guard(self, work: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            work()
        except DamagedChunks as error:  # met before the look at what stands came there: to be made good all the same
            self._failed, self._why = True, f"{self._layout.chunk_segment(error.segment)}: {error.reason}"
            self._report(ChunksDamaged(error.segment, error.reason))
        except BaseException as error:  # noqa: BLE001 - the engine's panics too: whatever it is ends the run with one message
            self._failed, self._why = True, self._explain(error)
            self._report(ExportFailed(self._why))

    def _explain(self, error: BaseException) -> str:
        if isinstance(error, EmbedfleetError):  # it says where, and what helps
            return str(error)
        if self._index is not None and self._index.is_gone:
            return f"{self._layout.edge} is gone; run the same command again, which makes it anew"
        return not_written(error, self.root)

    def _report(self, report: Report) -> None:
        self._reports.append(report)
        os.write(self._write_fd, b".")
