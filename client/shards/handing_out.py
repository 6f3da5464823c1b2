"""The lock of the command that hands out the shards of a folder: there is one such command at a time."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from ...protocol.errors import RunDirectoryError
from ...protocol.run_directory.atomic_files import make_folder
from ...protocol.run_directory.directory_lock import drop_lock, take_lock
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.own_files import find_wrong_kind, wrong_kind_error
from ...protocol.source.corpus import survey
from .agreement import check_folder


@contextmanager
def handing_out(layout: RunLayout, source: str, text_field: str | None) -> Generator[None]:
    """Hold the lock for this block. It is that of the folder `shards`: the run of a single shard and a merge, which lock their
    own folders, are not affected.

    SourceError or RunDirectoryError, before anything is written, for a source or a folder that cannot be used, and for a folder
    whose shards another command hands out now.
    """
    check_folder(layout)
    survey(source, layout.root, text_field)
    shards = RunLayout(layout.shards)
    if (odd := find_wrong_kind(shards)) is not None:
        raise wrong_kind_error(odd)
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
        drop_lock(lock)
