"""Write files atomically: under its final name a file is complete, or it does not exist."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """fsync a folder, so that the names in it survive a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folder(folder: Path) -> None:
    """Create `folder` and its parents, and sync the folder above each new one."""
    missing = list(itertools.takewhile(lambda one: not one.is_dir(), (folder, *folder.parents)))
    for one in reversed(missing):
        one.mkdir(exist_ok=True)
        sync_folder(one.parent)


def partial_of(path: Path) -> Path:
    """The temporary path at which a file is written before it gets its name."""
    return path.with_name(f".{path.name}.tmp")


def commit_file(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file, sync it, rename it to `path`, and sync the folder."""
    partial = partial_of(path)
    try:
        write(partial)
        with partial.open("rb") as handle:
            os.fsync(handle.fileno())
        partial.rename(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def commit_files(paths: Sequence[Path], write: Callable[[Sequence[Path]], None]) -> None:
    """`commit_file` for files that are written together; the last of them gets its name first."""
    if not paths:
        write(())
        return
    first, *rest = paths
    commit_file(first, lambda partial: commit_files(rest, lambda partials: write((partial, *partials))))


def commit_bytes(path: Path, data: bytes) -> None:
    """`commit_file` for content in memory."""
    commit_file(path, lambda partial: _write(partial, data))


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
