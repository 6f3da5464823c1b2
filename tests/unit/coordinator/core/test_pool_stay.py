"""Workers that stay for the next run because it loads the same models."""

from __future__ import annotations

import pytest
from embedfleet.coordinator.core.actions import (
    Action,
    CloseRun,
    HydrateWorker,
    KillWorker,
    OpenRun,
    ReleaseWorker,
    SendBatch,
    SpawnWorker,
    StageWorker,
    StartIntake,
)
from embedfleet.coordinator.core.events import (
    ExporterLost,
    PassPlan,
    RunCancelled,
    RunClosed,
    RunOpened,
    RunSubmitted,
    SegmentCommitted,
    SegmentSpooled,
    WorkerExited,
    WorkerReady,
    WorkerStaged,
    WorkerUnfit,
)
from embedfleet.coordinator.core.state import WorkerStage

from ....pool_driver import Driver, cpu, gpu

V, W = PassPlan("v", loads="a model"), PassPlan("w", loads="another model")
NONE = (frozenset[int](),)


def computed(*passes: PassPlan, then: tuple[PassPlan, ...] = (V,)) -> Driver:
    """w0 has computed the only batch of r's first pass; if `then` has passes, a run of them is queued behind r."""
    driver = Driver(gpu("g0"))
    driver.run(*(passes or (V,)))
    driver.ready("w0")
    driver.cut(0, 8)
    if then:
        driver.tell(RunSubmitted("next", then))
    driver.done("w0")
    return driver


def between_runs() -> Driver:
    """r is over, and w0 stays for the next run, which is being opened."""
    driver = computed()
    driver.tell(SegmentCommitted("r", 0, 0))
    driver.tell(RunClosed("r"))
    return driver


def released(actions: list[Action]) -> bool:
    return ReleaseWorker("w0") in actions


def test_a_worker_stays_for_a_run_that_loads_the_same() -> None:
    driver = computed()
    assert driver.tell(SegmentCommitted("r", 0, 0)) == [CloseRun("r", "done")]
    assert driver.tell(RunClosed("r"))[-1] == OpenRun("next")
    assert driver.tell(RunOpened("next", NONE)) == [StartIntake("next"), StageWorker("w0", "next", 0)]
    assert driver.tell(SegmentSpooled("next", 0, 8)) == []
    assert driver.tell(WorkerStaged("w0", 3)) == [HydrateWorker("w0")]
    assert driver.passes("next")[0].row_bytes == 3
    driver.tell(WorkerReady("w0"))
    assert driver.cut(0, 8, name="next") == [SendBatch("w0", 1, 1, "next", 0, 0, 0, 8)]


@pytest.mark.parametrize(
    ("mine", "then"),
    [
        (V, ()),
        (V, (W,)),
        (V, (PassPlan("v"),)),
        (PassPlan("v"), (PassPlan("v"),)),
        (V, (PassPlan("v", cpu_only=True, loads="a model"),)),
    ],
    ids=["no run follows", "another model", "a model that is not known yet", "neither is known", "of a CPU"],
)
def test_a_worker_that_nobody_needs_is_released(mine: PassPlan, then: tuple[PassPlan, ...]) -> None:
    driver = computed(mine, then=then)
    assert driver.pool.fleet.workers["w0"].stage is WorkerStage.RELEASING
    assert driver.tell(SegmentCommitted("r", 0, 0)) == []
    assert driver.exit("w0", "released") == [CloseRun("r", "done")]


def test_the_device_goes_to_another_pass_of_the_same_run_first() -> None:
    driver = computed(V, W)
    assert driver.pool.fleet.workers["w0"].stage is WorkerStage.RELEASING


def test_the_pass_that_loads_the_same_is_taken_first() -> None:
    driver = computed(then=(W, V))
    driver.tell(SegmentCommitted("r", 0, 0))
    driver.tell(RunClosed("r"))
    assert driver.tell(RunOpened("next", NONE * 2))[-1] == StageWorker("w0", "next", 1)
    driver.tell(WorkerStaged("w0", 1))
    assert driver.tell(WorkerReady("w0")) == [SpawnWorker("w1", "h", "g0", 2)], "for the other pass"


def test_a_worker_that_stays_is_released_if_the_next_run_is_taken_back() -> None:
    driver = computed()
    assert released(driver.tell(RunCancelled("next", "no longer wanted")))
    driver = between_runs()
    driver.tell(RunCancelled("next", "no longer wanted"))
    assert released(driver.tell(RunOpened("next", NONE)))


def test_a_worker_stays_where_its_run_is_interrupted() -> None:
    driver = Driver(gpu("g0"))
    driver.run(V)
    driver.ready("w0")
    driver.cut(0, 4, 8)
    driver.tell(RunSubmitted("next", (V,)))
    driver.tell(RunCancelled("r", "interrupted"))
    driver.done("w0")
    assert driver.done("w0")[-1] == CloseRun("r", "interrupted", error="interrupted")
    driver.tell(RunClosed("r"))
    assert driver.tell(RunOpened("next", NONE))[-1] == StageWorker("w0", "next", 0)


