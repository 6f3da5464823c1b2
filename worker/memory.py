"""What memory a worker uses: resident memory on a CPU, NVML and torch's own count on a GPU. Bytes."""

from __future__ import annotations

import resource
import sys

import psutil

from ..protocol.devices import MemorySample
from .gpu_device import GpuDevice


class DeviceMemory:
    """Memory of the worker's device. `uuid` is NVML's; `kind` is `cuda` or `cpu`."""

    def __init__(self, kind: str, uuid: str) -> None:
        self._process = psutil.Process()
        self.gpu = GpuDevice(uuid) if kind == "cuda" else None

    def resident(self) -> int:
        """Resident memory of this process."""
        return int(self._process.memory_info().rss)

    def share(self) -> float:
        """Used part of the GPU's memory, other tenants included, 0 to 1; 0 on a CPU."""
        if self.gpu is None:
            return 0.0
        used, total = self.gpu.memory()
        return used / total

    def sample(self, phase: str) -> MemorySample:
        """The device's memory now."""
        if self.gpu is None:
            return MemorySample(phase=phase, used=self.resident(), total=psutil.virtual_memory().total, source="rss")
        used, total = self.gpu.memory()
        return MemorySample(phase=phase, used=used, total=total, source="nvml")

    def peak(self) -> MemorySample:
        """The most that this process used: torch's reserved memory on a GPU, resident memory on a CPU."""
        total = self.sample("peak").total
        if self.gpu is not None and (torch := sys.modules.get("torch")) is not None:
            return MemorySample(phase="peak", used=int(torch.cuda.max_memory_reserved()), total=total, source="torch")
        kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return MemorySample(phase="peak", used=kilobytes * 1024, total=total, source="rss")
