"""Mirror: puts each file that a process commits in a spool into the store, before the file has its name."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TypeVar

from ..errors import EmbedfleetError
from ..run_directory.atomic_files import follow, unfollow
from .failures import describe, is_final
from .lease import REFUSED, check_lease
from .objects import ObjectFolder, StoredObject
from .spool import Entry, Spool, below_shard, is_manifest

T = TypeVar("T")
REQUEST_PATIENCE = 10.0
"""Seconds for which the library repeats one request. With the longest attempt it ends within the margin of a lease."""
PATIENCE = 300.0
"""Seconds for which a put is tried in all."""
PAUSE_SECONDS = 0.5
MOST_PAUSE_SECONDS = 10.0


class Mirror:
    """Mirrors one spool. EmbedfleetError if an object cannot be put, or the lock is lost."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self._objects = ObjectFolder(spool.address, REQUEST_PATIENCE)
        self._busy: set[str] = set()
        """Objects that were put and whose files have no name yet."""
        self._lock = threading.Lock()

    @contextmanager
    def putting(self, path: Path, content: Path, *, new: bool = False) -> Generator[None]:
        """Put the file, and note it once the block has given it its name.

        `new`: only if no object has the name. FileExistsError otherwise, and the file is a copy of that object.
        """
        name = self.spool.name_of(path)
        if name is None:
            yield
            return
        with self._lock:
            self._busy.add(name)
        try:
            if new:
                e_tag = self._persist(lambda: self._put_new(name, path, content))
            else:
                e_tag = self._persist(
                    lambda: self._objects.put(name, content, lambda: check_lease(self.spool.lease_file))
                )
            if e_tag is None:
                raise FileExistsError(path)
            yield
            self.spool.note(self.spool.entry_of(name, path, e_tag))
        finally:
            with self._lock:
                self._busy.discard(name)

    def settled(self, folder: Path) -> None:
        """Delete the objects whose files are no longer in `folder`, or in folders below it that are gone."""
        with self._lock:
            gone = self._gone(folder)
            if gone:
                self._delete(gone)

    def reconcile(self, part: str = "") -> None:
        """Make the store equal to the spool: put files that were changed without a commit, delete what is no longer there.

        Then the store is listed, for what another process did to it meanwhile: what is missing or another there is put again.
        With a `part`, only that part of the run directory is listed: the spool holds no other.
        """
        files = self.spool.files()
        with self._lock:
            known = dict(self.spool.entries())
        for name, path in sorted(files.items()):
            if not is_same(known.get(name), path):
                with self.putting(path, path):
                    pass
        with self._lock:
            gone = [name for name in known if name not in files]
            if gone:
                self._delete(gone)
        stood = {one.name: one for one in self._persist(lambda: self._objects.list(part))}
        with self._lock:
            known = dict(self.spool.entries())
        for name, path in sorted(files.items()):
            if name.startswith(f"{part}/" if part else "") and not self._stands(known.get(name), stood.get(name)):
                with self.putting(path, path):
                    pass

    def _stands(self, noted: Entry | None, one: StoredObject | None) -> bool:
        """Whether the object is the noted one. A store may list e_tags in another form than it answers them: it is asked."""
        if one is None or noted is None or one.size != noted.size:
            return False
        if one.e_tag == noted.e_tag:
            return True
        asked = self._persist(lambda: self._objects.head(one.name))
        return asked is not None and asked.e_tag == noted.e_tag

    def _put_new(self, name: str, path: Path, content: Path) -> str | None:
        """The e_tag of the new object; None if another one stands, which `path` is a copy of then."""
        data = content.read_bytes()
        try:
            return self._objects.put_if(name, data, None)
        except Exception as error:
            found = self._objects.get(name) if type(error).__name__ in REFUSED else None
            if found is None:
                raise
        standing, about = found
        if standing == data:  # an earlier attempt, whose answer was lost
            return about.e_tag
        scratch = content.with_suffix(".other.tmp")
        scratch.write_bytes(standing)
        os.replace(scratch, path)
        self.spool.note(self.spool.entry_of(name, path, about.e_tag))
        return None

    def _gone(self, folder: Path) -> list[str]:
        below, folders = folder.relative_to(self.spool.root).as_posix(), self.spool.folders()
        here = {str(PurePosixPath(below, name)) for name in os.listdir(folder)} if folders.get(below) else set[str]()
        gone = folders.get(below, set[str]()) - here
        for place, inside in folders.items():
            if (
                place != below
                and (below == "." or place.startswith(f"{below}/"))
                and not (self.spool.root / place).exists()
            ):
                gone |= inside
        return sorted(gone - self._busy)

    def _delete(self, names: list[str]) -> None:
        # The manifest first, and chunks after what was derived from them: an interruption leaves no claim without its files.
        order = sorted(
            names, key=lambda name: (not is_manifest(name), below_shard(name).startswith(("chunks/", "intake/")), name)
        )
        self._persist(lambda: self._objects.delete(order))
        self.spool.note(*(Entry(name=name, gone=True) for name in order))

    def _persist(self, request: Callable[[], T]) -> T:
        """Make the request until it succeeds. The lease is checked before each attempt."""
        end, pause = time.monotonic() + PATIENCE, PAUSE_SECONDS
        while True:
            check_lease(self.spool.lease_file)
            try:
                return request()
            except Exception as error:
                if is_final(error) or time.monotonic() > end:
                    address = self.spool.address
                    raise EmbedfleetError(
                        f"{address}: cannot be written: {describe(error, address)}; what was committed stays, and the same "
                        "command resumes"
                    ) from error
                time.sleep(pause)
                pause = min(2 * pause, MOST_PAUSE_SECONDS)


def is_same(entry: Entry | None, path: Path) -> bool:
    """Whether a file is the one that was equal to an object."""
    try:
        about = path.stat()
    except OSError:
        return False
    return entry is not None and (about.st_size, about.st_mtime_ns) == (entry.size, entry.mtime_ns)


def follow_spool(folder: Path) -> Mirror | None:
    """Mirror what this process commits in the spool that `folder` is in, until `unfollow_spool`; None if it is in none."""
    spool = Spool.around(folder)
    if spool is None:
        return None
    mirror = Mirror(spool)
    follow(spool.root, mirror)
    return mirror


def unfollow_spool(mirror: Mirror | None) -> None:
    """End that."""
    if mirror is not None:
        unfollow(mirror.spool.root)
