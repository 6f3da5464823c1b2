"""Runs: from submission to their end, resumed, cancelled, failed, and with an exporter that dies."""

from __future__ import annotations

import pytest
from embedfleet.coordinator.core.actions import (
    CloseRun,
    CutSegment,
    ForwardResult,
    HydrateWorker,
    KillWorker,
    OpenRun,
    ReleaseWorker,
    RunOver,
    SendBatch,
    SpawnWorker,
    StageWorker,
    StartExporter,
    StartIntake,
)
from embedfleet.coordinator.core.events import (
    BatchDone,
    CorpusMeasured,
    ExporterLost,
    IntakeDone,
    ModelsChecked,
    PassPlan,
    RunCancelled,
    RunClosed,
    RunFailed,
    RunOpened,
    RunSubmitted,
    Scrubbed,
    SegmentCommitted,
    SegmentDamaged,
    SegmentSpooled,
    WorkerBroken,
    WorkerExited,
    WorkerHello,
    WorkerReady,
    WorkerStaged,
)
from embedfleet.coordinator.core.state import PoolConfig, RunStatus

from ....pool_driver import Driver, gpu, rows_sent

V = PassPlan("v")
NONE = (frozenset[int](),)


def busy(*, cancelled: bool = False, config: PoolConfig | None = None) -> Driver:
    """One GPU whose worker w0 has both batches of an 8-row segment."""
    driver = Driver(gpu("g0"), config=config)
    driver.run(V)
    driver.ready("w0")
    driver.cut(0, 4, 8)
    if cancelled:
        assert driver.tell(RunCancelled("r", "SIGINT")) == []
    return driver


def test_a_run_from_submission_to_its_end() -> None:
    tell = Driver(gpu("g0")).tell
    assert tell(RunSubmitted("r", (V,))) == [OpenRun("r")]
    assert tell(RunOpened("r", NONE)) == [StartIntake("r"), SpawnWorker("w0", "h", "g0", 1)]
    assert tell(SegmentSpooled("r", 0, 8)) == []
    assert tell(IntakeDone("r")) == []
    assert tell(WorkerHello("w0", 1)) == [StageWorker("w0", "r", 0)]
    assert tell(WorkerStaged("w0", 512)) == [HydrateWorker("w0")]
    assert tell(WorkerReady("w0")) == [CutSegment("r", 0, 0)]


def test_from_the_cut_to_the_end() -> None:
    driver = Driver(gpu("g0"))
    driver.run(V)
    driver.ready("w0")
    first, second = SendBatch("w0", 1, 0, "r", 0, 0, 0, 4), SendBatch("w0", 1, 1, "r", 0, 0, 4, 8)
    assert driver.cut(0, 4, 8) == [first, second]
    assert driver.tell(BatchDone("w0", 1, 0, b"a")) == [ForwardResult("r", 0, 0, 0, 4, b"a")]
    assert driver.tell(BatchDone("w0", 1, 1, b"b")) == [ForwardResult("r", 0, 0, 4, 8, b"b"), ReleaseWorker("w0")]
    assert driver.exit("w0", "released") == []
    assert driver.tell(SegmentCommitted("r", 0, 0)) == [CloseRun("r", "done")]
    assert driver.tell(RunClosed("r")) == [RunOver("r", "done")]
    assert driver.noted("worker_lost") == []


def test_a_pass_that_needs_the_corpus_waits_until_it_is_measured_and_no_other_does() -> None:
    driver = Driver(gpu("g0"), gpu("g1"))
    out = driver.run(PassPlan("bm25", after_intake=True), V)
    assert [one.device for one in out if isinstance(one, SpawnWorker)] == ["g0", "g1"]
    assert {worker.pass_index for worker in driver.pool.fleet.workers.values()} == {1}
    driver.ready("w0")
    driver.cut(0, 8, pass_index=1)
    assert ReleaseWorker("w0") in driver.done("w0")
    assert driver.exit("w0", "released") == []
    assert driver.tell(SegmentCommitted("r", 1, 0)) == []
    (spawned, *_) = [one for one in driver.tell(CorpusMeasured("r")) if isinstance(one, SpawnWorker)]
    assert driver.pool.fleet.workers[spawned.worker].pass_index == 0


