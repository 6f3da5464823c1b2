"""Helpers: CPU slots of one thread that work for passes without a model, if there is enough to do."""

from __future__ import annotations

from embedfleet.coordinator.core.actions import CutSegment, SpawnWorker
from embedfleet.coordinator.core.config import PoolConfig
from embedfleet.coordinator.core.events import CorpusMeasured, HostJoined, PassPlan
from embedfleet.protocol.wire.run_options import RunOptions

from ....pool_driver import Driver, cpu, gpu, helper, rows_sent

DENSE = PassPlan("dense")
SPLADE = PassPlan("splade", cpu_only=True)
BM25 = PassPlan("bm25", cpu_only=True, light=True)
FEW = PoolConfig(device_failures=1)


def leased(driver: Driver) -> dict[str, int]:
    """The pass that each device works for."""
    return {one.device: one.pass_index for one in driver.pool.fleet.workers.values()}


def test_a_pass_without_a_model_has_a_worker_for_each_segment() -> None:
    driver = Driver(cpu("c0"), helper("h1"), helper("h2"), helper("h3"))
    driver.run(BM25, segments=(8, 8, 8))
    assert leased(driver) == {"c0": 0, "h1": 0, "h2": 0}


def test_one_segment_is_the_main_slots() -> None:
    driver = Driver(helper("h1"), cpu("c0"))
    driver.run(BM25, segments=(8,))
    assert leased(driver) == {"c0": 0}


def test_a_helper_loads_no_model() -> None:
    driver = Driver(cpu("c0"), helper("h1"))
    driver.run(DENSE, SPLADE, segments=(8, 8, 8, 8))
    assert leased(driver) == {"c0": 0}


def test_helpers_begin_while_the_main_slot_has_a_model() -> None:
    driver = Driver(cpu("c0"), helper("h1"), helper("h2"))
    driver.run(DENSE, BM25, segments=(8, 8, 8))
    assert leased(driver) == {"c0": 0, "h1": 1, "h2": 1}


def test_helpers_work_beside_a_gpu() -> None:
    driver = Driver(gpu("g0"), cpu("aux", auxiliary=True), helper("h1"))
    driver.run(DENSE, BM25, segments=(8, 8))
    assert leased(driver) == {"g0": 0, "aux": 1, "h1": 1}


def test_helpers_wait_for_the_length_of_the_corpus_too() -> None:
    driver = Driver(cpu("c0"), helper("h1"))
    driver.run(PassPlan("bm25", cpu_only=True, light=True, after_intake=True), segments=(8, 8))
    assert leased(driver) == {}
    assert [type(action) for action in driver.tell(CorpusMeasured("r"))] == [SpawnWorker, SpawnWorker]


def test_several_workers_share_a_pass_and_a_helper_without_work_is_released() -> None:
    driver = Driver(cpu("c0"), helper("h1"))
    driver.run(BM25, segments=(8, 8))
    assert CutSegment("r", 0, 0) in driver.ready("w0")
    driver.ready("w1")
    assert rows_sent(driver.cut(0, 2, 4, 6, 8)) == [("w0", 0, 2), ("w1", 2, 4), ("w0", 4, 6), ("w1", 6, 8)]
    assert CutSegment("r", 0, 1) in driver.done("w0")
    assert rows_sent(driver.cut(0, 8, segment=1)) == [("w0", 0, 8)]
    for worker in ("w0", "w1", "w1"):
        driver.done(worker)
    assert [driver.held("w0"), driver.held("w1")] == [[4], []]
    assert driver.pool.fleet.workers["w1"].stage.value == "releasing"


def test_a_helper_works_for_a_main_slot_that_is_given_up() -> None:
    driver = Driver(cpu("c0"), helper("h1"), config=FEW)
    driver.run(BM25, segments=(8,))
    driver.ready("w0")
    driver.cut(0, 8)
    driver.exit("w0")
    driver.tick(after=1.0)
    assert leased(driver) == {"h1": 0}


def test_a_helper_works_where_no_main_slot_is_left() -> None:
    driver = Driver(helper("h1"))
    driver.run(BM25, segments=(8,))
    assert leased(driver) == {"h1": 0}


def test_helpers_do_not_stand_in_for_lost_gpus() -> None:
    driver = Driver(gpu("g0"), helper("h1"), config=FEW)
    driver.run(DENSE, segments=(8, 8, 8), options=RunOptions(cpu_fallback=True))
    driver.ready("w0")
    driver.cut(0, 8)
    driver.exit("w0")
    driver.tick(after=1.0)
    assert leased(driver) == {}
    driver.tell(HostJoined("k", (cpu("aux", auxiliary=True),)))
    assert leased(driver) == {}, "the run is over: its only device was given up"


def test_a_host_is_announced_without_its_helpers() -> None:
    driver = Driver(cpu("c0"), helper("h1"))
    assert driver.noted("host_joined") == [{"host": "h", "devices": ["c0"]}]
