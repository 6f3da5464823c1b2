"""The folder of a coordinator's sockets."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest
from embedfleet.protocol.errors import UsageError
from embedfleet.protocol.process.socket_folder import (
    LINKS,
    PREFIX,
    STALE_SECONDS,
    make_socket_folder,
    sweep,
    take_socket_folder,
)


def make(parent: Path, name: str, age: float) -> Path:
    folder = parent / name
    folder.mkdir()
    os.mknod(folder / "control", stat.S_IFSOCK | 0o600)
    then = time.time() - age
    os.utime(folder, (then, then))
    return folder


def test_what_killed_coordinators_left_is_swept(tmp_path: Path) -> None:
    old = 2 * STALE_SECONDS
    stale, young = make(tmp_path, f"{PREFIX}a", old), make(tmp_path, f"{PREFIX}b", 0)
    held, other = make(tmp_path, f"{PREFIX}c", old), make(tmp_path, "embedfleet-devices", old)
    lock = take_socket_folder(held)
    os.utime(held, (time.time() - old,) * 2)
    sweep(tmp_path)
    os.close(lock)
    assert not stale.exists()
    assert all(one.exists() for one in (young, held, other))


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_a_file_in_the_place_of_a_socket_is_refused_and_kept(tmp_path: Path, name: str, kind: str) -> None:
    path, mine = tmp_path / name, tmp_path / "mine"
    mine.write_text("mine")
    {"file": lambda: path.write_text("mine"), "folder": path.mkdir, "link": lambda: path.symlink_to(mine)}[kind]()
    with pytest.raises(UsageError, match=f"{path}: is no socket"):
        take_socket_folder(tmp_path)
    assert path.exists()
    assert mine.read_text() == "mine"


def test_a_socket_that_was_left_is_taken_over(tmp_path: Path) -> None:
    os.mknod(tmp_path / "control", stat.S_IFSOCK | 0o600)
    os.close(take_socket_folder(tmp_path))


def test_a_file_instead_of_the_folder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(UsageError, match=f"{path}: the sockets need a folder"):
        make_socket_folder(path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()  # as for an umask of 777, which does not keep root out
    with pytest.raises(UsageError, match=f"{tmp_path}: the sockets cannot be made there: Is a directory"):
        take_socket_folder(tmp_path)


def test_the_socket_folder_is_its_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b" / "c"
    before = os.umask(0)
    try:
        make_socket_folder(folder)
    finally:
        os.umask(before)
    assert [one.stat().st_mode & 0o777 for one in (folder, *folder.parents[:2])] == [0o700] * 3
    make_socket_folder(folder)


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o711])
def test_a_folder_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(UsageError, match=f"chmod 700 {folder}"):
        make_socket_folder(folder)


def test_a_socket_folder_belongs_to_one_coordinator_at_a_time(tmp_path: Path) -> None:
    held = take_socket_folder(tmp_path)
    with pytest.raises(UsageError, match=f"cannot listen on ipc://{tmp_path}: a coordinator is running there"):
        take_socket_folder(tmp_path)
    os.close(held)
    os.close(take_socket_folder(tmp_path))
