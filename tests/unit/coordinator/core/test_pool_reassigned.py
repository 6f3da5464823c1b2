"""A batch says which lost worker had its rows, and nothing else does."""

from __future__ import annotations

from collections.abc import Sequence

from embedfleet.coordinator.core.actions import Action, Holder, SendBatch
from embedfleet.coordinator.core.events import ExporterLost, HostJoined, HostLeft, PassPlan, RunOpened, WorkerDied

from ....pool_driver import Driver, gpu

V = PassPlan("v")


def ready(*edges: int, workers: int = 1) -> tuple[Driver, list[Action]]:
    """A run whose segment is cut at these edges, with so many workers ready; what cutting it sends."""
    driver = Driver(*(gpu(f"g{n}") for n in range(workers)))
    driver.run(V, segments=(edges[-1],))
    for worker in range(workers):
        driver.ready(f"w{worker}")
    return driver, driver.cut(*edges)


def reassigned(actions: Sequence[Action]) -> list[tuple[Holder | None, str, int, int]]:
    """From whom, to which worker, and the rows."""
    return [(one.taken_from, one.worker, one.start, one.stop) for one in actions if isinstance(one, SendBatch)]


def test_a_batch_of_a_lost_worker_goes_on_whole_or_in_halves() -> None:
    driver, sent = ready(0, 8, 12)
    assert reassigned(sent) == [(None, "w0", 0, 8), (None, "w0", 8, 12)]
    driver.exit("w0")
    first = Holder("w0", "g0")
    driver.tick(after=60.0)
    assert reassigned(driver.ready("w1")) == [(first, "w1", 0, 8)]
    driver.exit("w1")
    second = Holder("w1", "g0")
    driver.tick(after=60.0)
    assert reassigned(driver.ready("w2")) == [(second, "w2", 0, 4)]
    assert reassigned(driver.done("w2")) == [(second, "w2", 4, 8)]
    assert reassigned(driver.done("w2")) == [(first, "w2", 8, 12)]


def test_a_batch_that_its_worker_handed_in_was_not_lost() -> None:
    driver, sent = ready(0, 8)
    sent = driver.failed("w0")
    sent += driver.failed("w0")
    sent += driver.done("w0")
    assert reassigned(sent) == [(None, "w0", 0, 8), (None, "w0", 0, 4), (None, "w0", 4, 8)]


def test_a_batch_that_failed_where_it_went_on_was_not_lost_there() -> None:
    driver, _ = ready(0, 8, 16, workers=2)
    driver.tell(WorkerDied("w0", "signal 9"))
    assert reassigned(driver.done("w1")) == [(Holder("w0", "g0"), "w1", 0, 8)]
    assert reassigned(driver.failed("w1")) == [(None, "w1", 0, 4)]


def test_a_host_that_left_lost_its_batches_too() -> None:
    driver, _ = ready(0, 8)
    driver.tell(HostLeft("h", "gone"))
    driver.tell(HostJoined("other", (gpu("g1"),)))
    assert reassigned(driver.ready("w1")) == [(Holder("w0", "g0"), "w1", 0, 8)]


def test_nobody_lost_what_is_computed_again_for_a_lost_exporter() -> None:
    driver, _ = ready(0, 8, 12)
    driver.tell(WorkerDied("w0", "signal 9"))
    driver.tell(ExporterLost("r", "gone"))
    driver.tell(RunOpened("r", (frozenset(),)))
    driver.exit("w0")
    driver.tick(after=60.0)
    driver.ready("w1")
    assert {one for one, *_ in reassigned(driver.cut(0, 8, 12))} == {None}
