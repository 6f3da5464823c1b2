"""Reciprocal rank fusion: the fused score can be computed by hand from the ranks that are shown beside it.

Source: Cormack, Clarke, Büttcher 2009, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import fsum

RRF_K = 2
"""Qdrant's own default, with ranks from 0; the 60 of the paper is 61 in this formula."""


def reciprocal_rank(rank: int) -> float:
    """What a rank adds to the fused score: 1 / (1 + rank), with ranks from 1."""
    return 1.0 / (RRF_K - 1 + rank)


def fuse(rankings: Iterable[Sequence[int]]) -> list[tuple[int, float]]:
    """(row, fused score) of every row of the rankings, best first, equal scores in the order of the rows.

    Each ranking holds the rows that one signal found, best first, none twice. The order of the rankings does not matter.
    """
    parts: dict[int, list[float]] = {}
    for ranking in rankings:
        for rank, row in enumerate(ranking, 1):
            parts.setdefault(row, []).append(reciprocal_rank(rank))
    scores = [(row, fsum(found)) for row, found in parts.items()]
    return sorted(scores, key=lambda one: (-one[1], one[0]))
