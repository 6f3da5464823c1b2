"""The lock of a run directory, and what its file says of the process that has it."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from embedfleet.protocol.errors import RunDirectoryError
from embedfleet.protocol.run_directory import directory_lock
from embedfleet.protocol.run_directory.directory_lock import (
    COPY_SECONDS,
    STORE_LOCK,
    Holder,
    drop_lock,
    read_holder,
    take_lock,
)
from embedfleet.protocol.run_directory.layout import RunLayout


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["pipe", "folder", "nothing"])
def test_who_holds_a_lock_of_another_kind_is_not_waited_for(tmp_path: Path, kind: str) -> None:
    layout = RunLayout(tmp_path)
    if kind == "pipe":
        os.mkfifo(layout.lock)
    elif kind == "folder":
        layout.lock.mkdir()
    assert read_holder(layout) is None


@pytest.mark.parametrize("known", [True, False])
def test_a_second_process_is_refused_and_the_first_one_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    monkeypatch.setattr(directory_lock, "LOOK_SECONDS", 0.001)
    layout = RunLayout(tmp_path)
    lock = take_lock(layout, "here")
    if not known:  # as by an earlier version
        os.ftruncate(lock, 0)
    who = f" (process {os.getpid()} on {socket.gethostname()})" if known else ""
    with pytest.raises(RunDirectoryError) as refused:
        take_lock(layout, "there")
    assert str(refused.value) == f"there: another run is writing there{who}; wait for it or give another folder"
    found = read_holder(layout)
    assert found is not None
    assert (found[0].pid, found[1]) == (os.getpid() if known else 0, True)
    drop_lock(lock)
    assert read_holder(layout) == (Holder(), False)
    drop_lock(take_lock(layout, "again"))


def test_a_copy_of_a_stored_run_names_its_writer_for_a_while(tmp_path: Path) -> None:
    layout, copied = RunLayout(tmp_path), tmp_path / STORE_LOCK
    copied.write_bytes(b'{"pid": 7, "host": "node7"}')
    assert read_holder(layout) == (Holder(pid=7, host="node7"), True)
    long_ago = time.time() - COPY_SECONDS - 1
    os.utime(copied, (long_ago, long_ago))
    assert read_holder(layout) is None


def test_a_lock_that_cannot_be_read_names_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = RunLayout(tmp_path)
    layout.lock.touch()

    def refuse(*_arguments: Any) -> Any:
        raise PermissionError

    monkeypatch.setattr(Path, "open", refuse)
    assert read_holder(layout) is None


def test_a_lock_whose_file_was_removed_meanwhile_is_taken_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a third process, which makes the file again, would write there too."""
    monkeypatch.setattr(directory_lock, "LOOK_SECONDS", 0.001)
    layout, flock, removals = RunLayout(tmp_path), fcntl.flock, [True, False]

    def lock(fd: int, operation: int) -> None:
        flock(fd, operation)
        if removals and removals.pop(0):
            layout.lock.unlink()

    monkeypatch.setattr(fcntl, "flock", lock)
    taken = take_lock(layout, "here")
    assert os.path.samestat(os.fstat(taken), layout.lock.stat())
    drop_lock(taken)


def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: Any) -> Any:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(
        RunDirectoryError, match=r"^here: its file system cannot lock files \(No locks available\); give a"
    ):
        take_lock(RunLayout(tmp_path), "here")
    assert os.listdir("/proc/self/fd") == before
