"""One writer a run directory: an advisory lock on `.lock`, held for as long as its descriptor is open."""

from __future__ import annotations

import fcntl
import os
import time

from ..protocol.errors import RunDirectoryError
from ..protocol.layout import RunLayout
from ..protocol.lock_holder import read_holder, write_holder

LOOKS = 5
LOOK_SECONDS = 0.05
"""Who only looks whether the lock is held, holds it himself for a moment."""


def take_lock(layout: RunLayout, where: str) -> int:
    """The descriptor that holds the directory; RunDirectoryError, beginning with `where`, while another process has it."""
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
    raise RunDirectoryError(f"{where}: another run is writing there{who}; wait for it or give another folder")


def drop_lock(fd: int) -> None:
    """Let go in good order: who finds a name in the file of a free lock knows that its holder was killed."""
    os.ftruncate(fd, 0)
    os.close(fd)
