"""The lock of a run directory, and the process that has it.

One process writes there at a time: it has an advisory lock on the file `.lock` as long as its descriptor is open. The file
names the process. In a copy of a run in object storage, the copy of its lock object does.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from contextlib import suppress

import msgspec

from ..errors import RunDirectoryError
from .json_bytes import decode_json
from .layout import RunLayout

STORE_LOCK = ".embedfleet.lock"
"""The lock object of a run directory in object storage. A local copy of the directory has it while the run is alive."""
COPY_SECONDS = 180.0
"""For how long a copied lock is trusted. After that its holder is unknown until the directory is copied again."""
WRITING = "another run is writing there"
"""In the refusal of a directory whose lock is held."""

LOOKS = 5
LOOK_SECONDS = 0.05
"""Pause before another attempt: a process that only checks the lock holds it for a moment."""


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """The process that has the lock. Default values if an earlier version wrote the file."""

    pid: int = 0
    parent: int = 0
    """Its parent process."""
    host: str = ""
    since: float = 0.0
    """Unix time, seconds."""


def take_lock(layout: RunLayout, where: str) -> int:
    """Lock the directory and return the descriptor; RunDirectoryError (its text begins with `where`) if another has it."""
    for look in range(LOOKS):
        fd = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            if _is_locked(fd, layout, where):
                _write_holder(fd)
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        if look < LOOKS - 1:
            time.sleep(LOOK_SECONDS)
    found = read_holder(layout)
    who = f" (process {found[0].pid} on {found[0].host})" if found is not None and found[0].pid else ""
    raise RunDirectoryError(f"{where}: {WRITING}{who}; wait for it or give another folder")


def _is_locked(fd: int, layout: RunLayout, where: str) -> bool:
    """Whether this process has got the lock. It has not if its file was removed meanwhile: another process makes a new one."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise RunDirectoryError(
            f"{where}: its file system cannot lock files ({error.strerror}); give a folder on one that can"
        ) from error
    try:
        return os.path.samestat(os.fstat(fd), layout.lock.stat())
    except FileNotFoundError:
        return False


def drop_lock(fd: int) -> None:
    """Release the lock and empty its file. If the file of a free lock names a process, that process was killed."""
    os.ftruncate(fd, 0)
    os.close(fd)


def _write_holder(fd: int) -> None:
    """Record this process as the holder in the lock file."""
    mine = Holder(pid=os.getpid(), parent=os.getppid(), host=socket.gethostname(), since=round(time.time(), 3))
    os.ftruncate(fd, 0)
    os.pwrite(fd, msgspec.json.encode(mine), 0)


def read_holder(layout: RunLayout) -> tuple[Holder, bool] | None:
    """The last holder, and whether the lock is held now; None if there is no lock file.

    A process that releases the lock empties the file. If the file names a process and the lock is free, that process was
    killed, or is on another host whose locks are not visible here. In a copy of a run in object storage, the holder is the
    process that writes there.
    """
    with suppress(OSError, msgspec.MsgspecError):
        copied = layout.root / STORE_LOCK
        if time.time() - copied.stat().st_mtime < COPY_SECONDS:
            return decode_json(copied.read_bytes(), Holder), True
    try:
        if not layout.lock.is_file():  # opening a pipe would wait for a writer
            return None
        with layout.lock.open("rb") as file:
            held = _is_held(file.fileno())
            raw = file.read()
    except OSError:
        return None
    try:
        return decode_json(raw, Holder), held
    except msgspec.MsgspecError:
        return Holder(), held


def _is_held(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False
