"""What goes on elsewhere is an event: the batches of a lost worker, and a pass whose GPUs are given up."""

from __future__ import annotations

from typing import Any

import pytest
from embedfleet.coordinator.core.actions import Holder, SendBatch
from embedfleet.coordinator.telemetry.tracker import TelemetryTracker
from embedfleet.protocol.spec.run_spec import PassSpec

PASSES = (PassSpec(vector="dense-a", kind="dense", model="fake:8"),)


class Told:
    """A tracker whose events are kept."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.tracker = TelemetryTracker(PASSES, lambda event, _when, fields: self.events.append((event, fields)))


@pytest.fixture
def told() -> Told:
    return Told()


def test_a_batch_of_a_lost_worker_is_a_mitigation(told: Told) -> None:
    told.tracker.batch_sent(SendBatch("w0", 1, 1, "r", 0, 3, 0, 8), "cuda:0", 1.0)
    assert told.events == []
    told.tracker.batch_sent(SendBatch("w1", 2, 1, "r", 0, 3, 0, 8, Holder("w0", "cuda:0")), "cuda:1", 2.0)
    where = {"worker": "w1", "device": "cuda:1", "vector": "dense-a", "from_worker": "w0", "from_device": "cuda:0"}
    assert told.events == [("mitigation", {"reason": "reassigned", **where, "segment": 3, "rows": 8})]


def test_a_cpu_slot_that_takes_over_is_a_mitigation(told: Told) -> None:
    for device in ("cuda:0", "cuda:1", "cuda:0"):
        told.tracker.event("device_bad", device=device, failures=3, reason="broken")
    told.tracker.event("cpu_fallback", vector="dense-a", device="cpu:0")
    fields = {"reason": "reassigned", "from_device": "cuda:0, cuda:1", "vector": "dense-a", "device": "cpu:0"}
    assert told.events[-1] == ("mitigation", fields)
    assert "dense-a goes on on cpu:0: every GPU is given up" in told.tracker.take_notices()


def test_rows_that_went_with_an_exporter_count_as_lost(told: Told) -> None:
    figures = told.tracker.passes[0]
    figures.statistics.computed = 20
    told.tracker.segment_committed(0, 8)
    told.tracker.event("exporter_lost", reason="gone")
    assert (figures.committed, figures.lost, figures.done) == (8, 12, 8)
