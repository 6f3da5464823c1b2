"""Rankings of a shard against rankings by hand: ties by row, fusion by the shown ranks, the same in two builds."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import fsum, log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedfleet.protocol.index import shard_ranking
from embedfleet.protocol.index.queries import QueryVector, SparseQuery
from embedfleet.protocol.index.rank_fusion import fuse
from embedfleet.protocol.index.shard_ranking import QueryRanking, ShardRanker
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec

edge = pytest.importorskip("qdrant_edge")

ROWS, DIM = 300, 8
RNG = np.random.default_rng(11)
KINDS = RNG.integers(0, 12, ROWS)
"""A few texts, each many times: most scores are equal to others."""
DENSE = RNG.normal(size=(12, DIM)).astype(np.float32)
LATE = [RNG.normal(size=(1 + kind % 3, DIM)).astype(np.float32) for kind in range(12)]
TERMS = [np.unique(RNG.integers(0, 30, 9)) for _ in range(12)]
WEIGHTS = [RNG.choice(np.float32([0.5, 0.7, 1.1]), len(terms)) for terms in TERMS]
WITHOUT = set(range(0, ROWS, 17))
"""Rows without the BM25 vector."""

SPEC = RunSpec(
    source="-",
    passes=(
        PassSpec(vector="dense", kind="dense", model="fake:8"),
        PassSpec(vector="bm25", kind="bm25", model="bm25"),
        PassSpec(vector="learned", kind="sparse", model="fake:8"),
        PassSpec(vector="late", kind="multivector", model="fake:8"),
    ),
)


def build(folder: Path, order: Sequence[int], batch: int) -> Any:
    folder.mkdir()
    late = edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim)
    half = edge.VectorStorageDatatype.Float16
    shard = edge.EdgeShard.create(
        str(folder),
        edge.EdgeConfig(
            vectors={
                "dense": edge.EdgeVectorParams(size=DIM, distance=edge.Distance.Cosine),
                "late": edge.EdgeVectorParams(
                    size=DIM, distance=edge.Distance.Cosine, multivector_config=late, datatype=half
                ),
            },
            sparse_vectors={
                "bm25": edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf),
                "learned": edge.EdgeSparseVectorParams(),
            },
        ),
    )
    for start in range(0, len(order), batch):
        points: list[Any] = []
        for row in order[start : start + batch]:
            kind = int(KINDS[row % ROWS])
            sparse = edge.SparseVector(TERMS[kind].tolist(), WEIGHTS[kind].tolist())
            vectors = {"dense": DENSE[kind].tolist(), "late": LATE[kind].tolist(), "learned": sparse}
            if row not in WITHOUT:
                vectors["bm25"] = sparse
            points.append(edge.Point(int(row), vectors, {"id": f"c{row}", "row": int(row)}))
        shard.update(edge.UpdateOperation.upsert_points(points))
    shard.flush()
    return shard


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same points, put in by row, the other way round, and at random with some of them twice."""
    folder = tmp_path_factory.mktemp("shards")
    shuffled = np.random.default_rng(3).permutation(ROWS).tolist()
    orders = (list(range(ROWS)), list(reversed(range(ROWS))), [*shuffled, *shuffled[:90]])
    made = [build(folder / str(place), order, 7 + 50 * place) for place, order in enumerate(orders)]
    yield made
    for one in made:
        one.close()


def asked(seed: int) -> dict[str, QueryVector]:
    rng = np.random.default_rng(seed)
    terms = np.unique(rng.integers(0, 30, 7)).tolist()
    return {
        "dense": rng.normal(size=DIM).astype(np.float32),
        "bm25": SparseQuery(terms, [1.0] * len(terms)),
        "learned": SparseQuery(terms, rng.random(len(terms)).tolist()),
        "late": rng.normal(size=(3, DIM)).astype(np.float32),
    }


def by_hand(name: str, vector: QueryVector) -> dict[int, float]:
    """Each row's score, to more digits than float32 has."""
    if isinstance(vector, SparseQuery):
        having = {
            term: sum(term in TERMS[KINDS[row]] for row in range(ROWS) if row not in WITHOUT) for term in vector.indices
        }
        total = ROWS - len(WITHOUT)
        found: dict[int, float] = {}
        for row in range(ROWS):
            weights = dict(zip(TERMS[KINDS[row]].tolist(), WEIGHTS[KINDS[row]].tolist(), strict=True))
            parts = [
                value * weights[term] * (log((total + 1) / (having[term] + 0.5)) if name == "bm25" else 1.0)
                for term, value in zip(vector.indices, vector.values, strict=True)
                if term in weights
            ]
            if parts and not (name == "bm25" and row in WITHOUT):
                found[row] = fsum(parts)
        return found
    query = np.asarray(vector, np.float64)
    if name == "late":
        unit = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in LATE]
        query = query / np.linalg.norm(query, axis=1, keepdims=True)
        scores = [float((query @ one.astype(np.float16).astype(float).T).max(axis=1).sum()) for one in unit]
    else:
        scores = [float(one @ query / np.linalg.norm(one) / np.linalg.norm(query)) for one in DENSE.astype(float)]
    return {row: scores[KINDS[row]] for row in range(ROWS)}


