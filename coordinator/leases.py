"""GpuLease: a device held by one agent, with its memory looked at before and after."""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from ..protocol.devices import Device, MemorySample

RELEASE_SLACK = 64 << 20
"""Bytes by which a GPU's memory may stay above its level before the lease: the driver's own."""
RELEASE_SECONDS = 5.0
"""How long the driver may take to give memory back after a process has ended."""


class DeviceBusy(Exception):
    """Another run on this host holds the device."""


class DeviceLock:
    """A lock file per device, so that two runs on one host never lease one GPU twice.

    The lock lives as long as any process that inherited `fd`: a worker keeps it to its last moment, even if its agent is
    killed before it.
    """

    def __init__(self, uuid: str, folder: Path | None = None) -> None:
        folder = folder or Path(tempfile.gettempdir()) / "embedfleet-devices"
        folder.mkdir(mode=0o777, exist_ok=True)
        path = folder / (re.sub(r"[^A-Za-z0-9-]", "_", uuid) + ".lock")
        # Other users' runs lock the same file, so it is theirs to open; O_NOFOLLOW keeps a planted link out.
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self.fd, 64, 0).decode(errors="replace").strip("\0\n ") or "unknown"
            os.close(self.fd)
            raise DeviceBusy(f"held by another run on this host (process {holder})") from None
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Let go; workers that inherited it still hold it until they end."""
        os.close(self.fd)


class GpuLease:
    """One device for its workers: the active one and the one staged behind it. `before` is the memory at the start."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.lock = DeviceLock(device.uuid) if device.kind == "cuda" else None
        self.before = sample_memory(device, "before")
        self.workers: set[str] = set()

    def settled(self, since: float) -> tuple[MemorySample, bool] | None:
        """After a worker's end at `since`: the memory and whether it is given back; None while it may still fall.

        On a CPU the process took its memory with it. On a GPU the level counts only when no other worker is there.
        """
        after = sample_memory(self.device, "after")
        if self.device.kind == "cpu":
            return after, True
        if self.workers or after.used <= self.before.used + RELEASE_SLACK:
            return after, True
        return (after, False) if time.monotonic() - since > RELEASE_SECONDS else None

    def release(self) -> None:
        """No worker is left."""
        if self.lock is not None:
            self.lock.release()


def sample_memory(device: Device, phase: str) -> MemorySample:
    """The device's memory in use now, whoever uses it."""
    if device.kind == "cpu":
        host: Any = psutil.virtual_memory()
        return MemorySample(phase=phase, used=int(host.total - host.available), total=int(host.total), source="host")
    import pynvml

    pynvml.nvmlInit()
    try:
        info = pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByUUID(device.uuid))
        return MemorySample(phase=phase, used=int(info.used), total=int(info.total), source="nvml")
    finally:
        pynvml.nvmlShutdown()
