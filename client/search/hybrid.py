"""Hybrid search over the embedded collection of a run: the best chunks of every signal, fused by their ranks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any

from ...protocol.errors import EmbedfleetError, RunDirectoryError, UsageError
from ...protocol.finished_run.payload import Metadata
from ...protocol.index.fusion import fused_names, metadata_vectors
from ...protocol.index.queries import QueryVector, SparseQuery, drop_empty, metadata_filter
from ...protocol.index.shard_ranking import ShardRanker
from ...protocol.run_directory.layout import RunLayout
from ...protocol.spec.run_spec import PassSpec, RunSpec
from ...protocol.text.preprocessing import preprocess, preprocessor
from ...protocol.text.query_pairs import join_pair
from ..arguments import expand_path
from ..options.signal_names import choose_signals
from ..options.spec_builder import make_pass
from ..run_directory.edge_shard import check_searchable, open_shard
from ..run_directory.files import read_spec
from ..verify.shard_checks import remedy
from .exact_metadata import exact_metadata
from .filter_keys import Filters, check_keys, plain_filters
from .pair_scores import score_pairs
from .query_child import TIMEOUT
from .query_encoder import encode_queries

CANDIDATES = 100
"""Chunks of each signal that are fused, as in `run --queries`; at least `top_k`."""

RERANKED = 50
"""Fused hits that a reranker orders anew; at most `candidates`, at least `top_k`."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that was found. `score` orders the hits: the fused score, or that of the only signal fused."""

    id: str
    score: float
    scores: dict[str, float]
    """By vector name. A signal is absent where the chunk has no vector for it, or shares no term with the query."""
    text: str
    metadata: Metadata
    row: int
    fused: bool = True
    """Whether `score` is fused from several signals; if not, it is that of the only signal."""
    rerank: float | None = None
    """The reranker's score, which then orders the hits; None without a reranker, or if it could not score the chunk."""
    ranks: dict[str, int] = field(default_factory=dict[str, int])
    """By vector name, from 1; equal scores are ranked by row. A signal is absent if the chunk is not among its candidates.
    The fused score is the sum of 1 / (1 + rank) over the signals that are fused."""
    left_out: dict[str, str] = field(default_factory=dict[str, str])
    """By vector name, why a signal is left out of this search: its model could not encode the query."""


def search(
    path: str | PathLike[str],
    query: str,
    top_k: int = 10,
    *,
    signals: Sequence[str] = (),
    filters: Filters = (),
    rerank: str | None = None,
    timeout: float = TIMEOUT,
    trust_remote_code: bool = False,
    candidates: int | None = None,
    say: Callable[[str], None] = lambda _line: None,
) -> list[Hit]:
    """The `top_k` chunks of the run in `path` that fit `query` best, best first.

    `signals` are names of vectors, ends of names, or forms (`dense`, `sparse`, `multivector`); empty for all. Vectors given
    by name are fused. Of the others, `fused_names` chooses which to fuse; the rest are only scored. The first `candidates`
    chunks of each signal are fused: by default CANDIDATES, or `top_k` if larger. `filters` are (key, value) pairs of the
    metadata, or a dict of them, all of which must match.

    `rerank` is a cross-encoder that reorders the first RERANKED hits. Hits that it cannot score follow in the fused order.
    `trust_remote_code` lets it run code of its own; for the run's models, the run's setting holds.

    A signal is left out if its model cannot encode the query or knows no word of it: `say` gets a line for each, and
    `Hit.left_out` has the reasons. UsageError if no signal is left. `say` also gets a line for each model that truncated the
    query, and one if the reranker truncated texts.

    A run in progress is searched as far as it is published. UsageError or RunDirectoryError says why a run cannot be
    searched. Encoding the query may take `timeout` seconds, and the reranker as long again; their failures are ModelError
    and EmbedfleetError.
    """
    layout = RunLayout(expand_path(path, "DIR", RunDirectoryError))
    if not preprocess(query):
        raise UsageError("the query is empty: give some words to search for")
    if top_k < 1:
        raise UsageError(f"{top_k} hits asked for: give 1 or more")
    if not (math.isfinite(timeout) and timeout > 0):
        raise UsageError(f"--timeout {timeout:g}: give seconds, more than 0")
    spec = read_spec(layout)
    check_searchable(layout, spec)
    if candidates is not None and candidates < top_k:
        raise UsageError(f"--candidates {candidates}: give at least {top_k}, which is --top-k")
    text = preprocessor(spec.preprocessing)(query)
    wanted, named = choose_signals(spec, signals, layout.root)
    pairs = plain_filters(filters)
    reranker = _reranker(rerank, trust_remote_code) if rerank is not None else None
    encoded = encode_queries(layout, spec, [text], timeout, wanted, say)
    query_vectors = {name: encoded.vectors[name][0] for name in wanted if name in encoded.vectors}
    vectors = drop_empty(query_vectors)
    left_out = encoded.left_out | {name: _unknown(query_vectors[name]) for name in query_vectors if name not in vectors}
    reasons = [f"{name} is left out: {left_out[name]}" for name in wanted if name in left_out]
    if not vectors:
        raise UsageError(f"no signal can answer this query; {'; '.join(reasons)}")
    for line in reasons:
        say(line)
    depth = top_k if reranker is None else max(top_k, min(RERANKED, candidates or RERANKED))
    hits = search_shard(layout, spec, vectors, depth, pairs, named, candidates)
    if left_out:
        hits = [replace(hit, left_out=left_out) for hit in hits]
    return hits if reranker is None else _reranked(reranker, text, hits, timeout, say)[:top_k]


