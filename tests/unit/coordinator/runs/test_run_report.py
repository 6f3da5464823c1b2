"""What stands of a run, counted for its watchers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from embedfleet.coordinator.core.events import SegmentSpooled
from embedfleet.coordinator.runs.run_report import RunReport
from embedfleet.coordinator.telemetry.figures import PassState
from embedfleet.coordinator.telemetry.tracker import TelemetryTracker
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec
from embedfleet.protocol.wire.export import Closed

SPEC = RunSpec(source="/s", passes=(PassSpec(vector="dense-a", kind="dense", model="fake:8"),))


@pytest.fixture
def events() -> list[str]:
    return []


@pytest.fixture
def report(events: list[str]) -> RunReport:
    telemetry = TelemetryTracker(SPEC.passes, lambda event, _when, _fields: events.append(event))
    intake: Any = SimpleNamespace(rejected=2, notes={"id_shared": 1}, done=True)
    settings: Any = SimpleNamespace(max_tokens=lambda _pass_index: 512)
    made = RunReport("r", SPEC, telemetry, intake, settings)
    made.opened(((0, 1),))
    for segment in range(3):
        made.segment_spooled(SegmentSpooled("r", segment, rows=10, tokens=100))
    return made


def test_progress_counts_what_earlier_sessions_committed(report: RunReport) -> None:
    progress = report.progress("running", [PassState("working", 2)])
    assert (progress.rows, progress.rejected, progress.intake_done) == (30, 2, True)
    (one,) = progress.passes
    assert (one.rows_committed, one.state, one.in_flight) == (20, "working", 2)


def test_a_damaged_segment_is_not_committed_any_more(report: RunReport, events: list[str]) -> None:
    report.segment_damaged(0, 1, "torn")
    report.segment_committed(0, 2, 10)
    assert report.progress("running", [PassState("working", 0)]).passes[0].rows_committed == 20
    assert events == ["segment_damaged"]
    assert report.ended("done", "", "").passes[0].chunks == 20


def test_the_end_has_what_the_exporter_counted(report: RunReport) -> None:
    report.closed = Closed(30, 30, 0, 0, 0, covered={"dense-a": 15})
    ended = report.ended("done", "", "")
    assert (ended.chunks, ended.committed, ended.notes) == (30, 30, {"id_shared": 1})
    (one,) = ended.passes
    assert (one.coverage, one.max_tokens, one.weights) == (0.5, 512, "")


def test_a_run_whose_exporter_never_closed_counts_its_own_rows(report: RunReport) -> None:
    ended = report.ended("failed", "RunFailed", "why")
    assert (ended.chunks, ended.committed, ended.quarantined) == (32, 0, 2)
    assert (ended.kind, ended.error) == ("RunFailed", "why")
