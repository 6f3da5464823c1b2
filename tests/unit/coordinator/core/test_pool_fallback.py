"""Passes that go on without a model: the exporter fills their segments, and the run ends well."""

from __future__ import annotations

from embedfleet.coordinator.core.actions import (
    CloseRun,
    FillSegment,
    ForwardResult,
    QuarantineRows,
    SendBatch,
    SpawnWorker,
)
from embedfleet.coordinator.core.events import (
    ExporterLost,
    IntakeDone,
    PassPlan,
    RunOpened,
    RunSubmitted,
    Scrubbed,
    SegmentCommitted,
    SegmentSpooled,
    WorkerBroken,
    WorkerExited,
    WorkerHello,
)

from ....pool_driver import Driver, cpu, gpu

WHY = "no such model"


def filled(actions: list) -> list[tuple[int, int, str]]:
    assert not [one for one in actions if isinstance(one, QuarantineRows)]
    return [(one.pass_index, one.segment, one.reason) for one in actions if isinstance(one, FillSegment)]


def test_a_pass_without_a_model_is_filled_as_it_is_spooled_and_takes_no_device() -> None:
    driver = Driver(gpu("g"))
    driver.tell(RunSubmitted("r", (PassPlan("v", given_up=WHY),)))
    driver.tell(RunOpened("r", (frozenset({1}),)))
    driver.tell(Scrubbed("r"))
    out = driver.tell(SegmentSpooled("r", 0, 5))
    assert filled(out) == [(0, 0, WHY)]
    out = driver.tell(SegmentSpooled("r", 1, 5)) + driver.tell(IntakeDone("r"))
    assert out == []  # it stands, and nothing is spawned
    assert isinstance(driver.tell(SegmentCommitted("r", 0, 0))[-1], CloseRun)


def test_a_model_that_does_not_load_gives_way_to_the_fallback() -> None:
    driver = Driver(gpu("g"))
    out = driver.run(PassPlan("v", fallback=True), segments=(4, 3))
    (spawn,) = [one for one in out if isinstance(one, SpawnWorker)]
    driver.tell(WorkerHello(spawn.worker, driver.pool.fleet.workers[spawn.worker].epoch))
    out = driver.tell(WorkerBroken(spawn.worker, "ModelError", WHY, True))
    assert filled(out) == [(0, 0, WHY), (0, 1, WHY)]
    assert driver.noted("pass_given_up") == [{"vector": "v", "reason": WHY}]
    driver.exit(spawn.worker)
    assert not [one for one in driver.tick(100.0) if isinstance(one, SpawnWorker)]
    driver.tell(SegmentCommitted("r", 0, 0))
    closed = driver.tell(SegmentCommitted("r", 0, 1))[-1]
    assert isinstance(closed, CloseRun)
    assert closed.status == "done"


def test_without_fallback_it_fails_the_run() -> None:
    driver = Driver(gpu("g"))
    driver.run(PassPlan("v"))
    out = driver.tell(WorkerBroken("w0", "ModelError", WHY, True))
    (closed,) = [one for one in out if isinstance(one, CloseRun)]
    assert (closed.status, closed.kind, closed.error) == ("failed", "ModelError", WHY)


def test_what_another_worker_has_in_hand_is_kept_and_the_rest_is_filled_behind_it() -> None:
    driver = Driver(gpu("a"), gpu("b"))
    driver.run(PassPlan("v", fallback=True), segments=(4,))
    driver.ready("w0")
    driver.cut(0, 1, 2, 3, 4)
    held = driver.held("w0")
    assert len(held) == 2
    driver.tell(WorkerHello("w1", driver.pool.fleet.workers["w1"].epoch))
    assert filled(driver.tell(WorkerBroken("w1", "ModelError", WHY, True))) == []
    assert not driver.passes()[0].pending
    assert not [one for one in driver.done("w0") if isinstance(one, SendBatch | FillSegment | QuarantineRows)]
    last = driver.done("w0")
    assert [type(one) for one in last if isinstance(one, SendBatch | ForwardResult | FillSegment)] == [
        ForwardResult,
        FillSegment,
    ]
    assert filled(last) == [(0, 0, WHY)]
    assert filled(driver.tick(1.0)) == [], "once"


def test_a_segment_is_filled_where_the_worker_that_has_it_dies() -> None:
    driver = Driver(gpu("a"), gpu("b"))
    driver.run(PassPlan("v", fallback=True), segments=(3,))
    driver.ready("w0")
    driver.cut(0, 1, 2, 3)
    driver.tell(WorkerHello("w1", driver.pool.fleet.workers["w1"].epoch))
    assert filled(driver.tell(WorkerBroken("w1", "ModelError", WHY, True))) == []
    assert filled(driver.exit("w0")) == [(0, 0, WHY)]


def test_a_segment_that_is_being_cut_is_filled_after_the_cut() -> None:
    """Its texts are read meanwhile: only then can they be let go."""
    driver = Driver(gpu("a"), gpu("b"))
    driver.run(PassPlan("v", fallback=True), segments=(3,))
    driver.ready("w0")
    driver.tell(WorkerHello("w1", driver.pool.fleet.workers["w1"].epoch))
    assert filled(driver.tell(WorkerBroken("w1", "ModelError", WHY, True))) == []
    assert filled(driver.cut(0, 1, 2, 3)) == [(0, 0, WHY)]
    assert not driver.pool.fleet.batches


def test_after_a_lost_exporter_the_rest_is_filled_again() -> None:
    driver = Driver(cpu("c"))
    driver.run(PassPlan("v", given_up=WHY), segments=(4, 3))
    driver.tell(SegmentCommitted("r", 0, 0))
    driver.tell(ExporterLost("r", "killed"))
    assert filled(driver.tell(RunOpened("r", (frozenset({0}),)))) == [(0, 1, WHY)]


