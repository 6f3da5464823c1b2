"""News that comes too late: of a run that is over, of a worker that has gone, of a stage that was left."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from embedfleet.coordinator.core.actions import CloseRun, KillWorker, OpenRun, RunOver, SpawnWorker
from embedfleet.coordinator.core.events import (
    CorpusMeasured,
    Event,
    ExporterLost,
    IntakeDone,
    PassPlan,
    RunCancelled,
    RunClosed,
    RunFailed,
    RunOpened,
    RunSubmitted,
    Scrubbed,
    SegmentCommitted,
    SegmentCut,
    SegmentDamaged,
    SegmentSpooled,
    SpawnRefused,
    WorkerAlive,
    WorkerBroken,
    WorkerDied,
    WorkerExited,
    WorkerHello,
    WorkerReady,
    WorkerStaged,
)
from embedfleet.coordinator.core.state import PoolConfig, WorkerStage

from ....pool_driver import Driver, gpu

V = PassPlan("v")
NONE = (frozenset[int](),)
CONFIG = PoolConfig(stage_timeout=20, silence_timeout=100, death_timeout=30)


def busy() -> Driver:
    """One GPU whose worker w0 has both batches of an 8-row segment; another run waits."""
    driver = Driver(gpu("g0"), config=CONFIG)
    driver.run(V)
    driver.ready("w0")
    driver.cut(0, 4, 8)
    driver.tell(RunSubmitted("next", (V,)))
    return driver


def state(driver: Driver) -> Any:
    fleet = driver.pool.fleet
    return copy.deepcopy((fleet.devices, fleet.workers, fleet.runs, fleet.batches))


def name_of(event: Event) -> str:
    return type(event).__name__


@pytest.mark.parametrize(
    "event",
    [
        RunOpened("gone", NONE),
        RunCancelled("gone", "SIGINT"),
        RunFailed("gone", "DiskFull", "no space left"),
        RunClosed("gone"),
        ExporterLost("gone", "signal 9"),
        SegmentSpooled("gone", 0, 8),
        IntakeDone("gone"),
        CorpusMeasured("gone"),
        SegmentCut("gone", 0, 0, ()),
        SegmentCommitted("gone", 0, 0),
        SegmentDamaged("gone", 0, 0),
        Scrubbed("gone"),
    ],
    ids=name_of,
)
def test_news_of_a_run_that_is_over_changes_nothing(event: Event) -> None:
    driver = busy()
    before = state(driver)
    assert driver.tell(event) == []
    assert state(driver) == before
    assert driver.noted("exporter_lost") == []


@pytest.mark.parametrize(
    "event",
    [
        WorkerHello("gone", 1),
        WorkerStaged("gone", 1),
        WorkerReady("gone"),
        WorkerBroken("gone", "ModelError", "no weights", fatal=True),
        WorkerAlive("gone", 1),
        WorkerDied("gone", "signal 9"),
        WorkerExited("gone", "signal 9"),
        SpawnRefused("gone", "no memory"),
    ],
    ids=name_of,
)
def test_news_of_a_worker_that_has_gone_changes_nothing(event: Event) -> None:
    driver = busy()
    before = state(driver)
    assert driver.tell(event) == []
    assert state(driver) == before
    assert driver.noted("worker_lost") == driver.noted("lease_waiting") == []


@pytest.mark.parametrize("event", [WorkerHello("w0", 1), WorkerStaged("w0", 999), WorkerReady("w0")], ids=name_of)
def test_a_stage_that_was_left_is_not_entered_again(event: Event) -> None:
    driver = busy()
    before = state(driver)
    assert driver.tell(event) == []
    assert state(driver) == before


def test_a_run_is_opened_once() -> None:
    driver = busy()
    before = state(driver)
    assert driver.tell(RunOpened("r", (frozenset({0}),))) == []
    assert state(driver) == before


def test_cuts_that_come_twice_count_once() -> None:
    driver = busy()
    before = state(driver)
    assert driver.cut(0, 4, 8) == []
    assert state(driver) == before


def test_a_killed_worker_may_still_say_that_it_is_staged_when_its_run_is_over() -> None:
    driver = Driver(gpu("g0"), config=CONFIG)
    driver.run(V)
    driver.tell(WorkerHello("w0", 1))
    assert driver.tick(after=21.0) == [KillWorker("w0", "h")]
    assert driver.tell(RunCancelled("r", "SIGINT")) == [CloseRun("r", "interrupted", error="SIGINT")]
    assert driver.tell(RunClosed("r")) == [RunOver("r", "interrupted", error="SIGINT")]
    assert driver.tell(WorkerStaged("w0", 1)) == [], "nobody hydrates it"
    driver.tell(RunSubmitted("next", (V,)))
    driver.tell(RunOpened("next", NONE))
    driver.tell(SegmentSpooled("next", 0, 8))
    assert driver.pool.fleet.workers["w0"].stage is WorkerStage.STAGED
    assert driver.exit("w0", "signal 9", after=5.0) == [SpawnWorker("w1", "h", "g0", 2)]


def test_the_reason_of_a_kill_outlasts_the_news_of_the_death() -> None:
    """The batch that was computed answers for what the worker was killed for, not for the signal that ended it."""
    driver = busy()
    assert driver.tick(after=101.0) == [KillWorker("w0", "h")]
    assert driver.tell(WorkerDied("w0", "signal 9")) == []
    assert [one["reason"] for one in driver.noted("batch_failed")] == ["silent for 100 s"]
    assert driver.held("w0") == []
    driver.exit("w0", "signal 9")
    assert [one["reason"] for one in driver.noted("worker_lost")] == ["silent for 100 s"]


def test_a_second_failure_does_not_take_the_place_of_the_first() -> None:
    driver = Driver()
    driver.run(V)
    assert driver.tell(RunFailed("r", "DiskFull", "no space left")) == [
        CloseRun("r", "failed", "DiskFull", "no space left")
    ]
    assert driver.tell(RunFailed("r", "RunFailed", "the exporter is gone")) == []
    assert driver.tell(RunClosed("r")) == [RunOver("r", "failed", "DiskFull", "no space left")]


def test_a_run_that_fails_while_it_waits_never_begins() -> None:
    driver = busy()
    assert driver.tell(RunFailed("next", "SourceError", "no such file")) == [
        RunOver("next", "failed", "SourceError", "no such file")
    ]
    driver.tell(RunFailed("r", "DiskFull", "no space left"))
    assert OpenRun("next") not in driver.tell(RunClosed("r"))
