"""Which shards of a directory are done, by what their runs have written there."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from ...protocol.errors import EmbedfleetError, RunDirectoryError
from ...protocol.finished_run.shard_states import is_done, spec_differences
from ...protocol.object_storage.address import Address
from ...protocol.object_storage.failures import describe
from ...protocol.object_storage.objects import ObjectFolder
from ...protocol.object_storage.stores import PROBE_PATIENCE
from ...protocol.run_directory.json_bytes import decode_json
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.records.manifest import Manifest, read_manifest
from ...protocol.run_directory.records.shards import ShardsRecord
from ...protocol.spec.run_spec import RunSpec
from .marks import look_until

T = TypeVar("T")
AT_ONCE = 32
"""Objects that are read together."""


class FinishedShards(Protocol):
    """Knows which shards are done."""

    def among(self, shards: Collection[int]) -> dict[int, int]:
        """The number of rows of each of these shards that is done. EmbedfleetError if the files cannot be read now."""
        ...

    def await_all(self, shards: Collection[int], end: float) -> None:
        """Wait until all of them are seen here to be done, or to the time `end` of the steady clock."""
        ...


class FolderShards:
    """The shards in a folder that all nodes share."""

    def __init__(self, root: Path, record: ShardsRecord) -> None:
        self._layout, self._record = RunLayout(root), record

    def among(self, shards: Collection[int]) -> dict[int, int]:
        return {one: self._rows(one) for one in shards if is_done(self._layout, self._record, one)}

    def await_all(self, shards: Collection[int], end: float) -> None:
        """A client of NFS sees what a node wrote some seconds later."""
        for one in shards:
            folders = self._layout.shards, self._layout.shard(one).root
            look_until(partial(is_done, self._layout, self._record, one), folders, end)

    def _rows(self, shard: int) -> int:
        manifest = read_manifest(self._layout.shard(shard))
        return manifest.counts.chunks if manifest is not None else 0


class StoredShards:
    """The shards at an address in object storage. Two small objects of each are read; nothing is listed."""

    def __init__(self, address: Address, record: ShardsRecord) -> None:
        self._address, self._record = address, record
        self._objects = ObjectFolder(address, PROBE_PATIENCE)

    def among(self, shards: Collection[int]) -> dict[int, int]:
        if not shards:
            return {}
        with ThreadPoolExecutor(min(AT_ONCE, len(shards)), "finished") as pool:
            rows = dict(zip(shards, pool.map(self._rows, shards), strict=True))
        return {one: count for one, count in rows.items() if count is not None}

    def await_all(self, shards: Collection[int], end: float) -> None:
        """Do nothing: what is in a store is seen at once."""

    def _rows(self, shard: int) -> int | None:
        """The rows of a shard; None if it is not done by the spec of the record."""
        layout = RunLayout(Path()).shard(shard)
        manifest = self._read(layout.manifest, Manifest)
        if manifest is None or not manifest.done:
            return None
        spec = self._read(layout.spec, RunSpec)
        return manifest.counts.chunks if spec is not None and not spec_differences(spec, self._record, shard) else None

    def _read(self, path: Path, kind: type[T]) -> T | None:
        """The content of an object; None if there is none, or it cannot be understood."""
        try:
            found = self._objects.get(path.as_posix())
        except EmbedfleetError:
            raise
        except Exception as error:
            raise RunDirectoryError(f"--out {self._address}: {describe(error, self._address)}") from error
        try:
            return decode_json(found[0], kind) if found is not None else None
        except msgspec.DecodeError:
            return None
