"""Who holds a run directory: the lock of `.lock`, and what its holder wrote into it."""

from __future__ import annotations

import fcntl
import os
import socket
import time

import msgspec

from .json_bytes import decode_json
from .layout import RunLayout


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """The process that has the lock. Empty where a version wrote it that says nothing of itself."""

    pid: int = 0
    parent: int = 0
    """The process that it works for."""
    host: str = ""
    since: float = 0.0
    """Unix time, seconds."""


def write_holder(fd: int) -> None:
    """Say in the file of a lock who has it: this process."""
    mine = Holder(pid=os.getpid(), parent=os.getppid(), host=socket.gethostname(), since=round(time.time(), 3))
    os.ftruncate(fd, 0)
    os.pwrite(fd, msgspec.json.encode(mine), 0)


def read_holder(layout: RunLayout) -> tuple[Holder, bool] | None:
    """What the last holder wrote, and whether the lock is held now; None where the directory never had one.

    A holder that let go in good order left nothing there: one that is named and holds nothing was killed, or is on another
    host whose locks are not seen here.
    """
    try:
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
