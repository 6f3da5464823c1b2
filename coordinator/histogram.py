"""A histogram of positive numbers in bounded memory, whatever their range: for latencies and sizes of a run's batches."""

from __future__ import annotations

import math
from collections import Counter

PER_DOUBLING = 16
"""Buckets between a number and its double: a percentile is off by at most 2.2%."""


class LogHistogram:
    """Counts by buckets that are evenly spaced in the logarithm; smallest, largest, count and sum are exact.

    At most 64 · PER_DOUBLING buckets come about, since numbers are taken between 2^-32 and 2^32.
    """

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self._count, self._sum = 0, 0.0
        self._least, self._most = math.inf, 0.0

    def add(self, value: float) -> None:
        """Count one."""
        self._buckets[round(PER_DOUBLING * math.log2(min(max(value, 2.0**-32), 2.0**32)))] += 1
        self._count += 1
        self._sum += value
        self._least, self._most = min(self._least, value), max(self._most, value)

    def percentile(self, share: float) -> float:
        """The number that `share` (0 to 1) of all do not exceed, by nearest rank; 0 where there is none."""
        wanted = max(1, math.ceil(share * self._count))
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= wanted:
                return min(max(2.0 ** (bucket / PER_DOUBLING), self._least), self._most)
        return 0.0

    def summary(self, digits: int) -> dict[str, float]:
        """`min`, `mean`, `max`, `p50`, `p95` and `p99`, rounded; nothing where nothing was counted."""
        if not self._count:
            return {}
        found = {"min": self._least, "mean": self._sum / self._count, "max": self._most}
        found |= {f"p{percent}": self.percentile(percent / 100) for percent in (50, 95, 99)}
        return {name: round(value, digits) for name, value in found.items()}