def search_shard(
    layout: RunLayout,
    spec: RunSpec,
    vectors: Mapping[str, QueryVector],
    top_k: int,
    filters: Sequence[tuple[str, str]] = (),
    named: Sequence[str] = (),
    candidates: int | None = None,
) -> list[Hit]:
    """Search with encoded queries: `vectors` has one query vector for each signal to score.

    Vectors in `named` are fused even if another signal, such as an ensemble, contains them.
    """
    check_searchable(layout, spec)
    used = drop_empty({one.vector: vectors[one.vector] for one in spec.outputs if one.vector in vectors})
    if not used:
        return []
    together = fused_names(spec, used, metadata_vectors(layout, spec), named)
    with open_shard(layout) as shard:
        try:
            ranker = ShardRanker(shard, spec)
            places = max(top_k, CANDIDATES if candidates is None else candidates)
            ranked = ranker.rank(used, together, places, metadata_filter(filters, shard))
            first = ranked.fused[:top_k]
            if not first:
                check_keys(layout, shard, filters)
            rows = [row for row, _ in first]
            scores = ranker.scores(used, ranked, rows)
            payloads = ranker.payloads(ranked, rows)
        except (UsageError, KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:  # the engine raises nothing more exact; its panics are no Exception
            raise EmbedfleetError(
                f"{layout.edge}: the Edge engine refused the query ({error}); {remedy(layout)}"
            ) from error
    metadata = exact_metadata(layout, payloads)
    ranks: dict[int, dict[str, int]] = {row: {} for row in rows}
    for name, ranking in ranked.rankings.items():
        for rank, row in enumerate(ranking, 1):
            if row in ranks:
                ranks[row][name] = rank
    alone = together[0] if len(together) == 1 else None
    return [
        _hit(
            score if alone is None else scores[row][alone],
            {**payloads[row], "metadata": metadata[row]},
            scores[row],
            ranks[row],
            fused=alone is None,
        )
        for row, score in first
    ]


def _reranker(model: str, trust_remote_code: bool) -> PassSpec:
    return make_pass("rerank", model, {"dtype": "float32", "trust_remote_code": trust_remote_code})


def _reranked(reranker: PassSpec, query: str, hits: list[Hit], timeout: float, say: Callable[[str], None]) -> list[Hit]:
    scores = score_pairs(reranker, [join_pair(query, hit.text) for hit in hits], timeout, say) if hits else []
    scored = [replace(hit, rerank=score) for hit, score in zip(hits, scores, strict=True)]
    return sorted(scored, key=lambda hit: (hit.rerank is None, -(hit.rerank or 0.0)))  # stable: ties stay as fused


def _unknown(vector: QueryVector) -> str:
    """Why a query vector is empty."""
    what = "no term" if isinstance(vector, SparseQuery) else "only zeros"
    return f"the query vector has {what}: it knows no word of the query, or stop words alone"


def _hit(
    score: float, payload: Mapping[str, Any], scores: dict[str, float], ranks: dict[str, int], *, fused: bool
) -> Hit:
    return Hit(
        id=payload["id"],
        score=score,
        scores=scores,
        text=payload.get("text", ""),
        metadata=payload["metadata"],
        row=payload["row"],
        fused=fused,
        ranks=ranks,
    )
