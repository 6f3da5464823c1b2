"""PerformanceLog: samples of one run's workers and of this host."""

from __future__ import annotations

import msgspec
import psutil

from ...protocol.statistics.histogram import Number
from ...protocol.statistics.run_stats import ProcessingStats, SampleRecord
from ...protocol.wire.devices import PerformanceSample
from .observer import EventFields
from .spread import Spreads

HOST_SECONDS = 1.0


class HostSample(msgspec.Struct, frozen=True, kw_only=True):
    """This host at one moment."""

    cpu_percent: float
    """Of all cores, by all processes, since the last sample."""
    available_bytes: int
    """Memory that is available without swapping."""


class PerformanceLog:
    """Holds one entry for each pass and device, and one for each live worker."""

    def __init__(self, vectors: list[str]) -> None:
        self._vectors = vectors
        self._passes: dict[tuple[int, str], Spreads] = {}
        self._workers: dict[str, Spreads] = {}
        self._host = Spreads()
        self._looked = 0.0
        psutil.cpu_percent(None)  # the first call only sets the mark

    def add(
        self, pass_index: int, device: str, worker: str, sample: PerformanceSample, now: float
    ) -> EventFields | None:
        """Count a worker's sample. Return the fields of an event if one is due."""
        values = _measured(sample)
        self._passes.setdefault((pass_index, device), Spreads()).add(values)
        mine = self._workers.setdefault(worker, Spreads())
        mine.add(values)
        fields = {"worker": worker, "device": device, "vector": self._vectors[pass_index]}
        return {**fields, **values} if mine.due(now) else None

    def look(self, now: float) -> EventFields | None:
        """Sample this host, at most once a second. Return the fields of an event if one is due."""
        if now - self._looked < HOST_SECONDS:
            return None
        self._looked = now
        try:
            sample = HostSample(cpu_percent=psutil.cpu_percent(None), available_bytes=psutil.virtual_memory().available)
        except OSError:  # no file can be opened: this sample is left out
            return None
        values = _measured(sample)
        self._host.add(values)
        return {"host": "coordinator", **values} if self._host.due(now) else None

    def forget(self, worker: str) -> dict[str, int]:
        """Drop an ended worker. Return its peaks in bytes, by measure."""
        mine = self._workers.pop(worker, Spreads())
        return {name: peak for name in ("resident_bytes", "gpu_bytes") if (peak := mine.peak(name))}

    def record(self) -> ProcessingStats:
        """Record for stats.json: this host, and each pass and device."""
        passes: dict[str, dict[str, SampleRecord]] = {}
        for (pass_index, device), one in self._passes.items():
            passes.setdefault(self._vectors[pass_index], {})[device] = one.record()
        return ProcessingStats(host=self._host.record(), passes=passes)


def _measured(sample: msgspec.Struct) -> dict[str, Number]:
    return {name: value for name, value in msgspec.structs.asdict(sample).items() if value is not None}
