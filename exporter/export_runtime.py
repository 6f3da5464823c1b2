"""ExportRuntime: one run's results on their way to disk.

Messages come in on the main thread, which assembles segments; whole segments go to one thread that commits them, and
segments that every pass has committed go on to one that publishes them. What they report is taken with `take`.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

import numpy as np
import orjson

from ..protocol import arrays
from ..protocol.durable import commit_bytes
from ..protocol.export_messages import Closed, CloseRun, Committed, ExportFailed, FailedRows, Record, Rows
from ..protocol.work_messages import Fingerprint
from .edge_index import EdgeIndex
from .manifest import recount, write_manifest, write_quarantine
from .run_directory import RunDirectory
from .segment_builder import SegmentBuilder
from .segment_writer import commit_segment
from .stand_in import stand_in

UNCOMMITTED_SEGMENTS = 3
"""Whole segments waiting for the disk before the assembling thread waits too."""


class ExportRuntime:
    """`take()` yields Committed and ExportFailed; a byte on `wake_fd` says that there are some."""

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
        self._builders: list[dict[int, SegmentBuilder]] = [{} for _ in passes]
        self._index = EdgeIndex(self._layout, self._spec) if self._spec.index == "edge" else None
        self._committer = ThreadPoolExecutor(1, "commit")
        self._publisher = ThreadPoolExecutor(1, "publish")
        self._room = threading.BoundedSemaphore(UNCOMMITTED_SEGMENTS)
        self._reports: deque[Committed | ExportFailed] = deque()
        self.wake_fd, self._write_fd = os.pipe()
        os.set_blocking(self.wake_fd, False)
        self._events: BinaryIO = self._layout.events.open("ab")
        self._seconds = {"commit": 0.0, "publish": 0.0}
        self._failed = False
        self._wrote = False
        for segment in sorted(set.intersection(*self._standing)):
            self._publish(segment)

    @property
    def committed(self) -> tuple[tuple[int, ...], ...]:
        """Per pass: the segments that stand."""
        return tuple(tuple(sorted(segments)) for segments in self._committed)

    @property
    def fingerprints(self) -> tuple[Fingerprint | None, ...]:
        """Per pass: what its committed segments were computed with."""
        return tuple(self._fingerprints.get(number) for number in range(len(self._spec.passes)))

    def begin_pass(self, number: int, fingerprint: Fingerprint) -> None:
        """The pass's model is known; SpecMismatch where it is not the one of the committed segments."""
        self._directory.begin_pass(number, fingerprint)
        self._fingerprints[number] = fingerprint

    def add(self, message: Rows, frames: list[Any]) -> None:
        """Take a batch's results."""
        builder = self._builder(message.number, message.segment, message.rows)
        if builder is None:
            return
        found = arrays.unpack(message.arrays, frames)
        builder.add(found, {error.position: error.reason for error in message.errors})
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

    def take(self) -> list[Committed | ExportFailed]:
        """What happened since the last call."""
        try:
            os.read(self.wake_fd, 4096)
        except BlockingIOError:
            return []
        taken: list[Committed | ExportFailed] = []
        while self._reports:
            taken.append(self._reports.popleft())
        return taken

    def close(self, message: CloseRun) -> Closed:
        """Wait for what is whole, publish it, write stats, quarantine and (for `done`) the manifest; OSError from the disk."""
        self._committer.shutdown(wait=True)
        self._publisher.shutdown(wait=True)
        points = 0
        if self._index is not None:
            points = self._index.count()
            self._index.close()
        counts, passes = recount(self._layout, self._spec)
        write_quarantine(self._layout, self._spec)
        stats = {**message.stats, "status": message.status, "error": message.error, "export_seconds": self._seconds}
        idle = message.status == "done" and not self._wrote  # a session that found nothing to do has nothing to tell
        if not idle or not self._layout.stats.exists():
            commit_bytes(self._layout.stats, orjson.dumps(stats, default=str, option=orjson.OPT_INDENT_2) + b"\n")
        if message.status == "done" and not self._failed:
            write_manifest(self._layout, self._spec, self._run, counts, passes, points)
        self._events.flush()
        os.fsync(self._events.fileno())
        self._events.close()
        self._directory.release()
        return Closed(counts.chunks, counts.committed, counts.quarantined, counts.skipped_duplicates, points)

    def _builder(self, number: int, segment: int, rows: int) -> SegmentBuilder | None:
        if segment in self._committed[number] or self._failed:
            return None  # committed before, or nothing can be committed any more
        builders = self._builders[number]
        if segment not in builders:
            builders[segment] = self._new_builder(number, rows)
        return builders[segment]

    def _new_builder(self, number: int, rows: int) -> SegmentBuilder:
        outputs, fingerprint = self._spec.passes[number].outputs, self._fingerprints[number]
        return SegmentBuilder(rows, outputs, [fingerprint.dim_of(output.form) for output in outputs])

    def _commit_if_whole(self, number: int, segment: int) -> None:
        if not self._builders[number][segment].complete:
            return
        builder = self._builders[number].pop(segment)
        self._committed[number].add(segment)
        self._room.acquire()
        self._committer.submit(self._guard, lambda: self._commit(number, segment, builder))

    def _commit(self, number: int, segment: int, builder: SegmentBuilder) -> None:
        start = time.monotonic()
        try:
            one = self._spec.passes[number]
            if one.kind == "metadata" or (one.kind == "sparse" and one.fallback):
                stand_in(self._layout, one, segment, builder)
            done = commit_segment(self._layout, number, segment, self._fingerprints[number].digest(), builder)
        finally:
            self._room.release()
        seconds = time.monotonic() - start
        self._seconds["commit"] += seconds
        self._report(Committed(number, segment, done.rows, done.quarantined, seconds))
        self._standing[number].add(segment)
        self._wrote = True
        if all(segment in standing for standing in self._standing):
            self._publish(segment)

    def _publish(self, segment: int) -> None:
        index = self._index
        if index is None:
            return
        dims = {
            output.vector: self._fingerprints[number].dim_of(output.form)
            for number, one in enumerate(self._spec.passes)
            for output in one.outputs
        }

        def work() -> None:
            start = time.monotonic()
            index.publish(segment, dims)
            self._seconds["publish"] += time.monotonic() - start

        self._publisher.submit(self._guard, work)

    def _guard(self, work: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            work()
        except Exception as error:  # noqa: BLE001 - whatever the disk or the engine raises ends the run with one message
            self._failed = True
            self._report(ExportFailed(f"{type(error).__name__}: {error}"))

    def _report(self, report: Committed | ExportFailed) -> None:
        self._reports.append(report)
        os.write(self._write_fd, b".")
