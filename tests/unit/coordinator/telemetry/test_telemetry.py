"""TelemetryTracker: what rows failed of is told now and then, and multivectors that are too large apart from the rest."""

from __future__ import annotations

from typing import Any

from embedfleet.coordinator.telemetry.event_log import BATCH_EVENT_SECONDS
from embedfleet.coordinator.telemetry.tracker import TelemetryTracker
from embedfleet.protocol.spec.run_spec import PassSpec
from embedfleet.protocol.wire.work import Result, RowError, Timings

HEADS = PassSpec(vector="heads-m3", kind="bge-m3", model="fake:8")
LARGE = RowError(0, "2,000 token vectors are too many", "multivector", too_large=True)
FAILED = RowError(1, "not finite")


def test_multivectors_that_are_too_large_have_an_event_and_a_line_of_their_own() -> None:
    events: list[tuple[str, dict[str, Any]]] = []
    tracker = TelemetryTracker((HEADS,), lambda event, _when, fields: events.append((event, fields)))

    def result(now: float, *errors: RowError) -> None:
        tracker.result(0, "cpu", 2, 9, Result(1, 1, 8, 8, Timings(0, 0, 0), (), errors), now)

    def told(event: str) -> list[tuple[str, int, str]]:
        return [(one["vector"], one["rows"], one["reason"]) for name, one in events if name == event]

    result(100.0, LARGE, LARGE)
    result(100.1, LARGE)
    assert told("multivector_too_large") == [("multivector-m3", 2, LARGE.reason)]
    assert told("rows_failed") == []
    result(100.0 + BATCH_EVENT_SECONDS, LARGE, FAILED)
    assert told("multivector_too_large")[1:] == [("multivector-m3", 4, LARGE.reason)]
    assert told("rows_failed") == [("heads-m3", 1, FAILED.reason)]
    result(100.1 + BATCH_EVENT_SECONDS, LARGE)
    tracker.closing("done", "")
    tracker.closing("done", "")
    assert told("multivector_too_large")[2:] == [("multivector-m3", 5, LARGE.reason)]
    assert [name for name, _ in events[-2:]] == ["run_closing"] * 2
    line = f"multivector-m3: rows without a multivector so far: 2. {LARGE.reason}"
    assert tracker.take_notices()[0] == line
    assert tracker.passes[0].record().row_errors == 6


def test_segments_that_are_float16_after_all_are_said_in_one_line() -> None:
    tracker = TelemetryTracker((), lambda *_: None)
    tracker.stored_as_float16({})
    assert tracker.take_notices(end=True) == ()
    tracker.stored_as_float16({"dense-m3": 1_234})
    line = "dense-m3: segments stored as float16, since int8 would be too coarse: 1,234"
    assert tracker.take_notices(end=True) == (line,)
