"""Sizes of batches: as many cuts as a worker computes in a quarter of a second, by what it was measured to compute."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from embedfleet.coordinator.core.actions import Action, CutSegment, ForwardResult
from embedfleet.coordinator.core.batching import GROWTH
from embedfleet.coordinator.core.events import PassPlan, WorkerAlive, WorkerExited
from embedfleet.coordinator.core.state import PoolConfig

from ....pool_driver import Driver, gpu, rows_sent

V = PassPlan("v")
ROW = 10
"""Tokens of a row; each row is a cut."""
ROWS = 10_000
"""Of the one segment."""
UNBOUND = (10**9, 10**9)
SECONDS = PoolConfig().batch_seconds
CONFIG = PoolConfig(device_failures=1000, backoff=0.0)


def ready(*workers: tuple[int, int], segments: Sequence[int] = (ROWS,)) -> tuple[Driver, list[Action]]:
    """Ready workers with these bounds, the first segment cut row by row, and what that sent."""
    driver = Driver(*(gpu(f"g{n}") for n in range(len(workers))), config=CONFIG)
    driver.run(V, segments=segments)
    for number, bounds in enumerate(workers):
        driver.ready(f"w{number}", bounds=bounds)
    return driver, driver.cut(*range(segments[0] + 1))


def compute(driver: Driver, rate: float, batches: int, worker: str = "w0") -> list[int]:
    """Let a worker compute so many batches at this rate (tokens a second); the tokens of each."""
    sizes: list[int] = []
    for _ in range(batches):
        batch = driver.pool.fleet.batches[driver.held(worker)[0]]
        sizes.append(batch.tokens)
        driver.done(worker, after=batch.tokens / rate if rate else 0.0)
    return sizes


def is_due(tokens: int, rate: float) -> bool:
    """Whether a batch of these tokens lasts a quarter of a second: one more row would be too long."""
    return tokens <= SECONDS * rate * 1.001 <= tokens + 1.5 * ROW


@pytest.mark.parametrize("rate", [400.0, 4_000.0, 20_000.0])
def test_sizes_come_to_a_quarter_of_a_second(rate: float) -> None:
    driver, _ = ready(UNBOUND)
    sizes = compute(driver, rate, 16)
    assert sizes[0] == sizes[1] == ROW, "the first ones are as small as they can be: nothing is known"
    assert all(is_due(tokens, rate) for tokens in sizes[-4:])
    assert all(tokens <= SECONDS * rate * 1.001 for tokens in sizes), "none is too long on the way there"


def test_a_worker_that_is_slower_than_a_cut_gets_one_at_a_time() -> None:
    driver, _ = ready(UNBOUND)
    assert compute(driver, 1.0, 6) == [ROW] * 6


def test_sizes_follow_a_worker_that_slows_down_and_recovers() -> None:
    driver, _ = ready(UNBOUND)
    compute(driver, 4_000.0, 12)
    slower = compute(driver, 400.0, 12)
    assert is_due(slower[0], 4_000.0)
    assert all(is_due(tokens, 400.0) for tokens in slower[-4:])
    faster = compute(driver, 4_000.0, 16)
    assert all(is_due(tokens, 4_000.0) for tokens in faster[-4:])


def test_a_worker_that_seems_to_take_no_time_gets_no_more_than_its_bounds() -> None:
    """Nor all at once: its first results may be a mistake of the clock."""
    driver, _ = ready((5_000, 10**9))
    sizes = compute(driver, 0.0, 12)
    computed = 0
    for tokens in sizes:
        assert tokens <= max(ROW, GROWTH * computed)
        computed += tokens
    assert sizes[-1] == max(sizes) == 5_000


def test_a_batch_has_no_more_rows_than_its_result_may_have() -> None:
    driver, _ = ready((10**9, 30))
    assert max(compute(driver, 1e6, 12)) == 30 * ROW


def test_batches_stay_as_they_were_cut_where_numbers_depend_on_them() -> None:
    driver, _ = ready((0, 0))
    assert compute(driver, 1e6, 12) == [ROW] * 12


def test_each_worker_has_a_size_of_its_own_and_no_row_is_lost() -> None:
    driver, _ = ready(UNBOUND, UNBOUND, segments=(2_000,))
    rates, forwarded = {"w0": 4_000.0, "w1": 400.0}, list[int]()
    due = {worker: driver.now + ROW / rate for worker, rate in rates.items()}
    sizes: dict[str, list[int]] = {worker: [] for worker in rates}
    while any(driver.held(worker) for worker in rates):
        worker = min((one for one in rates if driver.held(one)), key=due.__getitem__)
        sizes[worker].append(driver.pool.fleet.batches[driver.held(worker)[0]].tokens)
        for one in driver.done(worker, after=max(0.0, due[worker] - driver.now)):
            if isinstance(one, ForwardResult):
                forwarded += range(one.start, one.stop)
        if held := driver.held(worker):
            due[worker] = driver.now + driver.pool.fleet.batches[held[0]].tokens / rates[worker]
    assert sorted(forwarded) == list(range(2_000))
    assert is_due(sizes["w0"][9], rates["w0"])
    assert is_due(sizes["w1"][9], rates["w1"])
    assert driver.passes()[0].open[0].outstanding == set()


def test_a_sign_of_life_does_not_make_a_batch_shorter() -> None:
    """A long batch: its worker tells of its progress meanwhile."""
    driver, _ = ready(UNBOUND)
    compute(driver, 4_000.0, 12)
    for progress in range(4):
        driver.tell(WorkerAlive("w0", progress), after=10.0)
    batch = driver.pool.fleet.batches[driver.held("w0")[0]]
    driver.done("w0")
    worker = driver.pool.fleet.workers["w0"]
    assert worker.seconds >= 40.0
    assert worker.tokens < 2 * batch.tokens + ROW


def test_what_a_fast_worker_left_is_split_for_a_slow_one() -> None:
    driver, _ = ready(UNBOUND, UNBOUND)
    compute(driver, 4_000.0, 12)
    computed, waiting = (driver.pool.fleet.batches[batch_id] for batch_id in driver.held("w0"))
    start = computed.start
    assert computed.rows > 90
    driver.tell(WorkerExited("w0", "the host's memory ran out", innocent=True))
    assert rows_sent(driver.done("w1", after=1.0)) == [("w1", start, start + 1)]
    batches = [driver.pool.fleet.batches[batch_id] for batch_id in driver.passes()[0].pending]
    assert [one.start for one in batches] == [start + 1, waiting.start, waiting.stop]


def test_a_batch_that_killed_its_worker_stays_whole_and_is_halved() -> None:
    driver, _ = ready(UNBOUND, UNBOUND)
    compute(driver, 4_000.0, 12)
    guilty = driver.pool.fleet.batches[driver.held("w0")[0]]
    start, stop = guilty.start, guilty.stop
    driver.exit("w0")
    assert guilty.failures == 1
    sent: list[tuple[str, int, int]] = []
    while not any(one[1] == start for one in sent):
        sent = rows_sent(driver.done("w1", after=1.0))
    assert sent == [("w1", start, stop)]
    assert rows_sent(driver.failed("w1"))[0] == ("w1", start, start + (stop - start) // 2)


def test_the_next_segment_is_cut_before_a_fast_worker_runs_out() -> None:
    """What is ready is counted in tokens: many cuts may be less than a batch."""
    driver, _ = ready(UNBOUND, segments=(60, 60))
    asked: list[Action] = []
    while not asked:
        batch = driver.pool.fleet.batches[driver.held("w0")[0]]
        asked = [one for one in driver.done("w0", after=batch.tokens / 1e5) if isinstance(one, CutSegment)]
    assert asked == [CutSegment("r", 0, 1)]
    assert len(driver.held("w0")) == CONFIG.credit, "it still has work"
