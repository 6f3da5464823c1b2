"""Hybrid search over the embedded collection of a run: every signal's candidates, fused by the engine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from ..protocol.engine_queries import (
    QueryVector,
    asking,
    best,
    few,
    fused_request,
    metadata_filter,
    payloads,
    signal_scores,
)
from ..protocol.errors import EmbedfleetError, UsageError
from ..protocol.fusion import fused_names, metadata_vectors
from ..protocol.layout import RunLayout
from ..protocol.pairs import join_pair
from ..protocol.preprocessing import preprocess, preprocessor
from ..protocol.spec import PassSpec, RunSpec
from .edge_shard import check_searchable, open_shard
from .filter_keys import check_keys, plain_filters
from .query_encoder import TIMEOUT, encode_queries, score_pairs
from .run_files import read_spec
from .shard_checks import remedy
from .signal_names import choose_signals
from .spec_flags import make_pass

MIN_CANDIDATES = 100
"""Candidates of each signal that go into the fusion, at least."""

RERANKED = 50
"""Fused hits that a reranker orders anew, at least."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that was found. `score` orders the hits: the fused one, or that of the only signal fused."""

    id: str
    score: float
    scores: dict[str, float]
    """By vector name. A signal is absent where the chunk has no vector for it, or shares no term with the query."""
    text: str
    metadata: dict[str, Any]
    row: int
    fused: bool = True
    """Whether `score` is of several signals; else it is that of the only one."""
    rerank: float | None = None
    """The reranker's score, which then orders the hits; None without one, and where it gave none."""


def search(
    path: str | PathLike[str],
    query: str,
    top_k: int = 10,
    *,
    signals: Sequence[str] = (),
    filters: Sequence[tuple[str, str]] = (),
    rerank: str | None = None,
    timeout: float = TIMEOUT,
    trust_remote_code: bool = False,
) -> list[Hit]:
    """The `top_k` chunks of the run in `path` that fit `query` best, best first.

    `signals` are names of vectors (or how these end) or forms (`dense`, `sparse`, `multivector`), none for all. Vectors that
    are named are fused; of the others, those that `fused_names` says, and the rest is scored. `filters` are (key, value) of
    the metadata, all of which must hold. A reranker orders the first RERANKED hits anew; what it cannot score follows in the
    fused order. With `trust_remote_code` it may run code of its own; whether the run's models may, the run says.

    A run that is not done is searched as far as it is published. UsageError or RunDirectoryError says why a run cannot
    be searched; ModelError and EmbedfleetError come from encoding the query, which may take `timeout` seconds,
    as the reranker may after it.
    """
    layout = RunLayout(Path(path))
    if not preprocess(query):
        raise UsageError("the query is empty: give some words to search for")
    if top_k < 1:
        raise UsageError(f"{top_k} hits asked for: give 1 or more")
    if not (math.isfinite(timeout) and timeout > 0):
        raise UsageError(f"--timeout {timeout:g}: give seconds, more than 0")
    spec = read_spec(layout)
    check_searchable(layout, spec)
    text = preprocessor(spec.preprocessing)(query)
    wanted, named = choose_signals(spec, signals, layout.root)
    filters = plain_filters(filters)
    reranker = _reranker(rerank, trust_remote_code) if rerank is not None else None
    encoded = encode_queries(layout, spec, [text], timeout, wanted)
    vectors = {name: encoded[name][0] for name in wanted}
    if reranker is None:
        return search_shard(layout, spec, vectors, top_k, filters, named)
    hits = search_shard(layout, spec, vectors, max(top_k, RERANKED), filters, named)
    return _reranked(reranker, text, hits, timeout)[:top_k]


def search_shard(
    layout: RunLayout,
    spec: RunSpec,
    vectors: Mapping[str, QueryVector],
    top_k: int,
    filters: Sequence[tuple[str, str]] = (),
    named: Sequence[str] = (),
) -> list[Hit]:
    """`search` once the query is encoded; `vectors` has one query vector for each signal to score.

    Of these, the vectors that are `named` are fused whatever else holds them.
    """
    check_searchable(layout, spec)
    used = asking({one.vector: vectors[one.vector] for one in spec.outputs if one.vector in vectors})
    if not used:
        return []
    together = {name: used[name] for name in fused_names(spec, used, metadata_vectors(layout, spec), named)}
    with open_shard(layout) as shard:
        try:
            candidates = max(4 * top_k, MIN_CANDIDATES)
            found = shard.query(fused_request(together, candidates, few(), metadata_filter(filters)))
            points = best(found, top_k)
            if not points:
                check_keys(layout, shard, filters)
            scores = signal_scores(shard, used, [point.id for point in points])
            whole = payloads(shard, points)
        except (UsageError, KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:  # the engine raises nothing more exact; its panics are no Exception
            raise EmbedfleetError(
                f"{layout.edge}: the Edge engine refused the query ({error}); {remedy(layout)}"
            ) from error
    fused = len(together) > 1
    return [_hit(one.score, whole[str(one.id)], scores[str(one.id)], fused=fused) for one in points]


def _reranker(model: str, trust_remote_code: bool) -> PassSpec:
    return make_pass("rerank", model, {"dtype": "float32", "trust_remote_code": trust_remote_code})


def _reranked(one: PassSpec, query: str, hits: list[Hit], timeout: float) -> list[Hit]:
    scores = score_pairs(one, [join_pair(query, hit.text) for hit in hits], timeout) if hits else []
    scored = [replace(hit, rerank=score) for hit, score in zip(hits, scores, strict=True)]
    return sorted(scored, key=lambda hit: (hit.rerank is None, -(hit.rerank or 0.0)))  # stable: ties stay as fused


def _hit(score: float, payload: Mapping[str, Any], scores: dict[str, float], *, fused: bool) -> Hit:
    return Hit(
        id=payload["id"],
        score=score,
        scores=scores,
        text=payload.get("text", ""),
        metadata=payload.get("metadata") or {},
        row=payload["row"],
        fused=fused,
    )
