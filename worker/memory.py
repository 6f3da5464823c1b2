"""What memory a worker uses: resident memory on a CPU, NVML and torch's own count on a GPU. Bytes."""

from __future__ import annotations

import resource
import sys
from typing import Any

import psutil

from ..protocol.devices import MemorySample


class DeviceMemory:
    """Memory of the worker's device. `uuid` is NVML's; `kind` is `cuda` or `cpu`."""

    def __init__(self, kind: str, uuid: str) -> None:
        self._process = psutil.Process()
        self._nvml: Any = None
        self._handle: Any = None
        if kind == "cuda":
            import pynvml

            pynvml.nvmlInit()
            self._nvml = pynvml
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)

    def resident(self) -> int:
        """Resident memory of this process."""
        return int(self._process.memory_info().rss)

    def share(self) -> float:
        """Used part of the GPU's memory, other tenants included, 0 to 1; 0 on a CPU."""
        if self._nvml is None:
            return 0.0
        info = self._nvml.nvmlDeviceGetMemoryInfo(self._handle)
        return float(info.used) / float(info.total)

    def sample(self, phase: str) -> MemorySample:
        """The device's memory now."""
        if self._nvml is None:
            return MemorySample(phase=phase, used=self.resident(), total=psutil.virtual_memory().total, source="rss")
        info = self._nvml.nvmlDeviceGetMemoryInfo(self._handle)
        return MemorySample(phase=phase, used=int(info.used), total=int(info.total), source="nvml")

    def peak(self) -> MemorySample:
        """The most that this process used: torch's reserved memory on a GPU, resident memory on a CPU."""
        total = self.sample("peak").total
        if self._nvml is not None and (torch := sys.modules.get("torch")) is not None:
            return MemorySample(phase="peak", used=int(torch.cuda.max_memory_reserved()), total=total, source="torch")
        kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return MemorySample(phase="peak", used=kilobytes * 1024, total=total, source="rss")
