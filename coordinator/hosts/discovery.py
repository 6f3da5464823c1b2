"""The devices that a host has: GPUs and MIG slices through NVML, CPU slots otherwise."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import msgspec
import psutil

from ...protocol.errors import DeviceError
from ...protocol.host.free_cores import CoreLoad, FreeCores, allowed_cores, cpu_quota, find_free_cores
from ...protocol.host.gpu_driver import GpuDriver
from ...protocol.wire.devices import Device

DRIVER_SECONDS = 20.0
"""How long to wait for the driver's answer; on an idle host with many GPUs it wakes each of them first."""
OWN_CORES = 1
"""Beside GPUs, cores left to the coordinator and the exporter. Each GPU's worker keeps one too, to tokenize."""
MOST_HELPERS = 7
"""Helpers of a CPU slot. With them, BM25 computes 100,000 chunks/s, more than one coordinator and exporter take."""
SYNTAX = "give cuda:0,cuda:1 | GPU-… or MIG-… UUIDs | cpu | cpu:2 (slots), separated by commas"


def discover(wanted: str | None, host: str, load: CoreLoad | None = None) -> tuple[Device, ...]:
    """The devices to offer: those of `wanted` (see SYNTAX), else all GPUs, else one CPU slot.

    A host that offers only GPUs also offers one auxiliary CPU slot, for the passes that need no GPU. A CPU slot that is the
    only one has helpers for the passes without a model, as many as there are cores for. DeviceError if a wanted device does
    not exist.
    """
    gpus = _gpus() if wanted is None or any(not _is_cpu(part) for part in wanted.split(",")) else []
    cores = find_free_cores(load)
    if wanted is None:
        chosen = gpus or _cpu_slots(host, 1, cores, cores.computing)
    else:
        chosen = [device for part in wanted.split(",") for device in _named(part.strip(), gpus, host, cores)]
        uuids = [device.uuid for device in chosen]
        if len(set(uuids)) < len(uuids):
            raise DeviceError(f"--devices {wanted}: a device is named twice")
    used = sum(device.kind == "cuda" for device in chosen)
    spare = max(1, cores.threads - used - OWN_CORES) if used else cores.threads
    if used == len(chosen):
        (slot,) = _cpu_slots(host, 1, cores, min(spare, cores.computing))
        chosen = [*chosen, msgspec.structs.replace(slot, name=f"auxiliary {slot.name}", auxiliary=True)]
    return (*chosen, *(_helpers(host, spare) if len(chosen) - used == 1 else ()))


def _is_cpu(part: str) -> bool:
    return part.strip().split(":", 1)[0] == "cpu"


def _named(part: str, gpus: list[Device], host: str, cores: FreeCores) -> list[Device]:
    if part == "cpu":
        return _cpu_slots(host, 1, cores, cores.computing)
    if part.startswith("cpu:"):
        slots = part.removeprefix("cpu:")
        if not slots.isdigit() or int(slots) < 1:
            raise DeviceError(f"--devices {part}: the number of CPU slots must be 1 or more")
        most = len(cores.cores)
        if int(slots) > most:
            raise DeviceError(f"--devices {part}: this host lends {most} processors; give cpu:{most} or less")
        return _cpu_slots(host, int(slots), cores, cores.threads)
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


def _cpu_slots(host: str, slots: int, cores: FreeCores, threads: int) -> list[Device]:
    """Slots that share the threads. If there are several, each is pinned to processors of its own."""
    each, own = max(1, threads // slots), len(cores.cores) // slots
    memory, note = int(psutil.virtual_memory().total), cores.describe() or msgspec.UNSET
    return [
        Device(
            uuid=f"cpu-{host}-{slot}",
            kind="cpu",
            name=f"cpu:{slot} ({each} thread{'s' if each > 1 else ''})",
            memory=memory,
            threads=each,
            cores=cores.cores[slot * own : (slot + 1) * own] if slots > 1 else (),
            cores_note=note if slot == 0 else msgspec.UNSET,
        )
        for slot in range(slots)
    ]


def _helpers(host: str, threads: int) -> list[Device]:
    """Helpers of a CPU slot with these threads."""
    memory = int(psutil.virtual_memory().total)
    return [
        Device(
            uuid=f"cpu-{host}-helper-{number}",
            kind="cpu",
            name=f"cpu helper {number} (1 thread)",
            memory=memory,
            threads=1,
            auxiliary=True,
            helper=True,
        )
        for number in range(1, min(threads - 1, MOST_HELPERS) + 1)
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
        threads=max(1, FreeCores(allowed_cores(), 0, cpu_quota()).threads // max(1, pynvml.nvmlDeviceGetCount())),
        capability=(int(major), int(minor)),
    )
