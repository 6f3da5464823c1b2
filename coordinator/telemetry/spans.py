"""RunSpans: a run as OpenTelemetry spans, run → pass → lease → batch, from what the TelemetryTracker gets.

Other steps are spans below the run too, as are the runs that the same command derives from it (`traceparent`). Attributes
begin with `embedfleet.` and are bytes, seconds and counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...protocol.spec.run_spec import RunSpec
from ...protocol.statistics.pass_stats import SessionPass
from ...protocol.wire.work import Result
from ..core.actions import SendBatch
from .lease_spans import LeaseSpans
from .observer import EventFields
from .tracing import Trace, add_event, end_span, set_attributes, traceparent_of

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
"""Fields of a pass in stats.json, with their span attributes."""


@dataclass(slots=True)
class _Pass:
    span: Any
    last: float


class RunSpans:
    """The spans of one run, an Observer. Only leases and batches in flight are held, and one span a pass."""

    def __init__(self, tracer: Any, run: str, spec: RunSpec, when: float, traceparent: str = "") -> None:
        self._trace = Trace(tracer, traceparent)
        self._models = {one.vector: one.model for one in spec.passes}
        self._vectors = [one.vector for one in spec.passes]
        about = {"run": run, "source": spec.source, "passes": len(spec.passes)}
        self._run = self._trace.start("run", None, when, about)
        self._passes: dict[str, _Pass] = {}
        self._leases: dict[str, LeaseSpans] = {}

    def noted(self, event: str, when: float, fields: EventFields) -> None:
        """Turn leases into spans, mitigations into events of the batch being computed, the rest into events of the run."""
        lease = self._leases.get(fields.get("worker", ""))
        match event:
            case "lease":
                self._leased(when, fields)
            case "mitigation":
                add_event(lease.at_work if lease is not None else self._run, event, when, fields)
            case "performance" if lease is not None:
                lease.peak(fields)
            case "performance" | "batch_progress" | "segment_committed":
                pass  # frequent, and visible in the spans themselves
            case _:
                add_event(self._run, event, when, fields)

    @property
    def traceparent(self) -> str:
        """The run's span as a W3C `traceparent` header."""
        return traceparent_of(self._run)

    def stage(self, name: str, begin: float, end: float, fields: Mapping[str, Any]) -> None:
        """Add a span below the run for a step that has ended."""
        end_span(self._trace.start(name, self._run, begin, fields), end)

    def batch_sent(self, action: SendBatch, device: str, when: float) -> None:
        """Begin the batch's span; an earlier span of it failed with its worker."""
        self.batch_failed(action.batch, "sent again", when)
        lease = self._leases.get(action.worker)
        if lease is None:
            return
        attributes = {"segment": action.segment, "rows": action.stop - action.start, "device": device}
        attributes |= self._named(self._vectors[action.pass_index])
        lease.batches[action.batch] = self._trace.start("batch", lease.span, when, attributes)

    def batch_done(self, result: Result, when: float) -> None:
        """End the batch's span with its counts."""
        lease = self._holder(result.batch)
        if lease is not None:
            lease.batch_done(result, when)
            self._passes[lease.vector].last = when

    def batch_failed(self, batch: int, reason: str, when: float) -> None:
        """End the batch's span with an error."""
        lease = self._holder(batch)
        if lease is not None:
            end_span(lease.batches.pop(batch), when, reason)

    def over(self, status: str, error: str, when: float, passes: Sequence[SessionPass]) -> None:
        """End every open span; the passes get their figures of stats.json."""
        for lease in self._leases.values():
            lease.end(when)
        self._leases.clear()
        for record in passes:
            one = self._passes.pop(record.vector, None)
            if one is not None:
                set_attributes(one.span, {shown: getattr(record, name) for name, shown in PASS_FIELDS.items()})
                end_span(one.span, one.last)
        set_attributes(self._run, {"status": status})
        end_span(self._run, when, error if status == "failed" else None)

    def _leased(self, when: float, fields: EventFields) -> None:
        worker = fields["worker"]
        if fields["phase"] in ("before", "kept"):
            self._leases[worker] = self._lease(worker, when, fields)
        lease = self._leases.get(worker)
        if lease is None:
            return
        self._passes[lease.vector].last = when
        lease.phase(fields, when)
        if fields["phase"] == "after":
            lease.peak(fields.get("peaks", {}))
            lease.end(when)
            del self._leases[worker]

    def _lease(self, worker: str, when: float, fields: EventFields) -> LeaseSpans:
        vector = fields["vector"]
        if vector not in self._passes:
            span = self._trace.start("pass", self._run, when, self._named(vector))
            self._passes[vector] = _Pass(span, when)
        attributes = {"worker": worker, "device": fields["device"], **self._named(vector)}
        return LeaseSpans(self._trace.start("lease", self._passes[vector].span, when, attributes), vector)

    def _holder(self, batch: int) -> LeaseSpans | None:
        return next((lease for lease in self._leases.values() if batch in lease.batches), None)

    def _named(self, vector: str) -> dict[str, str]:
        return {"vector": vector, "model": self._models[vector]}
