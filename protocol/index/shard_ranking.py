"""Rank the points of one open shard: each signal by score, equal scores by row; and fuse the signals by these ranks.

Measured with version 0.9.0 of the engine: dense and multivector scores are the same to the last bit, whatever the order of
the points and the limit of the query. Sparse scores are not: the order in which the engine adds a query's terms varies, so
equal vectors get scores that differ in their last bits. Therefore sparse scores are computed here, from the vectors in the
shard, by an exact sum. Ranks are by the float32 score in the output.

The engine breaks ties at its limit arbitrarily. If the last place may be tied, the query is repeated with a larger limit; if
the tie is longer still, the points of the lowest rows are taken.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, fsum, log
from typing import Any, NamedTuple

import numpy as np

from ..finished_run.payload import Payload
from ..spec.run_spec import RunSpec
from .queries import QueryVector, SparseQuery, nearest, nearest_request, payloads, signal_scores
from .rank_fusion import fuse

SPARSE_ERROR = 1e-5
"""The largest relative error of the engine's float32 sum over the terms of a query."""

WIDER = (2, 16)
"""The limit of a query is this many times the places, first one, then the other, until no tie crosses it."""

ID_AND_ROW = ("id", "row")
"""Fields of the payload that a ranking needs."""


class RankedPoint(NamedTuple):
    """A point of the shard, by the engine's own id, with the chunk's id and row."""

    point: Any
    id: str
    row: int


@dataclass(frozen=True, slots=True)
class QueryRanking:
    """The rankings of one query, by row. `points` has every point of the rankings."""

    rankings: Mapping[str, Sequence[int]]
    """The first rows of each signal, best first."""
    fused: Sequence[tuple[int, float]]
    """Rows with their fused scores, best first."""
    points: Mapping[int, RankedPoint]
    sparse: Mapping[str, Mapping[Any, float]]
    """Scores of each sparse signal, by point id."""


class ShardRanker:
    """Ranks the points of one open shard. It caches the IDF of terms, so use one ranker for all queries of a shard."""

    def __init__(self, shard: Any, spec: RunSpec) -> None:
        from .collection import sparse_modifier  # late: it brings Arrow, and `import embedfleet` must not

        self._shard = shard
        self._rarities: dict[str, _Rarity] = {
            one.vector: _Rarity(shard, one.vector) for one in spec.outputs if sparse_modifier(one.kind) == "idf"
        }

    def rank(
        self, signals: Mapping[str, QueryVector], fused: Collection[str], places: int, only: Any = None
    ) -> QueryRanking:
        """Rank the first `places` points of each signal that match the filter `only`, and fuse the signals `fused`."""
        points: dict[int, RankedPoint] = {}
        rankings: dict[str, list[int]] = {}
        sparse: dict[str, dict[Any, float]] = {}
        answers = self._first(signals, places * WIDER[0], only)
        for name, vector in signals.items():
            scores = self._complete(name, vector, places, only, answers[name])
            if isinstance(vector, SparseQuery):
                exact = sparse[name] = self._sparse_scores(name, vector, [one.point for one in scores])
                scores = {one: exact[one.point] for one in scores if one.point in exact}
            order = top_by_score(scores, places)
            rankings[name] = [one.row for one in order]
            points |= {one.row: one for one in order}
        return QueryRanking(rankings, fuse(rankings[name] for name in fused), points, sparse)

    def scores(
        self, signals: Mapping[str, QueryVector], ranked: QueryRanking, rows: Iterable[int]
    ) -> dict[int, dict[str, float]]:
        """Each signal's score of each row; the ranks are by these.

        A signal is absent if the point has no vector for it, or shares no term with the query.
        """
        ids = {row: ranked.points[row].point for row in rows}
        dense = {name: one for name, one in signals.items() if not isinstance(one, SparseQuery)}
        found = signal_scores(self._shard, dense, list(ids.values()))
        for name, vector in signals.items():
            if isinstance(vector, SparseQuery):
                known = ranked.sparse.get(name, {})
                rest = self._sparse_scores(name, vector, [one for one in ids.values() if one not in known])
                for one in ids.values():
                    if (score := known.get(one, rest.get(one))) is not None:
                        found[str(one)][name] = score
        return {
            row: {name: found[str(one)][name] for name in signals if name in found[str(one)]}
            for row, one in ids.items()
        }

    def payloads(self, ranked: QueryRanking, rows: Iterable[int]) -> dict[int, Payload]:
        """The whole payload of each of the rows."""
        ids = {row: ranked.points[row].point for row in rows}
        whole = payloads(self._shard, list(ids.values())) if ids else {}
        return {row: whole[str(one)] for row, one in ids.items()}

    def _first(self, signals: Mapping[str, QueryVector], limit: int, only: Any) -> dict[str, list[Any]]:
        import qdrant_edge as edge

        requests = [nearest_request(name, one, limit, list(ID_AND_ROW), only) for name, one in signals.items()]
        answers = self._shard.query_batch(edge.QueryBatchRequest(requests)) if requests else []
        return dict(zip(signals, answers, strict=True))

    def _complete(
        self, name: str, vector: QueryVector, places: int, only: Any, answer: list[Any]
    ) -> dict[RankedPoint, float]:
        """The engine's scores of all points that may be among the first `places`, with ties at the last place."""
        limits = [places * factor for factor in WIDER]
        while True:
            limit = limits.pop(0)
            points = sorted(answer, key=lambda point: -point.score)
            if len(points) <= places:
                return _by_point(points)
            floor = _floor(points[places - 1].score, isinstance(vector, SparseQuery))
            above = [point for point in points if point.score > floor]
            if len(points) < limit or len(above) < limit:
                return _by_point(above)
            if not limits:
                return _by_point([*above, *self._lowest_rows(name, vector, floor, limit, only)])
            answer = self._first({name: vector}, limits[0], only)[name]

    def _lowest_rows(self, name: str, vector: QueryVector, floor: float, limit: int, only: Any) -> list[Any]:
        """Out of the points with scores above `floor`, the `limit` with the lowest rows."""
        import qdrant_edge as edge

        everything = max(1, self._shard.info().points_count)
        tied = edge.Prefetch(
            limit=everything,
            query=nearest(name, vector),
            filter=only,
            score_threshold=floor,
            params=edge.SearchParams(exact=True),
        )
        by_row: Any = edge.Formula(edge.Expression.Neg(edge.Expression.Variable("row")), {"row": 0.0})
        ordered = edge.QueryRequest(limit=limit, query=by_row, prefetches=[tied], with_payload=False)
        ids = {point.id for point in self._shard.query(ordered)}
        among = edge.Filter(must=[edge.HasIdCondition(ids)])
        return self._first({name: vector}, limit, among)[name]

    def _sparse_scores(self, name: str, vector: SparseQuery, ids: Sequence[Any]) -> dict[Any, float]:
        """The dot product, rounded to float32, of each point that shares a term with the query; by point id."""
        if not ids:
            return {}
        weights = dict(zip(vector.indices, vector.values, strict=True))
        if (rarity := self._rarities.get(name)) is not None:
            rare = rarity.of(weights)
            weights = {term: weight * rare[term] for term, weight in weights.items()}
        found: dict[Any, float] = {}
        for one in self._shard.retrieve(list(ids), with_payload=False, with_vector=[name]):
            sparse = (one.vector or {}).get(name)
            if sparse is not None:
                pairs = zip(sparse.indices, sparse.values, strict=True)
                if shared := [weights[term] * value for term, value in pairs if term in weights]:
                    found[one.id] = float(np.float32(fsum(shared)))
        return found


