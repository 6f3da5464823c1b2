"""Encoded queries put to the collection: the best chunks of every signal, fused by their ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...protocol.errors import EmbedfleetError, UsageError
from ...protocol.index.fusion import fused_names, metadata_vectors
from ...protocol.index.metadata_filter import MetadataFilter, metadata_filter
from ...protocol.index.queries import QueryVector, drop_empty
from ...protocol.run_directory.layout import RunLayout
from ...protocol.spec.run_spec import RunSpec
from ..run_directory.edge_shard import check_searchable
from ..verify.shard_checks import remedy
from .exact_metadata import exact_metadata
from .filter_keys import check_keys
from .hit import Hit
from .kept_shard import KeptShard

CANDIDATES = 100
"""Chunks of each signal that are fused, as in `run --queries`; at least `top_k`."""


def search_shard(
    layout: RunLayout,
    spec: RunSpec,
    vectors: Mapping[str, QueryVector],
    top_k: int,
    filters: Sequence[MetadataFilter] = (),
    named: Sequence[str] = (),
    candidates: int | None = None,
    kept: KeptShard | None = None,
) -> list[Hit]:
    """Search with encoded queries: `vectors` has one query vector for each signal to score.

    Vectors in `named` are fused even if another signal, such as an ensemble, contains them. `kept` is the open shard; by
    default it is opened and closed.
    """
    check_searchable(layout, spec)
    used = drop_empty({one.vector: vectors[one.vector] for one in spec.outputs if one.vector in vectors})
    if not used:
        return []
    together = fused_names(spec, used, metadata_vectors(layout, spec), named)
    with (kept or KeptShard(layout, spec)).ranker() as (shard, ranker):
        try:
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
