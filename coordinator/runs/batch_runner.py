"""BatchRunner: performs what the pool decided for one run, and knows nothing of devices or leases.

It holds the run's parts together: the intake thread, the settings of passes, the texts, the exporter, the report.
Passes run exclusively, one model after the other on a device, because the pool leases devices so; `run_exclusive_ensemble`
submits them to the pool.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ...protocol.errors import DamagedChunks, EmbedfleetError
from ...protocol.object_storage.mirror import follow_spool, unfollow_spool
from ...protocol.run_directory.layout import RunLayout
from ...protocol.spec.run_spec import RunSpec
from ...protocol.statistics.run_stats import as_values
from ...protocol.wire import arrays
from ...protocol.wire.codec import encode
from ...protocol.wire.devices import Device
from ...protocol.wire.export import CloseRunMessage, FailedRows, FillRows, Opened, Rows, SourceRead
from ...protocol.wire.run_options import RunOptions
from ...protocol.wire.work import BatchMessage, Result
from ..background import Background
from ..core.actions import CutSegment, FillSegment, ForwardResult, QuarantineRows, SendBatch
from ..core.events import Event, IntakeDone, RunFailed, RunSubmitted, SegmentSpooled
from ..telemetry.observer import Observer
from ..telemetry.tracker import TelemetryTracker
from .damaged_chunks import set_chunks_aside
from .export_session import ExportSession
from .exporter_process import ExporterProcess
from .intake_thread import IntakeThread
from .pass_settings import PassSettings
from .planner import plan_passes, segment_limits
from .run_report import RunReport
from .segment_texts import OpenTexts


@dataclass(frozen=True, slots=True)
class Payload:
    """A result as the worker sent it, the device that computed it, and its estimated tokens."""

    header: Result
    frames: Sequence[Any]
    device: str
    tokens: int


class BatchRunner:
    """One run. `emit` hands an event to the pool; calls that wait for a disk are made in the `background`."""

    def __init__(
        self,
        run: str,
        spec: RunSpec,
        out: Path,
        *,
        restart: bool,
        options: RunOptions,
        background: Background,
        emit: Callable[[Event], None],
        start_exporter: Callable[[], ExporterProcess],
        observer: Observer | None = None,
    ) -> None:
        self.run, self.spec, self.layout = run, spec, RunLayout(out)
        self._options, self._background, self._emit = options, background, emit
        self.export = ExportSession(run, out, start_exporter, restart=restart)
        self.telemetry = TelemetryTracker(spec.passes, self.export.record, observer)
        self.intake = IntakeThread(run, self.layout, self._report, self._left_out)
        self.settings = PassSettings(run, spec, self.layout, options, self.telemetry, self._report)
        self.texts = OpenTexts(run, self.layout, background, emit)
        self.report = RunReport(run, spec, self.telemetry, self.intake, self.settings)
        self._mirror = follow_spool(out)
        self._source_read = False
        self._damaged: set[int] = set()
        """Damaged chunk segments."""

    def run_exclusive_ensemble(self, *, unchecked: bool) -> None:
        """Plan the run's passes and submit them to the pool: each gets its devices to itself, leased, one pass after the other.
        The methods below perform the pool's actions. `unchecked`: ModelsChecked follows.
        """
        self._emit(RunSubmitted(self.run, plan_passes(self.spec, self._options), self._options, unchecked))

    def open(self) -> None:
        """Let the exporter take the directory; segments that are not committed are computed again."""
        self.texts.clear()
        self.export.open(self.spec)

    def opened(self, message: Opened) -> tuple[frozenset[int], ...]:
        """Go on from what the exporter found in the directory; return the committed segments of each pass."""
        if message.preprocessing:
            self.spec = msgspec.structs.replace(self.spec, preprocessing=message.preprocessing)
        self.settings.resume(message.fingerprints)
        self.report.opened(message.committed)
        self.export.opened()
        if self._source_read:
            self._tell_source_read()
        return tuple(frozenset(segments) for segments in message.committed)

    def start_intake(self, devices: Sequence[Device]) -> None:
        """Read the source in a thread of its own."""
        self.intake.start(self.spec, segment_limits(self.spec, devices))

    def cut(self, action: CutSegment) -> None:
        """Have the segment cut into batches for the pass; SegmentCut follows."""
        self.texts.cut(action.pass_index, action.segment, self.settings.sizes(action.pass_index))

    def batch(self, action: SendBatch) -> list[Any]:
        """The frames of a batch for a worker."""
        headers, frames = arrays.pack(self.texts[action.segment].arrays(action.start, action.stop))
        return [encode(BatchMessage(action.batch, action.epoch, action.stop - action.start, headers)), *frames]

    def forward(self, action: ForwardResult) -> None:
        """Hand a result to the exporter: its frames unchanged, with the rows that they belong to."""
        payload: Payload = action.payload
        texts, rows = self.texts[action.segment], action.stop - action.start
        headers, frames = arrays.pack({"positions": texts.positions(action.start, action.stop)})
        self._begin_pass(action.pass_index)
        self.telemetry.result(action.pass_index, payload.device, rows, payload.tokens, payload.header, time.monotonic())
        head = (action.pass_index, action.segment, texts.rows)
        message = Rows(*head, (*headers, *payload.header.arrays), payload.header.errors)
        self.export.send(message, [*frames, *payload.frames])
        self.texts.handed_on(action.pass_index, action.segment, rows)

    def quarantine(self, action: QuarantineRows) -> None:
        """Let the exporter quarantine rows that no worker can compute."""
        texts = self.texts[action.segment]
        positions = tuple(texts.positions(action.start, action.stop).tolist())
        self._begin_pass(action.pass_index)
        self.export.send(FailedRows(action.pass_index, action.segment, texts.rows, positions, action.reason))
        self.texts.handed_on(action.pass_index, action.segment, len(positions))

    def fill(self, action: FillSegment) -> None:
        """Let the exporter fill the rows of a segment that have no result."""
        rows = self.report.rows[action.segment]
        self._begin_pass(action.pass_index)
        self.export.send(FillRows(action.pass_index, action.segment, rows, action.reason))
        self.texts.handed_on(action.pass_index, action.segment, rows)

    def _begin_pass(self, number: int) -> None:
        self.export.begin_pass(
            number, self.settings.fingerprint(number), self.telemetry.passes[number].statistics.placement
        )

    def fail(self, error: Exception) -> None:
        """Fail the run for an error of its files: RunFailed follows."""
        if isinstance(error, DamagedChunks):
            self.chunks_damaged(error.segment, error.reason)
        else:
            kind = type(error).__name__ if isinstance(error, EmbedfleetError) else "RunFailed"
            self._emit(RunFailed(self.run, kind, str(error)))

    def chunks_damaged(self, segment: int, reason: str) -> None:
        """Set a damaged chunk segment aside, so that the next session reads it from the source again; RunFailed follows."""
        if segment in self._damaged:
            return
        self._damaged.add(segment)
        self.intake.stop()
        self.telemetry.event("chunks_damaged", segment=segment, reason=reason)
        self._background.post(
            self.run,
            lambda: set_chunks_aside(self.layout, segment, reason),
            lambda answer: self._emit(RunFailed(self.run, "RunFailed", answer.result())),
        )

    def close(self, status: str, error: str) -> None:
        """Let the exporter finish."""
        self.intake.stop()
        self.texts.clear()
        stats = self.telemetry.session_stats(self.run, self.report.seconds)
        self.telemetry.closing(status, error)
        self.export.send(CloseRunMessage(status, error, as_values(stats)))

    def finish(self) -> Callable[[], None]:
        """Stop the intake, the count of terms and the exporter; return a function that waits for their ends."""
        self.intake.stop()
        self.settings.fit.stop()
        exporter = self.export.drop()

        def wait() -> None:
            self.settings.fit.end()
            self.intake.join()
            if exporter is not None:
                exporter.wait()
            unfollow_spool(self._mirror)

        return wait

    def _report(self, event: Event | DamagedChunks) -> None:
        """Take an event of the intake or of the count of terms, from their threads."""
        self._background.tell(self.run, lambda: self._reported(event))

    def _left_out(self, names: str) -> None:
        self._background.tell(self.run, lambda: self.telemetry.event("source_left_out", names=names))

    def _reported(self, event: Event | DamagedChunks) -> None:
        if isinstance(event, DamagedChunks):
            raise event
        if isinstance(event, SegmentSpooled):
            self.settings.begin_fit()
            self.report.segment_spooled(event)
        elif isinstance(event, IntakeDone):
            self.settings.begin_fit()
            self._source_read = True
            self._tell_source_read()
        self._emit(event)

    def _tell_source_read(self) -> None:
        """Send the number of segments to the exporter: all are spooled. A later exporter gets it too."""
        self.export.send(SourceRead(len(self.report.rows)))
