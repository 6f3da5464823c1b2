"""What a pass is said to wait for, and what its worker is said to do."""

from __future__ import annotations

from embedfleet.coordinator.core.events import (
    IntakeDone,
    PassPlan,
    RunCancelled,
    RunClosed,
    RunOpened,
    RunSubmitted,
    SegmentCommitted,
    SegmentSpooled,
    SpawnRefused,
    WorkerHello,
    WorkerStaged,
)
from embedfleet.coordinator.links.pass_states import pass_state

from ....pool_driver import Driver, cpu, gpu

NONE = (frozenset[int](),)
V, W = PassPlan("dense-a"), PassPlan("dense-b")
BM25 = PassPlan("sparse-bm25", cpu_only=True, after_intake=True, light=True)


def said(driver: Driver, pass_index: int = 0, run: str = "r") -> tuple[str, str]:
    fleet = driver.pool.fleet
    state = pass_state(fleet, fleet.runs[run], pass_index)
    return state.state, state.doing


def test_a_pass_from_its_submission_to_its_end() -> None:
    driver = Driver(gpu("g0"))
    driver.tell(RunSubmitted("r", (V,), unchecked=True))
    assert said(driver) == ("waiting", "waiting for the check of the models")
    driver = Driver(gpu("g0"))
    driver.tell(RunSubmitted("r", (V,)))
    assert said(driver) == ("waiting", "waiting for the run directory to be opened")
    driver.tell(RunOpened("r", NONE))
    assert said(driver) == ("staging", "starting a worker"), "it loads the model while the source is read"
    driver.tell(WorkerHello("w0", driver.pool.fleet.workers["w0"].epoch))
    assert said(driver) == ("staging", "loading the model into memory")
    driver.tell(WorkerStaged("w0", 1))
    assert said(driver) == ("staging", "moving the model to its device")
    driver.tell(SegmentSpooled("r", 0, 8))
    driver.tell(IntakeDone("r"))
    driver = Driver(gpu("g0"))
    driver.run(V)
    driver.ready("w0")
    assert said(driver) == ("working", "")
    driver.cut(0, 8)
    driver.done("w0")
    driver.exit("w0", "in order")
    assert said(driver) == ("waiting", "waiting for its last segments to be written")
    driver.tell(SegmentCommitted("r", 0, 0))
    assert said(driver) == ("done", "")


def test_a_pass_waits_for_the_one_that_has_the_device() -> None:
    driver = Driver(gpu("g0"))
    driver.run(V, W)
    assert said(driver, 1) == ("waiting", "waiting for dense-a")
    driver.ready("w0")
    assert said(driver, 1)[0] == "staging", "its model is loaded beside the pass that works"


def test_a_second_run_waits_for_the_first() -> None:
    driver = Driver(gpu("g0"))
    driver.run(V)
    driver.tell(RunSubmitted("s", (W,)))
    assert said(driver, run="s") == ("waiting", "waiting for the run before this one")


def test_a_worker_of_an_interrupted_run_may_still_have_the_device() -> None:
    """Its pass has a number that the run does not know."""
    driver = Driver(gpu("g0"))
    driver.run(PassPlan("sparse-m", fallback=True, given_up="no model is asked for"), V)
    driver.ready("w0")
    driver.cut(0, 8, pass_index=1)
    driver.done("w0")
    driver.tell(RunSubmitted("s", (PassPlan("sparse-bm25", light=True),)))
    driver.tell(RunCancelled("r", "interrupted"))
    driver.tell(RunClosed("r"))
    driver.tell(RunOpened("s", NONE))
    driver.tell(SegmentSpooled("s", 0, 8))
    assert said(driver, run="s") == ("waiting", "waiting for a worker of the run before this one to end")


def test_bm25_waits_for_the_whole_source() -> None:
    driver = Driver(cpu("c0"))
    driver.tell(RunSubmitted("r", (BM25,)))
    driver.tell(RunOpened("r", NONE))
    assert said(driver) == ("waiting", "waiting for the first chunks of the source")
    driver.tell(SegmentSpooled("r", 0, 8))
    assert said(driver)[1] == "waiting for the whole source, to count terms"
    driver.tell(IntakeDone("r"))
    assert said(driver)[1] == "waiting for its terms to be counted"


def test_a_pass_says_why_it_gets_no_device() -> None:
    driver = Driver()
    driver.run(V)
    assert said(driver) == ("waiting", "waiting for a device that can compute it")
    driver = Driver(gpu("g0"))
    driver.run(V)
    driver.tell(SpawnRefused("w0", "another process has 70 GB of it"))
    assert said(driver) == ("waiting", "waiting for a device: another process has 70 GB of it")
