"""TelemetryTracker: a run's events for events.jsonl, figures for progress and stats, and notices for people."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...protocol.spec.run_spec import PassSpec
from ...protocol.statistics.run_stats import SessionStats
from ...protocol.wire.devices import MemorySample, PerformanceSample
from ...protocol.wire.work import Mitigation, Result, RowError
from ..core.actions import SendBatch
from .event_log import EventLog
from .figures import PassFigures
from .notices import Notices
from .observer import EventFields, NoObserver, Observer
from .performance import PerformanceLog
from .rotations import Rotations

REASSIGNED = "reassigned"
"""Reason of a mitigation: another worker, or a CPU slot, takes over from a lost worker or from a device given up."""


class TelemetryTracker:
    """One run's figures, event log and notices. `write(event, unix time, fields)` takes each event.

    Every report on a run passes through here; `observer` gets it too.
    """

    def __init__(
        self,
        passes: tuple[PassSpec, ...],
        write: Callable[[str, float, EventFields], None],
        observer: Observer | None = None,
    ) -> None:
        self.passes = [PassFigures(one) for one in passes]
        self._log = EventLog(write, observer or NoObserver())
        self._notices = Notices()
        self._lines: list[str] = []
        """Lines for people, not shown yet."""
        self._performance = PerformanceLog([one.vector for one in passes])
        self._rotations = Rotations()
        self._before: dict[str, int] = {}
        """Memory in use on the device before a worker's lease, in bytes."""
        self._given_up: list[str] = []
        """Names of devices."""
        self._noted: set[tuple[int, str]] = set()

    def event(self, event: str, **fields: Any) -> None:
        """Record an event of the run; show it to people if it has a notice."""
        self._log.record(event, fields)
        match event:
            case "device_bad":
                self._given_up.append(fields["device"])
            case "cpu_fallback":
                from_device = ", ".join(dict.fromkeys(self._given_up))
                self._log.record("mitigation", {"reason": REASSIGNED, "from_device": from_device, **fields})
            case "exporter_lost":
                for figures in self.passes:
                    figures.lose_uncommitted()
            case _:
                pass
        self._tell(event, fields)

    def take_notices(self, *, end: bool = False) -> tuple[str, ...]:
        """Lines for people since the last call; with `end`, those for events that were only counted too."""
        lines = (*self._lines, *self._notices.due(time.monotonic(), end=end))
        self._lines.clear()
        return lines

    def stored_as_float16(self, segments: Mapping[str, int]) -> None:
        """Show people what the exporter counts at its end; events.jsonl does not have it."""
        for vector, count in segments.items():
            self._tell("stored_as_float16", {"vector": vector, "segments": count})

    def lease(
        self, phase: str, worker: str, device: str, pass_index: int, memory: MemorySample | None, **more: Any
    ) -> None:
        """Record a lease event (`before`, `staged`, `hydrated`, `peak`, `after`), with the memory if it was sampled."""
        figures = self.passes[pass_index]
        if phase == "after":
            more |= {"peaks": self._performance.forget(worker)}
        where = {"phase": phase, "worker": worker, "device": device, "vector": figures.spec.vector}
        self._log.record("lease", {**where, "memory": _fields_of(memory), **more})
        figures.count_lease(memory, more.get("dtype"), more.get("placement"))
        if memory is not None and phase == "before":
            self._before[worker] = memory.used
        if memory is not None and phase == "after" and not more.get("released", True):
            self.event("not_released", device=device, used=memory.used, before=self._before.get(worker, 0))

    def note_backend(self, pass_index: int, notes: Sequence[str]) -> None:
        """Show people, once in a session, what was chosen to compute a pass, and why."""
        for note in notes:
            if (pass_index, note) not in self._noted:
                self._noted.add((pass_index, note))
                self.event("backend_note", vector=self.passes[pass_index].spec.vector, note=note)

    def batch_sent(self, action: SendBatch, device: str, now: float) -> None:
        """Note a sent batch. A device's first batch of another pass is a rotation, whose gap is measured."""
        self._log.observer.batch_sent(action, device, time.time())
        figures = self.passes[action.pass_index]
        vector = figures.spec.vector
        if (lost := action.taken_from) is not None:
            where = {"worker": action.worker, "device": device, "vector": vector}
            came = {"from_worker": lost.worker, "from_device": lost.device}
            rows = {"segment": action.segment, "rows": action.stop - action.start}
            self._log.record("mitigation", {"reason": REASSIGNED, **where, **came, **rows})
        figures.first = figures.first or now
        if (rotation := self._rotations.batch_sent(device, action.pass_index, now)) is not None:
            figures.count_rotation(rotation.gap)
            vectors = {"from": self.passes[rotation.before].spec.vector, "to": vector}
            self._log.record("rotation", {"device": device, "gap_seconds": round(rotation.gap, 4), **vectors})

    def result(self, pass_index: int, device: str, rows: int, estimated: int, result: Result, now: float) -> None:
        """Count a batch's result: its rows, and the tokens that were estimated for them."""
        self._log.observer.batch_done(result, time.time())
        figures = self.passes[pass_index]
        figures.count_result(device, rows, estimated, result, now)
        self._row_errors(pass_index, device, result.errors, now)
        self._rotations.result(device, pass_index, now)
        if self._log.due("batch_progress", pass_index, now):
            counts = {"rows": figures.statistics.computed, "tokens": figures.statistics.tokens}
            self._log.record("batch_progress", {"vector": figures.spec.vector, **counts, "device": device})

    def batch_failed(self, batch: int, reason: str) -> None:
        """Note a batch that a worker could not compute; what follows is an event of the pool."""
        self._log.observer.batch_failed(batch, reason, time.time())

    def segment_committed(self, pass_index: int, rows: int) -> None:
        """Count the rows of a committed segment."""
        self.passes[pass_index].committed += rows

    def mitigation(self, pass_index: int, device: str, worker: str, change: Mitigation) -> None:
        """Record that a worker changed its micro-batch budget."""
        figures = self.passes[pass_index]
        figures.statistics.mitigations += 1
        where = {"worker": worker, "device": device, "vector": figures.spec.vector}
        budget = {"from": change.tokens_before, "to": change.tokens_after}
        self._log.record("mitigation", {**where, "reason": change.reason, **budget})

    def performance(self, pass_index: int, device: str, worker: str, sample: PerformanceSample) -> None:
        """Count a worker's sample; record an event at most every few seconds."""
        self.passes[pass_index].count_sample(sample)
        fields = self._performance.add(pass_index, device, worker, sample, time.monotonic())
        if fields is not None:
            self._log.record("performance", fields)

    def look_at_host(self) -> None:
        """Sample this host, at most once a second."""
        fields = self._performance.look(time.monotonic())
        if fields is not None:
            self._log.record("performance", fields)

    def session_stats(self, run: str, seconds: float) -> SessionStats:
        """This session's record for stats.json."""
        passes = tuple(figures.record() for figures in self.passes)
        return SessionStats(
            run=run, seconds=round(seconds, 3), passes=passes, processing_stats=self._performance.record()
        )

    def closing(self, status: str, error: str) -> None:
        """Record that the run is closing, after the events that were only counted so far."""
        for figures in self.passes:
            if figures.too_large.rows > figures.too_large.reported:
                self._tell_too_large(figures)
        self.event("run_closing", status=status, error=error)

    @property
    def traceparent(self) -> str:
        """The run's span; empty if no spans are made, or the run is over."""
        return self._log.observer.traceparent

    def stage(self, name: str, begin: float, end: float, **fields: Any) -> None:
        """Pass a step outside the workers to the observer; Unix time, in seconds."""
        self._log.observer.stage(name, begin, end, fields)

    def over(self, status: str, error: str) -> None:
        """Pass the run's end to the observer, and nothing after it."""
        self._log.observer.over(status, error, time.time(), [figures.record() for figures in self.passes])
        self._log.observer = NoObserver()

    def _row_errors(self, pass_index: int, device: str, errors: Sequence[RowError], now: float) -> None:
        figures = self.passes[pass_index]
        failed = figures.failed.add([one for one in errors if not one.too_large])
        if failed and self._log.due("rows_failed", pass_index, now):
            where = {"vector": figures.spec.vector, "device": device}
            self._log.record("rows_failed", {**where, "rows": figures.failed.rows, "reason": figures.failed.reason})
        too_large = figures.too_large.add([one for one in errors if one.too_large])
        if too_large and self._log.due("multivector_too_large", pass_index, now):
            self._tell_too_large(figures)

    def _tell_too_large(self, figures: PassFigures) -> None:
        errors = figures.too_large
        errors.reported = errors.rows
        vector = next(one.vector for one in figures.spec.outputs if one.form == "multivector")
        self.event("multivector_too_large", vector=vector, rows=errors.rows, reason=errors.reason)

    def _tell(self, event: str, fields: EventFields) -> None:
        self._lines += self._notices.tell(event, fields, time.monotonic())


def _fields_of(memory: MemorySample | None) -> EventFields | None:
    return {"used": memory.used, "total": memory.total, "source": memory.source} if memory is not None else None
