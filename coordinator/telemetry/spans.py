"""RunSpans: a run as OpenTelemetry spans, run → pass → lease → batch, made of what the TelemetryTracker hears.

What is no pass is a span below the run too, as are the runs that the same command derives from it (`traceparent`).

Attributes begin with `embedfleet.`; bytes, seconds and counts throughout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...protocol.spec.run_spec import RunSpec
from ...protocol.statistics.pass_record import PassRecord
from ...protocol.wire.control import StageDone
from ...protocol.wire.work import Result
from ..core.actions import SendBatch
from .observer import EventFields

PREFIX = "embedfleet."
GPU_SOURCES = frozenset({"nvml", "torch"})
PASS_FIELDS = {
    "computed": "rows",
    "tokens": "tokens",
    "padded": "padded_tokens",
    "batches": "batches",
    "row_errors": "row_errors",
    "mitigations": "mitigations",
    "device": "device",
    "dtype": "dtype",
    "placement": "placement",
    "peak_bytes": "memory.peak_bytes",
    "gpu_peak_bytes": "gpu.memory.peak_bytes",
}
"""Fields of a pass in stats.json, and what its span calls them."""


@dataclass(slots=True)
class _Pass:
    span: Any
    last: float


@dataclass(slots=True)
class _Lease:
    span: Any
    vector: str
    peaks: dict[str, int] = field(default_factory=dict[str, int])
    """Bytes, by attribute."""


@dataclass(slots=True)
class _Sent:
    span: Any
    worker: str


class RunSpans:
    """The spans of one run, an Observer. Only leases and batches in flight are held, and one span a pass."""

    def __init__(self, tracer: Any, run: str, spec: RunSpec, when: float, traceparent: str = "") -> None:
        from opentelemetry import trace  # pyright: ignore[reportMissingImports] - the extra `otel`

        self._trace: Any = trace
        self._above = above(traceparent)
        self._tracer = tracer
        self._models = {one.vector: one.model for one in spec.passes}
        self._vectors = [one.vector for one in spec.passes]
        self._run = self._start("run", None, when, {"run": run, "source": spec.source, "passes": len(spec.passes)})
        self._passes: dict[str, _Pass] = {}
        self._leases: dict[str, _Lease] = {}
        self._batches: dict[int, _Sent] = {}

    def noted(self, event: str, when: float, fields: EventFields) -> None:
        """Leases become spans, mitigations events of the batch that was being computed, the rest events of the run."""
        match event:
            case "lease":
                self._leased(when, fields)
            case "mitigation":
                worker = fields.get("worker", "")
                mine = (one.span for one in self._batches.values() if one.worker == worker)
                span = next(mine, self._leases[worker].span if worker in self._leases else self._run)
                _event(span, event, when, fields)
            case "performance" if fields.get("worker") in self._leases:
                self._peak(self._leases[fields["worker"]], fields)
            case "performance" | "batch_progress" | "segment_committed":
                pass  # often, and told better by the spans themselves
            case _:
                _event(self._run, event, when, fields)

    @property
    def traceparent(self) -> str:
        """As W3C's header has it."""
        carrier: dict[str, str] = {}
        _propagator().inject(carrier, self._trace.set_span_in_context(self._run))
        return carrier.get("traceparent", "")

    def stage(self, name: str, begin: float, end: float, fields: Mapping[str, Any]) -> None:
        """A span below the run that is over already."""
        self._start(name, self._run, begin, fields).end(end_time=_ns(end))

    def batch_sent(self, action: SendBatch, device: str, when: float) -> None:
        """The batch's span begins; one that was sent before has failed with its worker."""
        self._end_batch(action.batch, when, "sent again")
        lease = self._leases.get(action.worker)
        if lease is None:
            return
        vector = self._vectors[action.number]
        attributes = {"segment": action.segment, "rows": action.stop - action.start, "device": device}
        span = self._start("batch", lease.span, when, attributes | self._named(vector))
        self._batches[action.batch] = _Sent(span, action.worker)

    def batch_done(self, result: Result, when: float) -> None:
        """The batch's span ends well."""
        sent = self._batches.get(result.batch)
        if sent is None:
            return
        _set(sent.span, {"tokens": result.tokens, "padded_tokens": result.padded, "row_errors": len(result.errors)})
        timings = result.timings
        _set(sent.span, {"tokenize_seconds": timings.tokenize, "forward_seconds": timings.forward})
        _set(sent.span, {"wait_seconds": timings.wait})
        self._end_batch(result.batch, when)
        self._passes[self._leases[sent.worker].vector].last = when

    def batch_failed(self, batch: int, reason: str, when: float) -> None:
        """The batch's span ends with an error."""
        self._end_batch(batch, when, reason)

    def over(self, status: str, error: str, when: float, passes: Sequence[PassRecord]) -> None:
        """End every span that is open, the passes with what stats.json says of them."""
        for worker in list(self._leases):
            self._end_lease(worker, when)
        for record in passes:
            one = self._passes.pop(record.vector, None)
            if one is not None:
                _set(one.span, {shown: getattr(record, name) for name, shown in PASS_FIELDS.items()})
                one.span.end(end_time=_ns(one.last))
        _set(self._run, {"status": status})
        if status == "failed":
            self._fail(self._run, error)
        self._run.end(end_time=_ns(when))

    def _leased(self, when: float, fields: Mapping[str, Any]) -> None:
        worker, vector, memory = fields["worker"], fields["vector"], fields.get("memory") or {}
        if fields["phase"] == "before":
            parent = self._passes.get(vector)
            if parent is None:
                span = self._start("pass", self._run, when, self._named(vector))
                parent = self._passes[vector] = _Pass(span, when)
            attributes = {"worker": worker, "device": fields["device"], **self._named(vector)}
            self._leases[worker] = _Lease(self._start("lease", parent.span, when, attributes), vector)
        lease = self._leases.get(worker)
        if lease is None:
            return
        self._passes[lease.vector].last = when
        _set(lease.span, {name: fields.get(name) for name in ("dtype", "placement")})
        if fields["phase"] in ("hydrated", "peak"):
            name = "gpu_bytes" if memory.get("source") in GPU_SOURCES else "resident_bytes"
            self._peak(lease, {name: memory.get("used", 0)})
        _event(lease.span, fields["phase"], when, {f"memory.{name}": memory[name] for name in memory})
        if fields["phase"] == "after":
            self._peak(lease, fields.get("peaks", {}))
            self._end_lease(worker, when)

    def _peak(self, lease: _Lease, fields: Mapping[str, Any]) -> None:
        for name, shown in (("resident_bytes", "memory.peak_bytes"), ("gpu_bytes", "gpu.memory.peak_bytes")):
            if fields.get(name):
                lease.peaks[shown] = max(lease.peaks.get(shown, 0), fields[name])

    def _end_lease(self, worker: str, when: float) -> None:
        lease = self._leases[worker]
        for batch in [name for name, one in self._batches.items() if one.worker == worker]:
            self._end_batch(batch, when, "its worker ended")
        _set(lease.span, lease.peaks)
        lease.span.end(end_time=_ns(when))
        del self._leases[worker]

    def _end_batch(self, batch: int, when: float, failure: str = "") -> None:
        sent = self._batches.pop(batch, None)
        if sent is not None:
            if failure:
                self._fail(sent.span, failure)
            sent.span.end(end_time=_ns(when))

    def _fail(self, span: Any, reason: str) -> None:
        span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, reason))

    def _start(self, name: str, parent: Any, when: float, attributes: Mapping[str, Any]) -> Any:
        context = self._trace.set_span_in_context(parent) if parent is not None else self._above
        return self._tracer.start_span(name, context=context, start_time=_ns(when), attributes=_plain(attributes))

    def _named(self, vector: str) -> dict[str, Any]:
        return {"vector": vector, "model": self._models[vector]}


