"""The process that holds a run directory: the lock on `.lock`, and what its holder wrote into the file."""

from __future__ import annotations

import fcntl
import os
import socket
import time

import msgspec

from .json_bytes import decode_json
from .layout import RunLayout


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """The process that has the lock. Empty if a version wrote the file that does not name its process."""

    pid: int = 0
    parent: int = 0
    """Its parent process."""
    host: str = ""
    since: float = 0.0
    """Unix time, seconds."""


def write_holder(fd: int) -> None:
    """Write into the file of a lock which process has it: this one."""
    mine = Holder(pid=os.getpid(), parent=os.getppid(), host=socket.gethostname(), since=round(time.time(), 3))
    os.ftruncate(fd, 0)
    os.pwrite(fd, msgspec.json.encode(mine), 0)


def read_holder(layout: RunLayout) -> tuple[Holder, bool] | None:
    """What the last holder wrote, and whether the lock is held now; None if there is no lock file.

    A holder that released the lock left the file empty. If the file names a process and the lock is free, that process was
    killed, or it is on another host whose locks are not visible here.
    """
    try:
        if not layout.lock.is_file():  # a pipe would wait for who writes into it
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
