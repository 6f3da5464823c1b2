"""BatchRunner: a run's data on its way. Intake thread, segments cut and sent, results checked and forwarded, exporter.

It performs what the pool decided for one run and knows nothing of devices or leases. Passes run exclusively, one model
after the other on a device, because the pool leases so: `run_exclusive_ensemble` is what sets it about that.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import zmq

from ...protocol.errors import DamagedChunks, EmbedfleetError, SpecMismatch
from ...protocol.run_directory.layout import RunLayout
from ...protocol.spec.fingerprint import Fingerprint
from ...protocol.spec.output_dims import output_dims
from ...protocol.spec.run_spec import Output, PassSpec, RunSpec
from ...protocol.statistics.run_stats import as_values
from ...protocol.text.token_estimates import estimated_tokens
from ...protocol.version import PROTOCOL, __version__
from ...protocol.wire import arrays
from ...protocol.wire.codec import encode
from ...protocol.wire.control import PassSummary, Progress, RunEnded
from ...protocol.wire.devices import Device
from ...protocol.wire.export import (
    BeginPass,
    ChunksDamaged,
    Closed,
    CloseRun,
    FailedRows,
    Opened,
    OpenRun,
    Record,
    Rows,
    SegmentDamaged,
    SourceRead,
)
from ...protocol.wire.run_options import RunOptions
from ...protocol.wire.work import Batch, Result
from ..core.actions import ForwardResult, QuarantineRows, SendBatch
from ..core.events import Cut, Event, IntakeDone, RunFailed, RunSubmitted, SegmentSpooled
from ..intake.failure import intake_failure
from ..intake.loader import ChunkLoader, SpooledSegment
from ..telemetry.observer import Observer
from ..telemetry.tracker import TelemetryTracker
from .bm25_fit import Bm25Fit
from .damaged_chunks import set_chunks_aside
from .exporter_process import ExportLink
from .metadata_weights import asks_for_stand_ins, has_metadata_weights, source_of_weights, without_model
from .planner import needs_fit, plan_passes, segment_limits, settle_dtype
from .segment_texts import SegmentCache


@dataclass(frozen=True, slots=True)
class Payload:
    """A result as it came: its header and its frames; which device computed it, and its estimated tokens."""

    header: Result
    frames: Sequence[Any]
    device: str
    tokens: int


class BatchRunner:
    """One run. `wake` is called, from other threads too, whenever `intake_events` has something."""

    def __init__(
        self,
        run: str,
        spec: RunSpec,
        out: Path,
        *,
        restart: bool,
        options: RunOptions,
        wake: Callable[[], None],
        observer: Observer | None = None,
    ) -> None:
        self.run, self.spec, self.layout = run, spec, RunLayout(out)
        self._options = options
        self.telemetry = TelemetryTracker(spec.passes, self._record, observer)
        self.link: ExportLink | None = None
        self._asked = False
        """Whether the exporter was told to take the directory, before which it can be told nothing."""
        self.closed: Closed | None = None
        self.rows: dict[int, int] = {}
        """Rows of each spooled segment."""
        self._tokens: dict[int, int] = {}
        """Estimated tokens of each."""
        self.rejected = 0
        self.notes: dict[str, int] = {}
        """Records by what the intake did to them, with the keys of `protocol/source/intake_notes.py`."""
        self.intake_done = False
        self.intake_events: deque[Event | DamagedChunks] = deque()
        self._restart, self._wake = restart, wake
        self._started = time.monotonic()
        self._cache = SegmentCache(self.layout)
        self._fingerprints: dict[int, Fingerprint] = {}
        self._begun: set[int] = set()
        self._staged: dict[int, PassSpec] = {}
        """As the first worker of each pass was told: the others load the same, whoever joins meanwhile."""
        self._batch_tokens: dict[int, int] = {}
        self._committed: list[set[int]] = [set() for _ in spec.passes]
        self._stopping = threading.Event()
        self._loader: threading.Thread | None = None
        self._fit = Bm25Fit(run, spec, self.layout, self._report)
        self._early: list[Record] = []
        self._left_out: list[str] = []
        self._source_read = False
        self._stand_ins = not any(asks_for_stand_ins(one) for one in spec.passes)
        """Whether a chunk spooled so far has weights of its own; true from the start where nobody asks."""

    def run_exclusive_ensemble(self, emit: Callable[[Event], None], *, unchecked: bool) -> None:
        """Plan the run's passes and hand them to the pool, through `emit`: each gets its devices to itself, leased, one pass
        after the other. What the pool decides from then on comes back to the methods below. `unchecked`: ModelsChecked is
        on its way.
        """
        emit(RunSubmitted(self.run, plan_passes(self.spec, self._options), self._options, unchecked))

    def prepare(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
        """Start an exporter, which then waits."""
        self.drop_exporter()
        self.link = ExportLink(context, endpoint)

    def open(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
        """Let the exporter take the directory, a new one if none waits; `restart` counts only for the first one."""
        if self.link is None or self._asked:
            self.prepare(context, endpoint)
        assert self.link is not None, "prepared"
        self._asked = True
        self._begun.clear()
        self.link.send(OpenRun(PROTOCOL, __version__, self.run, str(self.layout.root), self.spec, self._restart))

    def opened(self, message: Opened) -> tuple[frozenset[int], ...]:
        """The directory is ours; per pass the committed segments."""
        self._restart = False  # not before: an exporter that died of it left some of the old run there
        if message.preprocessing:
            self.spec = msgspec.structs.replace(self.spec, preprocessing=message.preprocessing)
        for number, before in enumerate(message.fingerprints):
            if before is not None:
                self._fingerprints[number] = before
        for number, segments in enumerate(message.committed):
            self._committed[number] = set(segments)
        for record in self._early:
            self._send(record)
        self._early.clear()
        if self._source_read:
            self.source_read()
        return tuple(frozenset(segments) for segments in message.committed)

    def start_intake(self, devices: Sequence[Device]) -> None:
        """Read the source in a thread of its own."""
        limits = segment_limits(self.spec, devices)
        loader = ChunkLoader(
            self.spec, self.layout, limits, self._spooled, self._stopping.is_set, self._left_out.append
        )
        self._loader = threading.Thread(target=self._load, args=(loader,), name="intake", daemon=True)
        self._loader.start()

    def stop_intake(self) -> None:
        """Tell the intake to end at the next block; what it spooled stays."""
        self._stopping.set()

    def segment_spooled(self, event: SegmentSpooled) -> None:
        """Count a segment that an earlier session may have committed."""
        self._fit.begin(self._fingerprints)
        self._tell_left_out()
        segment, rows = event.segment, event.rows
        self.rows[segment], self._tokens[segment] = rows, event.tokens
        for number, committed in enumerate(self._committed):
            if segment in committed:
                self.telemetry.passes[number].committed_before += rows
                self.telemetry.passes[number].estimated_before += event.tokens

    def _tell_left_out(self) -> None:
        while self._left_out:
            self.telemetry.event("source_left_out", names=self._left_out.pop())

    def source_read(self) -> None:
        """All segments are spooled: the exporter, and any later one, is told how many there are."""
        self._source_read = True
        self._fit.begin(self._fingerprints)
        self._send(SourceRead(len(self.rows)))

    def segment_committed(self, number: int, segment: int, rows: int) -> None:
        """Count a segment that was committed now."""
        self._committed[number].add(segment)
        self.telemetry.segment_committed(number, rows)

    def segment_damaged(self, message: SegmentDamaged) -> None:
        """A segment that an earlier session committed is to be computed again."""
        number, segment = message.number, message.segment
        self._committed[number].discard(segment)
        if segment in self.rows:
            self.telemetry.passes[number].committed_before -= self.rows[segment]
            self.telemetry.passes[number].estimated_before -= self._tokens[segment]
        vector = self.spec.passes[number].vector
        self.telemetry.event("segment_damaged", vector=vector, segment=segment, reason=message.reason)

    def chunks_damaged(self, message: ChunksDamaged | DamagedChunks) -> str:
        """A chunk segment is to be read from the source again, by the next session; why this one ends."""
        self.stop_intake()
        self.telemetry.event("chunks_damaged", segment=message.segment, reason=message.reason)
        return set_chunks_aside(self.layout.chunk_segment(message.segment), message.reason)

    def stage(self, number: int, devices: Sequence[Device]) -> PassSpec:
        """The pass as its workers are to load it: with one dtype for all, and BM25 fitted to the corpus."""
        if number not in self._staged:
            self._staged[number] = self._settle(number, devices)
        return self._staged[number]

    def _settle(self, number: int, devices: Sequence[Device]) -> PassSpec:
        one, before = self.spec.passes[number], self._fingerprints.get(number)
        if needs_fit(one):
            fitted = self._fit.fitted(one, before)
            self.telemetry.event("bm25_fitted", vector=one.vector, average_length=fitted.average_length)
            return fitted
        return settle_dtype(one, before, devices, self._options)

    def staged(self, number: int, fingerprint: Fingerprint, batch_tokens: int) -> None:
        """A worker has loaded the model. The exporter hears of the first.

        SpecMismatch where it is another one than before, UsageError where its dimensions do not suit the run.
        """
        known = self._fingerprints.get(number)
        if known is not None and (found := fingerprint.differences(known)):
            vector = self.spec.passes[number].vector
            raise SpecMismatch(
                f"{vector}: this model is not the one of the committed segments: {'; '.join(found)}. --restart starts over"
            )
        output_dims(self.spec, self._fingerprints | {number: fingerprint})
        if known is None and fingerprint.assumed and self.spec.passes[number].side == "document":
            self.telemetry.event("model_assumed", vector=self.spec.passes[number].vector, what=fingerprint.assumed)
        self._fingerprints.setdefault(number, fingerprint)
        self._batch_tokens.setdefault(number, batch_tokens)

    def outputs(self, number: int) -> tuple[tuple[Output, int], ...]:
        """What a staged pass gives, each with its dimensions; 0 where its form has none."""
        fingerprint = self._fingerprints[number]
        return tuple((one, fingerprint.dim_of(one.form)) for one in self.spec.passes[number].outputs)

    def begin_pass(self, number: int) -> None:
        """Tell the exporter, once, what the pass is computed with."""
        if number not in self._begun:
            self._begun.add(number)
            fingerprint = self._fingerprints.get(number) or without_model(self.spec.passes[number])
            self._send(BeginPass(number, fingerprint, self.telemetry.passes[number].statistics.placement))

    def cut(self, number: int, segment: int) -> tuple[Cut, ...]:
        """The segment's batches for the pass."""
        return self._cache.get(segment).cut(self._batch_tokens[number])

    def batch(self, action: SendBatch) -> list[Any]:
        """The frames of a batch for a worker."""
        headers, frames = arrays.pack(self._cache.get(action.segment).arrays(action.start, action.stop))
        return [encode(Batch(action.batch, action.epoch, action.stop - action.start, headers)), *frames]

    def forward(self, action: ForwardResult) -> None:
        """Hand a result to the exporter: its frames as they are, with the rows that they belong to."""
        payload: Payload = action.payload
        texts = self._cache.get(action.segment)
        headers, frames = arrays.pack({"positions": texts.positions(action.start, action.stop)})
        self.begin_pass(action.number)
        self.telemetry.result(
            action.number, payload.device, action.stop - action.start, payload.tokens, payload.header, time.monotonic()
        )
        head = (action.number, action.segment, texts.rows)
        message = Rows(*head, (*headers, *payload.header.arrays), payload.header.errors)
        self._send(message, [*frames, *payload.frames])

    def quarantine(self, action: QuarantineRows) -> None:
        """Let the exporter write rows off."""
        rows = self.rows[action.segment]
        if (action.start, action.stop) == (0, rows):
            positions = tuple(range(rows))  # a late fallback hands on thousands of whole segments at once
        else:
            positions = tuple(self._cache.get(action.segment).positions(action.start, action.stop).tolist())
        self.begin_pass(action.number)
        self._send(FailedRows(action.number, action.segment, rows, positions, action.reason))

    def close(self, status: str, error: str) -> None:
        """Let the exporter finish."""
        self.stop_intake()
        self._tell_left_out()
        seconds = time.monotonic() - self._started
        stats = self.telemetry.session_stats(self.run, seconds)
        self.telemetry.closing(status, error)
        self._send(CloseRun(status, error, as_values(stats)))

    def drop_exporter(self) -> None:
        """End the exporter's process if there is one."""
        if self.link is not None:
            self.link.close()
            self.link = None
            self._asked = False

    def finish(self) -> None:
        """Stop the intake thread (it looks at every block) and the exporter."""
        self.stop_intake()
        self._fit.end()
        if self._loader is not None and self.spec.source != "-":
            self._loader.join(10)
        self.drop_exporter()

    def progress(self, status: str, passes: Sequence[tuple[str, int]], *, end: bool = False) -> Progress:
        """The run for its watchers; for each pass its state and its batches in flight. `end`: it is the last one."""
        notices = self.telemetry.take_notices(end=end)
        total = sum(self._tokens.values())
        return Progress(
            run=self.run,
            status=status,
            rows=sum(self.rows.values()),
            intake_done=self.intake_done,
            rejected=self.rejected,
            passes=tuple(self.telemetry.passes[number].progress(*one, total) for number, one in enumerate(passes)),
            notices=notices,
        )

    def ended(self, status: str, kind: str, error: str) -> RunEnded:
        """The run's end for its watchers."""
        counts = self.closed or Closed(sum(self.rows.values()) + self.rejected, 0, self.rejected, 0, 0)
        if (done := counts.publishing) is not None:
            peak = {"memory.peak_bytes": done.peak_bytes}
            self.telemetry.stage("publish", done.begin, done.end, rows=done.rows, points=counts.published, **peak)
        traceparent = self.telemetry.traceparent
        self.telemetry.over(status, error)
        return RunEnded(
            run=self.run,
            status=status,
            chunks=counts.chunks,
            committed=counts.committed,
            quarantined=counts.quarantined,
            skipped_duplicates=counts.skipped_duplicates,
            seconds=round(time.monotonic() - self._started, 3),
            passes=tuple(self._summary(number, counts) for number in range(len(self.spec.passes))),
            kind=kind,
            error=error,
            traceparent=traceparent,
            notes=self.notes,
        )

    def _summary(self, number: int, counts: Closed) -> PassSummary:
        """A pass covers a row when each of its vectors is there."""
        committed = sum(self.rows.get(segment, 0) for segment in self._committed[number])
        summary, rows = self.telemetry.passes[number].summary(), sum(self.rows.values())
        truncation = counts.truncation.get(self.spec.passes[number].outputs[0].vector)
        limit = self._fingerprints[number].max_tokens if number in self._fingerprints else 0
        summary = msgspec.structs.replace(summary, chunks=committed, truncation=truncation, max_tokens=limit)
        found = [counts.covered.get(output.vector) for output in self.spec.passes[number].outputs]
        known = [count for count in found if count is not None]
        if not known or not rows:
            return summary
        one = self.spec.passes[number]
        sparse = one.stood_in or ""
        stood_in, weighed = counts.stood_in.get(sparse, 0), counts.covered.get(sparse, 0)
        shares = (weighed - stood_in, stood_in, rows - weighed)
        weights = source_of_weights(*shares) if stood_in or one.kind == "metadata" else ""
        return msgspec.structs.replace(summary, coverage=min(known) / rows, weights=weights)

    def _record(self, event: str, when: float, fields: dict[str, Any]) -> None:
        record = Record(event, when, fields)
        if not self._asked:
            self._early.append(record)
        else:
            self._send(record)

    def _send(self, message: Any, frames: list[Any] | None = None) -> None:
        if self.link is not None:
            self.link.send(message, frames)

    def _spooled(self, segment: SpooledSegment) -> None:
        self.rejected += segment.rejected
        tokens = estimated_tokens(segment.n_bytes, segment.rows)
        self._stand_ins = self._stand_ins or has_metadata_weights(self.layout, segment.segment)
        self._report(SegmentSpooled(self.run, segment.segment, segment.rows, tokens, stand_ins=self._stand_ins))

    def _report(self, event: Event | DamagedChunks) -> None:
        """Queue an event, from any thread."""
        self.intake_events.append(event)
        self._wake()

    def _load(self, loader: ChunkLoader) -> None:
        try:
            counts = loader.load()
        except DamagedChunks as error:
            self._report(error)
        except EmbedfleetError as error:
            self._report(RunFailed(self.run, type(error).__name__, str(error)))
        except Exception as error:  # noqa: BLE001 - a full disk, a vanished source: the run fails with one message
            self._report(RunFailed(self.run, "RunFailed", intake_failure(error, self.spec.source, self.layout)))
        else:
            if counts.complete:
                self.rejected, self.notes, self.intake_done = counts.rejected, counts.notes, True
                self._report(IntakeDone(self.run))
