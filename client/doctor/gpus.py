"""NVIDIA GPUs: those on the bus, what the driver says of each, and who uses their memory."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from ...protocol.host.gpu_driver import GpuDriver
from ..output.formatting import human_bytes, pluralize
from .finding import GB, Finding, named

DRIVER_SECONDS = 20.0
"""How long to wait for the driver: on an idle host with many GPUs it wakes each of them first."""
LEAST_BYTES = 2 * GB
"""With less free memory, a small model and its CUDA context may not fit."""
PCI = Path("/sys/bus/pci/devices")
NVIDIA, DISPLAY = "0x10de", "0x03"
"""A vendor, and the first digits of the classes of displays, which are those of GPUs without outputs too."""
WORKER = "embedfleet.worker"
NO_DRIVER = (
    "install NVIDIA's driver, or start the container with its GPUs (docker run --gpus all); `nvidia-smi` must work"
)


@dataclass(frozen=True, slots=True)
class GpuUser:
    """A process that uses a GPU. `name` is empty if it is not visible from here (in another container, for one)."""

    pid: int
    name: str = ""
    user: str = ""
    bytes: int = 0
    """0 where the driver does not say."""
    ours: bool = False
    """Whether it is a worker of embedfleet."""

    def __str__(self) -> str:
        who = " ".join(filter(None, (self.name or "not visible from here", f"of {self.user}" if self.user else "")))
        return f"process {self.pid} ({who}{f', {human_bytes(self.bytes)}' if self.bytes else ''})"


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU. Bytes are 0 where the driver does not know them. `fault` is why it cannot be asked; empty: it can."""

    name: str
    uuid: str = ""
    total: int = 0
    free: int = 0
    users: tuple[GpuUser, ...] = ()
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Gpus:
    """The GPUs that the driver shows, and how many the bus has."""

    on_bus: int = 0
    driver: str = ""
    cuda: tuple[int, int] | None = None
    """The latest version of CUDA that the driver runs."""
    trouble: str = ""
    """Why the driver cannot be asked; empty: it can."""
    hangs: bool = False
    gpus: tuple[Gpu, ...] = ()
    visible: str | None = None
    """CUDA_VISIBLE_DEVICES."""


def measure_gpus(pci: Path = PCI, seconds: float = DRIVER_SECONDS) -> Gpus:
    """Ask the driver, for `seconds` at most."""
    on_bus, visible = count_on_bus(pci), os.environ.get("CUDA_VISIBLE_DEVICES")
    driver = GpuDriver()
    found = driver.ask(lambda: _ask(on_bus, visible), None, seconds)
    driver.close()
    return found or Gpus(on_bus, trouble=f"no answer for {seconds:.0f} s", hangs=True, visible=visible)


def count_on_bus(pci: Path = PCI) -> int:
    """NVIDIA GPUs on the bus, with or without a driver. A container sees its host's."""
    count = 0
    for device in pci.glob("*"):
        with contextlib.suppress(OSError):
            vendor, kind = ((device / name).read_text().strip() for name in ("vendor", "class"))
            count += vendor == NVIDIA and kind.startswith(DISPLAY)
    return count