def above(traceparent: str) -> Any:
    """The context of what stands below that span; None where there is none, or the header cannot be read."""
    return _propagator().extract({"traceparent": traceparent}) if traceparent else None


def add_stage(tracer: Any, stage: StageDone) -> None:
    """The span of a step of a client's command, which is over already."""
    from opentelemetry.trace import Status, StatusCode  # pyright: ignore[reportMissingImports]

    begin, context = _ns(stage.begin), above(stage.traceparent)
    span = tracer.start_span(stage.name, context=context, start_time=begin, attributes=_plain(stage.fields))
    if stage.error:
        span.set_status(Status(StatusCode.ERROR, stage.error))
    span.end(end_time=_ns(stage.end))


def _propagator() -> Any:
    from opentelemetry.trace.propagation import tracecontext  # pyright: ignore[reportMissingImports]

    return tracecontext.TraceContextTextMapPropagator()


def _event(span: Any, name: str, when: float, fields: Mapping[str, Any]) -> None:
    span.add_event(name, _plain(fields), timestamp=_ns(when))


def _set(span: Any, fields: Mapping[str, Any]) -> None:
    span.set_attributes(_plain(fields))


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What an attribute can be: numbers and text; None and what is empty are left out."""
    known = {name: value for name, value in fields.items() if value is not None and value not in ("", [])}
    return {
        PREFIX + name: value if isinstance(value, bool | int | float | str) else str(value)
        for name, value in known.items()
    }


def _ns(when: float) -> int:
    return int(when * 1e9)
