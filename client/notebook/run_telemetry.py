"""RunTelemetry: the events of a run and of the runs derived from it, by kind, as their directories keep them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from ...protocol.run_directory.layout import RunLayout

Event = dict[str, Any]
"""A line of events.jsonl, and `stage`; docs/telemetry.md has the fields of each event."""


def stage_layouts(root: RunLayout) -> dict[str, RunLayout]:
    """By stage, the run of the corpus and the derived runs of queries and pairs."""
    return {"corpus": root, "queries": RunLayout(root.queries), "rerank": RunLayout(root.scores)}


class RunTelemetry:
    """Reads `events.jsonl` of the runs of corpus, queries and pairs again at each access, also while a run is in progress.

    Every event has `time` (Unix seconds), `event`, and `stage`: `corpus`, `queries` or `rerank`.
    """

    def __init__(self, layout: RunLayout) -> None:
        self._root = layout.root
        self._paths = {stage: one.events for stage, one in stage_layouts(layout).items()}

    def __repr__(self) -> str:
        return f"RunTelemetry({str(self._root)!r})"

    def events(self, kind: str | None = None) -> list[Event]:
        """The events of one kind, or all, in order of time, over all sessions."""
        found = [one for one in self._read() if kind is None or one.get("event") == kind]
        return sorted(found, key=lambda one: one.get("time", 0.0))

    @property
    def gpu_lease_events(self) -> list[Event]:
        """`phase` before (kept: the worker stayed from the run before), staged, hydrated, peak, after; with the memory of the
        device where it was looked at. Leases of CPU slots are among them."""
        return self.events("lease")

    @property
    def mitigation_events(self) -> list[Event]:
        """Changes of a worker's micro-batch budget: `reason`, `from` and `to` tokens. Under the reason `reassigned`, batches
        of a lost worker that went on elsewhere: `from_worker`, `from_device`, `worker`, `device`."""
        return self.events("mitigation")

    @property
    def rotation_events(self) -> list[Event]:
        """Changes of a device to its next model: `from`, `to`, `gap_seconds`."""
        return self.events("rotation")

    @property
    def batch_progress_events(self) -> list[Event]:
        """Rows and tokens of a pass so far, every few seconds."""
        return self.events("batch_progress")

    @property
    def performance_events(self) -> list[Event]:
        """Samples of workers and of the coordinator's host, every few seconds."""
        return self.events("performance")

    def _read(self) -> Iterator[Event]:
        decoder = msgspec.json.Decoder(Event)
        for stage, path in self._paths.items():
            if not path.exists():
                continue
            with path.open("rb") as lines:
                for line in lines:
                    try:
                        yield decoder.decode(line) | {"stage": stage}
                    except msgspec.DecodeError:
                        continue  # being written, or torn by a crash: what follows it stands
