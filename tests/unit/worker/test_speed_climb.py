"""A budget that is doubled while that is faster, on a simulated device, and what fits into its memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from embedfleet.worker.adaptive_batch import FULL, PATIENCE, AdaptiveBatchController
from embedfleet.worker.backends.memory_slope import ROOM, MemoryPoint, fitting_tokens
from embedfleet.worker.encoders.base import TokenBudget
from embedfleet.worker.speed_climb import TRIAL, WHOLE
from hypothesis import given
from hypothesis import strategies as st


@dataclass
class Device:
    """A micro-batch takes `launch` seconds, and one second more for `speed` tokens; `room` tokens fit."""

    launch: float
    speed: float
    room: int = 1 << 40
    changes: list[tuple[str, int, int]] = field(default_factory=list[tuple[str, int, int]])

    def controller(self, initial: int = 1_000, ceiling: int = 1 << 20) -> AdaptiveBatchController:
        budget = TokenBudget(initial, ceiling, climbs=True)
        return AdaptiveBatchController(budget, lambda *change: self.changes.append(change))

    def compute(self, one: AdaptiveBatchController, times: int, share: float = 0.0) -> None:
        for _ in range(times):
            if one.tokens > self.room:
                one.out_of_memory(one.tokens)
            else:
                one.succeeded(share, one.tokens, self.launch + one.tokens / self.speed)


def test_it_doubles_while_that_is_faster_and_stays_at_the_last_size_that_was() -> None:
    """A launch costs as much as 1,000 tokens: 64,000 are 1.5% faster than 32,000."""
    device = Device(launch=1.0, speed=1_000)
    one = device.controller()
    device.compute(one, 7 * TRIAL)
    sizes = [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000]
    assert device.changes[:-1] == [("grow", *pair) for pair in pairwise(sizes)]
    assert device.changes[-1] == ("no_faster", 64_000, 32_000)
    device.compute(one, 100 * PATIENCE)
    assert one.tokens == 32_000, "it does not creep up again"


def test_a_device_that_is_not_faster_with_more_keeps_the_first_size() -> None:
    device = Device(launch=0.0, speed=1_000)
    one = device.controller()
    device.compute(one, 100 * PATIENCE)
    assert one.tokens == 1_000


def test_it_never_climbs_over_the_ceiling_nor_while_the_device_is_nearly_full() -> None:
    device = Device(launch=1e9, speed=1_000)
    one = device.controller(ceiling=3_000)
    device.compute(one, 100 * PATIENCE)
    assert one.tokens == 3_000
    full = device.controller()
    device.compute(full, 3 * TRIAL, share=FULL + 0.01)
    assert full.tokens == 1_000


def test_out_of_memory_ends_the_climb_and_the_slow_rules_hold() -> None:
    device = Device(launch=1e9, speed=1_000, room=5_000)
    one = device.controller()
    device.compute(one, 4 * TRIAL)
    assert device.changes[-1] == ("out_of_memory", 8_000, 4_000)
    device.compute(one, PATIENCE)
    assert one.tokens == 5_000
    crowded = device.controller()
    assert crowded.crowded()
    device.compute(crowded, PATIENCE - 1)
    assert crowded.tokens == 750, "doubled no more"


def test_the_last_micro_batch_of_a_batch_says_nothing() -> None:
    one = Device(launch=1.0, speed=1_000).controller()
    for _ in range(10 * TRIAL):
        one.succeeded(0.0, int(WHOLE * 1_000) - 1, 0.001)
        one.succeeded(0.0, 1_000, 0.0)
    assert one.tokens == 1_000


@given(
    a_token=st.integers(1, 100_000),
    fixed=st.integers(0, 1 << 30),
    free=st.integers(0, 1 << 38),
)
def test_what_fits_takes_no_more_than_its_room(a_token: int, fixed: int, free: int) -> None:
    small, large = (MemoryPoint(tokens, fixed + a_token * tokens) for tokens in (2_048, 8_192))
    found = fitting_tokens(small, large, free)
    assert found is not None
    assert not found or fixed + a_token * found <= ROOM * free * (1 + 1e-9) + a_token
    assert fixed + a_token * (found + 2) >= ROOM * free * (1 - 1e-9)


@pytest.mark.parametrize("large", [MemoryPoint(8_192, 1_000), MemoryPoint(2_048, 9_000)])
def test_points_that_say_nothing(large: MemoryPoint) -> None:
    assert fitting_tokens(MemoryPoint(2_048, 1_000), large, 1 << 30) is None
