"""Reciprocal rank fusion. The ranks in the output are enough to compute a fused score by hand.

Source: Cormack, Clarke, Büttcher 2009, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

RRF_K = 2
"""Qdrant's own default, with ranks from 0; the 60 of the paper is 61 in this formula."""


PART_BITS = 94
"""The terms of a fused score are whole multiples of 2^-94, so that equal sums tie. As doubles, 1/3 and 1/4 + 1/12 may differ
in the last bit."""


@cache
def reciprocal_rank(rank: int) -> int:
    """The term of a rank (from 1) in the fused score: 1 / (1 + rank), in multiples of 2^-94."""
    return ((2 << PART_BITS) // (RRF_K - 1 + rank) + 1) // 2


def fuse(rankings: Iterable[Sequence[int]]) -> list[tuple[int, float]]:
    """(row, fused score) of every row of the rankings, best first, equal scores in the order of the rows.

    Each ranking has one signal's rows, best first, without duplicates. The order of the rankings does not matter. A score is
    the double nearest to the exact sum, so equal sums have equal scores.
    """
    sums: dict[int, int] = {}
    for ranking in rankings:
        for rank, row in enumerate(ranking, 1):
            sums[row] = sums.get(row, 0) + reciprocal_rank(rank)
    scores = [(row, found / (1 << PART_BITS)) for row, found in sums.items()]
    return sorted(scores, key=lambda one: (-one[1], one[0]))
