"""The folder of a coordinator's ipc sockets: private to its owner, locked by one coordinator, removed if left behind."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from pathlib import Path

from ..errors import UsageError

PREFIX = "embedfleet-run-"
"""Prefix of the folders of private coordinators."""
LINKS = ("control", "hosts", "work")
"""Names of the sockets."""
STALE_SECONDS = 60.0
"""A folder younger than this may belong to a coordinator that is just starting."""


def make_socket_folder(folder: Path) -> None:
    """Create the folder of ipc sockets, private to its owner. UsageError if it belongs to or is open to other users."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: the sockets need a folder, and this is none; give another one")
    try:
        missing = [one for one in (folder, *folder.parents) if not one.exists()]
        for one in reversed(missing):  # mkdir(parents=True) would apply the mode to the last folder only
            one.mkdir(mode=0o700, exist_ok=True)
        state = folder.stat()
    except OSError as error:
        raise UsageError(f"{folder}: the folder of the sockets cannot be made: {error.strerror}") from error
    if state.st_uid != os.getuid() or state.st_mode & 0o077:
        raise UsageError(f"{folder}: the folder of the sockets must be yours alone; run: chmod 700 {folder}")


def take_socket_folder(folder: Path) -> int:
    """Lock the folder; the returned descriptor holds the lock. Without it, libzmq would take over another's address.

    UsageError if a coordinator has the lock, if the folder cannot be written, or if it has other files in the sockets' places.
    """
    try:
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(
            f"{folder}: the sockets cannot be made there: {error.strerror}; let its owner write there (chmod, umask)"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise UsageError(f"cannot listen on ipc://{folder}: a coordinator is running there") from None
    for one in LINKS:  # libzmq would remove a file of that name
        path = folder / one
        if os.path.lexists(path) and (path.is_symlink() or not path.is_socket()):
            os.close(lock)
            raise UsageError(
                f"{path}: is no socket, and one of that name is needed; move it away, or give another folder"
            )
    return lock


def sweep(parent: Path) -> None:
    """Remove this user's private socket folders in `parent` whose coordinators were killed."""
    for folder in parent.glob(f"{PREFIX}*"):
        try:
            state = folder.stat()
            if state.st_uid != os.getuid() or time.time() - state.st_mtime < STALE_SECONDS:
                continue
            os.close(take_socket_folder(folder))
        except (OSError, UsageError):
            continue  # gone meanwhile, or in use
        shutil.rmtree(folder, ignore_errors=True)
