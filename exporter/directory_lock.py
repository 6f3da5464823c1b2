"""One writer a run directory: an advisory lock on `.lock`, held for as long as its descriptor is open."""

from __future__ import annotations

import fcntl
import os

from ..protocol.errors import RunDirectoryError
from ..protocol.layout import RunLayout


def take_lock(layout: RunLayout, where: str) -> int:
    """The descriptor that holds the directory; RunDirectoryError, beginning with `where`, while another process has it."""
    fd = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise RunDirectoryError(f"{where}: another run is writing there; wait for it or give another folder") from None
    return fd