def check(
    ranked: QueryRanking, signals: dict[str, QueryVector], places: int, rows: Sequence[int] = range(ROWS)
) -> None:
    for name, vector in signals.items():
        rounded = np.float32 if isinstance(vector, SparseQuery) else lambda score: round(score, 5)
        scores = {row: float(rounded(score)) for row, score in by_hand(name, vector).items() if row in rows}
        expected = sorted(scores, key=lambda row: (-scores[row], row))[:places]
        assert list(ranked.rankings[name]) == expected, name
    shown = {
        row: {name: list(ranking).index(row) + 1 for name, ranking in ranked.rankings.items() if row in ranking}
        for row, _ in ranked.fused
    }
    for row, score in ranked.fused:
        assert abs(score - float(sum(Fraction(1, 1 + rank) for rank in shown[row].values()))) < 1e-12
    assert list(ranked.fused) == sorted(ranked.fused, key=lambda one: (-one[1], one[0]))


@pytest.mark.parametrize("places", [5, 30, 400])
@pytest.mark.parametrize("seed", range(6))
def test_ranks_scores_and_fusion_are_those_by_hand_in_every_build(shards: Any, places: int, seed: int) -> None:
    signals = asked(seed)
    found: list[Any] = []
    for shard in shards:
        ranker = ShardRanker(shard, SPEC)
        ranked = ranker.rank(signals, list(signals), places)
        check(ranked, signals, places)
        scores = ranker.scores(signals, ranked, sorted(ranked.points))
        found.append((ranked.rankings, ranked.fused, scores))
        for name, vector in signals.items():
            truth = by_hand(name, vector)
            for row, some in scores.items():
                assert (name in some) == (row in truth)
                if name in some:
                    error = 2e-3 if name == "late" else 3e-7
                    assert some[name] == pytest.approx(truth[row], rel=error, abs=error)
    assert found[0] == found[1] == found[2], "to the last bit"


def test_a_lone_signal_is_fused_by_its_ranks_too(shards: Any) -> None:
    for name, vector in asked(1).items():
        ranked = ShardRanker(shards[1], SPEC).rank({name: vector}, [name], 20)
        assert ranked.fused == fuse([ranked.rankings[name]])
        assert [score for _, score in ranked.fused] == [1 / (1 + rank) for rank in range(1, 21)]


def test_a_signal_that_is_not_fused_is_ranked_all_the_same(shards: Any) -> None:
    signals = asked(2)
    ranked = ShardRanker(shards[0], SPEC).rank(signals, ["bm25"], 10)
    assert ranked.fused == fuse([ranked.rankings["bm25"]])
    assert set(ranked.points) == {row for ranking in ranked.rankings.values() for row in ranking}


def test_a_filter_is_of_the_ranking(shards: Any) -> None:
    rows = list(range(40, 90))
    only = edge.Filter(must=[edge.FieldCondition("row", range=edge.RangeFloat(gte=40, lt=90))])
    signals = asked(3)
    for shard in shards:
        check(ShardRanker(shard, SPEC).rank(signals, list(signals), 15, only), signals, 15, rows)


@pytest.mark.parametrize("wider", [(2,), (2, 16)])
def test_a_tie_that_is_longer_than_what_is_asked_for_goes_to_the_lowest_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wider: tuple[int, ...]
) -> None:
    """All of 2,000 rows are of twelve kinds, and three of them are wanted."""
    monkeypatch.setattr(shard_ranking, "WIDER", wider)
    order = np.random.default_rng(5).permutation(2_000).tolist()
    shard = build(tmp_path / "many", order, 333)
    signals = asked(4)
    ranked = ShardRanker(shard, SPEC).rank(signals, list(signals), 3)
    for name, vector in signals.items():
        truth = {row: score for row, score in by_hand(name, vector).items() if name != "bm25"}
        if truth:
            best = max(truth.values())
            kinds = {int(KINDS[row]) for row, score in truth.items() if score > best - 1e-6}
            assert list(ranked.rankings[name]) == [row for row in range(2_000) if KINDS[row % ROWS] in kinds][:3]
    assert list(ranked.rankings["bm25"]) == sorted(ranked.rankings["bm25"])
    shard.close()
