"""The device that this process may use: the one that Ray assigns to it, else the first visible GPU, else the CPU."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass
from typing import Any, Literal

import psutil

from ...protocol.errors import DeviceError, UsageError
from ...protocol.host.free_cores import FreeCores, allowed_cores, cpu_quota
from ...protocol.host.gpu_driver import GpuDriver
from ...protocol.host.gpus import Gpu, find_gpus
from ...protocol.wire.devices import Device

DeviceKind = Literal["auto", "cpu", "cuda"]
DRIVER_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class RayResources:
    """The resources that Ray assigns to this process."""

    gpus: float
    cpus: float


def own_device(wanted: DeviceKind, threads: int | None, *, needs_gpu: bool) -> Device:
    """The device of kind `wanted`, with `threads` processor threads: by default those that Ray assigns, else all allowed ones.

    `auto` takes a GPU if this process has one. `needs_gpu`: the models are slow without a GPU. DeviceError if a wanted GPU is
    missing.
    """
    resources = ray_resources()
    if resources is not None and resources.gpus > 1:
        raise UsageError(
            f"num_gpus={resources.gpus:g}: one Encode uses one GPU; give num_gpus=1, and a higher concurrency"
        )
    if wanted == "cpu" or (resources is not None and not resources.gpus and wanted == "auto"):
        return _cpu(threads or _threads(resources))
    gpus = _visible_gpus()
    if gpus:
        share = max(1, FreeCores(allowed_cores(), 0, cpu_quota()).threads // max(1, gpus[0].beside))
        return _cuda(gpus[0], threads or share)
    if wanted == "cuda" or (resources is not None and needs_gpu):
        raise DeviceError(
            "a GPU was asked for, and NVML finds no driver or no GPU here; give num_gpus=0 and device='cpu' to compute on CPUs"
        )
    return _cpu(threads or _threads(resources))


def ray_resources() -> RayResources | None:
    """The resources that Ray assigned to this task or actor; None outside of Ray."""
    ray: Any = sys.modules.get("ray")
    if not getattr(ray, "is_initialized", bool)():  # not imported, or another module of that name
        return None
    context = ray.get_runtime_context()
    if context.worker.mode != ray.WORKER_MODE:
        return None
    resources: dict[str, float] = context.get_assigned_resources()
    return RayResources(float(resources.get("GPU", 0.0)), float(resources.get("CPU", 0.0)))


def _threads(resources: RayResources | None) -> int:
    free = FreeCores(allowed_cores(), 0, cpu_quota()).threads
    return min(free, max(1, int(resources.cpus))) if resources is not None else free


def _visible_gpus() -> list[Gpu]:
    driver = GpuDriver()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = driver.ask(lambda: list(find_gpus(visible)), None, DRIVER_SECONDS)
    driver.close()
    if found is None:
        raise DeviceError(
            f"the NVIDIA driver has not answered for {DRIVER_SECONDS:.0f} s: a GPU of {socket.gethostname()} hangs, see "
            "`nvidia-smi` and `dmesg` there"
        )
    return found


def _cuda(gpu: Gpu, threads: int) -> Device:
    return Device(
        uuid=gpu.uuid, kind="cuda", name=gpu.name, memory=gpu.memory, threads=threads, capability=gpu.capability
    )


def _cpu(threads: int) -> Device:
    memory = int(psutil.virtual_memory().total)
    return Device(uuid=f"cpu-{socket.gethostname()}-0", kind="cpu", name="cpu:0", memory=memory, threads=threads)
