"""Batches: credit, blame, bisection to the guilty row, stale results, and the cap on uncommitted bytes."""

from __future__ import annotations

import math

import pytest
from embedfleet.coordinator.core.actions import Action, CutSegment, ForwardResult, QuarantineRows, SendBatch
from embedfleet.coordinator.core.events import (
    BatchDone,
    BatchFailed,
    ExporterLost,
    HostLeft,
    PassPlan,
    RunOpened,
    SegmentCommitted,
    SegmentSpooled,
    WorkerDied,
)
from embedfleet.coordinator.core.state import PoolConfig

from ....pool_driver import Driver, gpu, rows_sent

V = PassPlan("v")
PATIENT = PoolConfig(device_failures=1000, backoff=0.0)


def ready(*edges: int, workers: int = 1, config: PoolConfig = PATIENT) -> tuple[Driver, list[Action]]:
    """Ready workers, the segment cut at these edges, and what that sent."""
    driver = Driver(*(gpu(f"g{n}") for n in range(workers)), config=config)
    driver.run(V, segments=(edges[-1],))
    for worker in range(workers):
        driver.ready(f"w{worker}")
    return driver, driver.cut(*edges)


def test_batches_go_to_the_emptiest_worker_within_credit() -> None:
    _, sent = ready(0, 1, 2, 3, 4, 5, workers=2)
    assert rows_sent(sent) == [("w0", 0, 1), ("w1", 1, 2), ("w0", 2, 3), ("w1", 3, 4)]


def test_a_result_is_forwarded_untouched_and_makes_room() -> None:
    driver, sent = ready(0, 2, 4, 6)
    assert rows_sent(sent) == [("w0", 0, 2), ("w0", 2, 4)]
    payload = object()
    forward, send = driver.tell(BatchDone("w0", 1, 0, payload))
    assert isinstance(forward, ForwardResult)
    assert forward.payload is payload
    assert send == SendBatch("w0", 1, 2, "r", 0, 0, 4, 6)


def test_a_dead_worker_loses_nothing_and_only_the_computing_batch_is_blamed() -> None:
    driver, _ = ready(0, 2, 4, 6, workers=2)
    driver.exit("w0", "signal 9")
    assert driver.noted("batch_failed") == [{"vector": "v", "segment": 0, "rows": 2, "reason": "signal 9"}]
    assert {batch_id: batch.failures for batch_id, batch in driver.pool.fleet.batches.items()} == {0: 1, 1: 0, 2: 0}
    assert driver.held("w1") == [1]
    driver.done("w1")
    assert driver.held("w1") == [0], "what failed once travels alone"
    assert list(driver.passes()[0].pending) == [2]


@pytest.mark.parametrize("finished", range(5))
def test_a_lost_worker_costs_at_most_two_batches_computed_again(finished: int) -> None:
    driver, sent = ready(*range(9), workers=2)
    for _ in range(finished):
        sent += driver.done("w0")
    driver.tell(WorkerDied("w0", "signal 9"))
    sent += driver.exit("w0")
    assert [one["batches"] for one in driver.noted("worker_lost")] == [2]
    while driver.held("w1"):
        sent += driver.done("w1")
    assert len(rows_sent(sent)) == 8 + 2


def test_a_worker_that_dies_idle_blames_nobody() -> None:
    driver = Driver(gpu("g0"))
    driver.run(V)
    driver.ready("w0")
    driver.exit("w0")
    assert len(driver.noted("worker_lost")) == 1
    assert driver.noted("batch_failed") == []


def test_a_failed_batch_is_tried_again_then_split() -> None:
    driver, _ = ready(0, 8)
    assert rows_sent(driver.failed("w0")) == [("w0", 0, 8)]
    assert rows_sent(driver.failed("w0")) == [("w0", 0, 4)]
    assert rows_sent(driver.failed("w0")) == [("w0", 0, 2)]


def test_a_single_row_is_given_up_at_its_second_failure() -> None:
    driver, _ = ready(0, 1)
    assert rows_sent(driver.failed("w0", "nan")) == [("w0", 0, 1)]
    assert driver.failed("w0", "nan")[0] == QuarantineRows("r", 0, 0, 0, 1, "could not be embedded: nan")
    assert driver.pool.fleet.batches == {}
    assert driver.passes()[0].open[0].outstanding == set()


def bisect(rows: int, guilty: int, *, deadly: bool) -> tuple[int, list[tuple[int, int]], set[int]]:
    """Failures until the segment is covered, the ranges given up, and the rows forwarded."""
    driver, _ = ready(0, rows)
    failures, given_up, forwarded = 0, list[tuple[int, int]](), set[int]()
    for _ in range(10 * rows):
        workers = driver.pool.fleet.workers
        worker = next((one for one in workers.values() if one.batches), None)
        if worker is None and not driver.passes()[0].pending:
            break
        if worker is None:
            out = driver.ready(next(iter(workers)))
        else:
            batch = driver.pool.fleet.batches[worker.batches[0]]
            guilty_batch = batch.start <= guilty < batch.stop
            failures += guilty_batch
            fail = driver.exit if deadly else driver.failed
            out = fail(worker.name) if guilty_batch else driver.done(worker.name)
        given_up += [(one.start, one.stop) for one in out if isinstance(one, QuarantineRows)]
        forwarded.update(row for one in out if isinstance(one, ForwardResult) for row in range(one.start, one.stop))
    return failures, given_up, forwarded


