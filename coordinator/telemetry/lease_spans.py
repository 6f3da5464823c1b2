"""LeaseSpans: the spans of a worker's lease and of its batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...protocol.wire.work import Result
from .tracing import add_event, end_span, set_attributes

GPU_SOURCES = frozenset({"nvml", "torch"})
PEAKS = {"resident_bytes": "memory.peak_bytes", "gpu_bytes": "gpu.memory.peak_bytes"}
"""Measures in bytes, with the span attribute for the peak of each."""


class LeaseSpans:
    """The spans of one lease. Only batches in flight are held."""

    def __init__(self, span: Any, vector: str) -> None:
        self.span, self.vector = span, vector
        self.batches: dict[int, Any] = {}
        """The spans of batches in flight, by batch id."""
        self._peaks: dict[str, int] = {}
        """Bytes, by attribute."""

    @property
    def at_work(self) -> Any:
        """The span of the batch that is being computed; the lease's own if there is none."""
        return next(iter(self.batches.values()), self.span)

    def phase(self, fields: Mapping[str, Any], when: float) -> None:
        """Add a lease event."""
        memory = fields.get("memory") or {}
        set_attributes(self.span, {name: fields.get(name) for name in ("dtype", "placement")})
        if fields["phase"] in ("hydrated", "peak"):
            name = "gpu_bytes" if memory.get("source") in GPU_SOURCES else "resident_bytes"
            self.peak({name: memory.get("used", 0)})
        add_event(self.span, fields["phase"], when, {f"memory.{name}": memory[name] for name in memory})

    def peak(self, measures: Mapping[str, Any]) -> None:
        """Raise the peaks to the measured values."""
        for name, shown in PEAKS.items():
            if measures.get(name):
                self._peaks[shown] = max(self._peaks.get(shown, 0), measures[name])

    def batch_done(self, result: Result, when: float) -> None:
        """End the batch's span with its counts."""
        span, times = self.batches.pop(result.batch), result.timings
        counts = {"tokens": result.tokens, "padded_tokens": result.padded, "row_errors": len(result.errors)}
        seconds = {"tokenize_seconds": times.tokenize, "forward_seconds": times.forward, "wait_seconds": times.wait}
        set_attributes(span, counts | seconds)
        end_span(span, when)

    def end(self, when: float) -> None:
        """End the spans of the lease and of its batches: the worker has ended."""
        for span in self.batches.values():
            end_span(span, when, "its worker ended")
        self.batches.clear()
        set_attributes(self.span, self._peaks)
        end_span(self.span, when)
