"""The folder of a coordinator's ipc sockets: its owner's alone, one coordinator at a time, and swept when it is left behind."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from pathlib import Path

from ..errors import UsageError

PREFIX = "embedfleet-run-"
"""How the folders of private coordinators begin."""
STALE_SECONDS = 60.0
"""A folder younger than this may belong to a coordinator that is just starting."""


def make_socket_folder(folder: Path) -> None:
    """Create the folder of ipc sockets, for its owner only; UsageError where it is somebody else's or open to others."""
    try:
        missing = [one for one in (folder, *folder.parents) if not one.exists()]
        for one in reversed(missing):  # with `parents=True` the mode would be that of the last folder alone
            one.mkdir(mode=0o700, exist_ok=True)
        state = folder.stat()
    except OSError as error:
        raise UsageError(f"{folder}: the folder of the sockets cannot be made: {error.strerror}") from error
    if state.st_uid != os.getuid() or state.st_mode & 0o077:
        raise UsageError(f"{folder}: the folder of the sockets must be yours alone; run: chmod 700 {folder}")


def take_socket_folder(folder: Path) -> int:
    """Hold the folder while the returned descriptor is open: libzmq would take over another's ipc address unasked."""
    lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise UsageError(f"cannot listen on ipc://{folder}: a coordinator is running there") from None
    return lock


def sweep(parent: Path) -> None:
    """Remove private folders of ours that no coordinator holds any more: those of processes that were killed."""
    for folder in parent.glob(f"{PREFIX}*"):
        try:
            state = folder.stat()
            if state.st_uid != os.getuid() or time.time() - state.st_mtime < STALE_SECONDS:
                continue
            os.close(take_socket_folder(folder))
        except (OSError, UsageError):
            continue  # gone meanwhile, or in use
        shutil.rmtree(folder, ignore_errors=True)
