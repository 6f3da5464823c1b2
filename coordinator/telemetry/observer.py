"""Observer: gets what the TelemetryTracker of a run gets. Observers: makes one for each run.

Times are Unix time, in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ...protocol.spec.run_spec import RunSpec
from ...protocol.statistics.pass_stats import SessionPass
from ...protocol.wire.control import StageDone
from ...protocol.wire.work import Result
from ..core.actions import SendBatch

EventFields = dict[str, Any]
"""An event's fields as JSON values; docs/telemetry.md has those of each event."""


class Observer(Protocol):
    """Called by the loop, in order; no method may block or raise."""

    @property
    def traceparent(self) -> str:
        """The run's own span, as the parent of other spans."""
        ...

    def noted(self, event: str, when: float, fields: EventFields) -> None:
        """An event, as it is written to events.jsonl."""
        ...

    def batch_sent(self, action: SendBatch, device: str, when: float) -> None:
        """A batch was sent to a worker; the same one again after a worker was lost."""
        ...

    def batch_done(self, result: Result, when: float) -> None:
        """A batch's result was accepted."""
        ...

    def batch_failed(self, batch: int, reason: str, when: float) -> None:
        """A worker could not compute a batch."""
        ...

    def stage(self, name: str, begin: float, end: float, fields: Mapping[str, Any]) -> None:
        """A step of the run outside the workers has ended."""
        ...

    def over(self, status: str, error: str, when: float, passes: Sequence[SessionPass]) -> None:
        """The run has ended; `passes` are their records in stats.json."""
        ...


class NoObserver:
    """Ignores everything."""

    traceparent = ""

    def noted(self, event: str, when: float, fields: EventFields) -> None: ...
    def batch_sent(self, action: SendBatch, device: str, when: float) -> None: ...
    def batch_done(self, result: Result, when: float) -> None: ...
    def batch_failed(self, batch: int, reason: str, when: float) -> None: ...
    def stage(self, name: str, begin: float, end: float, fields: Mapping[str, Any]) -> None: ...
    def over(self, status: str, error: str, when: float, passes: Sequence[SessionPass]) -> None: ...


class Observers(Protocol):
    """Makes the observers of a coordinator's runs."""

    def run(self, run: str, spec: RunSpec, traceparent: str = "") -> Observer:
        """The observer of a run that begins now, below the span `traceparent` if there is one."""
        ...

    def stage(self, stage: StageDone) -> None:
        """A step of a client's command has ended."""
        ...
