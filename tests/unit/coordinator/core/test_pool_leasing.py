"""Devices and workers: leases, standbys, hosts that come and go, deadlines, and devices that are given up."""

from __future__ import annotations

import pytest
from embedfleet.coordinator.core.actions import (
    Action,
    CloseRun,
    CutSegment,
    Holder,
    HydrateWorker,
    KillWorker,
    ReleaseWorker,
    SendBatch,
    SpawnWorker,
    StageWorker,
)
from embedfleet.coordinator.core.events import (
    HostJoined,
    HostLeft,
    PassPlan,
    SegmentCommitted,
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
from embedfleet.protocol.wire.run_options import RunOptions

from ....pool_driver import Driver, cpu, gpu, rows_sent

V, W = PassPlan("v"), PassPlan("w")
SPARSE = PassPlan("sparse", cpu_only=True)


def one_worker(*edges: int, config: PoolConfig | None = None) -> Driver:
    """w0 on g0 is ready, and has batches with these edges if any are given."""
    driver = Driver(gpu("g0"), config=config)
    driver.run(V, segments=(edges[-1] if edges else 8,))
    driver.ready("w0")
    if edges:
        driver.cut(*edges)
    return driver


def at_work_on_two_passes(config: PoolConfig | None = None) -> Driver:
    """w0 computes the only batch of v; w1 is staged behind it for w."""
    driver = Driver(gpu("g0"), config=config)
    driver.run(V, W)
    driver.ready("w0")
    driver.stage("w1")
    driver.cut(0, 8)
    return driver


def test_a_worker_is_spawned_on_every_device() -> None:
    driver = Driver(gpu("g0"), gpu("g1"))
    assert driver.run(V)[-2:] == [SpawnWorker("w0", "h", "g0", 1), SpawnWorker("w1", "h", "g1", 2)]


def test_the_next_model_is_staged_while_the_first_works() -> None:
    driver = Driver(gpu("g0"))
    driver.run(V, W)
    driver.stage("w0")
    assert driver.tell(WorkerReady("w0")) == [CutSegment("r", 0, 0), SpawnWorker("w1", "h", "g0", 2)]
    assert driver.tell(WorkerHello("w1", 2)) == [StageWorker("w1", "r", 1)]
    assert driver.tell(WorkerStaged("w1", 1)) == []


def test_a_standby_is_hydrated_only_when_the_first_process_is_gone() -> None:
    driver = at_work_on_two_passes()
    assert driver.done("w0")[1:] == [ReleaseWorker("w0")]
    assert driver.tick(after=5.0) == []
    assert driver.exit("w0", "released") == [HydrateWorker("w1")]
    assert driver.tell(WorkerReady("w1")) == [CutSegment("r", 1, 0)]


def test_a_standby_waits_for_a_pass_that_has_work_again() -> None:
    driver = at_work_on_two_passes()
    assert driver.exit("w0") == []
    assert driver.tick(after=1.0) == [SpawnWorker("w2", "h", "g0", 3)]
    assert driver.ready("w2") == [SendBatch("w2", 3, 0, "r", 0, 0, 0, 8, Holder("w0", "g0"))]


def test_a_pass_without_a_model_is_not_staged_in_advance() -> None:
    driver = Driver(cpu("c0"))
    driver.run(V, PassPlan("bm25", cpu_only=True, light=True))
    driver.ready("w0")
    driver.cut(0, 8)
    assert driver.done("w0")[1:] == [ReleaseWorker("w0")]
    assert driver.exit("w0", "released") == [SpawnWorker("w1", "h", "c0", 2)]


def test_passes_share_the_devices_that_can_serve_them() -> None:
    driver = Driver(gpu("g0"), cpu("aux", auxiliary=True))
    driver.run(V, SPARSE)
    slots = driver.pool.fleet.devices
    serving = {uuid: driver.pool.fleet.workers[slot.active or ""].pass_index for uuid, slot in slots.items()}
    assert serving == {"g0": 0, "aux": 1}
    driver.ready("w0")
    driver.ready("w1")
    assert [slot.standby for slot in slots.values()] == [None, None]


def test_an_auxiliary_slot_does_not_serve_a_gpu_pass() -> None:
    driver = Driver(cpu("aux", auxiliary=True))
    assert [type(action) for action in driver.run(V)].count(SpawnWorker) == 0


def test_a_cpu_serves_every_pass() -> None:
    driver = Driver(cpu("c0"))
    driver.run(V, SPARSE)
    driver.ready("w0")
    workers = driver.pool.fleet.workers
    assert [(one.device, one.pass_index) for one in workers.values()] == [("c0", 0), ("c0", 1)]


def test_a_host_that_joins_mid_run_takes_part() -> None:
    driver = one_worker(0, 2, 4, 6, 8)
    assert driver.tell(HostJoined("k", (gpu("g1"),))) == [SpawnWorker("w1", "k", "g1", 2)]
    assert rows_sent(driver.ready("w1")) == [("w1", 4, 6), ("w1", 6, 8)]


def test_a_device_announced_twice_is_leased_once() -> None:
    driver = one_worker()
    assert driver.tell(HostJoined("h", (gpu("g0"),))) == []
    assert driver.pool.fleet.devices["g0"].active == "w0"


def test_the_batches_of_a_host_that_leaves_go_to_others_without_blame() -> None:
    driver = one_worker(0, 4, 8, 12)
    driver.tell(HostJoined("k", (gpu("g1"),)))
    assert rows_sent(driver.ready("w1")) == [("w1", 8, 12)]
    assert rows_sent(driver.tell(HostLeft("h", "link closed"))) == [("w1", 0, 4)]
    assert rows_sent(driver.done("w1", batch=2)) == [("w1", 4, 8)]
    assert [batch.failures for batch in driver.pool.fleet.batches.values()] == [0, 0]
    assert list(driver.pool.fleet.devices) == ["g1"]
    assert list(driver.pool.fleet.workers) == ["w1"]


def test_a_host_that_comes_back_starts_afresh() -> None:
    driver = one_worker()
    driver.tell(HostLeft("h", "link closed"))
    assert driver.tell(HostJoined("h", (gpu("g0"),))) == [SpawnWorker("w1", "h", "g0", 2)]
    assert driver.exit("w0") == []
    assert driver.pool.fleet.devices["g0"].health.failures == 0


def test_a_refused_spawn_is_tried_again() -> None:
    driver = Driver(gpu("g0"))
    driver.run(V)
    assert driver.tell(SpawnRefused("w0", "2 GiB in use")) == []
    assert driver.tick(after=0.5) == []
    assert driver.tick(after=0.5) == [SpawnWorker("w1", "h", "g0", 2)]
    driver.tell(SpawnRefused("w1", "2 GiB in use"))
    assert driver.noted("lease_waiting") == [{"device": "g0", "reason": "2 GiB in use"}]
    assert driver.pool.fleet.devices["g0"].health.failures == 0


def test_a_device_rests_longer_after_each_failure() -> None:
    driver = Driver(gpu("g0"), config=PoolConfig(backoff=1.0, max_backoff=3.0, device_failures=10))
    driver.run(V)
    for worker, pause in (("w0", 1.0), ("w1", 2.0), ("w2", 3.0), ("w3", 3.0)):
        driver.exit(worker)
        assert driver.tick(after=pause - 0.01) == []
        assert len(driver.tick(after=0.01)) == 1


def test_a_result_clears_the_failures_of_a_device() -> None:
    driver = Driver(gpu("g0"), config=PoolConfig(device_failures=2))
    driver.run(V)
    driver.exit("w0")
    driver.tick(after=1.0)
    driver.ready("w1")
    driver.cut(0, 4, 8)
    driver.done("w1")
    assert driver.pool.fleet.devices["g0"].health.failures == 0


def test_a_device_that_keeps_failing_is_given_up() -> None:
    driver = Driver(gpu("g0"), gpu("g1"), config=PoolConfig(device_failures=2))
    driver.run(V)
    driver.exit("w0")
    driver.tick(after=1.0)
    driver.exit("w2", "CUDA error 719")
    assert driver.noted("device_bad") == [{"device": "g0", "failures": 2, "reason": "CUDA error 719"}]
    assert driver.tick(after=20.0) == []
    assert driver.pool.fleet.devices["g1"].active == "w1"


def test_the_run_fails_when_the_last_good_device_leaves() -> None:
    driver = Driver(gpu("g0"), config=PoolConfig(device_failures=1))
    driver.tell(HostJoined("k", (gpu("g1"), cpu("aux", auxiliary=True))))
    driver.run(V)
    driver.exit("w0", "CUDA error 719")
    error = "every device for v was given up: g0: CUDA error 719"
    assert driver.tell(HostLeft("k", "link closed")) == [CloseRun("r", "failed", "RunFailed", error)]


def test_a_standby_does_not_take_over_a_device_that_is_given_up() -> None:
    driver = Driver(gpu("g0"), gpu("g1"), config=PoolConfig(device_failures=1))
    driver.run(V, W)
    driver.ready("w0")
    driver.stage("w2")
    driver.ready("w1")
    driver.cut(0, 4, 8)
    driver.done("w0")
    driver.done("w1")
    assert driver.pool.fleet.workers["w0"].stage is WorkerStage.RELEASING
    driver.pool.fleet.devices["g0"].health.bad = "CUDA error 719"
    assert driver.exit("w0", "released") == [KillWorker("w2", "h")]


def test_a_worker_of_the_wrong_epoch_is_not_staged() -> None:
    driver = Driver(gpu("g0"))
    driver.run(V)
    assert driver.tell(WorkerHello("w0", 7)) == []
    assert driver.pool.fleet.workers["w0"].stage is WorkerStage.SPAWNED


def test_a_worker_whose_model_did_not_load_is_ended() -> None:
    driver = Driver(gpu("g0"))
    driver.run(V)
    assert driver.tell(WorkerBroken("w0", "OutOfMemory", "no room", fatal=False)) == [KillWorker("w0", "h")]
    driver.exit("w0", "exit 1")
    assert driver.noted("worker_lost") == [{"worker": "w0", "device": "g0", "reason": "no room", "batches": 0}]


def test_a_worker_that_is_no_longer_needed_is_not_held_against_its_device() -> None:
    driver = Driver(gpu("g0"), gpu("g1"))
    driver.run(V)
    driver.ready("w0")
    assert driver.cut(0, 8)[1:] == [KillWorker("w1", "h")]
    driver.exit("w1", "signal 9")
    assert driver.pool.fleet.devices["g1"].health.failures == 0
    assert driver.noted("worker_lost") == []


LIMITS = PoolConfig(hello_timeout=10, stage_timeout=20, hydrate_timeout=30, release_timeout=40, silence_timeout=100)


@pytest.mark.parametrize(
    ("steps", "limit", "reason"),
    [
        (0, 10, "still spawned after 10 s"),
        (1, 20, "still staging after 20 s"),
        (2, 30, "still hydrating after 30 s"),
        (3, 100, "silent for 100 s"),
    ],
)
def test_a_worker_that_is_stuck_is_killed_once(steps: int, limit: float, reason: str) -> None:
    driver = Driver(gpu("g0"), config=LIMITS)
    driver.run(V)
    for event in (WorkerHello("w0", 1), WorkerStaged("w0", 1), WorkerReady("w0"))[:steps]:
        driver.tell(event)
    assert driver.tick(after=limit) == []
    assert driver.tick(after=1.0) == [KillWorker("w0", "h")]
    assert driver.tick(after=1.0) == []
    driver.exit("w0", "signal 9")
    assert driver.noted("worker_lost")[0]["reason"] == reason


def test_a_killed_worker_that_does_not_end_is_written_off() -> None:
    """Its batches go to the other device, its own device is given up, and the run is not held up by it."""
    driver = Driver(gpu("g0"), gpu("g1"), config=LIMITS)
    driver.run(V)
    driver.ready("w0")
    driver.ready("w1")
    driver.cut(0, 4, 8)
    driver.tick(after=99.0)
    driver.tell(WorkerAlive("w1", 1))
    assert driver.tick(after=2.0) == [KillWorker("w0", "h")]
    driver.tell(WorkerAlive("w1", 2))
    driver.tick(after=LIMITS.death_timeout + 1)
    assert "does not end" in driver.pool.fleet.devices["g0"].health.bad
    held = [batch for worker in driver.pool.fleet.workers.values() for batch in worker.batches]
    assert held == [1], "the one that was blamed travels alone"
    assert list(driver.passes()[0].pending) == [0]
    assert driver.pool.fleet.workers["w0"].batches == []


def test_a_device_is_given_up_once_for_a_worker_that_does_not_end() -> None:
    """Also where the worker had no batch yet: the device is not free."""
    driver = Driver(gpu("g0"), config=LIMITS)
    driver.run(V)
    assert driver.tick(after=11.0) == [KillWorker("w0", "h")]
    reason = "a killed worker does not end (still spawned after 10 s)"
    message = f"every device for v was given up: g0: {reason}"
    assert driver.tick(after=LIMITS.death_timeout + 1) == [CloseRun("r", "failed", "RunFailed", message)]
    driver.tick(after=1.0)
    assert driver.noted("device_bad") == [{"device": "g0", "failures": 0, "reason": reason}]
    assert driver.noted("batch_failed") == []


def test_a_standby_that_ends_is_followed_by_another() -> None:
    driver = at_work_on_two_passes()
    assert driver.exit("w1", "signal 9") == []
    assert driver.pool.fleet.devices["g0"].standby is None
    assert driver.tick(after=1.0) == [SpawnWorker("w2", "h", "g0", 3)]
    assert driver.held("w0") == [0], "the one that works is not disturbed"


def test_a_device_that_only_loses_workers_is_given_up() -> None:
    driver = Driver(gpu("g0"), config=PoolConfig(device_losses=5, device_failures=99))
    driver.run(V)
    for number in range(5):
        driver.tick(after=60.0)
        driver.exit(f"w{number}", "signal 9")
    assert "5 workers in a row" in driver.pool.fleet.devices["g0"].health.bad


def test_a_worker_that_does_not_leave_is_killed() -> None:
    driver = at_work_on_two_passes(config=LIMITS)
    driver.done("w0")
    assert driver.tick(after=40.0) == []
    assert driver.tick(after=1.0) == [KillWorker("w0", "h")]
    assert driver.exit("w0", "signal 9") == [HydrateWorker("w1")]
    assert driver.pool.fleet.devices["g0"].health.failures == 0


def alive_for(driver: Driver, seconds: int, *, progress: bool) -> list[KillWorker]:
    """Kills within so many seconds of one heartbeat each."""
    kills: list[KillWorker] = []
    for second in range(seconds):
        driver.tell(WorkerAlive("w0", second if progress else 0), after=1.0)
        kills += [action for action in driver.tick(after=0.0) if isinstance(action, KillWorker)]
    return kills


def test_a_batch_without_progress_has_its_worker_killed() -> None:
    driver = one_worker(0, 8, config=PoolConfig(first_batch_timeout=50))
    driver.tell(WorkerAlive("w0", 0))
    assert alive_for(driver, 50, progress=False) == []
    assert alive_for(driver, 1, progress=False) == [KillWorker("w0", "h")]
    driver.exit("w0", "signal 9")
    assert driver.noted("batch_failed")[0]["reason"] == "no progress on a batch for 50 s"


def test_progress_keeps_a_slow_batch_alive() -> None:
    driver = one_worker(0, 8, config=PoolConfig(first_batch_timeout=50))
    assert alive_for(driver, 500, progress=True) == []


@pytest.mark.parametrize(
    ("first_took", "allowed"), [(0.1, 30), (4.0, 80), (1000.0, 200)], ids=["the least", "by speed", "the most"]
)
def test_a_batch_is_given_time_by_the_measured_speed(first_took: float, allowed: int) -> None:
    config = PoolConfig(first_batch_timeout=200, batch_timeout=30, batch_slowdown=20, silence_timeout=5000)
    driver = one_worker(0, 4, 8, config=config)
    driver.done("w0", after=first_took)
    assert driver.tick(after=float(allowed)) == []
    assert driver.tick(after=0.1) == [KillWorker("w0", "h")]


def test_batches_of_the_dead_do_not_wait_for_the_device() -> None:
    driver = Driver(gpu("g0"), gpu("g1"))
    driver.run(V)
    driver.ready("w0")
    driver.ready("w1")
    driver.cut(0, 2, 4, 6, 8)
    held = set(driver.held("w0"))
    out = driver.tell(WorkerDied("w0", "signal 9"))
    assert not [one for one in out if isinstance(one, SpawnWorker)], "its memory is looked at first"
    assert driver.held("w0") == []
    assert held <= {*driver.passes()[0].pending, *driver.held("w1")}
    driver.tell(WorkerDied("w0", "signal 9"))
    assert len(driver.noted("batch_failed")) == 1, "blamed once"
    driver.tell(WorkerExited("w0", "signal 9"))
    assert len(driver.noted("batch_failed")) == 1
    assert [one["reason"] for one in driver.noted("worker_lost")] == ["signal 9"]
    assert driver.pool.fleet.devices["g0"].health.failures == 1


def test_a_suspect_that_kills_at_once_is_not_the_devices_fault() -> None:
    driver = Driver(gpu("g0"), config=PoolConfig(backoff=0.0))
    driver.run(V)
    for worker in ("w0", "w1"):
        driver.ready(worker)
        if worker == "w0":
            driver.cut(0, 8)
        driver.tell(WorkerDied(worker, "signal 9"))
        driver.tell(WorkerExited(worker, "signal 9"))
        driver.tick(after=1.0)
    assert driver.pool.fleet.devices["g0"].health.failures == 1, "the second death is the batch's"


def test_an_expected_end_is_no_death() -> None:
    driver = one_worker(0, 8)
    driver.done("w0")
    driver.tell(SegmentCommitted("r", 0, 0))
    assert driver.tell(WorkerDied("w0", "exit code 1")) == []
    assert driver.noted("worker_lost") == []


def test_a_fault_of_the_device_gives_it_up_and_blames_nobody() -> None:
    driver = one_worker(0, 8)
    driver.tell(WorkerExited("w0", "exit code 70", fault="XID 79: it has fallen off the bus"))
    assert driver.pool.fleet.devices["g0"].health.bad == "XID 79: it has fallen off the bus"
    assert driver.noted("batch_failed") == []


@pytest.mark.parametrize("early", [False, True])
def test_a_host_without_memory_is_not_the_batchs_fault(early: bool) -> None:
    driver = Driver(gpu("g0"), config=PoolConfig(backoff=0.0, device_failures=4))
    driver.run(V)
    for worker in ("w0", "w1", "w2"):
        driver.ready(worker)
        if worker == "w0":
            driver.cut(0, 8)
        if early:
            driver.tell(WorkerDied(worker, "no memory", innocent=True))
        driver.tell(WorkerExited(worker, "no memory", innocent=True))
        driver.tick(after=1.0)
    assert driver.noted("batch_failed") == []
    assert driver.pool.fleet.devices["g0"].health.failures == 3
    assert driver.pool.fleet.devices["g0"].health.unexplained_losses == 0.0


@pytest.mark.parametrize("wanted", [False, True])
def test_a_cpu_goes_on_where_every_gpu_is_given_up(wanted: bool) -> None:
    driver = Driver(gpu("g0"), cpu("c0", auxiliary=True), config=PoolConfig(device_failures=1))
    driver.run(V, options=RunOptions(cpu_fallback=wanted))
    out = driver.exit("w0")
    spawned = [one.device for one in out if isinstance(one, SpawnWorker)]
    closed = [one.status for one in out if isinstance(one, CloseRun)]
    assert (spawned, closed) == ((["c0"], []) if wanted else ([], ["failed"]))


@pytest.mark.parametrize("stage", [WorkerStage.STAGING, WorkerStage.HYDRATING])
def test_a_model_has_as_long_to_load_as_was_asked_for(stage: WorkerStage) -> None:
    driver = Driver(gpu("g0"))
    driver.run(V, options=RunOptions(load_timeout=5.0))
    driver.tell(WorkerHello("w0", 1))
    if stage is WorkerStage.HYDRATING:
        driver.tell(WorkerStaged("w0", 1))
    assert driver.tick(after=5.0) == []
    assert driver.tick(after=0.1) == [KillWorker("w0", "h")]


def test_epochs_go_on_where_a_coordinator_was_started_again() -> None:
    driver = Driver(gpu("g0"), config=PoolConfig(first_epoch=1_000))
    assert driver.run(V)[-1] == SpawnWorker("w0", "h", "g0", 1_000)
    driver.tell(WorkerHello("w0", 1))
    assert driver.pool.fleet.workers["w0"].stage is WorkerStage.SPAWNED


@pytest.mark.parametrize("measured", [False, True])
def test_a_deadline_that_was_asked_for_is_the_one(measured: bool) -> None:
    driver = Driver(gpu("g0"))
    driver.run(V, options=RunOptions(batch_timeout=5.0))
    driver.ready("w0")
    driver.cut(0, 4, 8)
    if measured:
        driver.done("w0", after=0.1)
    driver.tell(WorkerAlive("w0", 0))
    assert alive_for(driver, 5, progress=False) == []
    assert alive_for(driver, 1, progress=False) == [KillWorker("w0", "h")]


def test_a_pass_for_gpus_alone_waits_for_one() -> None:
    driver = Driver(cpu("c0"))
    assert not [one for one in driver.run(PassPlan("v", gpu_only=True)) if isinstance(one, SpawnWorker)]
    (spawned,) = [one for one in driver.tell(HostJoined("i", (gpu("g0"),))) if isinstance(one, SpawnWorker)]
    assert spawned.device == "g0"


def test_an_idle_worker_may_wait() -> None:
    driver = one_worker(config=PoolConfig(first_batch_timeout=5))
    assert alive_for(driver, 100, progress=False) == []


@pytest.mark.parametrize("early", [False, True])
def test_memory_that_was_not_given_back_is_told_with_the_loss(early: bool) -> None:
    driver = one_worker(0, 8, config=PoolConfig(device_failures=1))
    if early:
        driver.tell(WorkerDied("w0", "signal 9"))
    driver.tell(WorkerExited("w0", "signal 9", unreleased=True))
    reason = "signal 9; its device's memory was not given back"
    assert [one["reason"] for one in driver.noted("worker_lost")] == [reason]
    assert driver.pool.fleet.devices["g0"].health.bad == reason


def loads_and_fails(driver: Driver, worker: str) -> list[Action]:
    driver.tick(after=2.0)
    driver.stage(worker)
    return driver.exit(worker, "signal 11")


def test_a_model_that_never_gets_ready_is_given_up_and_the_one_that_works_goes_on() -> None:
    """Staged behind it, it crashes; results of the other neither excuse it nor does it take the device from them."""
    driver = Driver(gpu("g0"), config=PoolConfig(device_failures=3))
    driver.run(V, PassPlan("w", fallback=True), segments=(80,))
    driver.ready("w0")
    driver.cut(*range(0, 81, 4))
    for standby in ("w1", "w2", "w3"):
        driver.done("w0")
        loads_and_fails(driver, standby)
    slot = driver.pool.fleet.devices["g0"]
    assert (slot.health.bad, slot.health.refused) == ("", {1: "signal 11"})
    assert driver.passes()[1].given_up
    assert not driver.passes()[0].given_up
    driver.tick(after=2.0)
    driver.done("w0")
    assert driver.held("w0")


def test_a_run_fails_for_the_model_that_never_gets_ready() -> None:
    driver = Driver(gpu("g0"), config=PoolConfig(device_failures=1))
    driver.run(V, PassPlan("w"), segments=(8,))
    driver.ready("w0")
    driver.cut(0, 4, 8)
    (close,) = [one for one in loads_and_fails(driver, "w1") if isinstance(one, CloseRun)]
    assert close.error == "every device for w was given up: g0: signal 11"


def test_a_device_of_an_agent_that_was_started_again_is_its_own() -> None:
    """It comes back under another name, before the silence of the first one was noticed."""
    driver, _ = Driver(gpu("g0")), None
    driver.run(V, segments=(8,))
    driver.ready("w0")
    driver.cut(0, 4, 8)
    told = driver.tell(HostJoined("again", (gpu("g0"),)))
    assert KillWorker("w0", "h") in told
    assert [(one.host, one.device) for one in told if isinstance(one, SpawnWorker)] == [("again", "g0")]
    driver.tell(HostLeft("h", "silent"))
    assert driver.pool.fleet.devices["g0"].host == "again"
    driver.ready("w1")
    assert driver.held("w1") == [0, 1]
    assert {one.failures for one in driver.pool.fleet.batches.values()} == {0}


def test_a_fault_told_at_an_orderly_end_counts() -> None:
    driver = Driver(gpu("g0"), gpu("g1"))
    driver.run(V, PassPlan("w"), segments=(8,))
    driver.ready("w0")
    driver.cut(0, 8)
    driver.done("w0")
    driver.tell(WorkerExited("w0", "released", fault="XID 79"))
    assert driver.pool.fleet.devices["g0"].health.bad == "XID 79"


def test_a_device_given_up_in_the_work_of_a_pass_with_a_fallback_works_for_the_others() -> None:
    driver = Driver(gpu("g0"), config=PoolConfig(device_failures=1))
    driver.run(PassPlan("v", fallback=True), PassPlan("w"), segments=(8,))
    driver.ready("w0")
    driver.cut(0, 4, 8)
    driver.exit("w0")
    first, second = driver.passes()
    assert "g0: signal 11" in first.given_up
    assert driver.pool.fleet.devices["g0"].health.bad == ""
    driver.tick(after=2.0)
    driver.ready("w1")
    assert second.open
