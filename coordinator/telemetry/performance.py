"""What the samples of workers and of this host come to: smallest, mean and largest of each measure, in bounded memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import psutil

from ...protocol.wire.devices import PerformanceSample

EVENT_SECONDS = 5.0
"""A `performance` event of a worker, and of this host, at most this often."""
HOST_SECONDS = 1.0


class HostSample(msgspec.Struct, frozen=True, kw_only=True):
    """This host at one moment."""

    cpu_percent: float
    """Of all cores, by whomever, since the last sample."""
    available_bytes: int
    """Memory that can be had without swapping."""


@dataclass(slots=True)
class Spread:
    """One measure so far."""

    samples: int = 0
    least: float = float("inf")
    total: float = 0.0
    most: float = float("-inf")

    def add(self, value: float) -> None:
        self.samples += 1
        self.total += value
        self.least, self.most = min(self.least, value), max(self.most, value)

    def record(self) -> dict[str, float]:
        """For stats.json."""
        return {"min": round(self.least, 3), "mean": round(self.total / self.samples, 3), "max": round(self.most, 3)}


@dataclass(slots=True)
class Spreads:
    """The measures of one worker, of one device in one pass, or of this host."""

    measures: dict[str, Spread] = field(default_factory=dict[str, Spread])
    samples: int = 0
    told: float = 0.0
    """When the last `performance` event was written."""

    def add(self, sample: Mapping[str, float | None]) -> None:
        """Count a sample; what a device does not tell is left out."""
        self.samples += 1
        for name, value in sample.items():
            if value is not None:
                self.measures.setdefault(name, Spread()).add(value)

    def due(self, now: float) -> bool:
        """Whether an event is due at `now`; it is then taken for written."""
        if now - self.told < EVENT_SECONDS:
            return False
        self.told = now
        return True

    def peak(self, name: str) -> int:
        """The largest of a measure; 0 where it was never told."""
        return int(self.measures[name].most) if name in self.measures else 0

    def record(self) -> dict[str, Any]:
        """For stats.json."""
        return {"samples": self.samples, **{name: one.record() for name, one in self.measures.items()}}


class PerformanceLog:
    """One run's samples. A run has as many entries as passes times devices, and one a worker that is alive."""

    def __init__(self, vectors: list[str]) -> None:
        self._vectors = vectors
        self._passes: dict[tuple[int, str], Spreads] = {}
        self._workers: dict[str, Spreads] = {}
        self._host = Spreads()
        self._looked = 0.0
        psutil.cpu_percent(None)  # the first call only sets the mark

    def add(
        self, number: int, device: str, worker: str, sample: PerformanceSample, now: float
    ) -> dict[str, Any] | None:
        """Count a worker's sample; the fields of an event where one is due."""
        values = _told(sample)
        self._passes.setdefault((number, device), Spreads()).add(values)
        mine = self._workers.setdefault(worker, Spreads())
        mine.add(values)
        fields = {"worker": worker, "device": device, "vector": self._vectors[number]}
        return fields | values if mine.due(now) else None

    def look(self, now: float) -> dict[str, Any] | None:
        """Sample this host, at most once a second; the fields of an event where one is due."""
        if now - self._looked < HOST_SECONDS:
            return None
        self._looked = now
        try:
            sample = HostSample(cpu_percent=psutil.cpu_percent(None), available_bytes=psutil.virtual_memory().available)
        except OSError:  # no file can be opened: this sample is left out
            return None
        values = _told(sample)
        self._host.add(values)
        return {"host": "coordinator"} | values if self._host.due(now) else None

    def forget(self, worker: str) -> dict[str, int]:
        """A worker has ended: its peaks in bytes, by measure."""
        mine = self._workers.pop(worker, Spreads())
        return {name: peak for name in ("resident_bytes", "gpu_bytes") if (peak := mine.peak(name))}

    def gpu_peak(self, number: int) -> int:
        """The most memory that was in use on a GPU while the pass was there, in bytes; 0 without a GPU."""
        return max((one.peak("gpu_bytes") for (of, _), one in self._passes.items() if of == number), default=0)

    def record(self) -> dict[str, Any]:
        """`processing_stats` of stats.json: this host, and by pass and device."""
        passes: dict[str, dict[str, Any]] = {}
        for (number, device), one in self._passes.items():
            passes.setdefault(self._vectors[number], {})[device] = one.record()
        return {"host": self._host.record(), "passes": passes}


def _told(sample: msgspec.Struct) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(sample).items() if value is not None}
