"""Local copies of run directories in object storage, for readers."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

import xxhash

from ..errors import EmbedfleetError, RunDirectoryError, UsageError
from ..host.own_cache import cache_folder
from .address import Address, parse_address, stands_for
from .failures import describe
from .fetch import bring
from .objects import ObjectFolder
from .probe import check_store
from .spool import Spool
from .stores import PROBE_PATIENCE, endpoint_of


def local_copy(value: str | PathLike[str]) -> Path:
    """The folder with a copy of the run directory at an address; only what has changed since the last time is fetched.

    RunDirectoryError if there is no run, or it cannot be read.
    """
    address = parse_address(value, "DIR", RunDirectoryError)
    check_store(address, "DIR")
    spool = Spool.make(cache_of(address, "copies"), address, copy=True)
    try:
        folder = ObjectFolder(address, PROBE_PATIENCE)
        with _alone(spool.folder):
            brought = bring(spool, folder, strict=False)
    except UsageError as error:
        raise RunDirectoryError(str(error)) from error
    except EmbedfleetError:
        raise
    except Exception as error:
        raise RunDirectoryError(f"{address}: cannot be read: {describe(error, address)}") from error
    if not brought.objects:
        raise RunDirectoryError(f"{address}: there is no run; check bucket and key")
    stands_for(spool.root, address)
    return spool.root


def cache_of(address: Address, part: str) -> Path:
    """The folder of an address in this user's cache; a temporary one of the user without a home."""
    digest = xxhash.xxh3_64_hexdigest(f"{address} {endpoint_of(address)}".encode())
    cache = cache_folder(part) or Path(tempfile.gettempdir()) / f"embedfleet-{os.getuid()}" / part
    return cache / digest


@contextmanager
def _alone(folder: Path) -> Generator[None]:
    """Wait for other processes that fetch the same copy."""
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
