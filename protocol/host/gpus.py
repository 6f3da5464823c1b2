"""The GPUs and MIG slices of a host, through NVML: no CUDA, and nothing if there is no driver."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU, or a slice of one in MIG mode."""

    uuid: str
    """NVML's."""
    name: str
    """For people: `NVIDIA H100 (cuda:0)`."""
    memory: int
    """Bytes; 0 where NVML does not know, as for a GPU that shares the host's memory."""
    capability: tuple[int, int]
    """CUDA compute capability."""
    beside: int
    """How many GPUs the host has, this one included and visible or not."""


def find_gpus(allowed: str | None) -> Iterator[Gpu]:
    """The GPUs that `allowed` names, by index or by the beginning of a UUID, as CUDA_VISIBLE_DEVICES does; None: all of them.


    Empty without a driver. A call may hang with a broken GPU: make it through a GpuDriver.
    """
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # noqa: BLE001 - no driver, no library, no permission: no GPU
        return
    try:
        for index in range(pynvml.nvmlDeviceGetCount()):
            with contextlib.suppress(pynvml.NVMLError):  # this one is lost; the others are not
                yield from _gpu_at(pynvml, index, allowed)
    except pynvml.NVMLError:  # NVML cannot count the GPUs
        return


def _gpu_at(pynvml: Any, index: int, allowed: str | None) -> list[Gpu]:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    named = [(part, name, str(pynvml.nvmlDeviceGetUUID(part))) for part, name in _slices(pynvml, handle, index)]
    return [_gpu(pynvml, part, handle, uuid, name) for part, name, uuid in named if _visible(allowed, index, uuid)]


def _slices(pynvml: Any, handle: Any, index: int) -> Iterator[tuple[Any, str]]:
    """The MIG slices of a GPU in MIG mode, else the GPU itself."""
    model = str(pynvml.nvmlDeviceGetName(handle))
    mig = False
    with contextlib.suppress(pynvml.NVMLError):
        mig = pynvml.nvmlDeviceGetMigMode(handle)[0] == pynvml.NVML_DEVICE_MIG_ENABLE
    if not mig:
        yield handle, f"{model} (cuda:{index})"
        return
    for number in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        with contextlib.suppress(pynvml.NVMLError):
            yield pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number), f"{model} (cuda:{index}) slice {number}"


def _visible(allowed: str | None, index: int, uuid: str) -> bool:
    """Whether CUDA_VISIBLE_DEVICES, where a scheduler set it, includes this GPU."""
    if allowed is None:
        return True
    parts = [part.strip() for part in allowed.split(",") if part.strip()]
    return str(index) in parts or any(uuid.startswith(part) for part in parts if not part.isdigit())


def _memory(pynvml: Any, part: Any) -> int:
    with contextlib.suppress(pynvml.NVMLError):
        return int(pynvml.nvmlDeviceGetMemoryInfo(part).total)
    return 0


def _gpu(pynvml: Any, part: Any, parent: Any, uuid: str, name: str) -> Gpu:
    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(parent)
    return Gpu(uuid, name, _memory(pynvml, part), (int(major), int(minor)), int(pynvml.nvmlDeviceGetCount()))
