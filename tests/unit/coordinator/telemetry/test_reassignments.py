"""What a lost worker had is told as reassigned when it goes on elsewhere, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest
from embedfleet.coordinator.core.actions import SendBatch
from embedfleet.coordinator.telemetry.tracker import TelemetryTracker
from embedfleet.protocol.spec.run_spec import PassSpec
from embedfleet.protocol.wire.work import Result, Timings

PASSES = tuple(PassSpec(vector=f"dense-{name}", kind="dense", model="fake:8") for name in "ab")


class Told:
    """A tracker whose events are kept."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.tracker = TelemetryTracker(PASSES, lambda event, _when, fields: self.events.append((event, fields)))

    def send(self, batch: int, worker: str, rows: tuple[int, int], number: int = 0, segment: int = 0) -> None:
        action = SendBatch(worker, 1, batch, "r", number, segment, *rows)
        self.tracker.batch_sent(action, f"device of {worker}", 1.0)

    def done(self, batch: int) -> None:
        self.tracker.result(0, "d", 1, 1, Result(batch, 1, 1, 1, Timings(0, 0, 0), ()), 1.0)

    @property
    def reassigned(self) -> list[tuple[str, str, int]]:
        """From which worker to which, and how many rows."""
        found = [fields for event, fields in self.events if event == "mitigation"]
        assert all(one["reason"] == "reassigned" for one in found)
        return [(one["from_worker"], one["worker"], one["rows"]) for one in found]


@pytest.fixture
def told() -> Told:
    return Told()


def test_a_lost_batch_goes_on_whole_or_in_halves(told: Told) -> None:
    told.send(1, "w0", (0, 8))
    told.send(2, "w0", (8, 12))
    told.send(2, "w1", (8, 12))  # w0 is lost: what it had not begun goes on as it is
    told.send(3, "w1", (0, 4))  # what it was computing is halved
    told.send(4, "w2", (4, 8))
    assert told.reassigned == [("w0", "w1", 4), ("w0", "w1", 4), ("w0", "w2", 4)]
    first = next(fields for event, fields in told.events if event == "mitigation")
    assert (first["from_device"], first["device"]) == ("device of w0", "device of w1")
    assert (first["vector"], first["segment"]) == ("dense-a", 0)
    told.send(4, "w3", (4, 8))
    assert told.reassigned[3:] == [("w2", "w3", 4)]


def test_what_came_back_was_not_lost(told: Told) -> None:
    told.send(1, "w0", (0, 8))
    told.send(2, "w1", (0, 8), segment=1)
    told.send(3, "w1", (0, 8), number=1)
    told.done(1)
    told.done(99)
    told.tracker.batch_failed(2, "tokenizing failed")
    told.send(1, "w1", (0, 8))
    told.send(4, "w2", (0, 4), segment=1)
    assert told.reassigned == []


def test_nothing_is_remembered_of_a_segment_that_stands_or_of_an_exporter_that_is_gone(told: Told) -> None:
    told.send(1, "w0", (0, 8))
    told.send(2, "w0", (0, 8), segment=1)
    told.tracker.segment_committed(0, 0, 8)
    told.send(3, "w1", (0, 8))
    assert told.tracker.passes[0].committed == 8
    told.tracker.event("exporter_lost", reason="gone")
    told.send(4, "w1", (0, 8), segment=1)
    assert told.reassigned == []


def test_a_cpu_slot_that_takes_over_is_a_mitigation(told: Told) -> None:
    for device in ("cuda:0", "cuda:1", "cuda:0"):
        told.tracker.event("device_bad", device=device, failures=3, reason="broken")
    told.tracker.event("cpu_fallback", vector="dense-a", device="cpu:0")
    fields = {"reason": "reassigned", "from_device": "cuda:0, cuda:1", "vector": "dense-a", "device": "cpu:0"}
    assert told.events[-1] == ("mitigation", fields)
    assert "dense-a goes on on cpu:0: every GPU is given up" in told.tracker.take_notices()
