"""The export links of all runs: messages of exporters and ends of their processes, turned into events."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from ...protocol.errors import ProtocolError, describe_exit
from ...protocol.version import PROTOCOL, __version__
from ...protocol.wire.codec import check_version
from ...protocol.wire.export import (
    ChunksDamaged,
    Closed,
    Committed,
    ExporterAlive,
    ExportFailed,
    Opened,
    OpenRefused,
    PassRefused,
    ScrubbedMessage,
    SegmentDamagedMessage,
)
from ..core import events
from ..runs.batch_runner import BatchRunner
from ..runs.exporter_process import ExporterProcess
from .context import Context


class ExporterLinks:
    """The export links of all runs, and the ends of their processes."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._handlers: dict[type[Any], Callable[[BatchRunner, Any], None]] = {
            Opened: self._opened,
            OpenRefused: self._refused,
            PassRefused: self._pass_refused,
            Committed: self._committed,
            ExportFailed: self._failed,
            SegmentDamagedMessage: self._segment_damaged,
            ChunksDamaged: self._chunks_damaged,
            ScrubbedMessage: self._scrubbed,
            ExporterAlive: self._alive,
            Closed: self._closed,
        }

    def gather(self) -> None:
        """Handle the waiting messages; an exporter's end counts after all its messages."""
        for runner in list(self._context.runs.values()):
            exporter = runner.export.process
            if exporter is not None:
                self._look_at(runner, exporter)

    def _look_at(self, runner: BatchRunner, exporter: ExporterProcess) -> None:
        ended = exporter.process.exit_code()
        for message in exporter.receive():
            self._heard(runner, message)
        if exporter.silent():  # after reading: if this loop was held up, heartbeats are still queued
            exporter.process.kill()
        if ended is None:
            return
        output = exporter.process.tail()[-500:]
        reason = f"{describe_exit(ended)}. {output}" if output else describe_exit(ended)
        runner.export.drop()
        self._context.background.leave(exporter.wait)
        if runner.report.closed is None:
            self._context.emit(events.ExporterLost(runner.run, reason))

    def _heard(self, runner: BatchRunner, message: Any) -> None:
        handler = self._handlers.get(type(message))
        if handler is None:
            raise ProtocolError(f"an unexpected message on the export link: {type(message).__name__}")
        handler(runner, message)

    def _opened(self, runner: BatchRunner, message: Opened) -> None:
        check_version("the exporter", message.protocol, message.build, PROTOCOL, __version__)
        self._context.emit(events.RunOpened(runner.run, runner.opened(message)))

    def _refused(self, runner: BatchRunner, message: OpenRefused) -> None:
        self._context.emit(events.RunFailed(runner.run, message.kind, message.message))
        self._context.emit(events.RunClosed(runner.run))

    def _pass_refused(self, runner: BatchRunner, message: PassRefused) -> None:
        self._context.emit(events.RunFailed(runner.run, "SpecMismatch", message.message))

    def _committed(self, runner: BatchRunner, message: Committed) -> None:
        runner.report.segment_committed(message.number, message.segment, message.rows)
        vector = runner.spec.passes[message.number].vector
        fields = {"segment": message.segment, "rows": message.rows, "quarantined": message.quarantined}
        runner.telemetry.event("segment_committed", vector=vector, seconds=round(message.seconds, 4), **fields)
        self._context.emit(events.SegmentCommitted(runner.run, message.number, message.segment))

    def _failed(self, runner: BatchRunner, message: ExportFailed) -> None:
        with contextlib.suppress(ValueError):
            runner.telemetry.event("export_failed", message=message.message)
        reason = f"results cannot be written: {message.message}"
        self._context.emit(events.RunFailed(runner.run, "RunFailed", reason))

    def _segment_damaged(self, runner: BatchRunner, message: SegmentDamagedMessage) -> None:
        runner.report.segment_damaged(message.number, message.segment, message.reason)
        self._context.emit(events.SegmentDamaged(runner.run, message.number, message.segment))

    def _chunks_damaged(self, runner: BatchRunner, message: ChunksDamaged) -> None:
        runner.chunks_damaged(message.segment, message.reason)

    def _scrubbed(self, runner: BatchRunner, _message: ScrubbedMessage) -> None:
        self._context.emit(events.Scrubbed(runner.run))

    def _alive(self, runner: BatchRunner, message: ExporterAlive) -> None:
        """Nothing to do: `receive` has noted the time."""

    def _closed(self, runner: BatchRunner, message: Closed) -> None:
        runner.report.closed = message
        runner.telemetry.stored_as_float16(message.float16_segments)
        if message.problem:
            problem = f"{runner.layout.root}: {message.problem}"
            self._context.emit(events.RunFailed(runner.run, "RunFailed", problem))
        self._context.emit(events.RunClosed(runner.run))