def test_the_other_passes_go_on() -> None:
    driver = Driver(gpu("g"))
    out = driver.run(PassPlan("a", given_up=WHY), PassPlan("b"), segments=(4,))
    assert filled(out) == [(0, 0, WHY)]
    assert driver.pool.fleet.workers["w0"].pass_index == 1
    driver.ready("w0")
    assert [(one.start, one.stop) for one in driver.cut(0, 4, pass_index=1) if isinstance(one, SendBatch)] == [(0, 4)]


def broken(driver: Driver, worker: str = "w0") -> list:
    """The worker's model does not load; the actions, its end included."""
    driver.tell(WorkerHello(worker, driver.pool.fleet.workers[worker].epoch))
    return driver.tell(WorkerBroken(worker, "ModelError", WHY, True)) + driver.exit(worker)


def opened(*passes: PassPlan) -> Driver:
    driver = Driver(gpu("g"))
    driver.tell(RunSubmitted("r", passes))
    driver.tell(RunOpened("r", (frozenset(),) * len(passes)))
    return driver


def test_a_broken_pass_waits_until_a_chunk_with_weights_is_spooled() -> None:
    driver = opened(PassPlan("v", fallback=True))
    out = broken(driver)
    out += driver.tell(SegmentSpooled("r", 0, 5, has_weights=False)) + driver.tick(100.0)
    assert not [one for one in out if isinstance(one, SpawnWorker | FillSegment | QuarantineRows | CloseRun)]
    assert filled(driver.tell(SegmentSpooled("r", 1, 4))) == [(0, 0, WHY), (0, 1, WHY)]
    assert len(driver.noted("pass_given_up")) == 1


def test_a_broken_pass_fails_the_run_where_the_intake_ends_without_such_a_chunk() -> None:
    driver = opened(PassPlan("v", fallback=True))
    broken(driver)
    driver.tell(SegmentSpooled("r", 0, 5, has_weights=False))
    (closed,) = [one for one in driver.tell(IntakeDone("r")) if isinstance(one, CloseRun)]
    assert (closed.status, closed.kind) == ("failed", "ModelError")
    assert closed.error == f"{WHY}; and no chunk has metadata.sparse_features.term_weights that could stand in"


def test_a_worker_that_is_ready_gets_nothing_of_a_broken_pass() -> None:
    driver = Driver(gpu("a"), gpu("b"))
    driver.tell(RunSubmitted("r", (PassPlan("v", fallback=True),)))
    driver.tell(RunOpened("r", (frozenset(),)))
    driver.tell(SegmentSpooled("r", 0, 4, has_weights=False))
    driver.ready("w0")
    driver.cut(0, 1, 2, 3, 4)
    broken(driver, "w1")
    assert not [one for one in driver.done("w0") + driver.done("w0") if isinstance(one, SendBatch)]
    assert filled(driver.tell(SegmentSpooled("r", 1, 2))) == [(0, 0, WHY), (0, 1, WHY)]


def test_a_pass_that_no_device_can_hold_is_given_up_and_the_device_is_not() -> None:
    driver = Driver(gpu("g"))
    driver.run(PassPlan("a", fallback=True), PassPlan("b"), segments=(4,))
    for attempt in range(3):
        worker = f"w{attempt}"
        driver.stage(worker)
        driver.tell(WorkerBroken(worker, "ModelError", "does not fit on the device", False))
        out = driver.exit(worker) + driver.tick(60.0)
    (reason,) = {one[2] for one in filled(driver.tick(0.0)) + filled(out)}
    assert reason == "every device for a was given up: g: does not fit on the device"
    assert not [one for one in out if isinstance(one, CloseRun)]
    assert driver.pool.fleet.workers["w3"].pass_index == 1, "the other pass has the device"


def test_without_weights_in_any_chunk_the_devices_failure_is_the_runs() -> None:
    driver = Driver(gpu("g"))
    driver.tell(RunSubmitted("r", (PassPlan("a", fallback=True),)))
    driver.tell(RunOpened("r", (frozenset(),)))
    driver.tell(SegmentSpooled("r", 0, 4, has_weights=False))
    for attempt in range(3):
        driver.tick(60.0)
        driver.exit(f"w{attempt}")
    (closed,) = [one for one in driver.tell(IntakeDone("r")) if isinstance(one, CloseRun)]
    assert closed.error.startswith("every device for a was given up: g: signal 11; and no chunk has")


def test_a_fault_of_the_device_itself_stays_with_it() -> None:
    driver = Driver(gpu("g"), cpu("c"))
    driver.run(PassPlan("a", fallback=True, gpu_only=True), PassPlan("b"), segments=(4,))
    driver.tell(WorkerExited("w0", "XID 79", fault="it fell off the bus"))
    assert driver.noted("pass_given_up")
    assert driver.pool.fleet.devices["g"].health.bad


def test_metadata_alone_is_an_error_where_no_chunk_has_any() -> None:
    driver = opened(PassPlan("v", given_up=WHY, without="no weights anywhere"))
    driver.tell(SegmentSpooled("r", 0, 5, has_weights=False))
    (closed,) = [one for one in driver.tell(IntakeDone("r")) if isinstance(one, CloseRun)]
    assert (closed.status, closed.kind, closed.error) == ("failed", "SourceError", "no weights anywhere")
    driver = opened(PassPlan("v", given_up=WHY, without="no weights anywhere"))
    driver.tell(SegmentSpooled("r", 0, 5, has_weights=False))
    driver.tell(SegmentSpooled("r", 1, 5))
    assert not [one for one in driver.tell(IntakeDone("r")) if isinstance(one, CloseRun)]