def test_a_worker_of_nobody_gets_no_batch() -> None:
    """The next run's pass has the same number, but loads another model."""
    driver = between_runs()
    driver.tell(RunSubmitted("third", (W,)))
    driver.tell(RunCancelled("next", "no longer wanted"))
    assert driver.pool.fleet.workers["w0"].run == ""
    actions = driver.tell(RunOpened("next", NONE))
    assert released(actions)
    driver.tell(RunClosed("next"))
    actions = driver.tell(RunOpened("third", NONE))
    assert [type(one) for one in actions] == [StartIntake]
    assert driver.exit("w0", "released") == [SpawnWorker("w1", "h", "g0", 2)]


def test_the_next_run_may_have_fewer_passes() -> None:
    driver = Driver(gpu("g0"))
    driver.run(PassPlan("x", fallback=True, given_up="no model is asked for"), V)
    driver.ready("w0")
    driver.cut(0, 8, pass_index=1)
    driver.tell(RunSubmitted("next", (V,)))
    driver.done("w0")
    driver.tell(SegmentCommitted("r", 0, 0))
    driver.tell(SegmentCommitted("r", 1, 0))
    driver.tell(RunClosed("r"))
    assert driver.tell(RunOpened("next", NONE))[-1] == StageWorker("w0", "next", 0)


def test_a_worker_does_not_wait_for_a_pass_that_begins_later() -> None:
    driver = computed(then=(PassPlan("v", loads="a model", after_intake=True),))
    driver.tell(SegmentCommitted("r", 0, 0))
    driver.tell(RunClosed("r"))
    assert released(driver.tell(RunOpened("next", NONE)))


def test_its_death_between_two_runs_is_nobodys_fault() -> None:
    driver = between_runs()
    driver.tell(WorkerExited("w0", "signal 11"))
    assert driver.noted("worker_lost") == []
    assert driver.tell(RunOpened("next", NONE))[-1] == SpawnWorker("w1", "h", "g0", 2)
    assert driver.pool.fleet.devices["g0"].health.losses == 0


def test_a_worker_that_does_not_fit_is_ended_and_replaced() -> None:
    driver = between_runs()
    driver.tell(RunOpened("next", NONE))
    assert driver.tell(WorkerUnfit("w0")) == [KillWorker("w0", "h")]
    assert driver.exit("w0", "signal 9") == [SpawnWorker("w1", "h", "g0", 2)]
    assert driver.noted("worker_lost") == []
    assert driver.pool.fleet.devices["g0"].health.failures == 0


def test_late_news_of_a_worker_that_does_not_fit_changes_nothing() -> None:
    driver = computed()
    assert driver.tell(WorkerUnfit("w0")) == []
    assert driver.tell(WorkerUnfit("w9")) == []
    assert driver.pool.fleet.workers["w0"].stage is WorkerStage.READY


def test_a_worker_stays_for_its_own_run_while_that_gets_another_exporter() -> None:
    driver = Driver(gpu("g0"))
    driver.run(V, segments=(8, 8))
    driver.ready("w0")
    driver.cut(0, 8)
    driver.done("w0")
    assert driver.tell(ExporterLost("r", "signal 9")) == [OpenRun("r")]
    actions = driver.tell(RunOpened("r", NONE))
    assert not any(isinstance(one, StageWorker | SpawnWorker) for one in actions)
    assert driver.cut(0, 8)[-1] == SendBatch("w0", 1, 1, "r", 0, 0, 0, 8)


def test_a_killed_worker_does_not_stay() -> None:
    """The run is not closed before it has ended."""
    driver = computed()
    driver.pool.fleet.workers["w0"].killed, driver.pool.fleet.workers["w0"].killed_at = "silent for 20 s", driver.now
    assert driver.tell(SegmentCommitted("r", 0, 0)) == []
    assert driver.exit("w0") == [CloseRun("r", "done")]


def test_each_device_keeps_its_worker() -> None:
    driver = Driver(gpu("g0"), cpu("c0"))
    driver.run(V, segments=(8, 8))
    driver.ready("w0")
    driver.ready("w1")
    driver.cut(0, 4, 8)
    driver.tell(RunSubmitted("next", (V,)))
    driver.cut(0, 4, 8, segment=1)
    for worker in ("w0", "w1", "w0", "w1"):
        if driver.held(worker):
            driver.done(worker)
    driver.tell(SegmentCommitted("r", 0, 0))
    assert driver.tell(SegmentCommitted("r", 0, 1)) == [CloseRun("r", "done")]
    driver.tell(RunClosed("r"))
    staged = [one for one in driver.tell(RunOpened("next", NONE)) if isinstance(one, StageWorker)]
    assert staged == [StageWorker("w0", "next", 0), StageWorker("w1", "next", 0)]