def test_an_empty_corpus_is_done() -> None:
    driver = Driver()
    driver.tell(RunSubmitted("r", (V,)))
    assert driver.tell(RunOpened("r", NONE)) == [StartIntake("r")]
    assert driver.tell(IntakeDone("r")) == [CloseRun("r", "done")]
    assert driver.tell(RunClosed("r")) == [RunOver("r", "done")]


def test_a_resumed_run_computes_what_is_missing() -> None:
    driver = Driver(gpu("g0"))
    driver.run(V, PassPlan("w"), segments=(8, 8, 8), committed=(frozenset({0, 2}), frozenset({0, 1, 2})))
    assert [list(one.uncut) for one in driver.passes()] == [[1], []]
    assert driver.ready("w0") == [CutSegment("r", 0, 1)]
    driver.cut(0, 8, segment=1)
    assert driver.done("w0") == [ForwardResult("r", 0, 1, 0, 8, 0), ReleaseWorker("w0")]
    assert driver.tell(SegmentCommitted("r", 0, 1)) == []
    assert driver.exit("w0", "exit code 0") == [CloseRun("r", "done")]


def test_a_run_that_was_complete_is_done_after_intake() -> None:
    assert Driver().run(V, segments=(8, 8), committed=(frozenset({0, 1}),))[-1] == CloseRun("r", "done")


def test_a_segment_spooled_while_the_exporter_opens_is_not_forgotten() -> None:
    driver = Driver()
    driver.run(V, segments=(8,))
    driver.tell(ExporterLost("r", "signal 9"))
    driver.tell(SegmentSpooled("r", 1, 8))
    driver.tell(RunOpened("r", NONE))
    assert list(driver.passes()[0].uncut) == [0, 1]


def test_cancel_lets_batches_in_flight_finish() -> None:
    driver = busy(cancelled=True)
    assert driver.done("w0") == [ForwardResult("r", 0, 0, 0, 4, 0)]
    close = CloseRun("r", "interrupted", "", "SIGINT")
    assert driver.done("w0") == [ForwardResult("r", 0, 0, 4, 8, 1), close, ReleaseWorker("w0")]
    assert driver.tell(RunClosed("r")) == [RunOver("r", "interrupted", "", "SIGINT")]


def test_a_cancelled_run_gets_no_more_batches() -> None:
    driver = Driver(gpu("g0"), config=PoolConfig(credit=1))
    driver.run(V)
    driver.ready("w0")
    driver.cut(0, 4, 8)
    driver.tell(RunCancelled("r", "SIGINT"))
    assert rows_sent(driver.done("w0")) == []


def test_cancel_while_opening_closes_once_open() -> None:
    driver = Driver()
    driver.tell(RunSubmitted("r", (V,)))
    assert driver.tell(RunCancelled("r", "SIGINT")) == []
    assert driver.tell(RunOpened("r", NONE)) == [CloseRun("r", "interrupted", "", "SIGINT")]


def test_the_next_exporter_is_started_once_the_last_segment_is_cut() -> None:
    driver = Driver(gpu("g0"))
    driver.run(V, segments=(8, 8))
    driver.ready("w0")
    driver.tell(RunSubmitted("next", (V,), unchecked=True))
    driver.cut(0, 8)
    assert not driver.passes()[0].uncut, "the second segment is being cut"
    assert driver.tick(1.0) == [], "the next run's models are being checked"
    assert driver.tell(ModelsChecked("next")) == [StartExporter("next")]
    assert driver.tick(1.0) == []


def test_no_exporter_is_started_while_segments_wait() -> None:
    driver = Driver(gpu("g0"))
    driver.run(V, segments=(8, 8, 8, 8))
    driver.ready("w0")
    assert driver.tell(RunSubmitted("next", (V,))) == []


def test_runs_go_one_after_the_other() -> None:
    driver = Driver()
    assert driver.tell(RunSubmitted("a", (V,))) == [OpenRun("a")]
    assert driver.tell(RunSubmitted("b", (V,))) == []
    assert driver.tell(RunSubmitted("c", (V,))) == []
    assert driver.tell(RunCancelled("b", "changed my mind")) == [RunOver("b", "interrupted", "", "changed my mind")]
    driver.tell(RunOpened("a", NONE))
    assert driver.tell(IntakeDone("a")) == [StartExporter("c"), CloseRun("a", "done")]
    assert driver.tell(RunClosed("a")) == [RunOver("a", "done"), OpenRun("c")]


