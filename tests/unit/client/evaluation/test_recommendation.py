"""From rankings to a recommendation, on corpora where the truth is known: right with every seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from embedfleet.client.evaluation.recommendation import LEAST_GAIN, Recommendation, recommend
from embedfleet.client.evaluation.signal_sets import QueryRanks, Tried, discounted, try_sets

CHUNKS, DEPTH, QUERIES = 200, 50, 60
SEEDS = range(20)

Signal = Callable[[np.random.Generator, int, np.ndarray], np.ndarray]
"""Scores of all chunks for a query, by the relevance of each chunk."""


def useless(random: np.random.Generator, _query: int, _truth: np.ndarray) -> np.ndarray:
    return random.normal(size=CHUNKS)


def useful(strength: float = 4.0, part: int = 0, parts: int = 1) -> Signal:
    """Of the queries, it knows one in `parts`."""

    def scores(random: np.random.Generator, query: int, truth: np.ndarray) -> np.ndarray:
        return random.normal(size=CHUNKS) + strength * truth * (query % parts == part)

    return scores


def near_copy(of: str, noise: float = 0.1) -> tuple[str, float]:
    return of, noise


def judged(seed: int, queries: int, signals: dict[str, Any], relevant: int = 1) -> list[QueryRanks]:
    random = np.random.default_rng(seed)
    found = []
    for query in range(queries):
        grades = np.zeros(CHUNKS, np.int64)
        grades[random.choice(CHUNKS, relevant, replace=False)] = 1 + np.arange(relevant) % 3
        scores: dict[str, np.ndarray] = {}
        for name, make in signals.items():
            if isinstance(make, tuple):
                of, noise = make
                scores[name] = scores[of] + noise * random.normal(size=CHUNKS)
            else:
                scores[name] = make(random, query, grades > 0)
        ranks = np.zeros((len(signals), CHUNKS), np.int64)
        for line, one in zip(ranks, scores.values(), strict=True):
            line[np.argsort(-one, kind="stable")[:DEPTH]] = range(1, DEPTH + 1)
        ideal = discounted(sorted(grades[grades > 0].tolist(), reverse=True))
        found.append(QueryRanks(query, ranks, grades, ideal, relevant))
    return found


def recommended(
    queries: list[QueryRanks], names: dict[str, Any], seconds: Callable[[tuple[str, ...]], float] = len
) -> Recommendation | None:
    tried = try_sets(lambda: queries, len(queries), tuple(names), lambda _some: True, DEPTH)
    return recommend(tried, seconds)


def chosen(seed: int, signals: dict[str, Any], relevant: int = 1) -> tuple[str, ...]:
    found = recommended(judged(seed, QUERIES, signals, relevant), signals)
    assert found is not None
    return found.chosen.signals


@pytest.mark.parametrize("seed", SEEDS)
def test_one_useless_one_useful_one_redundant(seed: int) -> None:
    signals = {"useless": useless, "useful": useful(), "copy": near_copy("useful")}
    assert chosen(seed, signals) in (("useful",), ("copy",))
    assert chosen(seed, signals, relevant=5) in (("useful",), ("copy",))
    assert chosen(seed, {"useful": useful(), "copy": near_copy("useful", 0.0), "useless": useless}) == ("useful",)


@pytest.mark.parametrize("seed", SEEDS)
def test_two_that_complement_each_other_and_one_that_spoils(seed: int) -> None:
    signals = {"left": useful(6.0, 0, 2), "spoils": useless, "right": useful(6.0, 1, 2)}
    assert chosen(seed, signals) == ("left", "right")
    assert chosen(seed, signals, relevant=5) == ("left", "right")
    assert chosen(seed, signals | {"copy": near_copy("left", 0.02)}) in (("left", "right"), ("right", "copy"))


@pytest.mark.parametrize("seed", SEEDS)
def test_useless_ones_are_never_taken_however_many_there_are(seed: int) -> None:
    others = {f"useless{number}": useless for number in range(5)}
    assert chosen(seed, {**others, "useful": useful()}) == ("useful",)
    assert len(chosen(seed, others)) == 1


@pytest.mark.parametrize("seed", range(5))
def test_three_that_complement_each_other_among_nine(seed: int) -> None:
    """More than are tried in every set."""
    signals = {f"third{part}": useful(6.0, part, 3) for part in range(3)}
    signals |= {f"useless{number}": useless for number in range(6)}
    found = recommended(judged(seed, 120, signals), signals)
    assert found is not None
    assert found.chosen.signals == ("third0", "third1", "third2")
    assert not found.exhaustive


@pytest.mark.parametrize("seed", SEEDS)
def test_twenty_queries_are_enough_for_two_that_complement_each_other(seed: int) -> None:
    signals = {"left": useful(6.0, 0, 2), "spoils": useless, "right": useful(6.0, 1, 2)}
    for relevant in (1, 5):
        found = recommended(judged(seed, 20, signals, relevant), signals)
        assert found is not None
        assert found.chosen.signals == ("left", "right")


def test_more_relevant_chunks_in_the_first_ten_speak_for_a_set_whose_ndcg_is_in_doubt() -> None:
    ndcg = np.where(np.arange(30) % 2, 0.9, -0.6)[:, np.newaxis] * [0, 0, 1] + [0.5, 0.4, 0.5]
    sets: tuple[tuple[str, ...], ...] = (("a",), ("b",), ("a", "b"))
    same = np.full((30, 3), 0.5)
    more = np.broadcast_to([0.5, 0.5, 0.7], (30, 3))
    found = recommend(Tried(sets, ndcg, same), len)
    assert found is not None
    assert found.chosen.signals == ("a",)
    found = recommend(Tried(sets, ndcg, more), len)
    assert found is not None
    assert found.chosen.signals == ("a", "b")
    assert found.single is not None
    assert found.single.difference.low is not None
    assert found.single.difference.low < 0 < found.single.recall.mean
    found = recommend(Tried(sets, ndcg - [0, 0, 0.2], more), len)
    assert found is not None
    assert found.chosen.signals == ("a",), "the order has to gain as well"


def test_what_it_says_of_the_difference_follows_from_the_figures() -> None:
    signals = {"left": useful(6.0, 0, 2), "spoils": useless, "right": useful(6.0, 1, 2)}
    queries = judged(3, QUERIES, signals)
    tried = try_sets(lambda: queries, QUERIES, tuple(signals), lambda _some: True, DEPTH)
    found = recommend(tried, lambda some: 10.0 * len(some))
    assert found is not None
    assert found.single is not None
    assert found.larger is not None
    best = max(("left",), ("right",), key=lambda one: tried.of(one).mean())
    assert found.single.other.signals == best
    assert found.single.difference.mean == pytest.approx(
        (tried.of(("left", "right")) - tried.of(best)).mean(), abs=1e-8
    )
    assert found.single.difference.sure
    assert (found.chosen.seconds, found.single.other.seconds) == (20.0, 10.0)
    assert found.chosen.ndcg == pytest.approx(tried.of(("left", "right")).mean(), abs=1e-8)
    assert found.larger.other.signals == tuple(signals)
    assert found.larger.difference.mean > 0, "what is recommended is better than all of them"
    assert (found.flag, found.sets, found.exhaustive) == ("--signals left,right", 7, True)
    assert found.simpler is None, "the best single signal is the next simpler choice"


def of_columns(queries: int, **columns: Any) -> Tried:
    sets = tuple(tuple(name.split("_")) for name in columns)
    table = np.stack([np.broadcast_to(one, queries).astype(float) for one in columns.values()], axis=1)
    return Tried(sets, table, table)


def test_a_larger_set_that_gains_little_is_not_taken_however_sure_it_is() -> None:
    found = recommend(of_columns(50, a=0.5, b=0.4, a_b=0.5 + LEAST_GAIN / 2), len)
    assert found is not None
    assert found.chosen.signals == ("a",)
    assert found.larger is not None
    assert found.larger.difference.reversed().low == LEAST_GAIN / 2
    found = recommend(of_columns(50, a=0.5, b=0.4, a_b=0.5 + LEAST_GAIN), len)
    assert found is not None
    assert found.chosen.signals == ("a", "b")


def test_of_equals_the_cheaper_one_and_then_the_first() -> None:
    price = {("a",): 9.0, ("b",): 5.2, ("c",): 4.9, ("a", "b"): 14.2}
    found = recommend(of_columns(50, a=0.5, b=0.5, c=0.50001, a_b=0.5), lambda some: price[some])
    assert found is not None
    assert found.chosen.signals == ("b",), "to the second, b and c cost the same; in the table all are 0.5000"
    assert found.larger is not None
    assert found.larger.difference.mean == 0


def test_one_signal_or_too_few_queries_have_no_recommendation() -> None:
    assert recommend(of_columns(50, a=0.5), len) is None
    for queries in (1, 5):
        assert recommend(of_columns(queries, a=0.5, b=0.4, a_b=0.9), len) is None
    assert recommend(of_columns(6, a=0.5, b=0.4, a_b=0.9), len) is not None


def test_the_next_simpler_choice_is_named_where_it_is_another_than_the_best_single_signal() -> None:
    signals = {f"third{part}": useful(6.0, part, 3) for part in range(3)}
    found = recommended(judged(1, 120, signals), signals)
    assert found is not None
    assert found.chosen.signals == tuple(signals)
    assert found.simpler is not None
    assert len(found.simpler.other.signals) == 2
    assert found.larger is None


def test_nothing_is_recommended_where_nobody_finds_anything() -> None:
    sets = (("a",), ("b",), ("a", "b"))
    nothing = np.zeros((20, 3))
    assert recommend(Tried(sets, nothing, nothing), len) is None
    once = nothing.copy()
    once[3, 1] = 0.5
    found = recommend(Tried(sets, once, once), len)
    assert found is not None
    assert found.chosen.signals == ("b",)
