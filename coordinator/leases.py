"""GpuLease: a device held by one agent, with its memory looked at before and after."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil

from ..protocol.devices import Device, MemorySample
from .driver import GpuDriver
from .gpu_faults import XidWatch

T = TypeVar("T")

RELEASE_SLACK = 64 << 20
"""Bytes by which a GPU's memory may stay above its level before the lease: the driver's own."""
LOCK_FOLDER = Path("/tmp/embedfleet-devices")
LOOK_SECONDS = 0.05
"""Between two looks at a GPU's memory."""
RELEASE_SECONDS = 5.0
"""How long the driver may take to give memory back after a process has ended."""


class DeviceBusy(Exception):
    """Another run on this host holds the device."""


class DeviceLock:
    """A lock file per device, so that two runs on one host never lease one GPU twice, whoever starts them.

    The lock lives as long as any process that inherited `fd`: a worker keeps it to its last moment, even if its agent is
    killed before it. One folder for all users and whatever TMPDIR says.
    """

    def __init__(self, uuid: str, folder: Path = LOCK_FOLDER) -> None:
        folder.mkdir(exist_ok=True)
        with contextlib.suppress(PermissionError):  # another user made it, and did this then
            folder.chmod(0o1777)
        path = folder / (re.sub(r"[^A-Za-z0-9-]", "_", uuid) + ".lock")
        self.fd = _locked(path)
        while not _stands(path, self.fd):  # somebody tidied the folder up meanwhile: others would lock a new file
            os.close(self.fd)
            self.fd = _locked(path)

    def release(self) -> None:
        """Let go; workers that inherited it still hold it until they end."""
        os.close(self.fd)


class GpuLease:
    """One device for its workers: the active one and the one staged behind it. `before` is the memory at the start."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.lock = DeviceLock(device.uuid) if device.kind == "cuda" else None
        self._driver = GpuDriver() if device.kind == "cuda" else None
        self.before = self._sample("before")
        self._xids = self._ask(lambda: XidWatch(device.uuid), None) if device.kind == "cuda" else None
        self.workers: set[str] = set()
        self._looked = self._listened = 0.0

    @property
    def hung(self) -> bool:
        """Whether the GPU's driver does not answer."""
        return self._driver is not None and self._driver.hung

    def faults(self, *, now: bool = False) -> list[int]:
        """The XIDs since the last call; not asked for more often than every LOOK_SECONDS, but `now`."""
        watch, looked = self._xids, time.monotonic()
        if watch is None or (not now and looked - self._listened < LOOK_SECONDS):
            return []
        self._listened = looked
        return self._ask(watch.take, [])

    def settled(self, since: float) -> tuple[MemorySample | None, bool] | None:
        """After a worker's end at `since`: the memory and whether it is given back; None while it may still fall.

        On a CPU the process took its memory with it. On a GPU the level is compared with that before the lease, which
        says nothing while another worker is there, and cannot be had from a GPU that is lost, nor from a driver that hangs.
        """
        now = time.monotonic()
        if self.device.kind == "cuda" and now - self._looked < LOOK_SECONDS:
            return None
        self._looked = now
        after = self._sample("after")
        if self.hung:
            return None, True
        if self.device.kind == "cpu" or self.workers:
            return after, True
        if self.before is None:  # a GPU that does not say has none to compare with
            return after, True
        if after is None:
            return after, False
        if after.used <= self.before.used + RELEASE_SLACK:
            return after, True
        return (after, False) if now - since > RELEASE_SECONDS else None

    def release(self) -> None:
        """No worker is left."""
        if self._xids is not None:
            self._ask(self._xids.close, None)
        if self._driver is not None:
            self._driver.close()
        if self.lock is not None:
            self.lock.release()

    def _sample(self, phase: str) -> MemorySample | None:
        return self._ask(lambda: sample_memory(self.device, phase), None)

    def _ask(self, call: Callable[[], T], otherwise: T) -> T:
        return call() if self._driver is None else self._driver.ask(call, otherwise)


def sample_memory(device: Device, phase: str) -> MemorySample | None:
    """The device's memory in use now, whoever uses it; None where NVML cannot say (a lost GPU, say)."""
    if device.kind == "cpu":
        host: Any = psutil.virtual_memory()
        return MemorySample(phase=phase, used=int(host.total - host.available), total=int(host.total), source="host")
    import pynvml

    try:
        pynvml.nvmlInit()
        try:
            info = pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByUUID(device.uuid))
            return MemorySample(phase=phase, used=int(info.used), total=int(info.total), source="nvml")
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return None


def _locked(path: Path) -> int:
    fd = _open_for_all(path)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise DeviceBusy("held by another run on this host") from None
    return fd


def _stands(path: Path, fd: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_ino == os.fstat(fd).st_ino
    return False


def _open_for_all(path: Path) -> int:
    """Open a lock file, made if need be so that every user can open it; O_NOFOLLOW keeps a planted link out."""
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, os.O_RDONLY | flags)  # all that flock needs
    except FileNotFoundError:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o644)
        os.fchmod(fd, 0o644)  # whatever the umask says
        return fd