@pytest.mark.parametrize("deadly", [True, False], ids=["kills", "fails"])
@pytest.mark.parametrize("rows", [1, 2, 3, 16, 100, 256])
def test_a_poison_row_is_found_by_halves(rows: int, deadly: bool) -> None:
    for guilty in {0, rows // 3, rows - 1}:
        failures, given_up, forwarded = bisect(rows, guilty, deadly=deadly)
        assert given_up == [(guilty, guilty + 1)]
        assert forwarded == set(range(rows)) - {guilty}
        assert failures <= math.ceil(math.log2(rows)) + 3


def test_a_device_does_not_answer_for_a_poison_row() -> None:
    driver, _ = ready(0, 64, config=PoolConfig(device_failures=2, backoff=0.0))
    for worker in range(8):
        driver.exit(f"w{worker}")
        assert driver.pool.fleet.devices["g0"].health.failures == 1
        driver.ready(f"w{worker + 1}")
    driver.done("w8")  # the row beside it
    assert QuarantineRows("r", 0, 0, 0, 1, "could not be embedded: signal 11") in driver.exit("w8")
    slot = driver.pool.fleet.devices["g0"]
    assert (slot.health.failures, slot.health.unexplained_losses, slot.health.bad) == (0, 0.0, "")


@pytest.mark.parametrize(
    ("worker", "epoch", "batch"), [("w0", 0, 0), ("w0", 1, 99), ("w7", 1, 0)], ids=["epoch", "batch", "worker"]
)
@pytest.mark.parametrize("kind", [BatchDone, BatchFailed])
def test_a_result_from_the_wrong_hands_is_dropped(
    kind: type[BatchDone | BatchFailed], worker: str, epoch: int, batch: int
) -> None:
    driver, _ = ready(0, 2, 4)
    assert driver.tell(kind(worker, epoch, batch, "?")) == []
    assert driver.noted("stale_result") == [{"worker": worker, "epoch": epoch, "batch": batch}]
    assert driver.held("w0") == [0, 1]


def test_a_result_counts_once() -> None:
    driver, _ = ready(0, 2, 4)
    driver.tell(BatchDone("w0", 1, 0))
    assert driver.tell(BatchDone("w0", 1, 0)) == []
    assert len(driver.noted("stale_result")) == 1


def test_a_result_after_the_news_of_the_worker_s_death_is_dropped() -> None:
    driver, _ = ready(0, 2)
    driver.exit("w0")
    assert driver.tell(BatchDone("w0", 1, 0)) == []
    assert rows_sent(driver.ready("w1")) == [("w1", 0, 2)]


def test_a_failure_of_a_batch_that_was_reset_blames_nobody() -> None:
    driver, _ = ready(0, 2)
    driver.tell(ExporterLost("r", "signal 9"))
    driver.tell(RunOpened("r", (frozenset(),)))
    driver.failed("w0")
    assert driver.noted("batch_failed") == []


def test_a_dead_worker_s_reset_batch_is_not_blamed_on_the_next() -> None:
    driver, _ = ready(0, 2)
    driver.tell(ExporterLost("r", "signal 9"))
    driver.tell(RunOpened("r", (frozenset(),)))
    driver.cut(0, 2)
    assert driver.held("w0") == [0, 1]
    driver.exit("w0")
    assert driver.noted("batch_failed") == []
    assert list(driver.passes()[0].pending) == [1]


def test_no_batch_is_cut_twice() -> None:
    driver, _ = ready(0, 2, 4)
    assert driver.cut(0, 2, 4) == []
    assert len(driver.pool.fleet.batches) == 2


def test_segments_are_cut_ahead_one_at_a_time() -> None:
    driver = Driver(gpu("g0"))
    driver.run(V, segments=(4, 4, 4))
    assert driver.ready("w0") == [CutSegment("r", 0, 0)]
    assert driver.cut(0, 4) == [CutSegment("r", 0, 1), SendBatch("w0", 1, 0, "r", 0, 0, 0, 4)]
    assert driver.tell(SegmentSpooled("r", 3, 4)) == []


@pytest.mark.parametrize(("cap", "open_segments"), [(1, 2), (80, 2), (119, 2), (120, 3), (160, 4)])
def test_uncommitted_results_are_capped(cap: int, open_segments: int) -> None:
    """Four rows of ten bytes a segment."""
    driver = Driver(gpu("g0"), config=PoolConfig(uncommitted_bytes=cap))
    driver.run(V, segments=(4,) * 5)
    driver.ready("w0", row_bytes=10)
    for segment in range(open_segments):
        driver.cut(0, 4, segment=segment)
        driver.done("w0")
    assert sorted(driver.passes()[0].open) == list(range(open_segments))
    assert driver.tell(SegmentCommitted("r", 0, 0)) == [CutSegment("r", 0, open_segments)]


def test_batches_of_a_lost_host_are_sent_before_the_others() -> None:
    driver, _ = ready(0, 1, 2, 3, 4)
    driver.tell(HostLeft("h", "link closed"))
    batches = [driver.pool.fleet.batches[batch_id] for batch_id in driver.passes()[0].pending]
    assert [(one.start, one.stop) for one in batches] == [(0, 1), (1, 2), (2, 4)]


def test_a_batch_that_failed_once_travels_alone() -> None:
    """A worker may die of the second batch, which it tokenizes meanwhile: the first is blamed, but never twice for another."""
    driver, _ = ready(0, 4, 8, 12)
    assert driver.held("w0") == [0, 1]
    driver.exit("w0")
    driver.tick(after=1.0)
    driver.ready("w1")
    assert driver.held("w1") == [0], "nothing goes with the one that was blamed"
    driver.done("w1")
    assert driver.held("w1") == [1], "then it was the second one, or an accident"
    driver.done("w1")
    assert driver.held("w1") == [2]


def test_a_batch_that_failed_once_is_sent_behind_nobody() -> None:
    driver, _ = ready(0, 4, 8, 12)
    driver.failed("w0")
    assert driver.held("w0") == [1], "the failed one waits for its turn"
    driver.done("w0")
    assert driver.held("w0") == [0]
