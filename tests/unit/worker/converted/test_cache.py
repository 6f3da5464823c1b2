"""The cache of conversions: what is half-written, damaged, refused, of other versions, or locked."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from embedfleet.protocol.errors import ModelError
from embedfleet.worker.converted import cache, child
from embedfleet.worker.converted.cache import DONE, FILES, Conversions, key_of, open_conversions
from embedfleet.worker.converted.record import Done
from embedfleet.worker.models.locate import ModelFiles

from ....model_folders import save
from .conversions import spec_of

KEY = "0123"


@pytest.fixture
def conversions(tmp_path: Path) -> Conversions:
    return Conversions(tmp_path / "models")


def write(folder: Path) -> None:
    for name in FILES:
        (folder / name).write_text(f"the content of {name}")


def made(conversions: Conversions) -> Path:
    with conversions.locked(KEY):
        conversions.commit(KEY, write)
    found = conversions.find(KEY)
    assert isinstance(found, Path)
    return found


def test_a_conversion_is_whole_or_not_there(conversions: Conversions) -> None:
    assert conversions.find(KEY) is None
    folder = made(conversions)
    assert {one.name for one in folder.iterdir()} == {*FILES, DONE}
    assert {one.name for one in conversions.folder.iterdir()} == {KEY, f".{KEY}.lock"}


@pytest.mark.parametrize("name", FILES)
def test_damage_to_any_file_is_found(conversions: Conversions, name: str) -> None:
    path = made(conversions) / name
    whole = path.read_bytes()
    for damage in (b"", whole[:-1], whole[:-1] + b"?"):
        path.write_bytes(damage)
        assert conversions.find(KEY) is None
    path.unlink()
    assert conversions.find(KEY) is None
    path.write_bytes(whole)
    assert conversions.find(KEY) is not None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"files": {}}', b'{"files": {"model.xml": "0"}}', b"\xff"])
def test_a_done_file_that_is_none_is_no_conversion(conversions: Conversions, content: bytes) -> None:
    (made(conversions) / DONE).write_bytes(content)
    assert conversions.find(KEY) is None


def test_what_a_killed_process_left_is_deleted(conversions: Conversions) -> None:
    folder = made(conversions)
    (folder / DONE).unlink()
    other = conversions.folder / f".{KEY}.99.tmp"
    other.mkdir()
    write(other)
    stranger = conversions.folder / ".4567.99.tmp"
    stranger.mkdir()
    assert conversions.find(KEY) is None
    with conversions.locked(KEY):
        conversions.clear(KEY)
        assert {one.name for one in conversions.folder.iterdir()} == {f".{KEY}.lock", stranger.name}
        conversions.commit(KEY, write)
    assert conversions.find(KEY) == folder


def test_an_error_while_writing_leaves_nothing(conversions: Conversions) -> None:
    def fail(folder: Path) -> None:
        write(folder)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with conversions.locked(KEY), pytest.raises(OSError, match="No space left"):
        conversions.commit(KEY, fail)
    assert {one.name for one in conversions.folder.iterdir()} == {f".{KEY}.lock"}


def test_a_refusal_is_remembered(conversions: Conversions) -> None:
    with conversions.locked(KEY):
        conversions.refuse(KEY, "it is too odd")
    assert conversions.find(KEY) == Done(refused="it is too odd")


def test_one_process_at_a_time(conversions: Conversions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "LOOK_SECONDS", 0.001)
    inside, free = threading.Event(), threading.Event()

    def hold() -> None:
        with conversions.locked(KEY):
            inside.set()
            free.wait(20)

    other = threading.Thread(target=hold)
    other.start()
    assert inside.wait(20)
    monkeypatch.setattr(cache, "LOCK_SECONDS", 0.0)
    with pytest.raises(TimeoutError, match="another process has been at it"), conversions.locked(KEY):
        pytest.fail("two hold the lock")
    with conversions.locked("another key"):
        pass
    monkeypatch.setattr(cache, "LOCK_SECONDS", 20.0)
    free.set()
    with conversions.locked(KEY):
        other.join(20)


def test_a_lock_is_free_again_when_its_holder_is_gone(conversions: Conversions) -> None:
    with conversions.locked(KEY):
        pass
    lock = os.open(conversions.folder / f".{KEY}.lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(lock)


def test_a_child_that_takes_too_long_is_ended_before_its_files_are_deleted(
    conversions: Conversions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    class Slow:
        def __init__(self, *_arguments: Any, **_options: Any) -> None:
            pass

        def wait(self, _seconds: float) -> None:
            done.append("waited")

        def close(self) -> None:
            done.append("ended")

    monkeypatch.setattr(child, "ChildProcess", Slow)
    monkeypatch.setattr(Conversions, "clear", lambda *_: done.append("deleted"))
    with pytest.raises(ModelError, match="the conversion took too long"):
        child.run_child(conversions, KEY, spec_of(tmp_path), ModelFiles(tmp_path, "m", ""), 1)
    assert done[:3] == ["waited", "ended", "deleted"]
    assert conversions.find(KEY) is None, "another attempt may take less"


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"), Conversions(tmp_path / "file" / "models").locked(KEY):
        pytest.fail("there is no lock")


def test_without_a_home_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert open_conversions() is None


def test_the_key_is_another_for_other_weights_settings_kinds_and_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(tmp_path / "m")
    files = ModelFiles(folder, "m", "")
    keys = [key_of(spec_of(folder), files), key_of(spec_of(folder, "sparse"), files)]
    assert key_of(spec_of(folder, truncate_dim=3, max_tokens=8, prompt="p"), files) == keys[0]
    config = folder / "config.json"
    config.write_text(config.read_text().replace("{", '{"more": 1, ', 1))
    keys.append(key_of(spec_of(folder), files))
    versions: dict[str, Any] = {"openvino": "2026.5.0"}
    monkeypatch.setattr(cache, "library_versions", lambda _: versions)
    keys.append(key_of(spec_of(folder), files))
    versions["transformers"] = "6.0.0"
    keys.append(key_of(spec_of(folder), files))
    assert len(set(keys)) == len(keys)
