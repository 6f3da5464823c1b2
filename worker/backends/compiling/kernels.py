"""Keep compiled kernels in `embedfleet/kernels` in the user's cache folder.

The first process on a host that needs a model's kernels compiles them, while others wait; these then find most of them there.
It leaves a mark as long as it compiles. If the compiler ends the process, the mark remains, and the next process does not try.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from ....protocol.host.own_cache import cache_folder
from ....protocol.run_directory.atomic_files import make_folder

FORGOTTEN_SECONDS = 86_400.0
"""The age at which a mark no longer counts."""


class CannotCompile(Exception):
    """The reason why nothing is compiled."""


@contextmanager
def compiling(key: str) -> Generator[None]:
    """Compile the kernels of one model inside this block. CannotCompile if there is no folder for them, or if an earlier
    process ended while it compiled them; OSError if the folder cannot be written to."""
    folder = cache_folder("kernels")
    if folder is None:
        raise CannotCompile("there is no folder for kernels: set HOME or XDG_CACHE_HOME")
    attempts = folder / "attempts"
    make_folder(attempts)
    _keep_kernels_in(folder)
    path = attempts / key
    mark = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        is_first = _lock(mark)
        _check(mark, path)
        if is_first:
            os.write(mark, str(os.getpid()).encode())
        try:
            yield
        finally:
            if is_first:
                os.ftruncate(mark, 0)
    finally:
        os.close(mark)


def _lock(mark: int) -> bool:
    """True if no other process compiles these kernels; otherwise wait until that one has ended."""
    try:
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fcntl.flock(mark, fcntl.LOCK_SH)
        return False
    return True


def _check(mark: int, path: Path) -> None:
    found = os.fstat(mark)
    if found.st_size and time.time() - found.st_mtime < FORGOTTEN_SECONDS:
        raise CannotCompile(f"an earlier process ended while it compiled; remove {path} to try again")
    os.ftruncate(mark, 0)


def _keep_kernels_in(folder: Path) -> None:
    """Set what torch reads when it compiles. With one thread it starts no processes of its own. What the user set stays."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))
    threads = os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    import torch._inductor.config as settings

    settings.compile_threads = int(threads)
