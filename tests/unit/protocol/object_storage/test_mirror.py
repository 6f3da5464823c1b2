"""What is committed in a spool is an object; what is removed there is none any more."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
from embedfleet.protocol.errors import EmbedfleetError
from embedfleet.protocol.object_storage import mirror as mirror_module
from embedfleet.protocol.object_storage.address import Address
from embedfleet.protocol.object_storage.lease import LeaseFile, boot_clock
from embedfleet.protocol.object_storage.mirror import Mirror, follow_spool, unfollow_spool
from embedfleet.protocol.object_storage.objects import StoredObject
from embedfleet.protocol.object_storage.spool import Spool
from embedfleet.protocol.run_directory.atomic_files import commit_bytes, commit_new, make_folder, sync_folder


class AlreadyExistsError(Exception):
    """As the library names it."""


class Store:
    """Objects in memory. `faults` are raised by the next requests. `late` puts arrive, but their answer is lost."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.tags: dict[str, str] = {}
        self.faults: list[Exception] = []
        self.deleted: list[str] = []
        self.puts = self.late = 0

    def put(self, name: str, content: Path, check: Callable[[], None] = lambda: None) -> str:
        check()
        self._fail()
        self.puts += 1
        self.objects[name], self.tags[name] = content.read_bytes(), f"tag{self.puts}"
        return self.tags[name]

    def put_if(self, name: str, content: bytes, e_tag: str | None) -> str:
        self._fail()
        assert e_tag is None
        if name in self.objects:
            raise AlreadyExistsError
        self.puts += 1
        self.objects[name], self.tags[name] = content, f"tag{self.puts}"
        if self.late:
            self.late -= 1
            raise AlreadyExistsError  # as the library repeats it
        return self.tags[name]

    def head(self, name: str) -> StoredObject | None:
        return next((one for one in self.list() if one.name == name), None)

    def get(self, name: str) -> tuple[bytes, StoredObject] | None:
        about = self.head(name)
        return (self.objects[name], about) if about is not None else None

    def list(self, part: str = "") -> list[StoredObject]:
        return [
            StoredObject(name, len(data), 0, self.tags[name])
            for name, data in sorted(self.objects.items())
            if name.startswith(part)
        ]

    def delete(self, names: Sequence[str]) -> None:
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
    puts = store.puts
    mirror.reconcile()
    assert store.puts == puts, "it was not put again"


def test_what_another_process_did_to_the_store_is_mended_at_the_end(store: Store, spool: Spool, mirror: Mirror) -> None:
    """An object deleted while it was put again, and one replaced by a late put of an earlier holder."""
    shard = "shards/00001"
    names = [f"{shard}/{name}" for name in ("spec.json", "chunks/00000.parquet", "stats.json")]
    for name in names:
        make_folder((spool.root / name).parent)
        commit_bytes(spool.root / name, name.encode())
    commit_bytes(spool.root / "shards.json", b"of all")
    del store.objects[names[1]]
    store.objects[names[2]], store.tags[names[2]] = b"x" * len(names[2]), "late"
    store.puts = 0
    mirror.reconcile(shard)
    assert store.objects == {name: name.encode() for name in names} | {"shards.json": b"of all"}
    assert store.puts == 2
    mirror.reconcile(shard)
    assert store.puts == 2


def test_a_new_file_is_put_only_where_none_stands(store: Store, spool: Spool, mirror: Mirror) -> None:
    path = spool.root / "shards.json"
    store.late = 1
    commit_new(path, b"ours")
    assert store.objects == {"shards.json": b"ours"}
    path.unlink()
    store.objects["shards.json"] = b"theirs"
    with pytest.raises(FileExistsError):
        commit_new(path, b"ours again")
    assert path.read_bytes() == store.objects["shards.json"] == b"theirs"
    assert [one.name for one in spool.root.iterdir()] == ["shards.json"]
    mirror.reconcile()
    assert store.puts == 1


def test_the_manifest_of_a_shard_goes_first_and_its_chunks_last(store: Store, spool: Spool, mirror: Mirror) -> None:
    assert mirror
    shard = spool.root / "shards" / "00001"
    for name in ("chunks/00000.parquet", "intake/limits.json", "vectors/a/00000.parquet", "manifest.json"):
        make_folder((shard / name).parent)
        commit_bytes(shard / name, b"one")
    shutil.rmtree(shard)
    sync_folder(spool.root / "shards")
    assert [name.removeprefix("shards/00001/") for name in store.deleted] == [
        *("manifest.json", "vectors/a/00000.parquet", "chunks/00000.parquet", "intake/limits.json")
    ]


def test_a_commit_asks_for_no_file_beside_it(
    store: Store, spool: Spool, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With thousands of segments, a request for each of them at each commit takes longer than the commits."""
    assert mirror
    make_folder(spool.root / "chunks")
    for name in range(3):
        commit_bytes(spool.root / "chunks" / str(name), b"one")
    asked: list[Path] = []
    with monkeypatch.context() as patch:
        patch.setattr(Path, "exists", asked.append)
        commit_bytes(spool.root / "chunks" / "3", b"one")
    assert asked == []
    assert len(store.objects) == 4
