"""Fuse sets of signals from the stored ranks: nDCG@10 and Recall@10 of each set on each judged query, and the relevant chunks
that only one signal finds.

The fused order is that of `protocol/index/rank_fusion.py`, here for all sets at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from ...protocol.index.rank_fusion import PART_BITS, reciprocal_rank

Signals = tuple[str, ...]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

TOP = 10
DIGITS = 8
"""Decimal places of the stored figures."""
MOST_SIGNALS = 8
"""With up to so many signals every set is tried; with more every pair, then the best set so far plus one signal at a time."""

_HALF = PART_BITS // 2


@dataclass(frozen=True, slots=True)
class QueryRanks:
    """What the signals found for one judged query."""

    query: int
    """Its index among the judged queries."""
    ranks: IntArray
    """(signals, chunks), from 1; 0 where a signal did not find the chunk. Chunks in the order of their rows."""
    gains: IntArray
    """By chunk: its judgement; 0 where it is not relevant."""
    ideal: float
    """The largest possible discounted gain."""
    relevant: int
    """How many chunks are relevant, found or not."""


@dataclass(frozen=True, slots=True)
class Tried:
    """Sets of signals, and their nDCG@10 and Recall@10: `ndcg` and `recall` (queries, sets)."""

    sets: tuple[Signals, ...]
    ndcg: FloatArray
    recall: FloatArray
    exhaustive: bool = True
    """Whether these are all possible sets."""

    def of(self, signals: Iterable[str]) -> FloatArray:
        """nDCG@10 of one set, by query."""
        return self.ndcg[:, self.place(signals)]

    def place(self, signals: Iterable[str]) -> int:
        """The column of one set."""
        wanted = frozenset(signals)
        return next(place for place, one in enumerate(self.sets) if frozenset(one) == wanted)

    def mean(self, place: int) -> float:
        """nDCG@10 of one set, over all queries."""
        return round(float(self.ndcg[:, place].mean()), DIGITS)


@dataclass(frozen=True, slots=True)
class OnlyFound:
    """Relevant chunks that one signal has in its list and no other signal has in its own."""

    chunks: int
    queries: tuple[int, ...]
    """Indices of the queries that these chunks answer."""


def discounted(gains: Iterable[float]) -> float:
    """Discounted cumulative gain of the first TOP (linear gains)."""
    return sum(gain / np.log2(place + 1) for place, gain in enumerate(list(gains)[:TOP], 1))


def try_sets(
    queries: Callable[[], Iterable[QueryRanks]],
    count: int,
    signals: Signals,
    fits: Callable[[Signals], bool],
    depth: int,
    also: Sequence[Signals] = (),
) -> Tried:
    """Measure every set of `signals` that `fits`, and the sets in `also`, over `count` queries.

    `queries` is read once; with more than MOST_SIGNALS signals, once more for each added signal. A fused list ends after
    `depth` chunks.
    """
    sizes = range(1, len(signals) + 1) if len(signals) <= MOST_SIGNALS else (1, 2)
    sets = [some for size in sizes for some in combinations(signals, size) if fits(some)]
    sets += [one for one in dict.fromkeys(also) if one not in sets]
    found = Tried(tuple(sets), *fused_measures(queries(), count, signals, sets, depth), len(signals) <= MOST_SIGNALS)
    if found.exhaustive:
        return found
    best = max(range(len(sets)), key=lambda place: (len(sets[place]) == 2, found.mean(place)))
    grown = found.sets[best]
    while longer := [some for one in signals if one not in grown and fits(some := _with(signals, grown, one))]:
        ndcg, recall = fused_measures(queries(), count, signals, longer, depth)
        grown = longer[int(np.round(ndcg.mean(axis=0), 4).argmax())]
        new = [place for place, one in enumerate(longer) if one not in found.sets]
        found = Tried(
            (*found.sets, *(longer[place] for place in new)),
            np.concatenate([found.ndcg, ndcg[:, new]], axis=1),
            np.concatenate([found.recall, recall[:, new]], axis=1),
            exhaustive=False,
        )
    return found


def _with(signals: Signals, some: Signals, one: str) -> Signals:
    return tuple(name for name in signals if name in some or name == one)


def fused_measures(
    queries: Iterable[QueryRanks], count: int, signals: Signals, sets: Sequence[Signals], depth: int
) -> tuple[FloatArray, FloatArray]:
    """nDCG@10 and Recall@10, (queries, sets) each; 0 for a query for which nothing was found."""
    members = np.array([[name in one for name in signals] for one in sets], np.float64)
    ndcg, recall = np.zeros((2, count, len(sets)))
    for one in queries:
        relevant = np.flatnonzero(one.gains)
        if len(relevant):
            places = fused_places(one.ranks, members, relevant)
            shown = (places > 0) & (places <= min(TOP, depth))
            gains = one.gains[relevant] / np.log2(np.where(shown, places, 1) + 1)
            ndcg[one.query] = np.where(shown, gains, 0.0).sum(axis=1) / one.ideal
            recall[one.query] = shown.sum(axis=1) / one.relevant
    return ndcg, recall


def fused_places(ranks: IntArray, members: FloatArray, wanted: IntArray) -> IntArray:
    """(sets, wanted): the rank of each of the chunks `wanted` in each set's fused order, from 1; 0 if it is not found.

    `members` (sets, signals) holds 1 and 0. The scores equal those of `fuse` to the last bit, so that ties are the same: each
    part is split in two halves whose sums over up to 64 signals are exact in any order.
    """
    parts = [0, *map(reciprocal_rank, range(1, int(ranks.max(initial=0)) + 1))]
    coarse = np.array([part >> _HALF for part in parts], np.float64)[ranks]
    fine = np.array([part & ((1 << _HALF) - 1) for part in parts], np.float64)[ranks]
    scores = members @ coarse * 2.0**-_HALF + members @ fine * 2.0**-PART_BITS
    places = np.zeros((len(members), len(wanted)), np.int64)
    for column, chunk in enumerate(wanted.tolist()):
        own = scores[:, [chunk]]
        before = (scores > own).sum(axis=1) + (scores[:, :chunk] == own).sum(axis=1)
        places[:, column] = np.where(own[:, 0] > 0, before + 1, 0)
    return places


def only_found(
    queries: Iterable[QueryRanks], signals: Signals, together: Iterable[str], depths: Sequence[int]
) -> list[dict[str, OnlyFound]]:
    """For each depth and signal: relevant chunks in its first `depth` that no other signal of `together` has in its first
    `depth`."""
    rivals = {name: [signals.index(one) for one in together if one != name] for name in signals}
    chunks = [dict.fromkeys(signals, 0) for _ in depths]
    places = [{name: list[int]() for name in signals} for _ in depths]
    for query in queries:
        relevant = query.ranks[:, query.gains > 0]
        for depth, some, where in zip(depths, chunks, places, strict=True):
            hits = (relevant > 0) & (relevant <= depth)
            for own, name in zip(hits, signals, strict=True):
                if alone := int((own & ~hits[rivals[name]].any(axis=0)).sum()):
                    some[name] += alone
                    where[name].append(query.query)
    return [
        {name: OnlyFound(some[name], tuple(where[name])) for name in signals}
        for some, where in zip(chunks, places, strict=True)
    ]
