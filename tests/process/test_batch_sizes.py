"""A real worker of two speeds behind a real pool: each gets batches of the size that suits it."""

from __future__ import annotations

import time
from typing import Any

from embedfleet.coordinator.core.batching import GROWTH
from embedfleet.coordinator.core.events import PassPlan
from embedfleet.coordinator.core.state import PoolConfig
from embedfleet.protocol.wire.work import Mitigation, Result

from ..pool_driver import Driver, cpu, rows_sent

TEXT = "x" * 38
TOKENS = 11
"""As the coordinator estimates them for TEXT; the fake model counts one more."""
CUT = 20
"""Rows of the smallest batch."""
SLOW = "fake:8,delay_ms=50,oom_above=320"
"""A micro-batch has 26 texts at most, and takes 50 ms at least."""
MOST_A_SECOND = 26 * TOKENS / 0.05
BOUND = GROWTH * PoolConfig().batch_seconds * MOST_A_SECOND
"""What the slow model computes in a second, where the clock of the test is late for once."""


def largest(worker: Any, model: str, batches: int) -> int:
    """The tokens of the largest of so many batches that a pool sends to the worker."""
    worker.prepare(model)
    driver, rows, sizes = Driver(cpu("c0")), CUT * 2_000, list[int]()
    driver.run(PassPlan("v"), segments=(rows,))
    driver.ready("w0", bounds=(10**9, 10**9))
    driver.now = time.monotonic()
    sent = driver.cut(*range(0, rows + 1, CUT))
    for _ in range(batches):
        if not rows_sent(sent):  # a fast worker has computed them all
            break
        for _, start, stop in rows_sent(sent):
            worker.batch(start, [TEXT] * (stop - start))
            sizes.append((stop - start) * TOKENS)
        message: Any = None
        while not isinstance(message, Result):
            message, _ = worker.hear((Result, Mitigation))
        driver.now = time.monotonic()
        sent = driver.done("w0")
    return max(sizes)


def test_a_slow_worker_gets_small_batches(worker: Any) -> None:
    assert largest(worker, SLOW, 8) <= BOUND


def test_a_fast_worker_gets_large_ones(worker: Any) -> None:
    assert largest(worker, "fake:8", 12) > 2 * BOUND
