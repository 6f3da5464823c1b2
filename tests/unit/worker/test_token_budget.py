"""Micro-batches: every row once, longest first, within the budget."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from embedfleet.worker.token_budget import fitting, longest_first
from hypothesis import given
from hypothesis import strategies as st


def test_longest_first_keeps_ties_in_order() -> None:
    order = longest_first(np.array([3, 5, 3, 0, 5], np.int32))
    assert order.tolist() == [1, 4, 0, 2, 3]
    assert order.dtype == np.int32


@pytest.mark.parametrize(
    ("lengths", "start", "budget", "count"),
    [
        ([10, 10, 10, 10], 0, 30, 3),
        ([10, 10, 10, 10], 2, 30, 2),
        ([10, 1, 1, 1], 0, 30, 3),
        ([10, 1, 1, 1], 1, 2, 2),
        ([100], 0, 30, 1),
        ([0, 0], 0, 30, 2),
    ],
)
def test_all_are_padded_to_the_first(lengths: list[int], start: int, budget: int, count: int) -> None:
    order = np.arange(len(lengths), dtype=np.int32)
    assert fitting(np.array(lengths, np.int32), order, start, budget, pads=True) == count


@given(st.lists(st.integers(0, 600), min_size=1, max_size=200), st.integers(1, 4_000))
def test_micro_batches_cover_every_row_once_and_respect_the_budget(lengths: list[int], budget: int) -> None:
    array = np.array(lengths, np.int32)
    order = longest_first(array)
    rows: list[int] = []
    while len(rows) < len(order):
        count = fitting(array, order, len(rows), budget, pads=True)
        taken = order[len(rows) : len(rows) + count].tolist()
        assert len(taken) == count >= 1
        padded = count * max(lengths[row] for row in taken)
        assert padded <= budget or count == 1
        rows += taken
    assert sorted(rows) == list(range(len(lengths)))
    assert [lengths[row] for row in rows] == sorted(lengths, reverse=True)


@given(
    st.lists(st.integers(0, 600), min_size=1, max_size=100),
    st.lists(st.integers(1, 4_000), min_size=1, max_size=20),
)
def test_a_budget_that_changes_on_the_way_loses_no_row(lengths: list[int], budgets: list[int]) -> None:
    """As out of memory changes it: each micro-batch keeps to the budget of its moment."""
    array = np.array(lengths, np.int32)
    order = longest_first(array)
    rows: list[int] = []
    for budget in itertools.cycle(budgets):
        if len(rows) == len(order):
            break
        count = fitting(array, order, len(rows), budget, pads=True)
        taken = order[len(rows) : len(rows) + count].tolist()
        assert len(taken) == count >= 1
        assert count * max(lengths[row] for row in taken) <= budget or count == 1
        rows += taken
    assert sorted(rows) == list(range(len(lengths)))