def test_a_model_that_cannot_load_fails_the_run_with_its_message() -> None:
    driver = Driver(gpu("g0"), gpu("g1"))
    driver.run(V)
    broken = WorkerBroken("w0", "ModelNotFound", "no such model: x/y", fatal=True)
    close = CloseRun("r", "failed", "ModelNotFound", "no such model: x/y")
    assert driver.tell(broken) == [close, KillWorker("w0", "h"), KillWorker("w1", "h")]
    assert driver.tell(RunClosed("r")) == [RunOver("r", "failed", "ModelNotFound", "no such model: x/y")]


def test_a_full_disk_fails_the_run_and_stops_its_workers() -> None:
    driver = busy()
    close = CloseRun("r", "failed", "DiskFull", "no space left")
    assert driver.tell(RunFailed("r", "DiskFull", "no space left")) == [KillWorker("w0", "h"), close]
    assert driver.tell(BatchDone("w0", 1, 0)) == []
    assert driver.pool.fleet.batches == {}


def test_a_refused_directory_ends_the_run_with_its_exporter() -> None:
    driver = Driver()
    driver.tell(RunSubmitted("r", (V,)))
    assert driver.tell(RunFailed("r", "SpecMismatch", "model differs")) == []
    assert driver.tell(ExporterLost("r", "exit 2")) == [RunOver("r", "failed", "SpecMismatch", "model differs")]


def test_a_lost_exporter_has_uncommitted_segments_computed_again() -> None:
    driver = Driver(gpu("g0"))
    driver.run(V, segments=(4, 4, 4))
    driver.ready("w0")
    driver.cut(0, 4)
    driver.done("w0")
    driver.cut(0, 4, segment=1)
    driver.tell(SegmentCommitted("r", 0, 0))
    assert driver.tell(ExporterLost("r", "signal 9")) == [OpenRun("r")]
    assert driver.tell(RunOpened("r", (frozenset({0}),))) == [CutSegment("r", 0, 1)]
    assert list(driver.passes()[0].uncut) == [2]
    assert driver.passes()[0].committed == {0}


def test_a_result_for_a_lost_exporter_is_dropped() -> None:
    driver = busy()
    driver.tell(ExporterLost("r", "signal 9"))
    driver.tell(RunOpened("r", NONE))
    assert driver.done("w0", batch=0) == []
    assert driver.noted("stale_result") == [{"worker": "w0", "epoch": 1, "batch": 0}]
    assert rows_sent(driver.cut(0, 4, 8)) == [("w0", 0, 4)]
    assert driver.held("w0") == [1, 2]


def test_the_new_exporter_says_what_is_committed() -> None:
    driver = busy()
    driver.tell(ExporterLost("r", "signal 9"))
    driver.tell(SegmentCommitted("r", 0, 0))
    assert driver.passes()[0].committed == set()
    assert driver.tell(RunOpened("r", (frozenset({0}),))) == []
    driver.done("w0")
    assert driver.done("w0") == [ReleaseWorker("w0")]
    assert driver.exit("w0", "exit code 0") == []
    assert driver.tell(Scrubbed("r")) == [CloseRun("r", "done")], "not before what stands is known to be whole"


def test_an_exporter_lost_too_often_fails_the_run() -> None:
    driver = Driver(config=PoolConfig(exporter_failures=2))
    driver.run(V)
    assert driver.tell(ExporterLost("r", "signal 9")) == [OpenRun("r")]
    over = RunOver("r", "failed", "RunFailed", "the exporter ended 2 times: signal 9")
    assert driver.tell(ExporterLost("r", "signal 9")) == [over]


def test_an_exporter_lost_at_the_end_of_a_run_is_opened_again() -> None:
    driver = Driver()
    driver.run(V, segments=())
    assert driver.tell(ExporterLost("r", "signal 9")) == [OpenRun("r")]
    assert driver.tell(RunOpened("r", NONE)) == [CloseRun("r", "done")]


def test_no_result_is_forwarded_while_there_is_no_exporter() -> None:
    driver = busy()
    driver.tell(ExporterLost("r", "signal 9"))
    assert ForwardResult not in map(type, driver.done("w0", batch=0))


