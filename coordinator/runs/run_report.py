"""A run's progress and end, counted for its watchers."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec

from ...protocol.spec.run_spec import RunSpec
from ...protocol.wire.control import PassSummary, Progress, RunEnded
from ...protocol.wire.export import Closed
from ..core.events import SegmentSpooled
from ..telemetry.figures import PassState
from ..telemetry.tracker import TelemetryTracker
from .intake_thread import IntakeThread
from .metadata_weights import source_of_weights
from .pass_settings import PassSettings


class RunReport:
    """The report on one run. `closed` has the exporter's counts at its end."""

    def __init__(
        self, run: str, spec: RunSpec, telemetry: TelemetryTracker, intake: IntakeThread, settings: PassSettings
    ) -> None:
        self._run, self._spec, self._telemetry, self._intake, self._settings = run, spec, telemetry, intake, settings
        self.closed: Closed | None = None
        self.rows: dict[int, int] = {}
        """Rows of each chunk segment written so far."""
        self._tokens: dict[int, int] = {}
        """Estimated tokens of each."""
        self._committed: list[set[int]] = [set() for _ in spec.passes]
        self._started = time.monotonic()

    def begin(self) -> None:
        """Note that the run before this one has ended."""
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the run was submitted, or since the end of the one before it."""
        return round(time.monotonic() - self._started, 3)

    def opened(self, committed: Sequence[Sequence[int]]) -> None:
        """Take the committed segments, by pass index."""
        self._committed = [set(segments) for segments in committed]

    def segment_spooled(self, event: SegmentSpooled) -> None:
        """Count a chunk segment, whose vectors an earlier session may have committed."""
        segment, rows = event.segment, event.rows
        self.rows[segment], self._tokens[segment] = rows, event.tokens
        for pass_index, committed in enumerate(self._committed):
            if segment in committed:
                self._telemetry.passes[pass_index].committed_before += rows
                self._telemetry.passes[pass_index].estimated_before += event.tokens

    def segment_committed(self, pass_index: int, segment: int, rows: int) -> None:
        """Count a segment that this session committed."""
        self._committed[pass_index].add(segment)
        self._telemetry.segment_committed(pass_index, rows)

    def segment_damaged(self, pass_index: int, segment: int, reason: str) -> None:
        """Take back a segment of an earlier session, which must be computed again."""
        self._committed[pass_index].discard(segment)
        if segment in self.rows:
            self._telemetry.passes[pass_index].committed_before -= self.rows[segment]
            self._telemetry.passes[pass_index].estimated_before -= self._tokens[segment]
        vector = self._spec.passes[pass_index].vector
        self._telemetry.event("segment_damaged", vector=vector, segment=segment, reason=reason)

    def progress(self, status: str, passes: Sequence[PassState], *, end: bool = False) -> Progress:
        """The run's progress for its watchers. `passes`: what each does now. `end`: it is the last message."""
        notices = self._telemetry.take_notices(end=end)
        total = sum(self._tokens.values())
        return Progress(
            run=self._run,
            status=status,
            rows=sum(self.rows.values()),
            intake_done=self._intake.done,
            rejected=self._intake.rejected,
            passes=tuple(
                self._telemetry.passes[pass_index].progress(one, total) for pass_index, one in enumerate(passes)
            ),
            notices=notices,
        )

    def ended(self, status: str, kind: str, error: str) -> RunEnded:
        """The run's end, with its counts."""
        rejected = self._intake.rejected
        counts = self.closed or Closed(sum(self.rows.values()) + rejected, 0, rejected, 0, 0)
        if (done := counts.publishing) is not None:
            peak = {"memory.peak_bytes": done.peak_bytes}
            self._telemetry.stage("publish", done.begin, done.end, rows=done.rows, points=counts.published, **peak)
        self._telemetry.over(status, error)
        return RunEnded(
            run=self._run,
            status=status,
            chunks=counts.chunks,
            committed=counts.committed,
            quarantined=counts.quarantined,
            skipped_duplicates=counts.skipped_duplicates,
            seconds=self.seconds,
            passes=tuple(self._summary(pass_index, counts) for pass_index in range(len(self._spec.passes))),
            kind=kind,
            error=error,
            notes=self._intake.notes,
        )

    def _summary(self, pass_index: int, counts: Closed) -> PassSummary:
        """The pass for the end of the run. It covers a row if all of its vectors are there."""
        one = self._spec.passes[pass_index]
        rows = sum(self.rows.values())
        summary = msgspec.structs.replace(
            self._telemetry.passes[pass_index].summary(),
            chunks=sum(self.rows.get(segment, 0) for segment in self._committed[pass_index]),
            truncation=counts.truncation.get(one.outputs[0].vector),
            max_tokens=self._settings.max_tokens(pass_index),
        )
        found = [counts.covered.get(output.vector) for output in one.outputs]
        known = [count for count in found if count is not None]
        if not known or not rows:
            return summary
        sparse = one.metadata_fallback or ""
        stood_in, weighed = counts.stood_in.get(sparse, 0), counts.covered.get(sparse, 0)
        shares = (weighed - stood_in, stood_in, rows - weighed)
        weights = source_of_weights(*shares) if stood_in or one.kind == "metadata" else ""
        return msgspec.structs.replace(summary, coverage=min(known) / rows, weights=weights)
