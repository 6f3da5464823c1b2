"""`--out s3://BUCKET/KEY`: a run directory in object storage, worked on in a local spool."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ...protocol.errors import EmbedfleetError, RunDirectoryError, UsageError
from ...protocol.object_storage.address import Address, alias_folder, is_address, parse_address
from ...protocol.object_storage.copies import cache_of
from ...protocol.object_storage.failures import describe
from ...protocol.object_storage.fetch import sync_from_store
from ...protocol.object_storage.lease import Lease
from ...protocol.object_storage.mirror import REQUEST_PATIENCE, Mirror, follow_spool, unfollow_spool
from ...protocol.object_storage.objects import ObjectFolder
from ...protocol.object_storage.probe import check_store, probe
from ...protocol.object_storage.spool import Spool
from ...protocol.run_directory.directory_lock import STORE_LOCK
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.records.manifest import read_manifest
from ...protocol.spec.run_spec import Index
from ..arguments import expand_path
from ..output.formatting import human_bytes, pluralize
from ..run_directory.edge_shard import engine_installed

SHARDS = RunLayout(Path()).shards.name
"""The folder that holds all shards. Its lock protects the records that the shards share."""
CHECK_SECONDS = 0.2


class HeldDirectory:
    """A run directory in object storage, or a part of it, that this process has locked. `objects` are those of the whole. None
    of its files is here before `fetch`: a command that has nothing to do there looks at its records, and fetches no segment."""

    def __init__(self, spool: Spool, objects: ObjectFolder, part: str | None, say: Callable[[str], None]) -> None:
        self.objects, self.root = objects, spool.root
        self._spool, self._part, self._say = spool, part, say
        self._mirror: Mirror | None = None
        self.is_needless = False
        """Whether nothing is left to do there. What an earlier command has left in the spool is not needed either."""

    @property
    def is_fetched(self) -> bool:
        """Whether the files are here."""
        return self._mirror is not None

    def fetch(self, check: Callable[[], None] = lambda: None) -> Path:
        """Make the local folder equal to the objects, and return it: from now on each committed file is an object before it has
        its name. Called once. `check` is called before each object that is fetched, and may raise."""
        address, part = self.objects.address, self._part
        synced = sync_from_store(self._spool, self.objects, strict=True, part=part, check=check)
        if synced.objects and part is not None:
            fetched = f"{synced.fetched:,} of them fetched, {human_bytes(synced.n_bytes)}"
            self._say(
                f"{address}: {pluralize(synced.objects, 'object')} there; {fetched}; the spool is {self._spool.folder}"
            )
        self._mirror = follow_spool(self.root)
        assert self._mirror is not None, "the spool was just made"
        return self.root

    def close(self) -> bool:
        """Make the store equal to the fetched folder; whether the run in it is done."""
        assert self._mirror is not None, "it was fetched"
        unfollow_spool(self._mirror)
        if self._part is not None:
            self._mirror.reconcile(self._part)
        return self._part is None or _is_done(self.root / self._part)


@contextmanager
def held_out(
    address: Address,
    spool_folder: Path | None,
    *,
    keep: bool,
    say: Callable[[str], None],
    part: str | None = "",
    check: Callable[[], None] = lambda: None,
) -> Generator[HeldDirectory]:
    """The run directory at `address`, while this process alone holds its lock.

    With a `part`, the run directory of a shard below it (`shards/00017`), only that is worked on, and locked: several processes
    may work on several shards, each in a spool of its own, but none on a shard while one works on the whole. The folder is that
    of the whole run all the same. With None, only the records that all shards share are worked on, while other processes may
    work on the shards, and none on the whole.

    `check` is called again and again while a lock is waited for, and may raise.
    At the end the store is made equal to what was fetched. The spool is removed if the run is done, or is needless, unless
    `keep`. RunDirectoryError, before anything is written, for a store that refuses, and for a run that another process writes.
    """
    check_store(address, "--out")
    place = SHARDS if part is None else part
    mine = address.below(place) if place else address
    now = probe(mine)
    spool = Spool.make(_spool_of(mine, place, spool_folder), address)
    held = HeldDirectory(spool, ObjectFolder(address), part, say)
    begun = done = False
    with spool.alone():
        try:
            with (
                _explained(address),
                Lease(
                    ObjectFolder(mine, REQUEST_PATIENCE), spool.lease_file, now, say=say, wait=partial(_wait, check)
                ) as lease,
            ):
                for other in _others(held.objects, place):
                    lease.look_at(ObjectFolder(other, REQUEST_PATIENCE))
                begun = True
                try:
                    yield held
                finally:
                    done = held.close() if held.is_fetched else held.is_needless
        finally:  # the command ends with an exception, even in order
            if (done and not keep) or (begun and _is_empty(spool.root)):
                spool.remove()
            elif done and held.is_fetched:
                has_collection = RunLayout(spool.root).published.exists()
                searched = ", with its collection, which `embedfleet search` takes" if has_collection else ""
                say(f"the spool {spool.folder} is kept; the run is its folder {spool.root.name}{searched}")
            elif held.is_fetched:
                say(f"the spool {spool.folder} stays for the same command here; elsewhere it goes on from {address}")


def _wait(check: Callable[[], None], seconds: float) -> None:
    """Sleep, and call `check` before and every CHECK_SECONDS."""
    end = time.monotonic() + seconds
    check()
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(CHECK_SECONDS, left))
        check()


def _spool_of(mine: Address, place: str, given: Path | None) -> Path:
    """The folder of the spool. Each part has its own below the given one: several may be worked on at once on a host."""
    if given is None:
        return cache_of(mine, "spools")
    return given / place.replace("/", "-") if place else given


def _others(folder: ObjectFolder, place: str) -> list[Address]:
    """The run directories whose writers would write there too: for a part the whole, for the whole its parts with a lock."""
    if place:
        return [folder.address]
    locks = [PurePosixPath(one.name) for one in folder.list(SHARDS)]
    return [folder.address.below(str(path.parent)) for path in locks if path.name == STORE_LOCK]


@contextmanager
def _explained(address: Address) -> Generator[None]:
    """Errors of the store as one line."""
    try:
        yield
    except (EmbedfleetError, UsageError, OSError):
        raise
    except Exception as error:
        if not type(error).__module__.startswith("obstore"):
            raise
        raise RunDirectoryError(f"--out {address}: {describe(error, address)}") from error


def _is_done(root: Path) -> bool:
    try:
        manifest = read_manifest(RunLayout(root))
    except RunDirectoryError:
        return False
    return manifest is not None and manifest.done


def _is_empty(root: Path) -> bool:
    """Whether there is no file, for example because the command was refused before it fetched or wrote any."""
    return not any(path.is_file() for path in root.rglob("*"))


@dataclass(frozen=True, slots=True)
class RemoteDirectory:
    """A run directory in object storage, whose parts a command opens when it needs them."""

    address: Address
    spool: Path | None
    """The folder below which the spools are; None for those in the cache of the user."""
    keep_spool: bool

    def below(self, name: str) -> RemoteDirectory:
        """The same run directory, with its spools in the folder `name` below `spool`."""
        return replace(self, spool=self.spool / name) if self.spool is not None else self

    @contextmanager
    def held(
        self, part: str | None, say: Callable[[str], None], check: Callable[[], None] = lambda: None
    ) -> Generator[HeldDirectory]:
        """The directory of `held_out` for this part; messages name the address in the place of its folder."""
        with held_out(self.address, self.spool, keep=self.keep_spool, say=say, part=part, check=check) as directory:
            alias_folder(directory.root, self.address)
            yield directory

    @contextmanager
    def opened(
        self, part: str | None, say: Callable[[str], None], check: Callable[[], None] = lambda: None
    ) -> Generator[Path]:
        """The same, fetched at once: its folder. `check` is called meanwhile too."""
        with self.held(part, say, check) as directory:
            yield directory.fetch(check)


class Out(NamedTuple):
    """The run directory of a command: the folder to work in, the index of the run, and `--out` as messages show it."""

    folder: Path
    run_index: Index
    shown: str | Path
    remote: RemoteDirectory | None = None
    """The run directory in object storage that the folder stands for; None for a folder of this host."""
    collection: bool = False
    """Whether to make the collection in the spool once the run is done: the run itself has none."""


def find_out(
    out: Path,
    index: Index,
    spool: Path | None,
    *,
    keep_spool: bool,
    index_is_typed: bool,
    searched: bool,
    is_shard: bool,
    notes: list[str],
) -> Out:
    """The folder of `--out`: itself or, for an address, that of its spool, of which nothing is open yet. `searched`: there are
    queries, which need a collection. `notes` gains what the user should know. UsageError for flags that do not go together."""
    if not is_address(out):
        if spool is not None or keep_spool:
            raise UsageError(
                "--spool and --keep-spool are for an --out in object storage; leave them out, or give s3://BUCKET/KEY"
            )
        folder = expand_path(out, "--out").absolute()
        return Out(folder, index, folder)
    address = parse_address(out, "--out", RunDirectoryError)
    check_store(address, "--out")
    collection = index == "edge" and (index_is_typed or searched)
    if collection:
        _check_collection(keep_spool=keep_spool, index_is_typed=index_is_typed, is_shard=is_shard)
        kept = "stays there" if keep_spool else "goes with it; --keep-spool keeps it"
        notes.append(f"the collection is made in the spool, not in {address}, and {kept}")
    elif index == "edge":
        notes.append(f"--index none: no collection is made in {address}; `embedfleet upload` makes one on a server")
    where = expand_path(spool, "--spool").absolute() if spool is not None else None
    folder = (where or cache_of(address, "spools")) / address.name
    alias_folder(folder, address)
    return Out(folder, "none", str(address), RemoteDirectory(address, where, keep_spool), collection)


def part_of(shard: int) -> str:
    """The run directory of a shard, below that of the whole."""
    return str(RunLayout(Path()).shard(shard).root)


def _check_collection(*, keep_spool: bool, index_is_typed: bool, is_shard: bool) -> None:
    """UsageError if no collection can be made in a spool."""
    if index_is_typed and is_shard:
        raise UsageError(
            "--index edge: a shard has no collection; leave the flag out here. `embedfleet search` on the merged run makes one "
            "in a local copy"
        )
    if index_is_typed and not keep_spool:
        raise UsageError(
            "--index edge: in object storage there is no collection, and the one in the spool goes with it when the run is "
            "done; give --keep-spool too, or leave --index out"
        )
    if not engine_installed():
        raise UsageError("the collection needs the Qdrant Edge engine: pip install 'embedfleet[qdrant]'")
