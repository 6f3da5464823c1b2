"""Queries for Qdrant's Edge engine: nearest by one signal. `metadata_filter.py` has their filters.

Shared by the client's search and the exporter's candidates. The engine is imported when a query is built, so that a process
without queries does not need it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec
import numpy as np
import numpy.typing as npt

from ..finished_run.payload import Payload
from ..vectors.metadata_terms import query_weights


class SparseQuery(msgspec.Struct, frozen=True):
    """One sparse query vector: token indices and their weights."""

    indices: list[int]
    values: list[float]


QueryVector = npt.NDArray[np.float32] | SparseQuery
"""Dense (dim,), late interaction (tokens, dim), or sparse."""


def with_terms(vector: SparseQuery, text: str) -> SparseQuery:
    """Append the query's words as metadata terms. Their indices are above all of the model's."""
    indices, values = query_weights(text)
    return SparseQuery([*vector.indices, *indices.tolist()], [*vector.values, *values.tolist()])


def drop_empty(vectors: Mapping[str, QueryVector]) -> dict[str, QueryVector]:
    """Drop query vectors without terms or tokens, or with zeros only: they would match every chunk equally well.

    They come from queries without a word that the model knows."""
    return {
        name: one
        for name, one in vectors.items()
        if np.any(np.asarray(one.values if isinstance(one, SparseQuery) else one))
    }


def nearest(name: str, vector: QueryVector) -> Any:
    """The points nearest to a query vector by the signal `name`."""
    import qdrant_edge as edge

    if isinstance(vector, SparseQuery):
        return edge.Query.Nearest(edge.SparseVector(indices=vector.indices, values=vector.values), using=name)
    return edge.Query.Nearest(vector.tolist(), using=name)


def nearest_request(name: str, vector: QueryVector, limit: int, payload: Any, only: Any = None) -> Any:
    """A request for one signal's best `limit` points; exact, even if the engine has a graph over the vectors."""
    import qdrant_edge as edge

    exact, query = edge.SearchParams(exact=True), nearest(name, vector)
    return edge.QueryRequest(limit=limit, query=query, with_payload=payload, filter=only, params=exact)


def payloads(shard: Any, ids: Sequence[Any]) -> dict[str, Payload]:
    """The whole payload of each of the points `ids`, by the point's id."""
    found = shard.retrieve(list(ids), with_payload=True, with_vector=False)
    return {str(one.id): cast("Payload", one.payload or {}) for one in found}


def signal_scores(shard: Any, signals: Mapping[str, QueryVector], ids: Sequence[Any]) -> dict[str, dict[str, float]]:
    """Each signal's score of each of the points `ids`, by point id. One query per signal, over these points only.

    A signal is absent if the point has no vector for it, or shares no term with the query.
    """
    import qdrant_edge as edge

    found: dict[str, dict[str, float]] = {str(one): {} for one in ids}
    if ids and signals:
        only = edge.Filter(must=[edge.HasIdCondition(set(ids))])
        requests = [nearest_request(name, vector, len(ids), False, only) for name, vector in signals.items()]
        answers = shard.query_batch(edge.QueryBatchRequest(requests))
        for name, points in zip(signals, answers, strict=True):
            for point in points:
                found[str(point.id)][name] = point.score
    return found
