"""RunTelemetry: the events of a run, by kind, as its directory keeps them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from ..protocol.layout import RunLayout


class RunTelemetry:
    """Reads `events.jsonl` anew at each question, also while the run goes on; every event has `time` and `event`."""

    def __init__(self, layout: RunLayout) -> None:
        self._path = layout.events

    def __repr__(self) -> str:
        return f"RunTelemetry({str(self._path)!r})"

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The events of one kind, or all, in the order in which they happened. Sessions of one run follow each other."""
        return [one for one in self._read() if kind is None or one.get("event") == kind]

    @property
    def gpu_lease_events(self) -> list[dict[str, Any]]:
        """`phase` before, staged, hydrated, peak, after; with the memory of the device where it was looked at. Leases of CPU
        slots are among them."""
        return self.events("lease")

    @property
    def mitigation_events(self) -> list[dict[str, Any]]:
        """Changes of a worker's micro-batch budget: `reason`, `from` and `to` tokens."""
        return self.events("mitigation")

    @property
    def rotation_events(self) -> list[dict[str, Any]]:
        """A device went on with the next model: `from`, `to`, `gap_seconds`."""
        return self.events("rotation")

    @property
    def batch_progress_events(self) -> list[dict[str, Any]]:
        """Rows and tokens of a pass so far, every few seconds."""
        return self.events("batch_progress")

    @property
    def performance_events(self) -> list[dict[str, Any]]:
        """Samples of workers and of the coordinator's host, every few seconds."""
        return self.events("performance")

    def _read(self) -> Iterator[dict[str, Any]]:
        decoder = msgspec.json.Decoder(dict[str, Any])
        if not self._path.exists():
            return
        with self._path.open("rb") as lines:
            for line in lines:
                try:
                    yield decoder.decode(line)
                except msgspec.DecodeError:
                    continue  # being written, or torn by a crash: what follows it stands
