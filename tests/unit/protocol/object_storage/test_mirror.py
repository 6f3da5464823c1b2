"""What is committed in a spool is an object; what is removed there is none any more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from embedfleet.protocol.errors import EmbedfleetError
from embedfleet.protocol.object_storage import mirror as mirror_module
from embedfleet.protocol.object_storage.address import Address
from embedfleet.protocol.object_storage.lease import LeaseFile, boot_clock
from embedfleet.protocol.object_storage.mirror import Mirror, follow_spool, unfollow_spool
from embedfleet.protocol.object_storage.spool import Spool
from embedfleet.protocol.run_directory.atomic_files import commit_bytes, make_folder, sync_folder


class Store:
    """Objects in memory. `faults` are raised by the next requests."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.faults: list[Exception] = []
        self.deleted: list[str] = []

    def put(self, name: str, content: Path, check: Callable[[], None] = lambda: None) -> str:
        check()
        self._fail()
        self.objects[name] = content.read_bytes()
        return f"tag{len(self.objects)}"

    def delete(self, names: list[str]) -> None:
        self._fail()
        for name in names:
            self.deleted.append(name)
            self.objects.pop(name, None)

    def _fail(self) -> None:
        if self.faults:
            raise self.faults.pop(0)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    made = Store()
    monkeypatch.setattr(mirror_module, "ObjectFolder", lambda _address, _patience: made)
    monkeypatch.setattr(mirror_module, "PAUSE_SECONDS", 0.001)
    return made


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool.make(tmp_path / "spool", Address("s3", "box", "run"))
    made.root.mkdir()
    _hold(made)
    return made


@pytest.fixture
def mirror(store: Store, spool: Spool) -> Iterator[Mirror]:
    assert store is not None
    made = follow_spool(spool.root / "queries")
    assert made is not None
    yield made
    unfollow_spool(made)


def _hold(spool: Spool, seconds: float = 60.0, lost: str = "") -> None:
    spool.lease_file.write_bytes(msgspec.json.encode(LeaseFile(until=boot_clock() + seconds, lost=lost)))


def test_outside_of_a_spool_nothing_is_mirrored(tmp_path: Path) -> None:
    assert follow_spool(tmp_path) is None
    unfollow_spool(None)


def test_a_commit_is_an_object_and_scratch_is_none(store: Store, spool: Spool, mirror: Mirror) -> None:
    make_folder(spool.root / "chunks")
    commit_bytes(spool.root / "chunks" / "00000.parquet", b"one")
    commit_bytes(spool.root / "published.json", b"{}")
    assert store.objects == {"chunks/00000.parquet": b"one"}
    assert set(mirror.spool.entries()) == {"chunks/00000.parquet"}


def test_a_put_that_fails_is_tried_again_and_one_that_is_refused_is_not(
    store: Store, spool: Spool, mirror: Mirror
) -> None:
    assert mirror
    store.faults = [Exception("status code: 503 SlowDown")] * 3
    commit_bytes(spool.root / "spec.json", b"one")
    assert store.objects == {"spec.json": b"one"}
    store.faults = [Exception("status code: 403 <Code>InvalidAccessKeyId</Code>")]
    with pytest.raises(
        EmbedfleetError, match=r"s3://box/run: cannot be written: the keys are refused .*the same command resumes"
    ):
        commit_bytes(spool.root / "spec.json", b"two")
    assert (spool.root / "spec.json").read_bytes() == b"one"


@pytest.mark.parametrize("lost", ["", "taken by somebody"])
def test_without_the_lock_nothing_is_put(store: Store, spool: Spool, mirror: Mirror, lost: str) -> None:
    assert mirror
    _hold(spool, -1.0, lost)
    with pytest.raises(EmbedfleetError, match=lost or "could not be renewed in time"):
        commit_bytes(spool.root / "spec.json", b"one")
    assert store.objects == {}
    assert not (spool.root / "spec.json").exists()


def test_removed_files_are_deleted_where_their_folder_is_synced(store: Store, spool: Spool, mirror: Mirror) -> None:
    assert mirror
    for name in ("chunks/00000.parquet", "vectors/a/00000.parquet", "vectors/b/00000.parquet", "manifest.json"):
        make_folder((spool.root / name).parent)
        commit_bytes(spool.root / name, b"one")
    (spool.root / "vectors" / "a" / "00000.parquet").unlink()
    assert len(store.objects) == 4
    sync_folder(spool.root / "vectors" / "b")
    assert len(store.objects) == 4
    sync_folder(spool.root / "vectors" / "a")
    assert "vectors/a/00000.parquet" not in store.objects
    for name in ("chunks/00000.parquet", "vectors/b/00000.parquet", "manifest.json"):
        (spool.root / name).unlink()
    (spool.root / "vectors" / "b").rmdir()
    (spool.root / "chunks").rmdir()
    store.deleted.clear()
    sync_folder(spool.root)
    assert store.deleted == ["manifest.json", "vectors/b/00000.parquet", "chunks/00000.parquet"]
    assert mirror.spool.entries() == {}


def test_a_file_that_is_about_to_get_its_name_is_not_taken_for_removed(
    store: Store, spool: Spool, mirror: Mirror
) -> None:
    commit_bytes(spool.root / "spec.json", b"one")
    (spool.root / "spec.json").unlink()
    (spool.root / ".spec.json.tmp").write_bytes(b"two")
    with mirror.putting(spool.root / "spec.json", spool.root / ".spec.json.tmp"):
        other = threading.Thread(target=sync_folder, args=(spool.root,))
        other.start()
        other.join()
        (spool.root / ".spec.json.tmp").rename(spool.root / "spec.json")
    assert store.objects == {"spec.json": b"two"}


def test_what_two_processes_did_is_known_to_both(store: Store, spool: Spool, mirror: Mirror) -> None:
    assert mirror
    other = Mirror(Spool(spool.folder, spool.address))
    (spool.root / ".a.tmp").write_bytes(b"one")
    with other.putting(spool.root / "a.json", spool.root / ".a.tmp"):
        (spool.root / ".a.tmp").rename(spool.root / "a.json")
    (spool.root / "a.json").unlink()
    sync_folder(spool.root)
    assert store.objects == {}


def test_at_the_end_the_store_is_equal_to_the_spool(store: Store, spool: Spool, mirror: Mirror) -> None:
    commit_bytes(spool.root / "spec.json", b"one")
    commit_bytes(spool.root / "gone.json", b"one")
    (spool.root / "gone.json").unlink()
    (spool.root / "events.jsonl").write_bytes(b"an event\n")
    (spool.root / "qdrant").mkdir()
    (spool.root / "qdrant" / "x").touch()
    mirror.reconcile()
    assert store.objects == {"spec.json": b"one", "events.jsonl": b"an event\n"}
    store.objects["spec.json"] = b"as it stands"
    mirror.reconcile()
    assert store.objects["spec.json"] == b"as it stands", "it was not put again"
