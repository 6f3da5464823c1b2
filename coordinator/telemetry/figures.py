"""PassFigures: the progress of one pass in this session, for watchers, for the end of the run and for `stats.json`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from ...protocol.spec.run_spec import PassSpec
from ...protocol.statistics.pass_statistics import PassStatistics, Split
from ...protocol.statistics.pass_stats import SessionPass, describe_pass
from ...protocol.wire.control import PassProgress, PassSummary
from ...protocol.wire.devices import MemorySample, PerformanceSample
from ...protocol.wire.work import Result
from .row_errors import RowErrors

SHORTEST = 1e-9
"""Seconds; lower bound for a pass's time, which the clock may show as 0 after one batch."""


class PassState(NamedTuple):
    """What a pass does now."""

    state: str
    """`waiting`, `staging`, `working` or `done`."""
    in_flight: int = 0
    """Batches that workers have."""
    doing: str = ""
    """What it waits for, or what its worker does before it computes."""


@dataclass(slots=True)
class PassFigures:
    """Figures of one pass. Rows and tokens computed are in `statistics`; the other fields count what was committed and lost."""

    spec: PassSpec
    statistics: PassStatistics = field(default_factory=PassStatistics)
    first: float = 0.0
    """When the first batch was sent; 0 before."""
    committed_before: int = 0
    """Rows that earlier sessions committed."""
    committed: int = 0
    """Rows that this session committed."""
    lost: int = 0
    """Rows computed in this session that were lost with an exporter, and are computed again."""
    estimated_before: int = 0
    """Estimated tokens of the rows that earlier sessions committed."""
    estimated: int = 0
    """Estimated tokens of the rows computed in this session: the longest rows come first, so a count of rows misleads."""

    failed: RowErrors = field(default_factory=RowErrors)
    too_large: RowErrors = field(default_factory=RowErrors)
    """Rows whose multivector has more numbers than a point may have; not in `failed`."""

    @property
    def done(self) -> int:
        """Rows of the run that need no more computing, including committed rows that no worker computed."""
        return max(self.statistics.computed - self.lost, self.committed) + self.committed_before

    def count_result(self, device: str, rows: int, estimated: int, result: Result, now: float) -> None:
        """Add a batch's result."""
        times = result.timings
        split = Split(tokenize=times.tokenize, forward=times.forward, wait=times.wait, send=times.send)
        self.statistics.count_batch(device, rows, result.tokens, result.padded, len(result.errors), split)
        self.statistics.seconds = max(now - self.first, SHORTEST)
        self.estimated += estimated

    def count_lease(self, memory: MemorySample | None, dtype: str | None, placement: str | None) -> None:
        """Take the worker's memory and model settings from a lease event; None leaves a figure as it is."""
        statistics = self.statistics
        if memory is not None and memory.source in ("rss", "torch"):
            statistics.peak_bytes = max(statistics.peak_bytes, memory.used)
        statistics.dtype = statistics.dtype if dtype is None else dtype
        statistics.placement = statistics.placement if placement is None else placement

    def count_sample(self, sample: PerformanceSample) -> None:
        """Take a worker's peaks from its sample."""
        statistics = self.statistics
        if sample.gpu_bytes is None:
            statistics.peak_bytes = max(statistics.peak_bytes, sample.resident_bytes)
        else:
            statistics.gpu_peak_bytes = max(statistics.gpu_peak_bytes, sample.gpu_bytes)
            statistics.peak_bytes = max(statistics.peak_bytes, sample.reserved_bytes or 0)

    def count_rotation(self, gap: float) -> None:
        """Take the seconds that a device had no work before this pass."""
        self.statistics.rotation_gap_seconds = max(self.statistics.rotation_gap_seconds or 0.0, gap)

    def lose_uncommitted(self) -> None:
        """Count the uncommitted rows as lost: their exporter has ended."""
        self.lost = max(self.statistics.computed - self.committed, 0)

    def progress(self, now: PassState, total: int) -> PassProgress:
        """The pass for a progress message. The run has `total` estimated tokens."""
        statistics = self.statistics
        done = total if now.state == "done" else self.estimated + self.estimated_before
        rate = self.estimated / statistics.seconds if statistics.seconds else 0.0
        return PassProgress(
            vector=self.spec.vector,
            model=self.spec.model,
            rows_done=self.done,
            rows_committed=self.committed + self.committed_before,
            rows_per_second=statistics.chunks_per_second,
            tokens_per_second=statistics.tokens_per_second,
            share_done=min(done / total, 1.0) if total else 0.0,
            seconds_left=max(total - done, 0) / rate if rate else None,
            devices=tuple(statistics.rows_by_device),
            in_flight=now.in_flight,
            state=now.state,
            doing=now.doing,
        )

    def record(self) -> SessionPass:
        """The pass for `stats.json`, without coverage and truncation.

        The exporter counts these when it closes, so only the run's end has them.
        """
        chunks = self.committed + self.committed_before
        return describe_pass(self.spec.vector, self.spec.model, chunks, self.committed_before, self.statistics)

    def summary(self) -> PassSummary:
        """The pass for the end of the run."""
        summary = msgspec.convert(self.record(), PassSummary, from_attributes=True)
        uncommitted = max(self.statistics.computed - self.lost - self.committed, 0)
        return msgspec.structs.replace(summary, uncommitted=uncommitted)
