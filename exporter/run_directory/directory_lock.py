"""One writer per run directory: an advisory lock on `.lock`, held as long as its descriptor is open."""

from __future__ import annotations

import fcntl
import os
import time

from ...protocol.errors import RunDirectoryError
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.lock_holder import WRITING, read_holder, write_holder

LOOKS = 5
LOOK_SECONDS = 0.05
"""Pause before another attempt: a process that only checks the lock holds it for a moment."""


def take_lock(layout: RunLayout, where: str) -> int:
    """Lock the directory and return the descriptor; RunDirectoryError (its text begins with `where`) if another has it."""
    fd = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    for look in range(LOOKS):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if look < LOOKS - 1:
                time.sleep(LOOK_SECONDS)
        else:
            write_holder(fd)
            return fd
    os.close(fd)
    found = read_holder(layout)
    who = f" (process {found[0].pid} on {found[0].host})" if found is not None and found[0].pid else ""
    raise RunDirectoryError(f"{where}: {WRITING}{who}; wait for it or give another folder")


def drop_lock(fd: int) -> None:
    """Release the lock and empty its file. If the file of a free lock names a process, that process was killed."""
    os.ftruncate(fd, 0)
    os.close(fd)
