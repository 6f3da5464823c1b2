"""Observer: who else hears what the TelemetryTracker of a run hears; Observers: where they come from.

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
"""What goes with an event, as JSON values; docs/telemetry.md has the fields of each."""


class Observer(Protocol):
    """Called by the loop, in order; none of it may block or raise."""

    @property
    def traceparent(self) -> str:
        """The run's own span, for others that are to stand below it."""
        ...

    def noted(self, event: str, when: float, fields: EventFields) -> None:
        """An event, as it is written to events.jsonl."""
        ...

    def batch_sent(self, action: SendBatch, device: str, when: float) -> None:
        """A batch goes to a worker; the same one again where a worker was lost."""
        ...

    def batch_done(self, result: Result, when: float) -> None:
        """Its result counts."""
        ...

    def batch_failed(self, batch: int, reason: str, when: float) -> None:
        """Its worker could not compute it."""
        ...

    def stage(self, name: str, begin: float, end: float, fields: Mapping[str, Any]) -> None:
        """A step of the run that no worker does is over."""
        ...

    def over(self, status: str, error: str, when: float, passes: Sequence[SessionPass]) -> None:
        """The run has ended; `passes` is what stats.json says of each."""
        ...


class NoObserver:
    """Hears everything, and does nothing."""

    traceparent = ""

    def noted(self, event: str, when: float, fields: EventFields) -> None: ...
    def batch_sent(self, action: SendBatch, device: str, when: float) -> None: ...
    def batch_done(self, result: Result, when: float) -> None: ...
    def batch_failed(self, batch: int, reason: str, when: float) -> None: ...
    def stage(self, name: str, begin: float, end: float, fields: Mapping[str, Any]) -> None: ...
    def over(self, status: str, error: str, when: float, passes: Sequence[SessionPass]) -> None: ...


class Observers(Protocol):
    """Of all runs of a coordinator."""

    def run(self, run: str, spec: RunSpec, traceparent: str = "") -> Observer:
        """The observer of a run that begins now, below the span `traceparent` if there is one."""
        ...

    def stage(self, stage: StageDone) -> None:
        """A step of a client's command is over."""
        ...
