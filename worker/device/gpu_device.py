"""GpuDevice: one GPU or MIG slice as NVML sees it, without CUDA."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

Number = TypeVar("Number", int, float)


class GpuDevice:
    """The GPU with this UUID. A value that the driver does not report is None, such as the power of a MIG slice."""

    def __init__(self, uuid: str, nvml: Any = None) -> None:
        if nvml is None:
            import pynvml as nvml
        nvml.nvmlInit()
        self._nvml: Any = nvml
        self._handle: Any = nvml.nvmlDeviceGetHandleByUUID(uuid)

    def memory(self) -> tuple[int, int] | None:
        """Bytes in use by all processes, and total bytes; None if not known now."""
        try:
            info = self._nvml.nvmlDeviceGetMemoryInfo(self._handle)
        except self._nvml.NVMLError:
            return _memory_from_cuda()
        return int(info.used), int(info.total)

    def used(self) -> int | None:
        """Bytes in use by all processes; None if not known now."""
        found = self.memory()
        return found[0] if found is not None else None

    def utilization(self) -> float | None:
        """Percent of the driver's last sampling period in which a kernel ran."""
        return self._or_none(lambda: float(self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu))

    def temperature(self) -> float | None:
        """Degrees Celsius."""
        sensor = self._nvml.NVML_TEMPERATURE_GPU
        return self._or_none(lambda: float(self._nvml.nvmlDeviceGetTemperature(self._handle, sensor)))

    def power(self) -> float | None:
        """Watts."""
        return self._or_none(lambda: self._nvml.nvmlDeviceGetPowerUsage(self._handle) / 1000)

    def _or_none(self, query: Callable[[], Number]) -> Number | None:
        try:
            return query()
        except self._nvml.NVMLError:
            return None


def _memory_from_cuda() -> tuple[int, int] | None:
    """Memory by CUDA, for GPUs that share the host's memory, which NVML does not report. Never initialises CUDA itself."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    try:
        free, total = torch.cuda.mem_get_info()
    except RuntimeError:  # the GPU is lost
        return None
    return int(total - free), int(total)
