"""The lock of a run directory in a store: one holder, and takeovers only where it is safe."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from embedfleet.protocol.errors import EmbedfleetError, RunDirectoryError
from embedfleet.protocol.object_storage.address import Address
from embedfleet.protocol.object_storage.lease import Lease, check_lease
from embedfleet.protocol.object_storage.lock_record import Holder
from embedfleet.protocol.object_storage.objects import StoredObject
from embedfleet.protocol.run_directory.directory_lock import STORE_LOCK

SECOND = 1_000_000_000


class AlreadyExistsError(Exception):
    """As the library names it."""


class PreconditionError(Exception):
    """As the library names it."""


class Store:
    """One object with conditional puts. `late` puts arrive, but their answer is lost; `deaf` fails all requests."""

    address = Address("s3", "box", "run")

    def __init__(self) -> None:
        self.content: bytes | None = None
        self.version, self.now, self.late, self.deaf = 0, 100 * SECOND, 0, False
        self.stamp = 0

    def put_if(self, name: str, content: bytes, e_tag: str | None) -> str:
        self._hear(name)
        if e_tag is None and self.content is not None:
            raise AlreadyExistsError
        if e_tag is not None and (self.content is None or e_tag != str(self.version)):
            raise PreconditionError
        self.content, self.version, self.stamp = content, self.version + 1, self.now
        if self.late:
            self.late -= 1
            return self.put_if(name, content, e_tag)  # as the library repeats it
        return str(self.version)

    def get(self, name: str) -> tuple[bytes, StoredObject] | None:
        self._hear(name)
        if self.content is None:
            return None
        return self.content, StoredObject(name, len(self.content), self.stamp, str(self.version))

    def delete(self, names: list[str]) -> None:
        self._hear(*names)
        self.content = None

    @property
    def holder(self) -> Holder:
        assert self.content is not None
        return msgspec.json.decode(self.content, type=Holder)

    def _hear(self, *names: str) -> None:
        assert names == (STORE_LOCK,)
        if self.deaf:
            raise ConnectionError("connection refused")


@pytest.fixture
def store() -> Store:
    return Store()


def _no_wait(_seconds: float) -> None:
    pytest.fail("nothing is to be waited for")


def _lease(store: Any, path: Path, ttl: float = 60.0, wait: Callable[[float], None] = _no_wait, **more: Any) -> Lease:
    return Lease(store, path, store.now, ttl=ttl, wait=wait, **more)


def _stranger(store: Store) -> None:
    """As if the holder were a process of another host."""
    store.content = msgspec.json.encode(msgspec.structs.replace(store.holder, space="elsewhere", host="node7"))


def test_a_lease_is_held_until_the_block_ends(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    with _lease(store, path):
        check_lease(path)
    assert store.content is None
    with pytest.raises(EmbedfleetError, match="is gone or damaged"):
        check_lease(path)


def test_the_second_one_is_refused_with_host_and_time_once_the_first_renews(store: Store, tmp_path: Path) -> None:
    with _lease(store, tmp_path / "a.json"):
        _stranger(store)
        waits: list[float] = []

        def wait(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 3:
                store.version += 1  # renewed

        with pytest.raises(RunDirectoryError, match=r"another run is writing there \(process \d+ on node7, since 20"):
            _lease(store, tmp_path / "b.json", wait=wait).__enter__()
        assert len(waits) == 3


def test_a_lock_of_a_lost_host_is_taken_over_once_it_has_expired(store: Store, tmp_path: Path) -> None:
    with _lease(store, tmp_path / "a.json"):
        _stranger(store)
        store.now += 20 * SECOND
        waits: list[float] = []
        shown: list[str] = []
        with _lease(store, tmp_path / "b.json", wait=waits.append, say=shown.append):
            check_lease(tmp_path / "b.json")
            assert store.holder.host != "node7"
        assert sum(waits) == pytest.approx(41)
        (line,) = shown
        assert "on node7" in line
        assert "has not been renewed for a while; it is taken over in" in line


def test_a_lock_that_is_given_back_meanwhile_is_free(store: Store, tmp_path: Path) -> None:
    with _lease(store, tmp_path / "a.json"):
        _stranger(store)
        with _lease(store, tmp_path / "b.json", wait=lambda _seconds: store.delete([STORE_LOCK])):
            check_lease(tmp_path / "b.json")


def test_a_living_process_of_this_host_keeps_it(store: Store, tmp_path: Path) -> None:
    with _lease(store, tmp_path / "a.json"), pytest.raises(RunDirectoryError, match="another run is writing there"):
        _lease(store, tmp_path / "b.json").__enter__()


def test_an_expired_one_is_taken_over(store: Store, tmp_path: Path) -> None:
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    old = _lease(store, first).__enter__()
    _stranger(store)
    store.now += 62 * SECOND
    with _lease(store, second):
        check_lease(second)
        old.renew()
        with pytest.raises(EmbedfleetError, match="this run has lost the lock: process"):
            check_lease(first)
        check_lease(second)
    old.__exit__(None, None, None)


def test_a_dead_process_of_this_host_holds_nothing(store: Store, tmp_path: Path) -> None:
    with _lease(store, tmp_path / "a.json"):
        dead = msgspec.structs.replace(store.holder, started=1.0)  # its number belongs to a later process now
        store.content = msgspec.json.encode(dead)
        with _lease(store, tmp_path / "b.json"):
            assert store.holder.token != dead.token


@pytest.mark.parametrize("renewals", [0, 1])
def test_a_lost_answer_does_not_lose_the_lease(store: Store, tmp_path: Path, renewals: int) -> None:
    path = tmp_path / "lease.json"
    store.late = 1 if not renewals else 0
    with _lease(store, path) as held:
        for _ in range(renewals):
            store.late = 1
            held.renew()
        check_lease(path)
        held.renew()
        check_lease(path)
        assert store.holder.renewals == renewals + 1
    assert store.content is None


def test_without_a_network_it_lasts_until_it_ends(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    with _lease(store, path, ttl=0.4) as held:
        store.deaf = True
        held.renew()
        check_lease(path)
        time.sleep(0.3)  # the clock itself is awaited
        with pytest.raises(EmbedfleetError, match="could not be renewed in time"):
            check_lease(path)
        store.deaf = False


def test_it_is_renewed_by_itself(store: Store, tmp_path: Path) -> None:
    with _lease(store, tmp_path / "lease.json", ttl=0.2):
        end = time.monotonic() + 5
        while store.holder.renewals < 3:
            assert time.monotonic() < end
            time.sleep(0.01)  # its thread does it


def test_a_deleted_lock_stops_the_run(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    with _lease(store, path) as held:
        store.content = None
        held.renew()
        with pytest.raises(EmbedfleetError, match="it was deleted"):
            check_lease(path)


def test_a_lock_of_another_version_is_not_touched(store: Store, tmp_path: Path) -> None:
    store.content, store.stamp = b"?", store.now

    def wait(_seconds: float) -> None:
        store.version += 1

    with pytest.raises(RunDirectoryError, match="a host with another version"):
        _lease(store, tmp_path / "lease.json", wait=wait).__enter__()


def test_a_lease_that_cannot_be_noted_here_is_given_back_at_once(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunDirectoryError, match=r"lease.json: Not a directory; make room there"):
        _lease(store, tmp_path / "file" / "lease.json").__enter__()
    assert store.content is None


def test_the_lock_of_a_part_or_of_the_whole_counts_too(store: Store, tmp_path: Path) -> None:
    whole: Any = Store()
    with _lease(store, tmp_path / "a.json") as ours:
        ours.look_at(whole)
        with (
            _lease(whole, tmp_path / "b.json"),
            pytest.raises(RunDirectoryError, match="--out s3://box/run: another run is writing there"),
        ):
            ours.look_at(whole)
        whole.content = msgspec.json.encode(msgspec.structs.replace(store.holder, started=1.0))  # a dead process
        ours.look_at(whole)
        check_lease(tmp_path / "a.json")


def test_a_store_that_refuses_says_why(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_name: str, _content: bytes, _e_tag: str | None) -> str:
        raise ValueError("status code: 403 <Code>AccessDenied</Code>")

    monkeypatch.setattr(store, "put_if", refuse)
    with pytest.raises(RunDirectoryError, match="permission denied"):
        _lease(store, tmp_path / "lease.json").__enter__()
