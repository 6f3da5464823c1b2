"""Files that stand whole or not at all."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from embedfleet.protocol.run_directory.atomic_files import (
    commit_bytes,
    commit_file,
    commit_files,
    commit_new,
    follow,
    make_folder,
    replace_bytes,
    unfollow,
)


def test_a_committed_file_stands_alone(tmp_path: Path) -> None:
    commit_bytes(tmp_path / "a", b"one")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"one")]


def test_a_commit_replaces_what_stood_there(tmp_path: Path) -> None:
    commit_bytes(tmp_path / "a", b"one")
    commit_bytes(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"two"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_leaves_what_stood_there_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    commit_bytes(tmp_path / "a", b"one")

    def write(path: Path) -> None:
        path.write_bytes(b"half")
        raise error

    with pytest.raises(type(error)):
        commit_file(tmp_path / "a", write)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"one")]


def test_the_partial_file_is_hidden_and_beside_the_final_one(tmp_path: Path) -> None:
    seen: list[Path] = []
    commit_file(tmp_path / "00001.parquet", lambda path: (seen.append(path), path.touch())[1])
    assert seen == [tmp_path / ".00001.parquet.tmp"]


def test_the_order_is_write_sync_rename_sync_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = _watch(monkeypatch)
    commit_bytes(tmp_path / "a", b"one")
    assert done == ["sync .a.tmp", "rename .a.tmp", f"sync {tmp_path.name}"]


def test_a_failed_sync_commits_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="Input/output error"):
        commit_bytes(tmp_path / "a", b"one")
    assert list(tmp_path.iterdir()) == []


def test_each_new_folder_is_synced_in_the_one_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = _watch(monkeypatch)
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    assert done == [f"sync {tmp_path.name}", "sync a"]
    make_folder(tmp_path / "a" / "b")
    assert len(done) == 2


def test_a_file_in_the_way_of_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(OSError, match="exists"):
        make_folder(tmp_path / "a")


def test_files_that_are_filled_together_stand_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last gets its name first: where the first stands, all do."""
    done = _watch(monkeypatch)

    def write(partials: Sequence[Path]) -> None:
        for partial in partials:
            partial.write_bytes(partial.name.encode())

    commit_files((tmp_path / "record", tmp_path / "data"), write)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "record": b".record.tmp",
        "data": b".data.tmp",
    }
    assert [step for step in done if step.startswith("rename")] == ["rename .data.tmp", "rename .record.tmp"]


def test_files_that_are_filled_together_fail_together(tmp_path: Path) -> None:
    commit_bytes(tmp_path / "record", b"before")

    def write(partials: Sequence[Path]) -> None:
        partials[0].write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        commit_files((tmp_path / "record", tmp_path / "data"), write)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("record", b"before")]


def _watch(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is synced and renamed, in order, by name."""
    done: list[str] = []
    sync, rename = os.fsync, Path.rename

    def fsync(fd: int) -> None:
        done.append(f"sync {Path(os.readlink(f'/proc/self/fd/{fd}')).name}")
        sync(fd)

    def named(self: Path, target: Any) -> Path:
        done.append(f"rename {self.name}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", named)
    return done


def test_a_folder_below_more_folders_than_a_stack_holds_is_refused_by_its_reason(tmp_path):
    with pytest.raises(OSError, match="File name too long"):
        make_folder(tmp_path.joinpath(*["a"] * 2000, "b" * 300))
    make_folder(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()


class Copy:
    """A follower that notes what it sees; it refuses names that begin with `bad`."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    @contextmanager
    def putting(self, path: Path, content: Path, *, new: bool = False) -> Iterator[None]:
        if path.name.startswith("bad"):
            raise OSError(5, "no copy")
        self.seen.append(f"put{' new' * new} {path.name} of {content.name}, {path.exists()}")
        yield
        self.seen.append(f"named {path.name}, {path.exists()}")

    def settled(self, folder: Path) -> None:
        self.seen.append(f"settled {folder.name}")


def test_a_follower_has_a_file_before_it_gets_its_name(tmp_path: Path) -> None:
    copy = Copy()
    (tmp_path / "in").mkdir()
    follow(tmp_path / "in", copy)
    commit_bytes(tmp_path / "in" / "a", b"one")
    commit_bytes(tmp_path / "out", b"one")
    assert copy.seen == ["put a of .a.tmp, False", "named a, True", "settled in"]
    unfollow(tmp_path / "in")
    unfollow(tmp_path / "in")
    commit_bytes(tmp_path / "in" / "b", b"one")
    assert len(copy.seen) == 3


def test_what_a_follower_cannot_take_is_not_committed(tmp_path: Path) -> None:
    follow(tmp_path, Copy())
    try:
        with pytest.raises(OSError, match="no copy"):
            commit_bytes(tmp_path / "bad", b"one")
    finally:
        unfollow(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_new_file_where_there_are_no_hard_links(tmp_path: Path, monkeypatch: Any, code: int) -> None:
    def refused(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refused)
    commit_new(tmp_path / "a", b"one")
    with pytest.raises(FileExistsError):
        commit_new(tmp_path / "a", b"two")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"one")]


def test_another_error_of_a_link_is_an_error(tmp_path: Path, monkeypatch: Any) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(OSError, match="No space left"):
        commit_new(tmp_path / "a", b"one")
    assert list(tmp_path.iterdir()) == []


def test_a_new_file_without_links_that_cannot_be_synced_is_removed(tmp_path: Path, monkeypatch: Any) -> None:
    def refused(*_: object) -> None:
        def failing(_fd: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(os, "fsync", failing)
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    with pytest.raises(OSError, match="Input/output"):
        commit_new(tmp_path / "a", b"one")
    assert list(tmp_path.iterdir()) == []


def test_many_that_replace_a_file_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    barrier, errors = threading.Barrier(8), list[BaseException]()

    def replace(number: int) -> None:
        try:
            for _ in range(20):
                barrier.wait()
                replace_bytes(tmp_path / "a", b"%d" % number * 1000)
        except BaseException as error:  # noqa: BLE001 - asserted below
            errors.append(error)
            barrier.abort()

    threads = [threading.Thread(target=replace, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    [path] = tmp_path.iterdir()
    assert path.read_bytes() in {b"%d" % number * 1000 for number in range(8)}