class _Rarity:
    """The inverse document frequency of terms (IDF), by which the engine multiplies the weights of one vector.

    It is ln((N + 1) / (n + 0.5)) for a term that n of N vectors have. The engine reports neither number. N is counted; n is
    computed from the score of a query with that term alone, and rounded to a whole number.
    """

    def __init__(self, shard: Any, name: str) -> None:
        self._shard, self._name = shard, name
        self._found: dict[int, float] = {}
        self._vectors = 0

    def of(self, terms: Iterable[int]) -> Mapping[int, float]:
        """The IDF of each term (and of earlier ones); 0 for a term that is in no vector."""
        import qdrant_edge as edge

        new = [term for term in terms if term not in self._found]
        if new and not self._vectors:
            having = edge.Filter(must=[edge.HasVectorCondition(self._name)])
            self._vectors = self._shard.count(edge.CountRequest(exact=True, filter=having))
        alone = [edge.Query.Nearest(edge.SparseVector([term], [1.0]), using=self._name) for term in new]
        requests = [edge.QueryRequest(limit=1, query=one, with_vector=[self._name]) for one in alone]
        answers = self._shard.query_batch(edge.QueryBatchRequest(requests)) if requests else []
        for term, points in zip(new, answers, strict=True):
            self._found[term] = self._rarity(term, points[0]) if points else 0.0
        return self._found

    def _rarity(self, term: int, point: Any) -> float:
        sparse = point.vector[self._name]
        weight = dict(zip(sparse.indices, sparse.values, strict=True))[term]
        if not weight:
            return 0.0
        having = (self._vectors + 1) * exp(-point.score / weight) - 0.5
        return log((self._vectors + 1) / (max(1, round(having)) + 0.5))


def top_by_score(scores: Mapping[RankedPoint, float], places: int) -> list[RankedPoint]:
    """The `places` points with the highest scores; equal scores are ordered by row."""
    return sorted(scores, key=lambda one: (-scores[one], one.row))[:places]


def _by_point(points: Iterable[Any]) -> dict[RankedPoint, float]:
    return {RankedPoint(one.id, one.payload["id"], one.payload["row"]): one.score for one in points}


def _floor(score: float, is_sparse: bool) -> float:
    """A bound below `score`: points at or below it rank after one of `score`, whatever the engine's rounding."""
    error = SPARSE_ERROR * abs(score) if is_sparse else 0.0
    return float(np.nextafter(np.float32(score - error), np.float32(-np.inf)))
