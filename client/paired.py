"""Paired differences over the judged queries, and how far they can be trusted.

The interval is that of a paired t, its critical value from the randomization test: if two rankings are equally good, each
query's difference might as well have the other sign. `sure` allows for many comparisons at once: the best of many sets looks
better than it is, so it has to beat what the largest of all the differences comes to by chance.

Sources: Smucker, Allan, Carterette 2007, "A Comparison of Statistical Significance Tests for Information Retrieval
Evaluation" (randomization); Westfall, Young 1993, "Resampling-Based Multiple Testing" (the largest of several statistics).
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

CONFIDENCE = 0.95
LEAST_QUERIES = 6
"""Of five differences, all have the same sign by chance in one case of sixteen: fewer queries show nothing."""

FLIPS = 4_999
"""Random signs of the differences. The seed is fixed: the same figures give the same intervals."""

_SEED = 20_240_229
_SIGNS_AT_ONCE = 4_000_000
_ROUNDING = 1e-9


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One ranking against another, at nDCG@10: the mean over the queries, and its 95% interval."""

    mean: float
    low: float | None
    """None where there are too few queries for an interval."""
    high: float | None
    better: int
    """Queries on which it is better."""
    worse: int
    sure: bool
    """Better by more than the interval allows, and than the best of all that was compared with it is by chance."""

    def reversed(self) -> Difference:
        """The other ranking against this one. It was not the one that was asked about: nothing is sure."""
        low, high = (None if end is None else _plain(-end) for end in (self.high, self.low))
        return Difference(mean=_plain(-self.mean), low=low, high=high, better=self.worse, worse=self.better, sure=False)


def compare(differences: FloatArray) -> list[Difference]:
    """What each column of `differences` (queries, comparisons) comes to."""
    half, sure = _tested(differences)
    better, worse = ((sign * differences > _ROUNDING).sum(axis=0).tolist() for sign in (1, -1))
    means = differences.mean(axis=0).tolist()
    return [
        Difference(
            mean=_plain(mean),
            low=_plain(mean - width) if np.isfinite(width) else None,
            high=_plain(mean + width) if np.isfinite(width) else None,
            better=won,
            worse=lost,
            sure=certain and mean - width > 0,
        )
        for mean, width, won, lost, certain in zip(means, half.tolist(), better, worse, sure.tolist(), strict=True)
    ]


def _tested(differences: FloatArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Half the width of each interval, infinite where no signs are rare enough; and what beats the largest by chance."""
    count, comparisons = differences.shape
    half, sure = np.zeros(comparisons), np.zeros(comparisons, np.bool_)
    size = np.sqrt((differences**2).sum(axis=0))
    moved = np.flatnonzero(size > _ROUNDING)
    if len(moved):
        scaled = differences[:, moved] / size[moved]
        own, largest = _critical(scaled)
        room = np.maximum(count - own**2, 0.0)
        spread = np.sqrt(differences[:, moved].var(axis=0))
        bounded = room > _ROUNDING * count
        half[moved] = np.where(bounded, own * spread / np.sqrt(np.where(bounded, room, 1.0)), np.inf)
        sure[moved] = scaled.sum(axis=0) > largest
    return half, sure


def _critical(scaled: FloatArray) -> tuple[FloatArray, float]:
    """What the |sum| of each column, of unit length, and the largest sum of all exceed in one of twenty draws of signs."""
    count = len(scaled)
    random = np.random.default_rng(_SEED)
    block = max(1, _SIGNS_AT_ONCE // count)
    drawn: list[FloatArray] = []
    for start in range(0, FLIPS, block):
        signs = random.integers(0, 2, (min(block, FLIPS - start), count)) * 2.0 - 1.0
        drawn.append(signs @ scaled)
    sums = np.concatenate(drawn)
    rare = round((1 - CONFIDENCE) * (FLIPS + 1))
    own: FloatArray = np.sort(np.abs(sums), axis=0)[-rare]
    return own * (1 + _ROUNDING), float(np.sort(sums.max(axis=1))[-rare]) * (1 + _ROUNDING)


def _plain(value: float) -> float:
    """Eight digits, and no negative zero."""
    return round(value, 8) + 0.0
