"""TelemetryTracker: what a run did, as events for events.jsonl, as figures for progress and stats, as notices for people."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ..protocol.control_messages import PassProgress, PassSummary
from ..protocol.devices import MemorySample
from ..protocol.spec import PassSpec
from ..protocol.work_messages import Mitigation, Released, Result
from .histogram import LogHistogram

BATCH_EVENT_SECONDS = 2.0
"""A batch-progress event per pass at most this often: events.jsonl grows with the time, not with the corpus."""
NOTICES = {
    "worker_lost": "worker lost on {device}: {reason}; its batches go to others",
    "device_bad": "{device} is given up after {failures} failures: {reason}",
    "pass_given_up": "{vector}: {reason}. Weights of the metadata stand in where chunks have them",
    "lease_waiting": "waiting for {device}: {reason}",
    "exporter_lost": "the exporter ended ({reason}); uncommitted segments are computed again",
    "host_joined": "host {host} joined with {devices}",
    "host_left": "host {host} left: {reason}",
    "not_released": "{device} did not get all its memory back: {used} bytes in use, {before} before the lease",
}
"""Events that people should hear of while the run goes on."""


@dataclass(slots=True)
class PassFigures:
    """One pass in this session. Seconds; rows and tokens computed, not those committed before."""

    spec: PassSpec
    rows: int = 0
    tokens: int = 0
    padded: int = 0
    batches: int = 0
    errors: int = 0
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
    placement: str = ""
    committed_before: int = 0
    """Rows that earlier sessions committed."""
    committed: int = 0
    """Rows that this session committed."""
    estimated_before: int = 0
    """Estimated tokens of those rows."""
    estimated: int = 0
    """Estimated tokens of the rows computed in this session: batches come longest first, so rows tell little."""
    reported: float = 0.0
    batch_seconds: LogHistogram = field(default_factory=LogHistogram)
    """Tokenizing and computing one batch, in its worker."""
    batch_rows: LogHistogram = field(default_factory=LogHistogram)
    batch_tokens: LogHistogram = field(default_factory=LogHistogram)

    @property
    def seconds(self) -> float:
        """From the first batch sent to the last result."""
        return max(self.last - self.first, 1e-9) if self.rows else 0.0

    def rate(self, amount: int) -> float:
        """`amount` per second of the pass."""
        return amount / self.seconds if self.rows else 0.0


class TelemetryTracker:
    """One run's tracker. `record(event, unix time, fields)` takes each event; `notices` collects lines for people."""

    def __init__(self, passes: tuple[PassSpec, ...], record: Callable[[str, float, dict[str, Any]], None]) -> None:
        self.passes = [PassFigures(one) for one in passes]
        self.notices: list[str] = []
        self._record = record
        self._last_result: dict[str, tuple[int, float]] = {}
        """By device: the pass it worked for last, and when its last result came."""
        self._before: dict[str, int] = {}

    def event(self, event: str, **fields: Any) -> None:
        """An event of the run; those of NOTICES are told to people too."""
        self._record(event, time.time(), fields)
        if event in NOTICES:
            shown = {name: ", ".join(value) if isinstance(value, list) else value for name, value in fields.items()}
            self.notices.append(NOTICES[event].format(**shown))

    def lease(
        self, phase: str, worker: str, device: str, number: int, memory: MemorySample | None, **more: Any
    ) -> None:
        """A lease event: `before`, `staged`, `hydrated`, `peak`, `after`, with the memory where it was looked at."""
        self._record(
            "lease",
            time.time(),
            {
                "phase": phase,
                "worker": worker,
                "device": device,
                "vector": self.passes[number].spec.vector,
                "memory": msgspec.to_builtins(_named(memory)) if memory is not None else None,
                **more,
            },
        )
        if memory is not None and phase == "peak":
            self.passes[number].peak_bytes = max(self.passes[number].peak_bytes, memory.used)
        if memory is not None and phase == "before":
            self._before[worker] = memory.used
        if phase == "after" and memory is not None and not more.get("released", True):
            self.event("not_released", device=device, used=memory.used, before=self._before.get(worker, 0))

    def batch_sent(self, number: int, device: str, now: float) -> None:
        """The first batch that a device gets of another pass than before is a rotation; its gap is measured."""
        figures = self.passes[number]
        figures.first = figures.first or now
        before = self._last_result.get(device)
        if before is not None and before[0] != number:
            gap = now - before[1]
            figures.gap = max(figures.gap or 0.0, gap)
            vectors = {"from": self.passes[before[0]].spec.vector, "to": figures.spec.vector}
            self._record("rotation", time.time(), {"device": device, "gap_seconds": round(gap, 4), **vectors})
            del self._last_result[device]

    def result(self, number: int, device: str, rows: int, estimated: int, result: Result, now: float) -> None:
        """A batch's result: its rows, and the tokens that had been estimated for them."""
        figures = self.passes[number]
        figures.rows += rows
        figures.estimated += estimated
        figures.batches += 1
        figures.tokens += result.tokens
        figures.padded += result.padded
        figures.errors += len(result.errors)
        figures.tokenize += result.timings.tokenize
        figures.forward += result.timings.forward
        figures.wait += result.timings.wait
        figures.batch_seconds.add(result.timings.tokenize + result.timings.forward)
        figures.batch_rows.add(rows)
        figures.batch_tokens.add(result.tokens)
        figures.last = now
        figures.devices[device] = figures.devices.get(device, 0) + rows
        self._last_result[device] = (number, now)
        if now - figures.reported >= BATCH_EVENT_SECONDS:
            figures.reported = now
            fields = {"vector": figures.spec.vector, "rows": figures.rows, "tokens": figures.tokens}
            self._record("batch_progress", time.time(), fields | {"device": device})

    def mitigation(self, number: int, device: str, change: Mitigation) -> None:
        """A worker changed its micro-batch budget."""
        self.passes[number].mitigations += 1
        fields = {"device": device, "vector": self.passes[number].spec.vector, "reason": change.reason}
        self._record("mitigation", time.time(), fields | {"from": change.tokens_before, "to": change.tokens_after})

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
            rows_done=figures.rows + figures.committed_before,
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
            chunks=figures.rows + figures.committed_before,
            chunks_per_second=round(figures.rate(figures.rows), 2),
            tokens_per_second=round(figures.rate(figures.tokens), 2),
            padding=round(1 - figures.tokens / figures.padded, 4) if figures.padded else 0.0,
            rotation_gap_seconds=round(figures.gap, 3) if figures.gap is not None else None,
        )

    def stats(self, number: int) -> dict[str, Any]:
        """The pass for stats.json: the split of the workers' time, and more."""
        figures = self.passes[number]
        return {
            **msgspec.to_builtins(self.summary(number)),
            "computed": figures.rows,
            "batches": figures.batches,
            "tokens": figures.tokens,
            "row_errors": figures.errors,
            "seconds": round(figures.seconds, 3),
            "split": {
                "tokenize": round(figures.tokenize, 3),
                "forward": round(figures.forward, 3),
                "send": round(figures.send, 3),
                "wait": round(figures.wait, 3),
            },
            "batch_seconds": figures.batch_seconds.summary(6),
            "batch_rows": figures.batch_rows.summary(1),
            "batch_tokens": figures.batch_tokens.summary(1),
            "mitigations": figures.mitigations,
            "peak_bytes": figures.peak_bytes,
            "placement": figures.placement,
            "rows_by_device": figures.devices,
        }


def _named(memory: MemorySample) -> dict[str, Any]:
    return {"used": memory.used, "total": memory.total, "source": memory.source}
