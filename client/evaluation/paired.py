"""Paired differences over the judged queries: their intervals, and whether chance explains them.

The interval is that of the paired t. `sure` also corrects for many comparisons, since the best of many sets looks
better by chance than it is. A randomization test flips the sign of each query's difference at random, as if the two
rankings were equally good. With all comparisons scaled to the same length, one is sure if it exceeds the largest of all
in 19 of 20 draws.

Sources: Smucker, Allan, Carterette 2007, "A Comparison of Statistical Significance Tests for Information Retrieval
Evaluation" (paired t, randomization); Westfall, Young 1993, "Resampling-Based Multiple Testing" (the largest of several
statistics); Abramowitz, Stegun 1964, 26.7.5 (the quantile of t).
"""

from __future__ import annotations

from statistics import NormalDist

import msgspec
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

CONFIDENCE = 0.95
LEAST_QUERIES = 6
"""With five queries, chance alone gives all differences the same sign in one case of 16: too often to show anything."""

FLIPS = 4_999
"""Draws of random signs. The seed is fixed, so that the same figures give the same result."""

_SEED = 20_240_229
_NUMBERS_AT_ONCE = 4_000_000
_ROUNDING = 1e-9


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One ranking minus another at one measure: the mean over the queries, and its 95% interval."""

    mean: float
    low: float | None
    """None where there are too few queries for an interval."""
    high: float | None
    better: int
    """Queries on which the first ranking is better."""
    worse: int
    sure: bool
    """Whether the interval is above 0, and the difference larger than chance gives the best of all comparisons."""

    def reversed(self) -> Difference:
        """The difference with the rankings exchanged. `sure` is False, since only the first one was tested for being better."""
        low, high = (None if end is None else _plain(-end) for end in (self.high, self.low))
        return Difference(mean=_plain(-self.mean), low=low, high=high, better=self.worse, worse=self.better, sure=False)


def compare(differences: FloatArray) -> list[Difference]:
    """The Difference of each column of `differences` (queries, comparisons)."""
    count = len(differences)
    better, worse = ((sign * differences > _ROUNDING).sum(axis=0).tolist() for sign in (1, -1))
    means = differences.mean(axis=0).tolist()
    if count < LEAST_QUERIES:
        return [
            Difference(mean=_plain(mean), low=None, high=None, better=won, worse=lost, sure=False)
            for mean, won, lost in zip(means, better, worse, strict=True)
        ]
    half = (t_quantile(count - 1) * differences.std(axis=0, ddof=1) / np.sqrt(count)).tolist()
    return [
        Difference(
            mean=_plain(mean),
            low=_plain(mean - width),
            high=_plain(mean + width),
            better=won,
            worse=lost,
            sure=certain and mean - width > 0,
        )
        for mean, width, won, lost, certain in zip(
            means, half, better, worse, _beats_chance(differences).tolist(), strict=True
        )
    ]


def t_quantile(freedom: int) -> float:
    """The two-sided quantile of Student's t, within 0.2% from five degrees of freedom on."""
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))


def _beats_chance(differences: FloatArray) -> npt.NDArray[np.bool_]:
    """For each column, whether its sum exceeds the largest column sum in 19 of 20 draws of signs for the queries.

    Columns are scaled to the same length first.
    """
    count, comparisons = differences.shape
    size = np.sqrt((differences**2).sum(axis=0))
    scaled = differences / np.where(size > _ROUNDING, size, np.inf)
    random = np.random.default_rng(_SEED)
    block = max(1, _NUMBERS_AT_ONCE // max(count, comparisons))
    largest: list[FloatArray] = []
    for start in range(0, FLIPS, block):
        signs = random.integers(0, 2, (min(block, FLIPS - start), count)) * 2.0 - 1.0
        largest.append((signs @ scaled).max(axis=1))
    rare = round((1 - CONFIDENCE) * (FLIPS + 1))
    return scaled.sum(axis=0) > np.sort(np.concatenate(largest))[-rare] + _ROUNDING


def _plain(value: float) -> float:
    """Eight digits, and no negative zero."""
    return round(value, 8) + 0.0
