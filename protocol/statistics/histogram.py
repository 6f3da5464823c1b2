"""A histogram of positive numbers in bounded memory, whatever their range: for latencies and sizes of a run's batches."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

BATCH_DIGITS = {"batch_seconds": 6, "batch_rows": 1, "batch_tokens": 1}
"""The histograms of a pass in `stats.json`, and the decimal places of their summaries."""

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

    def join(self, other: LogHistogram) -> LogHistogram:
        """Take over all that the other one counted; this one."""
        self._buckets.update(other._buckets)
        self._count += other._count
        self._sum += other._sum
        self._least, self._most = min(self._least, other._least), max(self._most, other._most)
        return self

    def record(self) -> dict[str, Any]:
        """All of it as JSON values, for `of`."""
        buckets = {str(bucket): count for bucket, count in sorted(self._buckets.items())}
        least = self._least if self._count else 0.0
        return {"count": self._count, "sum": self._sum, "least": least, "most": self._most, "buckets": buckets}

    @classmethod
    def of(cls, record: dict[str, Any]) -> LogHistogram:
        """The histogram that `record` describes."""
        made = cls()
        if record["count"]:
            made._buckets.update({int(bucket): count for bucket, count in record["buckets"].items()})
            made._count, made._sum = record["count"], record["sum"]
            made._least, made._most = record["least"], record["most"]
        return made

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
