"""A histogram of positive numbers of any range in bounded memory, for latencies and sizes of batches."""

from __future__ import annotations

import math

import msgspec

Number = int | float
"""int or float, so that whole numbers stay whole in JSON: 40, not 40.0."""

PER_DOUBLING = 16
"""Buckets between a number and its double: a percentile is off by at most 2.2%."""


class LogHistogram(msgspec.Struct):
    """Counts in logarithmic buckets; smallest, largest, count and sum are exact.

    At most 64 · PER_DOUBLING buckets, since values are clamped to 2^-32 … 2^32.
    """

    count: int = 0
    sum: float = 0.0
    least: Number = 0.0
    most: Number = 0.0
    buckets: dict[int, int] = {}

    def add(self, value: Number) -> None:
        """Add a number."""
        bucket = round(PER_DOUBLING * math.log2(min(max(value, 2.0**-32), 2.0**32)))
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1
        self.least = min(self.least, value) if self.count else value
        self.most = max(self.most, value)
        self.count += 1
        self.sum += value

    def __add__(self, other: LogHistogram) -> LogHistogram:
        """The sum of two histograms, its buckets in ascending order."""
        buckets = {
            bucket: self.buckets.get(bucket, 0) + other.buckets.get(bucket, 0)
            for bucket in sorted({*self.buckets, *other.buckets})
        }
        least = min((one.least for one in (self, other) if one.count), default=0.0)
        return LogHistogram(self.count + other.count, self.sum + other.sum, least, max(self.most, other.most), buckets)

    def percentile(self, share: float) -> Number:
        """The percentile for `share` (0 to 1), by nearest rank; 0 if nothing was added."""
        wanted = max(1, math.ceil(share * self.count))
        seen = 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= wanted:
                return min(max(2.0 ** (bucket / PER_DOUBLING), self.least), self.most)
        return 0.0

    def summary(self, digits: int) -> dict[str, Number]:
        """`min`, `mean`, `max`, `p50`, `p95` and `p99`, rounded; empty if nothing was added."""
        if not self.count:
            return {}
        found = {"min": self.least, "mean": self.sum / self.count, "max": self.most}
        found |= {f"p{percent}": self.percentile(percent / 100) for percent in (50, 95, 99)}
        return {name: round(value, digits) for name, value in found.items()}
