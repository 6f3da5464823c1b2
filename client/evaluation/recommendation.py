"""Recommend which signals to fuse: the smallest set that no larger set beats by more than chance.

A larger set has to gain LEAST_GAIN at nDCG@10, and be surely better at nDCG@10 or at Recall@10. Recall@10 counts too, because
fusing two signals that complement each other moves some chunks from the first place to the second, but brings more relevant
chunks into the first ten.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable

import msgspec
import numpy as np

from .paired import LEAST_QUERIES, Difference, compare
from .signal_sets import Signals, Tried

LEAST_GAIN = 0.01
"""The smallest gain at nDCG@10 that is worth another signal, even where a smaller gain is sure."""


SHOWN = 4
"""Digits by which sets are compared: those that the tables show."""


class SetFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A set of signals, and the figures of its fusion."""

    signals: tuple[str, ...]
    ndcg: float
    seconds: float
    """Seconds that computing its signals for the corpus took."""


class Against(msgspec.Struct, frozen=True, kw_only=True):
    """The recommended set compared with another one."""

    other: SetFigures
    difference: Difference
    """At nDCG@10; above 0 where the recommended set is better."""
    recall: Difference
    """The same at Recall@10."""

    @property
    def gains(self) -> bool:
        """Whether the larger set is worth its further signals."""
        return self.difference.mean >= LEAST_GAIN and (self.difference.sure or self.recall.sure)


class Recommendation(msgspec.Struct, frozen=True, kw_only=True):
    """The signals to fuse, and the comparisons that support the choice."""

    chosen: SetFigures
    flag: str
    """The flag to type, for `embedfleet search` and `embedfleet run`."""
    single: Against | None
    """Compared with the best single signal; None if that is recommended."""
    simpler: Against | None
    """Compared with the next simpler choice; None if that is the best single signal."""
    larger: Against | None
    """Compared with the best of the larger sets; None if there is none."""
    sets: int
    """How many sets were compared."""
    exhaustive: bool
    """Whether these are all possible sets."""


def recommend(tried: Tried, seconds: Callable[[Signals], float]) -> Recommendation | None:
    """Begin with the best single signal; while a larger set gains LEAST_GAIN and is surely better, take the smallest such
    set. Of sets with equal scores take the cheapest, in whole seconds, and then the first.

    None with fewer than two signals, fewer than LEAST_QUERIES queries, or no relevant chunk among the first ten of any set.
    """
    if sum(len(one) == 1 for one in tried.sets) < 2 or len(tried.ndcg) < LEAST_QUERIES or not tried.ndcg.any():
        return None

    def standing(place: int) -> tuple[float, int]:
        return round(tried.mean(place), SHOWN), -round(seconds(tried.sets[place]))

    def figures(place: int) -> SetFigures:
        signals = tried.sets[place]
        return SetFigures(signals=signals, ndcg=tried.mean(place), seconds=seconds(signals))

    def of_larger(place: int) -> dict[int, Against]:
        """Compare every larger set with this one."""
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
    """The comparison of a larger set with the recommended one, turned round."""
    return Against(other=other, difference=found.difference.reversed(), recall=found.recall.reversed())
