"""PerformanceMonitor: how busy the worker's process and its GPU are, sampled by the loop that sends Alive."""

from __future__ import annotations

import time

import psutil

from ...protocol.wire.devices import PerformanceSample
from .memory import DeviceMemory

LEAST_SECONDS = 0.2
"""In less time, the kernel's clock ticks are too few to measure the load."""


class PerformanceMonitor:
    """Samples one worker. CPU percent is since the previous sample; 100 is one core."""

    def __init__(self, memory: DeviceMemory, process: psutil.Process | None = None) -> None:
        self._memory = memory
        self._process = process or psutil.Process()
        self._process.cpu_percent(None)  # the first call only sets the mark
        self._marked = time.monotonic()

    def sample(self) -> PerformanceSample:
        """The current load; takes about a millisecond."""
        gpu = self._memory.gpu
        return PerformanceSample(
            resident_bytes=self._memory.resident(),
            cpu_percent=self._busy(time.monotonic()),
            gpu_percent=gpu.utilization() if gpu is not None else None,
            gpu_bytes=gpu.used() if gpu is not None else None,
            gpu_celsius=gpu.temperature() if gpu is not None else None,
            gpu_watts=gpu.power() if gpu is not None else None,
            reserved_bytes=self._memory.reserved_peak(),
        )

    def _busy(self, now: float) -> float | None:
        if now - self._marked < LEAST_SECONDS:
            return None
        self._marked = now
        return self._process.cpu_percent(None)
