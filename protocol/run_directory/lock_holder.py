"""The process that has locked a run directory, as recorded in the file `.lock`; of a run in object storage, in the copy of its
lock object."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from contextlib import suppress

import msgspec

from .json_bytes import decode_json
from .layout import RunLayout

STORE_LOCK = ".embedfleet.lock"
"""The lock object of a run directory in object storage. A local copy of the directory has it while the run is alive."""
COPY_SECONDS = 180.0
"""For how long a copied lock is trusted. After that its holder is unknown until the directory is copied again."""
WRITING = "another run is writing there"
"""In the refusal of a directory whose lock is held."""


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """The process that has the lock. Default values if an earlier version wrote the file."""

    pid: int = 0
    parent: int = 0
    """Its parent process."""
    host: str = ""
    since: float = 0.0
    """Unix time, seconds."""


def write_holder(fd: int) -> None:
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
