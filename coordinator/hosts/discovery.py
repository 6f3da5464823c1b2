"""The devices that a host has: GPUs and MIG slices through NVML, CPU slots otherwise."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import msgspec
import psutil

from ...protocol.errors import DeviceError
from ...protocol.wire.devices import Device
from .gpu_driver import GpuDriver

DRIVER_SECONDS = 20.0
"""How long to wait for the driver's answer; on an idle host with many GPUs it wakes each of them first."""
SYNTAX = "give cuda:0,cuda:1 | GPU-… or MIG-… UUIDs | cpu | cpu:2 (slots), separated by commas"


def discover(wanted: str | None, host: str) -> tuple[Device, ...]:
    """The devices to offer: those of `wanted` (see SYNTAX), else all GPUs, else one CPU slot.

    A host that offers only GPUs also offers one auxiliary CPU slot, for the passes that need no GPU. DeviceError if a
    wanted device does not exist.
    """
    gpus = _gpus() if wanted is None or any(not _is_cpu(part) for part in wanted.split(",")) else []
    if wanted is None:
        chosen = gpus or _cpu_slots(host, 1)
    else:
        chosen = [device for part in wanted.split(",") for device in _named(part.strip(), gpus, host)]
        uuids = [device.uuid for device in chosen]
        if len(set(uuids)) < len(uuids):
            raise DeviceError(f"--devices {wanted}: a device is named twice")
    if all(device.kind == "cuda" for device in chosen):
        spare = _cpu_slots(host, 1)[0]
        name = f"auxiliary {spare.name}"
        chosen = [*chosen, msgspec.structs.replace(spare, name=name, auxiliary=True)]
    return tuple(chosen)


def _is_cpu(part: str) -> bool:
    return part.strip().split(":", 1)[0] == "cpu"


def _named(part: str, gpus: list[Device], host: str) -> list[Device]:
    if part == "cpu":
        return _cpu_slots(host, 1)
    if part.startswith("cpu:"):
        slots = part.removeprefix("cpu:")
        if not slots.isdigit() or int(slots) < 1:
            raise DeviceError(f"--devices {part}: the number of CPU slots must be 1 or more")
        if int(slots) > _processors():
            raise DeviceError(
                f"--devices {part}: this host lends {_processors()} processors; give cpu:{_processors()} or less"
            )
        return _cpu_slots(host, int(slots))
    if part.startswith("cuda:"):
        found = [gpu for gpu in gpus if f"({part})" in gpu.name]
    elif part.upper().startswith(("GPU-", "MIG-")):
        found = [gpu for gpu in gpus if gpu.uuid.lower() == part.lower()]
    else:
        raise DeviceError(f"--devices {part!r} is not a device: {SYNTAX}")
    if not found:
        here = ", ".join(f"{gpu.name} {gpu.uuid}" for gpu in gpus) or "none (NVML finds no driver or no GPU)"
        raise DeviceError(f"--devices {part}: no such GPU. GPUs here: {here}. On a CPU, give --devices cpu")
    return found


def _processors() -> int:
    with contextlib.suppress(AttributeError):
        return len(os.sched_getaffinity(0))
    return psutil.cpu_count() or 1


def _cpu_slots(host: str, slots: int) -> list[Device]:
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(_processors()))
    threads = max(1, len(cores) // slots)
    memory = int(psutil.virtual_memory().total)
    return [
        Device(
            uuid=f"cpu-{host}-{slot}",
            kind="cpu",
            name=f"cpu:{slot} ({threads} thread{'s' if threads > 1 else ''})",
            memory=memory,
            threads=threads,
            cores=tuple(cores[slot * threads : (slot + 1) * threads]) if slots > 1 else (),
        )
        for slot in range(slots)
    ]


def _gpus() -> list[Device]:
    driver = GpuDriver()
    found = driver.ask(lambda: list(_nvml_gpus()), None, DRIVER_SECONDS)
    driver.close()
    if found is None:
        raise DeviceError(
            f"the NVIDIA driver has not answered for {DRIVER_SECONDS:.0f} s: a GPU of this host hangs, see `nvidia-smi` and "
            "`dmesg`; to do without GPUs, give --devices cpu"
        )
    return found


def _nvml_gpus() -> Iterator[Device]:
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # noqa: BLE001 - no driver, no library, no permission: no GPU
        return
    try:
        allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
        for index in range(pynvml.nvmlDeviceGetCount()):
            with contextlib.suppress(pynvml.NVMLError):  # this one is lost; the others are not
                yield from _gpu_at(pynvml, index, allowed)
    except pynvml.NVMLError:  # NVML cannot count the GPUs
        return


def _gpu_at(pynvml: Any, index: int, allowed: str | None) -> list[Device]:
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
    """Bytes; 0 where NVML does not know, as for a GPU that shares the host's memory."""
    with contextlib.suppress(pynvml.NVMLError):
        return int(pynvml.nvmlDeviceGetMemoryInfo(part).total)
    return 0


def _gpu(pynvml: Any, part: Any, parent: Any, uuid: str, name: str) -> Device:
    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(parent)
    return Device(
        uuid=uuid,
        kind="cuda",
        name=name,
        memory=_memory(pynvml, part),
        threads=max(1, _processors() // max(1, pynvml.nvmlDeviceGetCount())),
        capability=(int(major), int(minor)),
    )
