"""Fusion by rank: the formula by hand, the order of ties, and no dependence on the order of the signals."""

from __future__ import annotations

from fractions import Fraction
from itertools import permutations

import pytest
from embedfleet.protocol.rank_fusion import fuse, reciprocal_rank


def test_a_score_is_the_sum_over_the_shown_ranks() -> None:
    assert fuse([[7, 3], [3, 9]]) == [(3, 1 / 3 + 1 / 2), (7, 1 / 2), (9, 1 / 3)]


def test_a_lone_signal_is_scored_by_rank_too() -> None:
    assert fuse([[4, 2, 8]]) == [(4, 1 / 2), (2, 1 / 3), (8, 1 / 4)]


def test_equal_scores_stand_in_the_order_of_the_rows() -> None:
    assert [row for row, _ in fuse([[9, 1], [1, 9]])] == [1, 9]
    assert [row for row, _ in fuse([[5], [2]])] == [2, 5]


def test_the_order_of_the_signals_changes_no_digit() -> None:
    rankings = [[0, 1, 2, 3, 4], [4, 2, 0, 1, 3], [3, 4, 1, 0, 2], [1, 3, 4, 2, 0]]
    found = {tuple(fuse(order)) for order in permutations(rankings)}
    assert len(found) == 1
    for row, score in found.pop():
        assert score == pytest.approx(float(sum(Fraction(1, 2 + one.index(row)) for one in rankings)), rel=1e-15)


@pytest.mark.parametrize(("rank", "score"), [(1, 0.5), (2, 1 / 3), (99, 0.01)])
def test_what_a_place_gives(rank: int, score: float) -> None:
    assert reciprocal_rank(rank) == score


def test_nothing_found_is_nothing_fused() -> None:
    assert fuse([]) == []
    assert fuse([[], []]) == []
