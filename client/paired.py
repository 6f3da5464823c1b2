"""Paired differences over the judged queries, and how far they can be trusted.

The interval is that of the paired t. `sure` allows for many comparisons at once: the best of many sets looks better than it
is, so it also has to beat what the largest of all the differences comes to by chance. That is the randomization test: if two
rankings are equally good, each query's difference might as well have the other sign.

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
"""Of five differences, all have the same sign by chance in one case of sixteen: fewer than six show nothing."""

FLIPS = 4_999
"""Draws of random signs. The seed is fixed: the same figures have the same outcome."""

_SEED = 20_240_229
_NUMBERS_AT_ONCE = 4_000_000
_ROUNDING = 1e-9


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One ranking against another, at one measure: the mean over the queries, and its 95% interval."""

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
    """Of Student's t, two-sided: within 0.2% of it from five degrees of freedom on."""
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))


def _beats_chance(differences: FloatArray) -> npt.NDArray[np.bool_]:
    """By column, whether it sums to more than the largest of all columns does in 19 of 20 draws of the queries' signs.

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
