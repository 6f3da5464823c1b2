"""Fusion by rank: the formula by hand, the order of ties, and no dependence on the order of the signals."""

from __future__ import annotations

from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from embedfleet.protocol.index.rank_fusion import PART_BITS, fuse, reciprocal_rank


def test_a_score_is_the_sum_over_the_shown_ranks() -> None:
    assert fuse([[7, 3], [3, 9]]) == [(3, 5 / 6), (7, 1 / 2), (9, 1 / 3)]


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
        assert score == float(sum(Fraction(1, 2 + one.index(row)) for one in rankings))


@pytest.mark.parametrize("ranks", [(4, (5, 29)), (2, (3, 11)), (5, (9, 14)), (9, (13, 34)), (1, (2, 5))])
def test_sums_that_are_equal_as_fractions_are_ties(ranks: tuple[int, tuple[int, int]]) -> None:
    """1/5 and 1/6 + 1/30: as sums of doubles they differ in the last bit, and one stood before the other for that."""
    one, (first, second) = ranks
    assert Fraction(1, 1 + one) == Fraction(1, 1 + first) + Fraction(1, 1 + second)
    others = iter(range(100, 1000))
    lists = [
        [row if rank == at else next(others) for rank in range(1, at + 1)]
        for row, at in ((7, one), (3, first), (3, second))
    ]
    places = {row: (place, score) for place, (row, score) in enumerate(fuse(lists))}
    assert places[3][1] == places[7][1] == 1 / (1 + one)
    assert places[3][0] < places[7][0]


@pytest.mark.parametrize("seed", range(5))
def test_scores_and_order_are_those_of_fractions(seed: int) -> None:
    random = np.random.default_rng(seed)
    lists = [random.permutation(300)[:100].tolist() for _ in range(5)]
    sums: dict[int, Fraction] = {}
    for ranking in lists:
        for rank, row in enumerate(ranking, 1):
            sums[row] = sums.get(row, Fraction()) + Fraction(1, 1 + rank)
    order = sorted(sums, key=lambda row: (-sums[row], row))
    assert fuse(lists) == [(row, float(sums[row])) for row in order]


@pytest.mark.parametrize(("rank", "score"), [(1, 0.5), (2, 1 / 3), (99, 0.01), (100_000, 1 / 100_001)])
def test_what_a_place_gives(rank: int, score: float) -> None:
    assert reciprocal_rank(rank) / 2**PART_BITS == score


def test_nothing_found_is_nothing_fused() -> None:
    assert fuse([]) == []
    assert fuse([[], []]) == []
