"""Hybrid search over the embedded collection of a run: every signal's candidates, fused by the engine."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from ..protocol.errors import EmbedfleetError, UsageError
from ..protocol.layout import RunLayout
from ..protocol.spec import RunSpec
from .edge_shard import check_searchable, open_shard
from .query_encoder import TIMEOUT, QueryVector, SparseQuery, encode_queries
from .run_files import read_spec

RRF_K = 2
"""Qdrant's own default; the 60 of the RRF paper is 61 in Qdrant's formula."""

MIN_CANDIDATES = 100
"""Candidates of each signal that go into the fusion, at least."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that was found. `score` orders the hits: the fused one, or the only signal's own."""

    id: str
    score: float
    scores: dict[str, float]
    """By vector name. A signal is absent where the chunk has no vector for it, or shares no term with the query."""
    text: str
    metadata: dict[str, Any]
    row: int


def search(path: str | PathLike[str], query: str, top_k: int = 10, *, timeout: float = TIMEOUT) -> list[Hit]:
    """The `top_k` chunks of the run in `path` that fit `query` best, best first.

    A run that is not done is searched as far as it is published. UsageError or RunDirectoryError says why a run cannot
    be searched; ModelError and EmbedfleetError come from encoding the query, which may take `timeout` seconds.
    """
    layout = RunLayout(Path(path))
    text = unicodedata.normalize("NFC", query).strip()
    if not text:
        raise UsageError("the query is empty: give some words to search for")
    if top_k < 1:
        raise UsageError(f"{top_k} hits asked for: give 1 or more")
    spec = read_spec(layout)
    check_searchable(layout, spec)
    encoded = encode_queries(layout, spec, [text], timeout)
    return search_shard(layout, spec, {name: vectors[0] for name, vectors in encoded.items()}, top_k)


def search_shard(layout: RunLayout, spec: RunSpec, vectors: Mapping[str, QueryVector], top_k: int) -> list[Hit]:
    """`search` once the query is encoded; `vectors` has one query vector for each signal to use."""
    check_searchable(layout, spec)
    signals = {one.vector: vectors[one.vector] for one in spec.outputs if one.vector in vectors}
    # a query of stop words only has an empty sparse vector: no signal
    used = {name: vector for name, vector in signals.items() if not isinstance(vector, SparseQuery) or vector.indices}
    if not used:
        return []
    with open_shard(layout) as shard:
        try:
            points = shard.query(_fused(used, top_k))
            scores = _scores(shard, used, [point.id for point in points])
        except Exception as error:  # the engine raises nothing more exact
            raise EmbedfleetError(f"{layout.edge}: the Edge engine refused the query ({error})") from error
    hits = [_hit(point, scores[str(point.id)]) for point in points]
    return sorted(hits, key=lambda hit: (-hit.score, hit.row))  # the engine leaves ties in any order


def _nearest(name: str, vector: QueryVector) -> Any:
    import qdrant_edge as edge

    if isinstance(vector, SparseQuery):
        return edge.Query.Nearest(edge.SparseVector(indices=vector.indices, values=vector.values), using=name)
    return edge.Query.Nearest(vector.tolist(), using=name)


def _fused(signals: Mapping[str, QueryVector], top_k: int) -> Any:
    import qdrant_edge as edge

    queries = [_nearest(name, vector) for name, vector in signals.items()]
    if len(queries) == 1:
        return edge.QueryRequest(limit=top_k, query=queries[0], with_payload=True)
    candidates = max(4 * top_k, MIN_CANDIDATES)
    prefetches = [edge.Prefetch(limit=candidates, query=query) for query in queries]
    fusion: Any = edge.Fusion.Rrf(k=RRF_K)
    return edge.QueryRequest(limit=top_k, query=fusion, prefetches=prefetches, with_payload=True)


def _scores(shard: Any, signals: Mapping[str, QueryVector], ids: list[Any]) -> dict[str, dict[str, float]]:
    """Each signal's own score of each of the points `ids`, by the point's id; one query a signal, over those points only."""
    import qdrant_edge as edge

    found: dict[str, dict[str, float]] = {str(one): {} for one in ids}
    if ids:
        only = edge.Filter(must=[edge.HasIdCondition(set(ids))])
        requests = [
            edge.QueryRequest(limit=len(ids), query=_nearest(name, vector), filter=only)
            for name, vector in signals.items()
        ]
        answers = shard.query_batch(edge.QueryBatchRequest(requests))
        for name, points in zip(signals, answers, strict=True):
            for point in points:
                found[str(point.id)][name] = point.score
    return found


def _hit(point: Any, scores: dict[str, float]) -> Hit:
    payload: dict[str, Any] = point.payload or {}
    return Hit(
        id=payload["id"],
        score=point.score,
        scores=scores,
        text=payload.get("text", ""),
        metadata=payload.get("metadata") or {},
        row=payload["row"],
    )
