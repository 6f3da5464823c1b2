"""TelemetryTracker: what a run did, as events for events.jsonl, as figures for progress and stats, as notices for people."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ...protocol.spec.run_spec import PassSpec
from ...protocol.statistics.histogram import BATCH_DIGITS, LogHistogram
from ...protocol.wire.control import PassProgress, PassSummary
from ...protocol.wire.devices import MemorySample, PerformanceSample
from ...protocol.wire.work import Mitigation, Released, Result, RowError
from ..core.actions import SendBatch
from .notices import Notices
from .observer import Observer
from .performance import PerformanceLog

BATCH_EVENT_SECONDS = 2.0
"""A batch-progress event per pass at most this often: events.jsonl grows with the time, not with the corpus."""
REASSIGNED = "reassigned"
"""Reason of a mitigation: another worker, or a CPU slot, goes on with what a lost worker or a device given up had."""


@dataclass(slots=True)
class PassFigures:
    """One pass in this session. Seconds; rows and tokens computed, not those committed before."""

    spec: PassSpec
    rows: int = 0
    tokens: int = 0
    padded: int = 0
    batches: int = 0
    errors: int = 0
    too_large: int = 0
    """Of the errors: multivectors of more numbers than a point takes."""
    told_too_large: int = 0
    too_large_reason: str = ""
    tokenize: float = 0.0
    forward: float = 0.0
    wait: float = 0.0
    send: float = 0.0
    first: float = 0.0
    last: float = 0.0
    mitigations: int = 0
    peak_bytes: int = 0
    devices: dict[str, int] = field(default_factory=dict[str, int])
    """Rows by device."""
    gap: float | None = None
    dtype: str = ""
    placement: str = ""
    committed_before: int = 0
    """Rows that earlier sessions committed."""
    committed: int = 0
    """Rows that this session committed."""
    lost: int = 0
    """Rows computed in this session that went with an exporter, and are computed again."""
    estimated_before: int = 0
    """Estimated tokens of those rows."""
    estimated: int = 0
    """Estimated tokens of the rows computed in this session: batches come longest first, so rows tell little."""
    reported: float = 0.0
    told_errors: float = 0.0
    told_too_large_at: float = 0.0
    batch_seconds: LogHistogram = field(default_factory=LogHistogram)
    """Tokenizing and computing one batch, in its worker."""
    batch_rows: LogHistogram = field(default_factory=LogHistogram)
    batch_tokens: LogHistogram = field(default_factory=LogHistogram)

    @property
    def seconds(self) -> float:
        """From the first batch sent to the last result."""
        return max(self.last - self.first, 1e-9) if self.rows else 0.0

    @property
    def done(self) -> int:
        """Rows of the run that need no computing any more; rows may also be committed that no worker computed."""
        return max(self.rows - self.lost, self.committed) + self.committed_before

    def rate(self, amount: int) -> float:
        """`amount` per second of the pass."""
        return amount / self.seconds if self.rows else 0.0


class TelemetryTracker:
    """One run's tracker. `write(event, unix time, fields)` takes each event.

    Everything that is told of a run passes through here; `observer` hears it too.
    """

    def __init__(
        self,
        passes: tuple[PassSpec, ...],
        write: Callable[[str, float, dict[str, Any]], None],
        observer: Observer | None = None,
    ) -> None:
        self.passes = [PassFigures(one) for one in passes]
        self._lines: list[str] = []
        """For people, not shown yet."""
        self._notices = Notices()
        self._write, self._observer = write, observer
        self._performance = PerformanceLog([one.vector for one in passes])
        self._last_result: dict[str, tuple[int, float]] = {}
        """By device: the pass it worked for last, and when its last result came."""
        self._before: dict[str, int] = {}
        self._given_up: list[str] = []
        """Devices."""

    def event(self, event: str, **fields: Any) -> None:
        """An event of the run; some are told to people too."""
        self._record(event, fields)
        match event:
            case "device_bad":
                self._given_up.append(fields["device"])
            case "cpu_fallback":
                from_device = ", ".join(dict.fromkeys(self._given_up))
                self._record("mitigation", {"reason": REASSIGNED, "from_device": from_device, **fields})
            case "exporter_lost":
                for figures in self.passes:
                    figures.lost = max(figures.rows - figures.committed, 0)
            case _:
                pass
        self._lines += self._notices.tell(event, fields, time.monotonic())

    def take_notices(self, *, end: bool = False) -> tuple[str, ...]:
        """Lines for people since the last call; at the end, what was only counted so far too."""
        lines = (*self._lines, *self._notices.due(time.monotonic(), end=end))
        self._lines.clear()
        return lines

    def lease(
        self, phase: str, worker: str, device: str, number: int, memory: MemorySample | None, **more: Any
    ) -> None:
        """A lease event: `before`, `staged`, `hydrated`, `peak`, `after`, with the memory where it was looked at."""
        figures = self.passes[number]
        if phase == "after":
            more |= {"peaks": self._performance.forget(worker)}
        self._record(
            "lease",
            {
                "phase": phase,
                "worker": worker,
                "device": device,
                "vector": figures.spec.vector,
                "memory": msgspec.to_builtins(_named(memory)) if memory is not None else None,
                **more,
            },
        )
        if memory is not None and memory.source in ("rss", "torch"):
            figures.peak_bytes = max(figures.peak_bytes, memory.used)
        figures.dtype, figures.placement = more.get("dtype", figures.dtype), more.get("placement", figures.placement)
        if memory is not None and phase == "before":
            self._before[worker] = memory.used
        if phase == "after" and memory is not None and not more.get("released", True):
            self.event("not_released", device=device, used=memory.used, before=self._before.get(worker, 0))

    def batch_sent(self, action: SendBatch, device: str, now: float) -> None:
        """The first batch that a device gets of another pass than before is a rotation; its gap is measured."""
        number = action.number
        if self._observer is not None:
            self._observer.batch_sent(action, device, time.time())
        figures = self.passes[number]
        if (lost := action.taken_from) is not None:
            where = {"worker": action.worker, "device": device, "vector": figures.spec.vector}
            rows = {"segment": action.segment, "rows": action.stop - action.start}
            came = {"from_worker": lost.worker, "from_device": lost.device}
            self._record("mitigation", {"reason": REASSIGNED, **where, **came, **rows})
        figures.first = figures.first or now
        before = self._last_result.get(device)
        if before is not None and before[0] != number:
            gap = now - before[1]
            figures.gap = max(figures.gap or 0.0, gap)
            vectors = {"from": self.passes[before[0]].spec.vector, "to": figures.spec.vector}
            self._record("rotation", {"device": device, "gap_seconds": round(gap, 4), **vectors})
            del self._last_result[device]

    def result(self, number: int, device: str, rows: int, estimated: int, result: Result, now: float) -> None:
        """A batch's result: its rows, and the tokens that had been estimated for them."""
        if self._observer is not None:
            self._observer.batch_done(result, time.time())
        figures = self.passes[number]
        figures.rows += rows
        figures.estimated += estimated
        figures.batches += 1
        figures.tokens += result.tokens
        figures.padded += result.padded
        figures.tokenize += result.timings.tokenize
        figures.forward += result.timings.forward
        figures.wait += result.timings.wait
        figures.batch_seconds.add(result.timings.tokenize + result.timings.forward)
        figures.batch_rows.add(rows)
        figures.batch_tokens.add(result.tokens)
        self._row_errors(figures, device, result.errors, now)
        figures.last = now
        figures.devices[device] = figures.devices.get(device, 0) + rows
        self._last_result[device] = (number, now)
        if now - figures.reported >= BATCH_EVENT_SECONDS:
            figures.reported = now
            fields = {"vector": figures.spec.vector, "rows": figures.rows, "tokens": figures.tokens}
            self._record("batch_progress", fields | {"device": device})

    def _row_errors(self, figures: PassFigures, device: str, errors: Sequence[RowError], now: float) -> None:
        too_large = [one for one in errors if one.too_large]
        failed = [one for one in errors if not one.too_large]
        figures.errors += len(errors)
        figures.too_large += len(too_large)
        if failed and now - figures.told_errors >= BATCH_EVENT_SECONDS:
            figures.told_errors = now
            fields = {"vector": figures.spec.vector, "device": device, "rows": figures.errors - figures.too_large}
            self._record("rows_failed", fields | {"reason": failed[0].reason})
        if too_large:
            figures.too_large_reason = too_large[0].reason
            if now - figures.told_too_large_at >= BATCH_EVENT_SECONDS:
                self._tell_too_large(figures, now)

    def _tell_too_large(self, figures: PassFigures, now: float) -> None:
        figures.told_too_large, figures.told_too_large_at = figures.too_large, now
        vector = next(one.vector for one in figures.spec.outputs if one.form == "multivector")
        fields = {"vector": vector, "rows": figures.too_large, "reason": figures.too_large_reason}
        self.event("multivector_too_large", **fields)

    def closing(self, status: str, error: str) -> None:
        """The run is being closed: what was only counted is told before that."""
        for figures in self.passes:
            if figures.too_large > figures.told_too_large:
                self._tell_too_large(figures, time.monotonic())
        self.event("run_closing", status=status, error=error)

    def stored_as_float16(self, segments: Mapping[str, int]) -> None:
        """Report on the terminal what the exporter counts at its end; events.jsonl does not have it."""
        for vector, count in segments.items():
            fields = {"vector": vector, "segments": count}
            self._lines += self._notices.tell("stored_as_float16", fields, time.monotonic())

    def batch_failed(self, batch: int, reason: str) -> None:
        """A worker could not compute a batch; what becomes of it is an event of the pool's."""
        if self._observer is not None:
            self._observer.batch_failed(batch, reason, time.time())

    def segment_committed(self, number: int, rows: int) -> None:
        """A segment of the pass stands."""
        self.passes[number].committed += rows

    def mitigation(self, number: int, device: str, worker: str, change: Mitigation) -> None:
        """A worker changed its micro-batch budget."""
        self.passes[number].mitigations += 1
        vector = self.passes[number].spec.vector
        fields = {"worker": worker, "device": device, "vector": vector, "reason": change.reason}
        self._record("mitigation", fields | {"from": change.tokens_before, "to": change.tokens_after})

    def performance(self, number: int, device: str, worker: str, sample: PerformanceSample) -> None:
        """A worker's sample; an event for it at most every few seconds."""
        figures = self.passes[number]
        if sample.gpu_bytes is None:
            figures.peak_bytes = max(figures.peak_bytes, sample.resident_bytes)
        fields = self._performance.add(number, device, worker, sample, time.monotonic())
        if fields is not None:
            self._record("performance", fields)

    def look_at_host(self) -> None:
        """Sample this host, at most once a second."""
        fields = self._performance.look(time.monotonic())
        if fields is not None:
            self._record("performance", fields)

    def released(self, number: int, released: Released) -> None:
        """A worker's last figures."""
        self.passes[number].send += released.send_seconds

    def progress(self, number: int, state: str, in_flight: int, total: int) -> PassProgress:
        """The pass for a progress message: `in_flight` batches at the workers, `total` estimated tokens in the run."""
        figures = self.passes[number]
        done = total if state == "done" else figures.estimated + figures.estimated_before
        rate = figures.rate(figures.estimated)
        return PassProgress(
            vector=figures.spec.vector,
            model=figures.spec.model,
            rows_done=figures.done,
            rows_committed=figures.committed + figures.committed_before,
            rows_per_second=figures.rate(figures.rows),
            tokens_per_second=figures.rate(figures.tokens),
            share_done=min(done / total, 1.0) if total else 0.0,
            seconds_left=max(total - done, 0) / rate if rate else None,
            devices=tuple(figures.devices),
            in_flight=in_flight,
            state=state,
        )

    def summary(self, number: int) -> PassSummary:
        """The pass for the end of the run."""
        figures = self.passes[number]
        return PassSummary(
            vector=figures.spec.vector,
            model=figures.spec.model,
            device=", ".join(figures.devices),
            chunks=figures.committed + figures.committed_before,
            chunks_per_second=round(figures.rate(figures.rows), 2),
            tokens_per_second=round(figures.rate(figures.tokens), 2),
            padding=round(1 - figures.tokens / figures.padded, 4) if figures.padded else 0.0,
            rotation_gap_seconds=round(figures.gap, 3) if figures.gap is not None else None,
            computed=figures.rows,
            seconds=round(figures.seconds, 3),
            batches=figures.batches,
            peak_bytes=figures.peak_bytes,
            gpu_peak_bytes=self._performance.gpu_peak(number),
            dtype=figures.dtype,
            placement=figures.placement,
            batch_seconds=figures.batch_seconds.summary(6),
            earlier=figures.committed_before,
            uncommitted=max(figures.rows - figures.lost - figures.committed, 0),
        )

    @property
    def processing_stats(self) -> dict[str, Any]:
        """What the samples came to, of this host and by pass and device."""
        return self._performance.record()

    @property
    def traceparent(self) -> str:
        """The run's span; empty where nobody makes spans, or the run is over."""
        return self._observer.traceparent if self._observer is not None else ""

    def stage(self, name: str, begin: float, end: float, **fields: Any) -> None:
        """A step that no worker did, for the observer; Unix time, in seconds."""
        if self._observer is not None:
            self._observer.stage(name, begin, end, fields)

    def over(self, status: str, error: str) -> None:
        """The run has ended; nothing more comes."""
        if self._observer is not None:
            self._observer.over(status, error, time.time(), [self.stats(number) for number in range(len(self.passes))])
            self._observer = None

    def stats(self, number: int) -> dict[str, Any]:
        """The pass for stats.json: the split of the workers' time, and more."""
        figures = self.passes[number]
        histograms: dict[str, LogHistogram] = {name: getattr(figures, name) for name in BATCH_DIGITS}
        summary = msgspec.to_builtins(self.summary(number))
        # The exporter counts these when it closes, and commits until then: they are in the run's end and in the manifest.
        for counted in ("coverage", "truncation", "max_tokens", "uncommitted"):
            del summary[counted]
        return {
            **summary,
            "tokens": figures.tokens,
            "padded": figures.padded,
            "row_errors": figures.errors,
            "split": {
                "tokenize": round(figures.tokenize, 3),
                "forward": round(figures.forward, 3),
                "send": round(figures.send, 3),
                "wait": round(figures.wait, 3),
            },
            **{name: one.summary(BATCH_DIGITS[name]) for name, one in histograms.items()},
            "histograms": {name: one.record() for name, one in histograms.items()},
            "mitigations": figures.mitigations,
            "rows_by_device": figures.devices,
        }

    def _record(self, event: str, fields: dict[str, Any]) -> None:
        when = time.time()
        self._write(event, when, fields)
        if self._observer is not None:
            self._observer.noted(event, when, fields)


def _named(memory: MemorySample) -> dict[str, Any]:
    return {"used": memory.used, "total": memory.total, "source": memory.source}