def _ask(on_bus: int, visible: str | None) -> Gpus:
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception as error:  # noqa: BLE001 - no driver, no library, no permission: its own words are the fact
        return Gpus(on_bus, trouble=str(error) or type(error).__name__, visible=visible)
    try:
        number = int(pynvml.nvmlSystemGetCudaDriverVersion())
        gpus = tuple(_gpu(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount()))
        driver = _text(pynvml.nvmlSystemGetDriverVersion())
        return Gpus(on_bus, driver, (number // 1000, number % 1000 // 10), gpus=gpus, visible=visible)
    except pynvml.NVMLError as error:
        return Gpus(on_bus, trouble=str(error), visible=visible)
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _gpu(nvml: Any, index: int) -> Gpu:
    name = f"cuda:{index}"
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        name = f"{_text(nvml.nvmlDeviceGetName(handle))} (cuda:{index})"
        uuid = _text(nvml.nvmlDeviceGetUUID(handle))
    except nvml.NVMLError as error:
        return Gpu(name, fault=str(error))
    total = free = 0
    with contextlib.suppress(nvml.NVMLError):  # it shares the host's memory
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        total, free = int(memory.total), int(memory.free)
    return Gpu(name, uuid, total, free, _users(nvml, handle))


def _users(nvml: Any, handle: Any) -> tuple[GpuUser, ...]:
    try:
        found = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except nvml.NVMLError:  # not reported: MIG, or no permission
        return ()
    return tuple(_user(int(one.pid), int(one.usedGpuMemory or 0)) for one in found)


def _user(pid: int, used: int) -> GpuUser:
    try:
        process = psutil.Process(pid)
        command = process.cmdline()
        return GpuUser(pid, process.name(), process.username(), used, any(WORKER in part for part in command))
    except (psutil.Error, OSError):
        return GpuUser(pid, bytes=used)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def gpu_findings(found: Gpus) -> list[Finding]:
    """What the driver lacks, then each GPU."""
    if found.hangs:
        text = f"the NVIDIA driver does not answer ({found.trouble}): a GPU of this host hangs"
        remedy = "see `nvidia-smi` and `dmesg`, restart the host; meanwhile give --devices cpu"
        return [Finding("problem", "gpus", "driver-hangs", text, remedy)]
    if found.trouble and found.on_bus:
        text = f"{pluralize(found.on_bus, 'NVIDIA GPU')} on the bus, but no driver answers ({found.trouble}): runs take the CPU"
        return [Finding("problem", "gpus", "no-driver", text, NO_DRIVER)]
    if not found.gpus:
        why = f" ({found.trouble})" if found.trouble else ""
        return [Finding("ok", "gpus", "no-gpu", f"no NVIDIA GPU{why}: runs take the CPU")]
    hidden: list[Finding] = []
    if found.visible is not None:
        text = f"CUDA_VISIBLE_DEVICES={found.visible}: runs see no other GPU"
        level = "note" if not found.visible.strip() else "ok"
        remedy = "unset it to use the GPUs" if level == "note" else ""
        hidden.append(Finding(level, "gpus", "visible-devices", text, remedy))
    return [*hidden, *(one for gpu in found.gpus for one in _judge(gpu, found))]


def _judge(gpu: Gpu, found: Gpus) -> list[Finding]:
    if gpu.fault:
        text = f"{gpu.name} cannot be asked: {gpu.fault}"
        return [Finding("problem", "gpus", "gpu-lost", text, "see `dmesg` for XID errors; restart the host")]
    judged: list[Finding] = []
    strangers = [str(one) for one in gpu.users if not one.ours]
    if strangers:
        text = f"{gpu.name} is also used by {named(strangers, 4)}"
        judged.append(Finding("note", "gpus", "gpu-shared", text, "end it, or give other GPUs, as in --devices cuda:1"))
    if gpu.total and gpu.free < LEAST_BYTES:
        text = f"{gpu.name} has {human_bytes(gpu.free)} of {human_bytes(gpu.total)} free: a model may not fit"
        remedy = "end what uses it (`nvidia-smi` lists it), or give other GPUs, as in --devices cuda:1"
        judged.append(Finding("problem", "gpus", "gpu-memory", text, remedy))
    ours = sum(one.ours for one in gpu.users)
    memory = f"{human_bytes(gpu.free)} of {human_bytes(gpu.total)} free" if gpu.total else "memory not reported"
    text = f"{gpu.name}: {memory}, driver {found.driver}"
    text += f", CUDA {found.cuda[0]}.{found.cuda[1]}" if found.cuda else ""
    text += f", {pluralize(ours, 'worker')} of embedfleet" if ours else ""
    return [*judged, Finding("ok", "gpus", "gpu", text)]
