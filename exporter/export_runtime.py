"""ExportRuntime: one run's results on their way to disk.

Messages come in on the main thread, which assembles segments. Whole segments take the commit path, whose reports `take`
returns. Once the run is done, `export_for_local_qdrant` writes the files for other programs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
import orjson

from ..protocol.finished_run.done_run import open_done_run
from ..protocol.index.collection import Quantization
from ..protocol.run_directory.records.manifest import ManifestPass
from ..protocol.spec.fingerprint import Fingerprint
from ..protocol.statistics.run_stats import session_of
from ..protocol.wire import arrays
from ..protocol.wire.export import (
    Closed,
    CloseRunMessage,
    FailedRows,
    FillRows,
    Record,
    Rows,
    SegmentDamagedMessage,
    SourceRead,
)
from .command_line import held
from .commit_path import CommitPath
from .formats.export_record import ExportRecord
from .formats.exported_file import ExportedFile
from .formats.writers import write_formats
from .reports import Report, Reports
from .run_directory.balance import find_difference, find_imbalance
from .run_directory.manifest import covered, recount, truncations, write_manifest, write_quarantine
from .run_directory.owned_directory import RunDirectory
from .run_directory.spec_change import restore_spec
from .run_directory.stats import add_truncation, earlier_stats, merge_stats, write_stats
from .segments.builder import SegmentBuilder


class ExportRuntime:
    """The exporter of one run. A byte on `wake_fd` says that `take()` has reports."""

    def __init__(self, directory: RunDirectory, run: str) -> None:
        self._directory, self._layout, self._spec, self._run = directory, directory.layout, directory.spec, run
        self._builders: dict[tuple[int, int], SegmentBuilder] = {}
        """By pass and segment, until each row has a result or a reason."""
        self._segments: int | None = None
        """How many segments the run has, once the intake has ended."""
        self._reports = Reports()
        self._events: BinaryIO = self._layout.events.open("ab")
        self._path = CommitPath(directory, self._reports)

    @staticmethod
    def export_for_local_qdrant(
        root: Path, formats: Sequence[str], quantization: Quantization, say: Callable[[ExportedFile], None]
    ) -> ExportRecord:
        """Write `formats` (none: all that apply) of the done run in `root`; call `say` with each file when it is complete.

        A second export replaces the files of its formats and keeps the others, unless the run's vectors have changed since.
        UsageError for a format that is unknown or does not apply; RunDirectoryError if the run is not done or another process
        writes there.
        """
        open_done_run(root)  # before anything, the lock file included, is written there
        return held(root, lambda: write_formats(open_done_run(root), formats, quantization, say), "export again")

    @property
    def root(self) -> Path:
        """The run directory."""
        return self._layout.root

    @property
    def wake_fd(self) -> int:
        return self._reports.wake_fd

    @property
    def committed(self) -> tuple[tuple[int, ...], ...]:
        """The committed segments of each pass."""
        return self._path.committed

    @property
    def fingerprints(self) -> tuple[Fingerprint | None, ...]:
        """The fingerprint of each pass's committed segments, if it has one."""
        return tuple(self._path.committer.fingerprints.get(number) for number in range(len(self._spec.passes)))

    def begin_pass(self, number: int, fingerprint: Fingerprint, placement: str = "") -> None:
        """Take the model of a pass; SpecMismatch if the committed segments are of another one."""
        self._path.committer.begin_pass(number, fingerprint, placement)

    def source_read(self, message: SourceRead) -> None:
        """Complete the segments that waited for their chunks: the intake has ended."""
        self._segments = message.segments
        self._path.chunks_read()

    def add(self, message: Rows, frames: list[Any]) -> None:
        """Take the results of a batch."""
        if self._path.takes(message.number, message.segment):
            builder = self._builder(message)
            builder.add(arrays.unpack(message.arrays, frames), message.errors)
            self._commit_if_complete(message, builder)

    def give_up(self, message: FailedRows) -> None:
        """Quarantine rows: they will have no result."""
        if self._path.takes(message.number, message.segment):
            builder = self._builder(message)
            builder.give_up(np.asarray(message.positions, np.int32), message.reason)
            self._commit_if_complete(message, builder)

    def fill(self, message: FillRows) -> None:
        """Complete a segment without its model: `segments/metadata_weights.py` fills the rows when it is committed."""
        if self._path.takes(message.number, message.segment):
            builder = self._builder(message)
            builder.give_up_rest(message.reason)
            self._commit_if_complete(message, builder)

    def record(self, message: Record) -> None:
        """Write a line to events.jsonl."""
        line = {"time": message.time, "event": message.event, **message.fields}
        self._events.write(orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS) + b"\n")
        self._events.flush()

    def take(self) -> list[Report]:
        """Return the reports since the last call."""
        taken = self._reports.take()
        for report in taken:
            if isinstance(
                report, SegmentDamagedMessage
            ):  # before the coordinator gets it, which then sends results again
                self._path.damage_told(report.number, report.segment)
        return taken

    def close(self, message: CloseRunMessage) -> Closed:
        """Commit and publish what is whole, write stats, quarantine and (for `done`) the manifest; OSError from the disk."""
        self._path.stop(done=message.status == "done")
        problem = ""
        if message.status == "done" and not self._path.failure:
            problem = find_imbalance(self._layout, self._spec, self._path.committer.stamps, self._segments)
            message = self._failed_by(problem, message)
        points = self._path.close_collection(done=message.status == "done")
        publishing = self._path.publisher.index.figures if self._path.publisher is not None else None
        lenient = message.status != "done"  # it may end before damage was found: that is for the next session to tell
        counts, passes = recount(self._layout, self._spec, lenient=lenient)
        if message.status == "done" and not self._path.failure:
            problem = find_difference(counts, points if self._path.publisher is not None else None)
            if problem and self._path.publisher is not None:
                self._layout.published.unlink(missing_ok=True)  # the next run makes the collection anew
            message = self._failed_by(problem, message)
        write_quarantine(self._layout, self._spec, lenient=lenient)
        if self._path.failure and message.status == "done":
            message = CloseRunMessage("failed", self._path.failure, message.stats)
        self._write_stats(message, passes)
        restore_spec(self._layout, self._spec)
        if message.status == "done":
            write_manifest(self._layout, self._spec, self._run, counts, passes, points)
        self._events.flush()
        os.fsync(self._events.fileno())
        self._events.close()
        self._directory.release()
        told = (counts.chunks, counts.committed, counts.quarantined, counts.skipped_duplicates, points)
        float16 = {one.vector: one.float16_segments for one in passes if one.float16_segments}
        return Closed(*told, *covered(self._spec, passes), publishing, float16, truncations(passes), problem)

    def _failed_by(self, problem: str, message: CloseRunMessage) -> CloseRunMessage:
        """The end of the run, which is a failure if there is a problem."""
        return CloseRunMessage("failed", f"{self.root}: {problem}", message.stats) if problem else message

    def _write_stats(self, message: CloseRunMessage, passes: list[ManifestPass]) -> None:
        """Add this session to stats.json; `passes` are those of `recount`."""
        before = earlier_stats(self._layout)
        if message.status == before.status == "done" and not self._path.committer.wrote:
            return  # the session had nothing to do: the figures of the last one stay
        rows = {one.vector: one.rows for one in passes}
        by_pass = {one.vector: min(rows[output.vector] for output in one.outputs) for one in self._spec.passes}
        stats = merge_stats(before, session_of(message.stats), by_pass)
        found = truncations(passes)
        first = {
            one.vector: one.outputs[0].vector for one in self._spec.passes
        }  # a pass's vectors have the same tokens
        stats = add_truncation(stats, {name: found[vector] for name, vector in first.items() if vector in found})
        ended = {"status": message.status, "error": message.error, "export_seconds": self._path.seconds}
        write_stats(self._layout.stats, msgspec.structs.replace(stats, **ended))

    def _builder(self, message: Rows | FailedRows | FillRows) -> SegmentBuilder:
        key = message.number, message.segment
        if key not in self._builders:
            outputs, dims = self._spec.passes[message.number].outputs, self._path.committer.dims()
            self._builders[key] = SegmentBuilder(message.rows, outputs, [dims[output.vector] for output in outputs])
        return self._builders[key]

    def _commit_if_complete(self, message: Rows | FailedRows | FillRows, builder: SegmentBuilder) -> None:
        if builder.complete:
            self._path.commit(message.number, message.segment, builder)
            del self._builders[message.number, message.segment]
