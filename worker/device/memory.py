"""The memory of a worker's device in bytes: resident memory on a CPU, NVML's and torch's counts on a GPU."""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass

import psutil

from ...protocol.wire.devices import MemorySample
from .gpu_device import GpuDevice

CROWDED = 0.05
"""Share of the GPU's memory. With less free, the next micro-batch may not fit."""
OTHERS_SLACK = 256 << 20
"""Growth that does not count as other processes': CUDA contexts and libraries that are loaded late."""


@dataclass(frozen=True, slots=True)
class Pressure:
    """`share`: used part of the GPU's memory, by all processes, 0 to 1; 0 on a CPU. `crowded`: other processes have taken
    memory since the model was loaded, and little is left."""

    share: float
    crowded: bool


@dataclass(frozen=True, slots=True)
class Starved:
    """No memory for a text that should fit: other processes took it, or it is fragmented. The process must end."""

    reason: str


class DeviceMemory:
    """Memory of the worker's device. `uuid` is NVML's; `kind` is `cuda` or `cpu`."""

    def __init__(self, kind: str, uuid: str) -> None:
        self._process = psutil.Process()
        self.gpu = GpuDevice(uuid) if kind == "cuda" else None
        self._others: int | None = None
        """Bytes in use on the GPU that torch did not reserve, when the model had just been hydrated."""

    def resident(self) -> int:
        """Resident memory of this process."""
        return int(self._process.memory_info().rss)

    def pressure(self) -> Pressure:
        """The current pressure. Make the first call once the model is loaded: it measures what other processes use."""
        if self.gpu is None:
            return Pressure(0.0, crowded=False)
        found = self.gpu.memory()
        if found is None:
            return Pressure(0.0, crowded=False)
        used, total = found
        others = used - self._reserved()
        if self._others is None:
            self._others = others
        grown = others - self._others > OTHERS_SLACK
        return Pressure(used / total, crowded=grown and total - used < CROWDED * total)

    def give_back(self) -> None:
        """Return torch's unused cached memory to the driver."""
        torch = sys.modules.get("torch")
        if self.gpu is not None and torch is not None:
            torch.cuda.empty_cache()

    def _reserved(self) -> int:
        torch = sys.modules.get("torch")
        return int(torch.cuda.memory_reserved()) if torch is not None else 0

    def sample(self, phase: str) -> MemorySample:
        """The device's memory now."""
        if self.gpu is None:
            return MemorySample(phase=phase, used=self.resident(), total=psutil.virtual_memory().total, source="rss")
        used, total = self.gpu.memory() or (0, 0)
        return MemorySample(phase=phase, used=used, total=total, source="nvml")

    def peak(self) -> MemorySample:
        """The most that this process used: torch's reserved memory on a GPU, resident memory on a CPU."""
        total = self.sample("peak").total
        if (reserved := self.reserved_peak()) is not None:
            return MemorySample(phase="peak", used=reserved, total=total, source="torch")
        kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return MemorySample(phase="peak", used=kilobytes * 1024, total=total, source="rss")

    def reserved_peak(self) -> int | None:
        """The most that torch has reserved on the GPU; None without one, and before the model is loaded."""
        torch = sys.modules.get("torch")
        if self._others is None or torch is None:  # it may still be in the middle of its import
            return None
        return int(torch.cuda.max_memory_reserved())
