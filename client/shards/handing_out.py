"""The lock of the command that hands out the shards of a folder: there is one such command at a time."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, suppress

from ...protocol.errors import RunDirectoryError
from ...protocol.run_directory.atomic_files import make_folder
from ...protocol.run_directory.directory_lock import drop_lock, take_lock
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.own_files import find_wrong_kind, wrong_kind_error
from .agreement import check_folder


@contextmanager
def handing_out(layout: RunLayout) -> Generator[None]:
    """Hold the lock for this block. It is that of the folder `shards`: the run of a single shard and a merge, which lock their
    own folders, are not affected.

    RunDirectoryError, before anything is written, for a folder that cannot be used, and for one whose shards another command
    hands out now. If the shards have not agreed on anything at the end, the folder is left as it was found.
    """
    shards = RunLayout(layout.shards)
    if layout.root.exists() and not layout.root.is_dir():
        raise RunDirectoryError(f"--out {layout.root} is a file; give a folder")
    if shards.root.exists() and not shards.root.is_dir():
        raise wrong_kind_error(shards.root)
    for folder in (layout, shards):
        if (odd := find_wrong_kind(folder)) is not None:
            raise wrong_kind_error(odd)
    check_folder(layout)
    try:
        make_folder(shards.root)
        lock = take_lock(shards, f"--out {layout.root}")
    except OSError as error:
        raise RunDirectoryError(
            f"--out {layout.root}: {error.strerror or error}; give a folder that can be written"
        ) from error
    try:
        yield
    finally:
        if not layout.shards_record.exists():
            with suppress(OSError):  # one that is not empty stays
                shards.lock.unlink()
                shards.root.rmdir()
                layout.root.rmdir()
        drop_lock(lock)
