"""Who is to blame for a lost worker: the row that it computed, or the device that it worked on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from embedfleet.coordinator.core.actions import Action, CloseRun, QuarantineRows
from embedfleet.coordinator.core.events import PassPlan, WorkerAlive, WorkerExited
from embedfleet.coordinator.core.state import PoolConfig, WorkerSlot, WorkerStage
from embedfleet.coordinator.core.verdicts import BatchPhase

from ....pool_driver import Driver, gpu


class Bench:
    """Devices of which some end every worker at its first batch, or at the one after so many (`lasts`), and a corpus in
    which some rows do so anywhere."""

    def __init__(
        self, *broken: str, rows: int, batch: int, guilty: Sequence[int] = (), early: bool = False, lasts: int = 0
    ) -> None:
        self.driver = Driver(*map(gpu, sorted({"g0", *broken})), config=PoolConfig(backoff=0.0))
        self.broken, self.guilty, self.early = broken, set(guilty), early
        self.lasts = lasts
        self.deaths = self.steps = 0
        self.given_up: list[int] = []
        self.over: list[CloseRun] = []
        self.driver.run(PassPlan("v"), segments=(rows,))
        self.edges = [*range(0, rows, batch), rows]

    def play(self) -> Bench:
        """Let things take their course until nothing more happens."""
        fleet, driver = self.driver.pool.fleet, self.driver
        cut = False
        while fleet.workers and not self.over and self.steps < 3_000:
            self.steps += 1
            idle = [one for one in fleet.workers.values() if not one.batches and one.stage is WorkerStage.SPAWNED]
            busy = [one for one in fleet.workers.values() if one.batches]
            if idle:
                out = driver.ready(idle[0].name)
                out += [] if cut else driver.cut(*self.edges)
                cut = True
            elif busy:
                out = self.compute(busy[self.steps % len(busy)])
            else:
                break
            self.given_up += [
                row for one in out if isinstance(one, QuarantineRows) for row in range(one.start, one.stop)
            ]
            self.over += [one for one in out if isinstance(one, CloseRun)]
        return self

    def compute(self, worker: WorkerSlot) -> list[Action]:
        held = [self.driver.pool.fleet.batches[name] for name in worker.batches]
        seen = held if self.early else held[:1]  # the second one is tokenized meanwhile
        if (worker.device in self.broken and self.lasts == 0) or any(
            one.start <= row < one.stop for one in seen for row in self.guilty
        ):
            self.deaths += 1
            return self.driver.exit(worker.name)
        self.lasts = max(0, self.lasts - 1)
        return self.driver.done(worker.name)


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("rows", [16, 256])
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_a_poison_row_costs_so_many_workers(rows: int, batch: int, early: bool) -> None:
    """Also where it does its work while it is tokenized, and the batch before it is blamed first."""
    for guilty in (batch * rows, batch * rows + rows // 2, (batch + 1) * rows - 1):
        bench = Bench(rows=4 * rows, batch=rows, guilty=[guilty], early=early).play()
        assert bench.given_up == [guilty]
        assert bench.deaths <= math.log2(rows) + 3


@pytest.mark.parametrize(("rows", "batch"), [(2, 2), (8, 8), (64, 64), (64, 1), (4096, 64)])
def test_no_row_is_given_up_for_a_device_that_computes_nothing(rows: int, batch: int) -> None:
    bench = Bench("g0", rows=rows, batch=batch).play()
    assert bench.given_up == []
    assert [one.status for one in bench.over] == ["failed"]
    assert "every device for v was given up" in bench.over[0].error
    assert bench.deaths <= min(2 * rows, PoolConfig().device_losses), "two for each row that it was given alone"


@pytest.mark.parametrize(("rows", "batch"), [(8, 8), (4096, 64), (256, 256)])
def test_beside_a_device_that_computes_nothing_only_poison_is_given_up(rows: int, batch: int) -> None:
    for guilty in ([], [0], [rows - 1], [1, rows // 2]):
        bench = Bench("g1", rows=rows, batch=batch, guilty=guilty).play()
        assert (sorted(bench.given_up), bench.over) == (guilty, [])
        assert not bench.driver.passes()[0].pending
        assert not bench.driver.pool.fleet.batches


@pytest.mark.parametrize("guilty", [[0, 1], [6, 7], [0, 7], [3], range(7), range(1, 8)])
def test_many_poison_rows_are_given_up_and_the_device_is_not(guilty: Sequence[int]) -> None:
    bench = Bench(rows=8, batch=8, guilty=guilty).play()
    assert sorted(bench.given_up) == list(guilty)
    assert bench.driver.pool.fleet.devices["g0"].health.bad == ""


@pytest.mark.parametrize("left", [8, 64])
def test_a_device_that_breaks_late_costs_no_row(left: int) -> None:
    """It computed three batches, and ends every worker at the last one now: of so many rows not all are poison."""
    bench = Bench("g0", rows=4 * left, batch=left, lasts=3).play()
    assert bench.given_up == []
    assert [one.status for one in bench.over] == ["failed"]
    assert bench.deaths <= PoolConfig().device_losses


def test_a_row_that_is_left_is_tried_everywhere_before_it_is_given_up() -> None:
    """Also where a device's worker does not even end, and is written off."""
    quick = PoolConfig(backoff=0.0, first_batch_timeout=1.0, death_timeout=1.0)
    driver = Driver(gpu("g0"), gpu("g1"), gpu("g2"), config=quick)
    driver.run(PassPlan("v"), segments=(1,))
    driver.ready("w0")
    driver.cut(0, 1)
    for worker in ("w0", "w1", "w2"):  # the others had nothing to do
        driver.exit(worker)
    devices = driver.pool.fleet.devices
    second = devices["g1"].active
    assert second is not None
    driver.ready(second)
    assert driver.held(second) == [0]
    for worker in [one for one in driver.pool.fleet.workers if one != second]:
        driver.exit(worker)
    driver.tick(after=2.0)
    out = driver.tick(after=2.0)
    assert "does not end" in devices["g1"].health.bad
    assert not [one for one in out if isinstance(one, QuarantineRows)]
    assert driver.pool.fleet.batches