def test_a_finished_run_works_again_if_its_new_exporter_misses_a_segment() -> None:
    driver = Driver()
    driver.run(V, committed=(frozenset({0}),))
    driver.tell(ExporterLost("r", "signal 9"))
    assert driver.tell(RunOpened("r", NONE)) == []
    assert list(driver.passes()[0].uncut) == [0]


@pytest.mark.parametrize(
    ("cancelled", "status"), [(True, "interrupted"), (False, "failed")], ids=["while draining", "for the last time"]
)
def test_no_worker_outlives_its_run(cancelled: bool, status: str) -> None:
    """A worker of the old run would be given the next one's batches, and embed them with the wrong model."""
    driver = busy(cancelled=cancelled, config=PoolConfig(exporter_failures=1))
    driver.tell(RunSubmitted("next", (V,)))
    kill, over, opened = driver.tell(ExporterLost("r", "signal 9"))
    assert kill == KillWorker("w0", "h")
    assert isinstance(over, RunOver)
    assert (over.run, over.status) == ("r", status)
    assert opened == OpenRun("next")
    driver.tell(RunOpened("next", NONE))
    driver.tell(SegmentSpooled("next", 0, 8))
    assert driver.tell(BatchDone("w0", 1, 0)) == []
    assert driver.exit("w0") == [SpawnWorker("w1", "h", "g0", 2)]


def test_a_run_fails_when_no_device_is_left() -> None:
    driver = Driver(gpu("g0"), config=PoolConfig(device_failures=1))
    driver.run(V)
    error = "every device for v was given up: g0: signal 11"
    assert driver.exit("w0") == [CloseRun("r", "failed", "RunFailed", error)]
    driver.tell(RunClosed("r"))
    driver.tell(RunSubmitted("next", (V,)))
    assert isinstance(driver.tell(RunOpened("next", NONE))[-1], SpawnWorker), "another run, another try"


def test_a_run_without_any_device_waits_for_a_host() -> None:
    driver = Driver()
    driver.run(V)
    assert driver.tick(after=3600.0) == []
    assert driver.pool.fleet.runs["r"].status is RunStatus.RUNNING


def test_a_run_submitted_again_does_not_answer_for_the_one_before() -> None:
    """Its old workers, still on their way out, neither fail it nor count against their device."""
    driver = busy()
    driver.tell(RunFailed("r", "DiskFull", "no space left"))
    driver.tell(RunClosed("r"))
    driver.tell(RunSubmitted("r", (V,)))
    assert driver.tell(WorkerBroken("w0", "ModelBroken", "interrupted", fatal=True)) == []
    assert driver.tell(WorkerExited("w0", "signal 9")) == []
    assert driver.pool.fleet.runs["r"].outcome == ""
    assert driver.pool.fleet.devices["g0"].health.failures == 0


def test_a_damaged_segment_is_computed_again() -> None:
    driver = Driver(gpu("g0"))
    driver.tell(RunSubmitted("r", (V,)))
    driver.tell(RunOpened("r", (frozenset({0, 1}),)))
    driver.tell(SegmentSpooled("r", 0, 8))
    driver.tell(SegmentDamaged("r", 0, 1))
    driver.tell(SegmentSpooled("r", 1, 8))
    assert list(driver.passes()[0].uncut) == [1], "damaged before it was spooled"
    driver.tell(SegmentDamaged("r", 0, 0))
    driver.tell(SegmentDamaged("r", 0, 0))
    assert list(driver.passes()[0].uncut) == [1, 0]
    assert driver.passes()[0].committed == set()
    driver.tell(Scrubbed("nobody"))
    driver.tell(SegmentDamaged("nobody", 0, 0))
    assert driver.tell(IntakeDone("r")) == []
    assert driver.tell(Scrubbed("r")) == [], "there is work left"


def test_a_run_that_was_all_committed_waits_for_the_look_at_it() -> None:
    driver = Driver()
    driver.tell(RunSubmitted("r", (V,)))
    driver.tell(RunOpened("r", (frozenset({0}),)))
    driver.tell(SegmentSpooled("r", 0, 8))
    assert driver.tell(IntakeDone("r")) == []
    assert driver.tell(Scrubbed("r")) == [CloseRun("r", "done")]
