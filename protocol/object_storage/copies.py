"""Local copies of run directories in object storage, for readers."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from os import PathLike
from pathlib import Path

import xxhash

from ..errors import EmbedfleetError, RunDirectoryError, UsageError
from ..host.own_cache import cache_folder
from ..run_directory.directory_lock import STORE_LOCK
from ..run_directory.layout import RunLayout
from ..run_directory.records.shards import read_shards
from .address import Address, alias_folder, parse_address
from .failures import describe
from .fetch import sync_from_store
from .lock_record import Holder, decode_holder, is_alive
from .objects import ObjectFolder, StoredObject
from .probe import check_store
from .spool import Spool
from .stores import PROBE_PATIENCE, endpoint_of

RECORDS_AT_ONCE = 32
"""Small objects that are read together."""


def local_copy(value: str | PathLike[str], part: str = "") -> Path:
    """The folder with a copy of the run directory at an address; only what has changed since the last time is fetched.

    With a `part`, the run directory of a shard (`shards/00017`), only that is copied, and the records that all shards share.
    Such a copy is a folder of its own. RunDirectoryError if there is no run, or it cannot be read.
    """
    address = parse_address(value, "DIR", RunDirectoryError)
    check_store(address, "DIR")
    place = cache_of(address.below(part) if part else address, "copies")
    if part:  # the shard's own address may have a copy too, as a run
        place = place.with_name(f"{place.name}-shard")
    spool = Spool.make(place, address, copy=True)
    try:
        folder = ObjectFolder(address, PROBE_PATIENCE)
        with _alone(spool.folder):
            synced = sync_from_store(spool, folder, strict=False, part=part)
            holders = _note_holders(spool, folder, synced.locks)
    except UsageError as error:
        raise RunDirectoryError(str(error)) from error
    except EmbedfleetError:
        raise
    except Exception as error:
        raise RunDirectoryError(f"{address}: cannot be read: {describe(error, address)}") from error
    if not synced.objects and holders:
        raise RunDirectoryError(
            f"{address}: a run has just begun there ({holders[0]}) and has written nothing yet; look again in a moment"
        )
    if not synced.objects:
        raise RunDirectoryError(f"{address}: there is no run; check bucket and key")
    alias_folder(spool.root, address)
    return spool.root


@contextmanager
def copied_records(address: Address, what: str, names: Sequence[str], *, shards: bool = False) -> Generator[Path]:
    """A temporary folder with these small files of the run directory at an address, as far as they are there, and with its lock
    and that of the command that runs its shards, if the holder lives. There is no folder if nothing else is below the address.
    Messages name the address in its place. `shards`: also what tells how far each shard is, if they are not merged; `names` has
    to include the records of both.

    RunDirectoryError, naming the flag or argument `what`, if the address cannot be read, or can hold no run directory.
    """
    check_store(address, what)
    with ExitStack() as opened:
        try:
            folder = ObjectFolder(address, PROBE_PATIENCE)
            is_empty = folder.is_empty()
            root = opened.enter_context(scratch_records(folder, [] if is_empty else names))
            if is_empty:
                root.rmdir()
            for place in ("", "shards/"):
                _copy_lock(folder, f"{place}{STORE_LOCK}", root)
            if shards:
                _copy_shard_states(folder, RunLayout(root))
        except UsageError as error:
            raise RunDirectoryError(str(error)) from error
        except Exception as error:
            raise RunDirectoryError(f"{what} {address}: cannot be read: {describe(error, address)}") from error
        yield root


@contextmanager
def scratch_records(folder: ObjectFolder, names: Sequence[str]) -> Generator[Path]:
    """A temporary folder with these small objects, as far as they are there. Messages name the address in its place."""
    with tempfile.TemporaryDirectory(prefix="embedfleet-records-") as made:
        root = Path(made) / folder.address.name
        root.mkdir()
        alias_folder(root, folder.address)
        copy_records(folder, root, names)
        yield root


def copy_records(folder: ObjectFolder, root: Path, names: Sequence[str]) -> None:
    """Copy these small objects, as far as they are there, to their names below `root`."""

    def copy(name: str) -> None:
        if (found := folder.get(name)) is not None:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(found[0])

    with ThreadPoolExecutor(RECORDS_AT_ONCE, "records") as pool:
        for _ in pool.map(copy, names):
            pass


def _copy_shard_states(folder: ObjectFolder, layout: RunLayout) -> None:
    """Copy the specs, manifests and living locks of shards that are not merged. None for a damaged record: who reads it names
    the damage."""
    record = None
    with suppress(RunDirectoryError):
        record = read_shards(layout) if not layout.spec.exists() else None
    if record is None:
        return
    shards = [RunLayout(Path()).shard(index) for index in range(record.shards)]
    copy_records(folder, layout.root, [path.as_posix() for one in shards for path in (one.spec, one.manifest)])

    def copy_lock(shard: RunLayout) -> None:
        _copy_lock(folder, f"{shard.root}/{STORE_LOCK}", layout.root)

    with ThreadPoolExecutor(RECORDS_AT_ONCE, "records") as pool:
        for _ in pool.map(copy_lock, shards):
            pass


def cache_of(address: Address, part: str) -> Path:
    """The folder of an address in this user's cache; a temporary one of the user without a home."""
    digest = xxhash.xxh3_64_hexdigest(f"{address} {endpoint_of(address)}".encode())
    cache = cache_folder(part) or Path(tempfile.gettempdir()) / f"embedfleet-{os.getuid()}" / part
    return cache / digest


def _note_holders(spool: Spool, folder: ObjectFolder, locks: Sequence[StoredObject]) -> list[Holder]:
    """Copy the locks whose holders live, so that readers of the copy know who writes there, and remove the others."""
    known = {
        path for pattern in (STORE_LOCK, f"*/{STORE_LOCK}", f"*/*/{STORE_LOCK}") for path in spool.root.glob(pattern)
    }
    living: list[Holder] = []
    for lock in locks:
        if (holder := _copy_lock(folder, lock.name, spool.root)) is not None:
            living.append(holder)
            known.discard(spool.root / lock.name)
    for path in known:
        path.unlink(missing_ok=True)
    return living


def _copy_lock(folder: ObjectFolder, name: str, root: Path) -> Holder | None:
    """Copy a lock below `root` if its holder lives; return the holder, None otherwise."""
    found = folder.get(name)
    if found is None or not is_alive(holder := decode_holder(found[0]), found[1].mtime_ns / 1e9):
        return None
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".tmp")
    scratch.write_bytes(found[0])
    os.replace(scratch, path)
    return holder


@contextmanager
def _alone(folder: Path) -> Generator[None]:
    """Wait for other processes that fetch the same copy."""
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