def test_a_model_that_waits_for_the_memory_of_another_is_not_given_up() -> None:
    """The host holds one of them: what is staged behind the other is ended again and again, until that one is done."""
    driver = Driver(gpu("g0"))
    driver.run(PassPlan("v"), PassPlan("w"), segments=(4,))
    driver.ready("w0")
    driver.cut(0, 4)
    slot = driver.pool.fleet.devices["g0"]
    for _ in range(6):
        assert slot.standby is not None
        driver.tell(WorkerExited(slot.standby, "the host's memory runs out", innocent=True))
        driver.tell(WorkerAlive("w0", driver.pool.fleet.workers["w0"].progress + 1), after=31.0)
    driver.done("w0")
    driver.exit("w0", "released")
    assert (slot.health.refused, slot.health.bad) == ({}, "")
    assert slot.active is not None
    for _ in range(3):  # alone there, it has nobody's memory to wait for
        assert slot.active is not None
        driver.tell(WorkerExited(slot.active, "the host's memory runs out", innocent=True))
        driver.tick(after=31.0)
    assert slot.health.given_up(1) == "the host's memory runs out"


def test_the_phases_of_a_poison_row() -> None:
    driver = Driver(gpu("g0"), gpu("g1"), config=PoolConfig(backoff=0.0))
    driver.run(PassPlan("v"), segments=(6,))
    driver.ready("w0")
    driver.cut(0, 2, 4, 6)
    fleet, results = driver.pool.fleet, driver.passes()[0].results

    def phases() -> list[BatchPhase]:
        return [fleet.batches[batch_id].phase(results) for batch_id in sorted(fleet.batches)]

    assert phases() == [BatchPhase.IN_FLIGHT, BatchPhase.IN_FLIGHT, BatchPhase.PENDING]
    driver.exit("w0")
    assert phases() == [BatchPhase.ISOLATED, BatchPhase.PENDING, BatchPhase.PENDING], "what was beside it is put back"
    driver.ready("w2")
    driver.exit("w2")
    assert phases() == [BatchPhase.PENDING, BatchPhase.PENDING, BatchPhase.ISOLATED, BatchPhase.ISOLATED], "its halves"
    driver.ready("w3")
    assert driver.held("w3") == [4], "the left half, alone"
    driver.exit("w3")
    assert phases()[-1] is BatchPhase.PARKED
    driver.ready("w4")
    assert driver.held("w4") == [3]
    driver.done("w4")
    assert phases()[-1] is BatchPhase.LAST_TRY, "the device has computed something since"
    assert driver.held("w4") == [4]
    assert [type(one) for one in driver.exit("w4")].count(QuarantineRows) == 1
    assert phases() == [BatchPhase.PENDING, BatchPhase.PENDING]


def test_the_only_row_of_a_run_is_given_up() -> None:
    bench = Bench(rows=1, batch=1, guilty=[0]).play()
    assert (bench.given_up, bench.deaths) == ([0], 2)


def test_a_row_is_not_blamed_for_being_beside_another() -> None:
    driver = Driver(gpu("g0"), config=PoolConfig(backoff=0.0))
    driver.run(PassPlan("v"), segments=(6,))
    driver.ready("w0")
    driver.cut(0, 4, 5, 6)
    driver.exit("w0")
    driver.ready("w1")
    driver.done("w1")
    assert driver.held("w1") == [1, 2], "a batch would travel alone now"
    assert driver.pool.fleet.batches[1].failures == 0


def test_a_device_that_ends_its_workers_now_and_then_is_given_up() -> None:
    """A result between makes up for a tenth of a loss only."""
    driver = Driver(gpu("g0"), config=PoolConfig(backoff=0.0))
    driver.run(PassPlan("v"), segments=(400,))
    driver.ready("w0")
    driver.cut(*range(0, 401, 10))
    slot, lost = driver.pool.fleet.devices["g0"], 0
    while not slot.health.bad:
        for _ in range(min(lost, 2)):  # what its predecessor was blamed for, and what was beside it
            driver.done(f"w{lost}")
        driver.exit(f"w{lost}")
        lost += 1
        if not slot.health.bad:
            driver.ready(f"w{lost}")
    assert 10 < lost < 15
    assert "its workers end again and again" in slot.health.bad


def test_memory_that_is_not_given_back_counts_against_the_device() -> None:
    driver = Driver(gpu("g0"))
    driver.run(PassPlan("v"), PassPlan("w"), segments=(4,))
    driver.ready("w0")
    driver.cut(0, 4)
    driver.done("w0")
    driver.tell(WorkerExited("w0", "released", unreleased=True))
    slot = driver.pool.fleet.devices["g0"]
    assert (slot.health.failures, slot.health.bad) == (1, "")
    for worker in ("w1", "w2"):
        driver.tick(after=40.0)
        driver.tell(WorkerExited(worker, "out of memory", unreleased=True))
    assert slot.health.bad == "out of memory; its device's memory was not given back"
