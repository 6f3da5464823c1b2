"""What is fetched from a store, and in which order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from embedfleet.protocol.object_storage import fetch
from embedfleet.protocol.object_storage.address import Address
from embedfleet.protocol.object_storage.objects import StoredObject
from embedfleet.protocol.object_storage.spool import Entry, Spool

NAMES = ("manifest.json", "shards/00001/manifest.json", "shards/00001/spec.json", "spec.json")


class Store:
    """Objects of NAMES."""

    names = NAMES

    def list(self, _part: str) -> list[StoredObject]:
        return [StoredObject(name, 1, 0, "tag") for name in self.names]


def test_manifests_are_fetched_last_and_removed_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []
    removed: list[str] = []

    def fetch_one(spool: Spool, one: StoredObject) -> Entry:
        path = spool.root / one.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        fetched.append(one.name)
        return spool.entry_of(one.name, path, one.e_tag)

    monkeypatch.setattr(fetch, "_fetch", fetch_one)
    spool, store = Spool.make(tmp_path / "spool", Address("s3", "box", "run")), Store()
    folder: Any = store
    assert fetch.sync_from_store(spool, folder, strict=True).fetched == len(NAMES)
    assert {*fetched[:2]} == {"shards/00001/spec.json", "spec.json"}
    assert {*fetched[2:]} == {"manifest.json", "shards/00001/manifest.json"}
    unlink = Path.unlink

    def note(path: Path, *, missing_ok: bool = False) -> None:
        removed.append(path.relative_to(spool.root).as_posix())
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", note)
    store.names = ()
    fetch.sync_from_store(spool, folder, strict=True)
    assert removed == [*NAMES]
