"""Spread of samples: smallest, mean and largest value of each measure, in bounded memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...protocol.statistics.histogram import Number
from ...protocol.statistics.run_stats import SampleRecord

EVENT_SECONDS = 5.0
"""Least time between two `performance` events of a worker, or of this host."""


@dataclass(slots=True)
class Spread:
    """One measure so far."""

    samples: int = 0
    least: Number = float("inf")
    total: Number = 0.0
    most: Number = float("-inf")

    def add(self, value: Number) -> None:
        self.samples += 1
        self.total += value
        self.least, self.most = min(self.least, value), max(self.most, value)

    def record(self) -> dict[str, Number | None]:
        """For stats.json."""
        return {"min": round(self.least, 3), "mean": round(self.total / self.samples, 3), "max": round(self.most, 3)}


@dataclass(slots=True)
class Spreads:
    """The measures of one worker, of one device in one pass, or of this host."""

    measures: dict[str, Spread] = field(default_factory=dict[str, Spread])
    samples: int = 0
    last_event: float = 0.0
    """When the last `performance` event was written."""

    def add(self, sample: Mapping[str, Number]) -> None:
        """Count a sample. It lacks the measures that a device does not report."""
        self.samples += 1
        for name, value in sample.items():
            self.measures.setdefault(name, Spread()).add(value)

    def due(self, now: float) -> bool:
        """Whether an event is due at `now`; True counts as written."""
        if now - self.last_event < EVENT_SECONDS:
            return False
        self.last_event = now
        return True

    def peak(self, name: str) -> int:
        """The largest value of a measure; 0 if it was never reported."""
        return int(self.measures[name].most) if name in self.measures else 0

    def record(self) -> SampleRecord:
        """For stats.json."""
        return {"samples": self.samples, **{name: one.record() for name, one in self.measures.items()}}
