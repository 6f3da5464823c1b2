"""AdaptiveBatchController: halves at once, grows back slowly, and reports every change."""

from __future__ import annotations

import pytest
from embedfleet.worker.adaptive_batch import CALM, FLOOR, FORGET, FULL, PATIENCE, AdaptiveBatchController
from embedfleet.worker.encoders.base import TokenBudget
from hypothesis import given
from hypothesis import strategies as st

Change = tuple[str, int, int]


def controller(initial: int = 1_000, ceiling: int = 4_000) -> tuple[AdaptiveBatchController, list[Change]]:
    changes: list[Change] = []
    made = AdaptiveBatchController(TokenBudget(initial, ceiling), lambda *change: changes.append(change))
    return made, changes


def succeed(one: AdaptiveBatchController, times: int, share: float = 0.0) -> None:
    for _ in range(times):
        one.succeeded(share)


def test_it_grows_by_a_quarter_after_a_run_of_successes() -> None:
    one, changes = controller()
    succeed(one, PATIENCE - 1)
    assert (one.tokens, changes) == (1_000, [])
    succeed(one, 1)
    assert (one.tokens, changes) == (1_250, [("grow", 1_000, 1_250)])
    succeed(one, PATIENCE)
    assert one.tokens == 1_562


def test_it_never_grows_over_the_ceiling() -> None:
    one, changes = controller(1_000, 1_100)
    succeed(one, 10 * PATIENCE)
    assert (one.tokens, changes) == (1_100, [("grow", 1_000, 1_100)])


def test_it_does_not_grow_while_the_device_is_nearly_full() -> None:
    one, changes = controller()
    succeed(one, 3 * PATIENCE, share=FULL + 0.01)
    assert changes == []
    succeed(one, 1, share=FULL)
    assert one.tokens == 1_250


def test_others_on_the_device_shrink_it_before_it_fails() -> None:
    one, changes = controller()
    assert one.crowded()
    assert not one.crowded(), "one step has to show what it brought"
    succeed(one, CALM - 1)
    assert not one.crowded()
    succeed(one, 1)
    assert one.crowded()
    assert changes == [("memory_pressure", 1_000, 750), ("memory_pressure", 750, 563)]


def test_pressure_does_not_shrink_it_below_the_floor() -> None:
    one, changes = controller(FLOOR)
    assert not one.crowded()
    assert changes == []


def test_out_of_memory_halves_at_once() -> None:
    one, changes = controller()
    assert one.out_of_memory(1_000)
    assert (one.tokens, changes) == (500, [("out_of_memory", 1_000, 500)])


def test_what_was_tried_counts_where_it_was_less_than_the_budget() -> None:
    one, _ = controller()
    assert one.out_of_memory(400)
    assert one.tokens == 200


def test_a_single_long_row_over_the_budget_does_not_raise_it() -> None:
    one, changes = controller()
    assert one.out_of_memory(9_000)
    assert changes == [("out_of_memory", 1_000, 500)]


def test_at_the_floor_there_is_nothing_smaller_to_try() -> None:
    one, changes = controller(FLOOR, 4_000)
    assert not one.out_of_memory(FLOOR)
    assert (one.tokens, changes) == (FLOOR, [])
    assert one.out_of_memory(FLOOR + 1)
    assert one.tokens == FLOOR


def test_it_stays_below_the_level_that_failed() -> None:
    one, _ = controller()
    one.out_of_memory(1_000)
    succeed(one, FORGET - 1)
    assert one.tokens == 900
    succeed(one, FORGET)
    assert one.tokens > 1_000


def test_a_failure_starts_the_count_anew() -> None:
    one, _ = controller()
    succeed(one, PATIENCE - 1)
    one.out_of_memory(1_000)
    succeed(one, PATIENCE - 1)
    assert one.tokens == 500
    succeed(one, 1)
    assert one.tokens == 625


def test_it_settles_below_what_the_device_bears() -> None:
    one, changes = controller(4_000, 1 << 20)
    bears = 3_000
    for _ in range(20 * PATIENCE):
        if one.tokens > bears:
            one.out_of_memory(one.tokens)
        else:
            one.succeeded()
    assert bears * 0.6 <= one.tokens <= bears
    assert [reason for reason, _, _ in changes].count("out_of_memory") <= 3


@pytest.mark.parametrize("initial", [FLOOR, 1_000, 1 << 20])
@given(st.lists(st.none() | st.integers(1, 1 << 21), max_size=300))
def test_the_budget_keeps_its_bounds_and_every_change_is_reported(initial: int, steps: list[int | None]) -> None:
    one, changes = controller(initial, 1 << 20)
    for tried in steps:
        before, known = one.tokens, len(changes)
        if tried is None:
            one.succeeded()
        else:
            one.out_of_memory(tried)
            assert one.tokens <= before
        assert FLOOR <= one.tokens <= 1 << 20
        assert changes[known:] == ([] if one.tokens == before else [(changes[-1][0], before, one.tokens)])
