"""The devices that a host has: GPUs and MIG slices through NVML, CPU slots otherwise."""

from __future__ import annotations

import os

import msgspec
import psutil

from ...protocol.errors import DeviceError
from ...protocol.host.free_cores import CoreLoad, FreeCores, allowed_cores, cpu_quota, find_free_cores
from ...protocol.host.gpu_driver import GpuDriver
from ...protocol.host.gpus import Gpu, find_gpus
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
    found = driver.ask(_visible_gpus, None, DRIVER_SECONDS)
    driver.close()
    if found is None:
        raise DeviceError(
            f"the NVIDIA driver has not answered for {DRIVER_SECONDS:.0f} s: a GPU of this host hangs, see `nvidia-smi` and "
            "`dmesg`; to do without GPUs, give --devices cpu"
        )
    return found


def _visible_gpus() -> list[Device]:
    """The GPUs that a scheduler, by CUDA_VISIBLE_DEVICES, lends this process."""
    return [_device(gpu) for gpu in find_gpus(os.environ.get("CUDA_VISIBLE_DEVICES"))]


def _device(gpu: Gpu) -> Device:
    return Device(
        uuid=gpu.uuid,
        kind="cuda",
        name=gpu.name,
        memory=gpu.memory,
        threads=max(1, FreeCores(allowed_cores(), 0, cpu_quota()).threads // max(1, gpu.beside)),
        capability=gpu.capability,
    )
