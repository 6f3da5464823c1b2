"""The folder in which the shards of a directory are merged, here or in object storage."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

from ...protocol.errors import RunDirectoryError
from ...protocol.object_storage.address import alias_folder, is_address, parse_address
from ..arguments import expand_path
from .remote_out import remote_out


@contextmanager
def shards_at(path: str | PathLike[str], say: Callable[[str], None]) -> Generator[Path]:
    """The folder to merge in: `path` itself or, for an address, a spool, into which the shards are fetched, and whose merged
    files are put into the store. `say` gets lines about it. RunDirectoryError for a path or an address that cannot be used."""
    if not is_address(path):
        yield expand_path(path, "DIR", RunDirectoryError)
        return
    address = parse_address(path, "DIR", RunDirectoryError)
    with remote_out(address, None, keep=False, say=say) as root:
        alias_folder(root, address)
        yield root
