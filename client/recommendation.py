"""Which signals to fuse: the fewest that no larger set is better than, by more than chance explains.

Better at nDCG@10, or at Recall@10, which says whether the relevant chunks are among the first ten at all: a fusion of two
signals that each find what the other lacks moves what one had first to the second place, and brings in the rest.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable

import msgspec
import numpy as np

from .paired import LEAST_QUERIES, Difference, compare
from .signal_sets import Signals, Tried

LEAST_GAIN = 0.01
"""At nDCG@10: a larger set that gains less is not worth another signal, however sure the gain is."""


SHOWN = 4
"""Digits: what looks equal in the tables is called equal."""


class SetFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A set of signals, fused."""

    signals: tuple[str, ...]
    ndcg: float
    seconds: float
    """What computing its signals for the corpus took."""


class Against(msgspec.Struct, frozen=True, kw_only=True):
    """The recommended set against another one."""

    other: SetFigures
    difference: Difference
    """At nDCG@10; above 0 where the recommended set is better."""
    recall: Difference
    """The same at Recall@10."""

    @property
    def gains(self) -> bool:
        """Whether the set that was compared is worth its further signals."""
        return self.difference.mean >= LEAST_GAIN and (self.difference.sure or self.recall.sure)


class Recommendation(msgspec.Struct, frozen=True, kw_only=True):
    """What to fuse, and what speaks for it."""

    chosen: SetFigures
    flag: str
    """For `embedfleet search` and `embedfleet run`."""
    single: Against | None
    """The best single signal; None where that is what is recommended."""
    simpler: Against | None
    """The next simpler choice, where it is not the best single signal."""
    larger: Against | None
    """The best of the larger sets; None where there is none."""
    sets: int
    """Compared."""
    exhaustive: bool
    """Whether these are all the sets that there are."""


def recommend(tried: Tried, seconds: Callable[[Signals], float]) -> Recommendation | None:
    """From the best single signal on, take the smallest set that gains LEAST_GAIN and is surely better, as long as there is
    one. Of equals the one that costs less, to the second; else the first.

    None where there are no two signals, fewer than LEAST_QUERIES queries, or no relevant chunk among the first ten of any.
    """
    if sum(len(one) == 1 for one in tried.sets) < 2 or len(tried.ndcg) < LEAST_QUERIES or not tried.ndcg.any():
        return None

    def standing(place: int) -> tuple[float, int]:
        return round(tried.mean(place), SHOWN), -round(seconds(tried.sets[place]))

    def figures(place: int) -> SetFigures:
        signals = tried.sets[place]
        return SetFigures(signals=signals, ndcg=tried.mean(place), seconds=seconds(signals))

    def of_larger(place: int) -> dict[int, Against]:
        """Every larger set against this one."""
        other, size = figures(place), len(tried.sets[place])
        larger = [more for more, some in enumerate(tried.sets) if len(some) > size]
        gains = [table[:, larger] - table[:, [place]] for table in (tried.ndcg, tried.recall)]
        found = compare(np.concatenate(gains, axis=1)) if larger else []
        pairs = zip(larger, found[: len(larger)], found[len(larger) :], strict=True)
        return {more: Against(other=other, difference=ndcg, recall=recall) for more, ndcg, recall in pairs}

    single = max((place for place, one in enumerate(tried.sets) if len(one) == 1), key=standing)
    chosen = simpler = single
    against_single = against_simpler = larger = of_larger(single)
    while better := [place for place, one in larger.items() if one.gains]:
        smallest = min(len(tried.sets[place]) for place in better)
        simpler, against_simpler = chosen, larger
        chosen = max((place for place in better if len(tried.sets[place]) == smallest), key=standing)
        larger = of_larger(chosen)
    rival = max(larger, key=standing, default=None)
    return Recommendation(
        chosen=figures(chosen),
        flag=f"--signals {shlex.quote(','.join(tried.sets[chosen]))}",
        single=None if chosen == single else against_single[chosen],
        simpler=None if simpler == single else against_simpler[chosen],
        larger=None if rival is None else _against(figures(rival), larger[rival]),
        sets=len(tried.sets),
        exhaustive=tried.exhaustive,
    )


def _against(other: SetFigures, found: Against) -> Against:
    """The recommended set against a larger one that was compared with it."""
    return Against(other=other, difference=found.difference.reversed(), recall=found.recall.reversed())
