"""GpuLease: a device held by one agent, with its memory sampled before and after."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from pathlib import Path
from typing import Any

import psutil

from ...protocol.host.gpu_driver import GpuDriver
from ...protocol.wire.devices import Device, MemorySample
from .xid import XidWatch

RELEASE_SLACK = 64 << 20
"""Bytes by which a GPU's memory may stay above its level before the lease: the driver's own."""
LOCK_FOLDER = Path("/tmp/embedfleet-devices")
LOOK_SECONDS = 0.05
"""Between two looks at a GPU's memory."""
RELEASE_SECONDS = 5.0
"""How long the driver may take to give memory back after a process has ended."""
ANSWER_SECONDS = 1.0
"""How long to wait for the driver's answer. A healthy driver needs some milliseconds."""
SOON = 0.01
"""The same, where a later call can still collect the answer."""
HUNG_SECONDS = 15.0
"""A driver without an answer for so long hangs. It may be slow while it wakes a GPU, or while another process begins."""


class DeviceBusy(Exception):
    """Another run on this host holds the device."""


class DeviceLock:
    """A lock file per device, so that two runs on one host never lease the same GPU, even if different users start them.

    The lock lives as long as any process that inherited `fd`: a worker keeps it to its end, even if its agent is killed
    before it. All users share one folder, independent of TMPDIR.
    """

    def __init__(self, uuid: str, folder: Path = LOCK_FOLDER) -> None:
        folder.mkdir(exist_ok=True)
        with contextlib.suppress(PermissionError):  # another user made it and has set its mode
            folder.chmod(0o1777)
        path = folder / (re.sub(r"[^A-Za-z0-9-]", "_", uuid) + ".lock")
        self.fd = _locked(path)
        while not _stands(path, self.fd):  # the file was deleted meanwhile: others would lock a new one
            os.close(self.fd)
            self.fd = _locked(path)

    def release(self) -> None:
        """Close the lock; workers that inherited it hold it until they end."""
        os.close(self.fd)


class GpuLease:
    """One device for its workers: the active one and the one staged behind it. `before` is the memory at the start.

    `driver` is the GPU's, None for a CPU. Calls wait for it at most ANSWER_SECONDS, and only before a lease and at a worker's
    end. `hung`: it has not answered for HUNG_SECONDS.
    """

    def __init__(self, device: Device, driver: GpuDriver | None = None) -> None:
        self.device, self._driver = device, driver
        self.lock = DeviceLock(device.uuid) if device.kind == "cuda" else None
        self.hung = False
        self.workers: set[str] = set()
        self._looked = self._listened = 0.0
        self._after: Future[MemorySample | None] | None = None
        self._xids: Future[list[int]] | None = None
        if driver is None:
            self.before = sample_memory(device, "before")
            self._watch = None
        else:
            self.before = driver.ask(lambda: sample_memory(device, "before"), None, ANSWER_SECONDS)
            self._watch = driver.post(lambda: XidWatch(device.uuid))

    def faults(self, *, now: bool = False) -> list[int]:
        """XIDs reported since the last call. `now`: wait for the driver, so that those of this moment are included."""
        xids = self._collect(0.0)
        if now or time.monotonic() - self._listened >= LOOK_SECONDS:
            self._listen()
        return xids + (self._collect(ANSWER_SECONDS) if now else [])

    def _listen(self) -> None:
        watch = self._watch
        if self._driver is not None and watch is not None and watch.done() and self._xids is None:
            self._listened = time.monotonic()
            self._xids = self._driver.post(lambda: watch.result().take())

    def _collect(self, seconds: float) -> list[int]:
        if self._xids is None:
            return []
        try:
            xids = self._xids.result(seconds)
        except NotYet:
            return []
        self._xids = None
        return xids

    def memory_released(self, since: float) -> tuple[MemorySample | None, bool] | None:
        """After a worker's end at `since`: the memory and whether it was released; None while it may still fall.

        On a CPU the memory goes with the process. On a GPU the level is compared with the one before the lease. While another
        worker uses the GPU, or if the driver hangs, the memory counts as released; on a lost GPU it does not.
        """
        if self._driver is None:
            return sample_memory(self.device, "after"), True
        now = time.monotonic()
        if self._after is None:
            if now - self._looked < LOOK_SECONDS:
                return None
            self._looked = now
            self._after = self._driver.post(lambda: sample_memory(self.device, "after"))
        try:
            after = self._after.result(SOON)
        except NotYet:
            self.hung = now - since > HUNG_SECONDS
            return (None, True) if self.hung else None
        self._after, self.hung = None, False
        if self.workers or self.before is None:  # another worker uses some; or there is no level to compare with
            return after, True
        if after is None:
            return after, False
        if after.used <= self.before.used + RELEASE_SLACK:
            return after, True
        return (after, False) if now - since > RELEASE_SECONDS else None

    def release(self) -> None:
        """Give the device up: no worker is left."""
        watch = self._watch
        if self._driver is not None and watch is not None:
            self._driver.post(lambda: watch.result().close())
        if self.lock is not None:
            self.lock.release()


def sample_memory(device: Device, phase: str) -> MemorySample | None:
    """The device's memory in use now, by all processes; None where NVML has no answer (a lost GPU, for example)."""
    if device.kind == "cpu":
        try:
            host: Any = psutil.virtual_memory()
        except OSError:  # no file can be opened
            return None
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
    """Open a lock file; if it is missing, create it so that every user can open it. O_NOFOLLOW keeps a planted link out."""
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, os.O_RDONLY | flags)  # all that flock needs
    except FileNotFoundError:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o644)
        os.fchmod(fd, 0o644)  # whatever the umask says
        return fd
