"""Sets of signals fused anew: against `fuse` row by row, and against ir-measures."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from embedfleet.client.evaluation.signal_sets import (
    OnlyFound,
    QueryRanks,
    discounted,
    fused_measures,
    fused_places,
    only_found,
    try_sets,
)
from embedfleet.protocol.index.rank_fusion import fuse

NAMES = ("a", "b", "c", "d")
SETS = [some for size in range(1, 5) for some in combinations(NAMES, size)]


def ranks_of(rankings: Iterable[list[int]], chunks: int) -> Any:
    table = np.zeros((len(list(rankings)), chunks), np.int64)
    for line, ranking in zip(table, rankings, strict=True):
        line[ranking] = range(1, len(ranking) + 1)
    return table


def lists(seed: int, chunks: int = 40) -> list[list[int]]:
    """Four lists with many ties among their sums: of few chunks, each list in an order of its own."""
    random = np.random.default_rng(seed)
    return [random.permutation(chunks)[: random.integers(0, chunks)].tolist() for _ in NAMES]


@pytest.mark.parametrize("seed", range(30))
def test_every_set_is_fused_as_fuse_does_it(seed: int) -> None:
    found = lists(seed)
    members = np.array([[float(name in one) for name in NAMES] for one in SETS])
    places = fused_places(ranks_of(found, 40), members, np.arange(40))
    for some, ours in zip(SETS, places.tolist(), strict=True):
        theirs = fuse(ranking for name, ranking in zip(NAMES, found, strict=True) if name in some)
        assert {row: place for row, place in enumerate(ours) if place} == {
            row: place for place, (row, _) in enumerate(theirs, 1)
        }


def test_ties_are_those_of_the_sums_to_the_last_bit() -> None:
    """The same three ranks in every order: one sum, whose parts are added in three orders."""
    places = (100, 7, 31)
    found = [[*range(10, 200)] for _ in range(3)]
    for row, turn in enumerate(((0, 1, 2), (1, 2, 0), (2, 0, 1))):
        for line, which in zip(found, turn, strict=True):
            line[places[which] - 1] = row
    ours = fused_places(ranks_of(found, 200), np.ones((1, 3)), np.array([0, 1, 2]))[0].tolist()
    assert ours == [ours[0], ours[0] + 1, ours[0] + 2], "equal scores stand in the order of their rows"
    order = [row for row, _ in fuse(found)]
    assert [order.index(row) + 1 for row in range(3)] == ours


def test_ties_of_fractions_are_ties_here_too() -> None:
    """1/5 and 1/6 + 1/30: doubles that are added up differ in the last bit."""
    found = [[*range(10, 40)] for _ in range(3)]
    found[0][3], found[1][4], found[2][28] = 7, 3, 3
    third, seventh = fused_places(ranks_of(found, 40), np.ones((1, 3)), np.array([3, 7]))[0].tolist()
    assert seventh == third + 1
    order = [row for row, _ in fuse(found)]
    assert [order.index(3) + 1, order.index(7) + 1] == [third, seventh]


@pytest.mark.parametrize("depth", [5, 10, 100])
def test_ndcg_is_that_of_ir_measures(depth: int) -> None:
    measures = pytest.importorskip("ir_measures")
    random = np.random.default_rng(depth)
    queries, truth, found = [], [], []
    for number in range(25):
        some = lists(100 + number)
        graded = random.choice([-1, 0, 0, 1, 2, 3], 40) * (random.random(40) < 0.3)
        judged = {f"c{row}": int(score) for row, score in enumerate(graded)} | {"elsewhere": 2}
        truth += [measures.Qrel(f"q{number}", chunk, score) for chunk, score in judged.items()]
        found.append(some)
        ideal = discounted(sorted((score for score in judged.values() if score > 0), reverse=True))
        relevant = sum(score > 0 for score in judged.values())
        queries.append(QueryRanks(number, ranks_of(some, 40), np.maximum(graded, 0), ideal, relevant))
    ours, recall = fused_measures(queries, 25, NAMES, SETS, depth)
    for place, some in enumerate(SETS):
        run = []
        for number, rankings in enumerate(found):
            order = fuse(one for name, one in zip(NAMES, rankings, strict=True) if name in some)[:depth]
            run += [measures.ScoredDoc(f"q{number}", f"c{row}", -float(at)) for at, (row, _) in enumerate(order)]
        for measure, table in ((measures.nDCG @ 10, ours), (measures.R @ 10, recall)):
            theirs = {one.query_id: one.value for one in measures.iter_calc([measure], truth, run)}
            expected = [theirs.get(f"q{number}", 0.0) for number in range(25)]
            np.testing.assert_allclose(table[:, place], expected, atol=1e-9)


def test_a_query_for_which_nothing_was_found_counts_as_nothing() -> None:
    one = QueryRanks(1, ranks_of([[0], [], [], []], 1), np.array([1]), 1.0, 1)
    for table in fused_measures([one], 3, NAMES, [("a",), ("b",), ("a", "b")], 10):
        assert table.tolist() == [[0] * 3, [1, 0, 1], [0] * 3]


def test_relevant_chunks_that_only_one_finds() -> None:
    """Chunks 0 and 1 are relevant; b has chunk 1 at its eleventh place, c everything."""
    long = [*range(2, 12), 1]
    first = QueryRanks(0, ranks_of([[0], long, [0, 1, 2]], 12), np.array([1, 2] + [0] * 10), 1.0, 2)
    second = QueryRanks(4, ranks_of([[3], [], []], 12), np.array([0] * 3 + [1] + [0] * 8), 1.0, 1)
    ten, hundred = only_found([first, second], ("a", "b", "c"), ("a", "b"), (10, 100))
    assert ten == {"a": OnlyFound(2, (0, 4)), "b": OnlyFound(0, ()), "c": OnlyFound(1, (0,))}
    assert hundred == {"a": OnlyFound(2, (0, 4)), "b": OnlyFound(1, (0,)), "c": OnlyFound(0, ())}


def test_of_more_than_eight_signals_every_pair_is_tried_and_then_one_more_at_a_time() -> None:
    names = tuple(f"s{number}" for number in range(10))
    queries = []
    for number in range(12):  # s2, s5 and s7 answer a third each, the others nothing
        rankings = [[1, 2]] * 10
        rankings[(2, 5, 7)[number % 3]] = [0, 1]
        queries.append(QueryRanks(number, ranks_of(rankings, 3), np.array([1, 0, 0]), 1.0, 1))
    tried = try_sets(lambda: queries, 12, names, lambda some: "s9" not in some, 10, also=[names])
    assert not tried.exhaustive
    assert [len(one) for one in tried.sets].count(1) == 9
    assert [len(one) for one in tried.sets].count(2) == 36
    assert ("s2", "s5", "s7") in tried.sets
    assert names in tried.sets
    assert max(len(one) for one in tried.sets if one != names) == 9
    assert len(set(tried.sets)) == len(tried.sets)
    eight = [QueryRanks(one.query, one.ranks[:8], one.gains, one.ideal, 1) for one in queries]
    few = try_sets(lambda: eight, 12, names[:8], lambda _some: True, 10)
    assert few.exhaustive
    assert len(few.sets) == 255
