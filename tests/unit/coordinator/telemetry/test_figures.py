"""What is counted of a pass, and how often its batches make an event."""

from __future__ import annotations

from typing import Any

import pytest
from embedfleet.coordinator.telemetry.event_log import BATCH_EVENT_SECONDS, EventLog
from embedfleet.coordinator.telemetry.figures import PassFigures, PassState
from embedfleet.coordinator.telemetry.observer import NoObserver
from embedfleet.coordinator.telemetry.rotations import Rotation, Rotations
from embedfleet.protocol.spec.run_spec import PassSpec
from embedfleet.protocol.wire.devices import MemorySample, PerformanceSample
from embedfleet.protocol.wire.work import Result, Timings


@pytest.fixture
def figures() -> PassFigures:
    return PassFigures(PassSpec(vector="dense-a", kind="dense", model="fake:8"))


def test_seconds_go_from_the_first_batch_to_the_last_result(figures: PassFigures) -> None:
    assert figures.progress(PassState("staging"), 100).seconds_left is None
    figures.first = 100.0
    for now in (102.0, 104.0):
        figures.count_result("gpu", 4, 20, Result(1, 1, 16, 20, Timings(0.1, 0.2, 0.3), ()), now)
    progress = figures.progress(PassState("working", 2), 100)
    assert (progress.rows_done, progress.rows_per_second, progress.tokens_per_second) == (8, 2.0, 8.0)
    assert (progress.share_done, progress.seconds_left, progress.devices) == (0.4, 6.0, ("gpu",))
    assert figures.progress(PassState("done"), 100).share_done == 1.0
    summary = figures.summary()
    assert (summary.computed, summary.uncommitted, summary.seconds, summary.padding) == (8, 8, 4.0, 0.2)


def test_peaks_of_a_gpu_and_of_the_worker_are_apart(figures: PassFigures) -> None:
    for used in (5, 90, 7):
        figures.count_sample(PerformanceSample(resident_bytes=used, gpu_bytes=10 * used))
    assert (figures.statistics.peak_bytes, figures.statistics.gpu_peak_bytes) == (0, 900)
    figures.count_sample(PerformanceSample(resident_bytes=30))
    assert figures.statistics.peak_bytes == 30
    figures.count_sample(PerformanceSample(resident_bytes=50, gpu_bytes=1, reserved_bytes=35))
    assert figures.statistics.peak_bytes == 35, (
        "of a worker that stays for the next run, and sends no peak at the end of this"
    )
    figures.count_lease(MemorySample(phase="peak", used=40, total=99, source="torch"), None, None)
    figures.count_lease(MemorySample(phase="after", used=50, total=99, source="nvml"), "float32", None)
    figures.count_lease(None, None, "cpu float32")
    found = figures.statistics
    assert (found.peak_bytes, found.dtype, found.placement) == (40, "float32", "cpu float32")


def test_the_longest_gap_is_kept(figures: PassFigures) -> None:
    for gap in (0.5, 2.0, 1.0):
        figures.count_rotation(gap)
    assert figures.summary().rotation_gap_seconds == 2.0


def test_a_device_rotates_once_between_two_passes() -> None:
    rotations = Rotations()
    assert rotations.batch_sent("gpu", 0, 1.0) is None
    rotations.result("gpu", 0, 2.0)
    assert rotations.batch_sent("gpu", 0, 2.5) is None
    assert rotations.batch_sent("other", 1, 3.0) is None
    assert rotations.batch_sent("gpu", 1, 3.5) == Rotation(0, 1.5)
    assert rotations.batch_sent("gpu", 1, 4.0) is None


def test_an_event_of_batches_is_due_now_and_then_for_each_pass() -> None:
    written: list[Any] = []
    log = EventLog(lambda *event: written.append(event), NoObserver())
    due = [log.due("batch_progress", 0, 100.0 + step / 10) for step in range(int(20 * BATCH_EVENT_SECONDS))]
    assert due.count(True) == 2
    assert log.due("batch_progress", 1, 100.1)
    assert log.due("rows_failed", 0, 100.1)
    log.record("batch_progress", {"rows": 1})
    assert [(event, fields) for event, _, fields in written] == [("batch_progress", {"rows": 1})]
