"""Write files atomically: under its final name a file is complete, or it does not exist.

A follower of a folder, which keeps a copy of it elsewhere, has each file before it gets its name here, and looks for removed
names where a folder is synced: so the copy is never behind what a crash here would leave.
"""

from __future__ import annotations

import errno
import itertools
import os
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Protocol


class Follower(Protocol):
    """Keeps a copy of a folder."""

    def putting(self, path: Path, content: Path, *, new: bool = False) -> AbstractContextManager[None]:
        """Copy the file `content`, which gets the name `path` within the block.

        `new`: FileExistsError, with the standing one under that name, if there is one in the copy.
        """
        ...

    def settled(self, folder: Path) -> None:
        """Remove from the copy what is no longer in the folder."""
        ...


_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
"""With these a file system without hard links refuses one."""

_followers: dict[Path, Follower] = {}


def follow(root: Path, follower: Follower) -> None:
    """Let the follower take part in all that this process commits below `root`, an absolute path."""
    _followers[root] = follower


def unfollow(root: Path) -> None:
    """End that; do nothing where nobody follows."""
    _followers.pop(root, None)


def _follower_of(path: Path) -> Follower | None:
    return next((one for root, one in tuple(_followers.items()) if path.is_relative_to(root)), None)


def sync_folder(folder: Path) -> None:
    """fsync a folder, so that the names in it survive a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    follower = _follower_of(folder)
    if follower is not None:
        follower.settled(folder)


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
    """Let `write` fill a temporary file, sync it, have it followed, rename it to `path`, and sync the folder."""
    partial = partial_of(path)
    try:
        write(partial)
        with partial.open("rb") as handle:
            os.fsync(handle.fileno())
        _give_name(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _give_name(partial: Path, path: Path) -> None:
    follower = _follower_of(path)
    if follower is None:
        partial.rename(path)
        return
    with follower.putting(path, partial):
        partial.rename(path)


def commit_new(path: Path, data: bytes) -> None:
    """Write a file that is not there yet. FileExistsError if it is, even if another host has written it at this moment."""
    with _own_partial(path, data) as own:
        follower = _follower_of(path)
        with follower.putting(path, own, new=True) if follower is not None else nullcontext():
            try:
                os.link(own, path)  # unlike a rename, it never replaces a file
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                _write_new(path, data)
    sync_folder(path.parent)


def replace_bytes(path: Path, data: bytes) -> None:
    """`commit_bytes` for a file that several processes, on several hosts, may write at once: the last one stands, whole."""
    with _own_partial(path, data) as own:
        _give_name(own, path)
    sync_folder(path.parent)


@contextmanager
def _own_partial(path: Path, data: bytes) -> Generator[Path]:
    """A temporary file with the data, synced, that no other process writes. It is gone after the block."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    own = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        own.chmod(0o644)
        yield own
    finally:
        own.unlink(missing_ok=True)


def _write_new(path: Path, data: bytes) -> None:
    """Write a new file at its final name, where a file system has no hard links: a reader may see it half for a moment."""
    with open(path, "xb") as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise


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
