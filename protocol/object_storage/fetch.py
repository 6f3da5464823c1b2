"""Make the files of a spool equal to the store: fetch what is new or changed there, remove what it no longer has."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ..errors import EmbedfleetError, RunDirectoryError, SourceError
from ..run_directory.directory_lock import STORE_LOCK
from ..run_directory.layout import RunLayout
from .failures import is_missing
from .mirror import is_same
from .objects import ObjectFolder, StoredObject
from .ranges import ObjectChanged, StoreRanges, read_range
from .spool import Entry, Spool, is_manifest

AT_ONCE = 8
BLOCK_BYTES = 8 << 20
ROOM_BYTES = 256 << 20
"""Space to leave free on the disk after the fetch."""
LISTINGS = 3
"""How often the store is listed, at most, while a run is writing there."""


class Synced(NamedTuple):
    """The number of objects in the store, how many of them were fetched, and their bytes; and the lock objects, which are not
    fetched."""

    objects: int
    fetched: int
    n_bytes: int
    locks: tuple[StoredObject, ...]


class _Moved(Exception):
    """An object was replaced or removed after the listing."""


def sync_from_store(
    spool: Spool,
    folder: ObjectFolder,
    *,
    strict: bool,
    part: str | None = "",
    check: Callable[[], None] = lambda: None,
) -> Synced:
    """Make the spool equal to the store. `strict`: files that are no object go too, since only what is in the store counts.

    With a `part`, the run directory of a shard, only that is fetched, and the records that all shards share; with None, those
    records alone, and nothing is listed. `check` is called before each object that is fetched, and may raise.
    RunDirectoryError if the disk has too little room. EmbedfleetError if objects cannot be fetched.
    """
    for _ in range(LISTINGS):
        with contextlib.suppress(_Moved):
            return _sync(spool, folder, strict, part, check)
    raise EmbedfleetError(
        f"{spool.address}: changes all the time while it is fetched; try again once its run has ended"
    )


def _sync(spool: Spool, folder: ObjectFolder, strict: bool, part: str | None, check: Callable[[], None]) -> Synced:
    listed = folder.list(part) if part is not None else []
    stood = {one.name: one for one in (*listed, *_shared(folder, part)) if spool.path_of(one.name) is not None}
    known = dict(spool.entries())
    wanted = [one for one in stood.values() if not _has(spool, known.get(one.name), one)]
    _check_room(spool, sum(one.size for one in wanted))
    gone = {name for name in known if name not in stood}
    if strict:
        gone |= {name for name in spool.files() if name not in stood}
    for name in sorted(gone, key=lambda name: (not is_manifest(name), name)):
        if (path := spool.path_of(name)) is not None:
            path.unlink(missing_ok=True)
    spool.note(*(Entry(name=name, gone=True) for name in sorted(gone & known.keys())))
    spool.root.mkdir(exist_ok=True)

    def fetch(one: StoredObject) -> Entry:
        check()
        return _fetch(spool, one)

    with ThreadPoolExecutor(AT_ONCE, "fetch") as pool:
        for last in (False, True):  # an interrupted fetch leaves no manifest without the files that it describes
            for entry in pool.map(fetch, [one for one in wanted if is_manifest(one.name) is last]):
                spool.note(entry)
    locks = tuple(one for one in listed if PurePosixPath(one.name).name == STORE_LOCK)
    return Synced(len(stood), len(wanted), sum(one.size for one in wanted), locks)


def _shared(folder: ObjectFolder, part: str | None) -> Iterator[StoredObject]:
    """The records of the whole directory that come with a part. With the records alone, also its spec: it is a run then."""
    if part == "":
        return
    layout = RunLayout(Path())
    for path in (layout.shards_record, layout.fit, *([layout.spec] if part is None else [])):
        if (record := folder.head(path.name)) is not None:
            yield record


def _has(spool: Spool, entry: Entry | None, one: StoredObject) -> bool:
    path = spool.path_of(one.name)
    return path is not None and entry is not None and entry.e_tag == one.e_tag != "" and is_same(entry, path)


def _fetch(spool: Spool, one: StoredObject) -> Entry:
    path = spool.path_of(one.name)
    assert path is not None, "one of a run"
    address = spool.address.below(one.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.tmp")
    ranges = StoreRanges(address, one.size, one.e_tag)
    try:
        with scratch.open("wb") as file:
            for start in range(0, one.size, BLOCK_BYTES):
                file.write(read_range(ranges, address, start, min(start + BLOCK_BYTES, one.size)))
        os.replace(scratch, path)
    except SourceError as error:
        cause = error.__cause__
        if isinstance(cause, ObjectChanged) or (cause is not None and is_missing(cause)):
            raise _Moved from error
        raise EmbedfleetError(str(error)) from error
    except OSError as error:
        raise RunDirectoryError(f"{path}: {error.strerror or error}; make room, or give another --spool") from error
    finally:
        scratch.unlink(missing_ok=True)
    return spool.entry_of(one.name, path, one.e_tag)


def _check_room(spool: Spool, n_bytes: int) -> None:
    free = shutil.disk_usage(_standing(spool.folder)).free
    if n_bytes and free < n_bytes + ROOM_BYTES:
        raise RunDirectoryError(
            f"{spool.folder}: {n_bytes / 1e9:,.1f} GB of {spool.address} have to be fetched, and {free / 1e9:,.1f} GB are free "
            "there; make room, or give a folder on another disk with --spool (of readers: XDG_CACHE_HOME)"
        )


def _standing(folder: Path) -> Path:
    return next(one for one in (folder, *folder.parents) if one.exists())
