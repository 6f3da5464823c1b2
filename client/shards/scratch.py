"""A folder for the temporary files of one fit. Several fits of one directory may run at once, also on several hosts."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from ...protocol.run_directory.layout import FITTING

LOCK = "lock"
"""A file in the folder that is locked as long as the fit runs."""


@contextmanager
def fitting_folder(root: Path) -> Generator[Path]:
    """A new folder below `root`, removed after the block. Folders of fits that were killed are removed first."""
    for stale in root.glob(f"{FITTING}.*/"):
        if _is_abandoned(stale):
            shutil.rmtree(stale, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{FITTING}.", dir=root))
    fd, lock = tempfile.mkstemp(prefix=f"{FITTING}.", dir=root)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rename(lock, folder / LOCK)  # it is locked before anyone can see it there
        except OSError:  # a file system without locks: the folder is then never taken for an abandoned one
            os.unlink(lock)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(fd)


def _is_abandoned(folder: Path) -> bool:
    """Whether the fit of this folder was killed."""
    try:
        fd = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # it is being made, or removed
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
