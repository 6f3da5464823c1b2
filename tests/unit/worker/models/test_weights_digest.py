"""The digest of a model's weights: what it covers, and when one that is kept may be taken for it."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest
from embedfleet.worker.models import weights_digest
from embedfleet.worker.models.weights_digest import hash_weights

from ....model_folders import safetensors, save


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "embedfleet" / "weights"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Path]]:
    """What was really hashed."""
    found, real = list[dict[str, Path]](), weights_digest._hash

    def counting(files: dict[str, Path]) -> str:
        found.append(files)
        return real(files)

    monkeypatch.setattr(weights_digest, "_hash", counting)
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model that was saved a while ago."""
    folder = save(tmp_path / "m")
    monkeypatch.setattr(time, "time", lambda now=time.time: now() + 10)
    return folder


def test_what_no_module_names_is_not_hashed_and_what_0_1_0_hashed_is_known(tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    weights, before = hash_weights(folder, own_code=False)
    assert before == ""
    (folder / "checkpoint-5").mkdir()
    (folder / "checkpoint-5" / "model.safetensors").write_bytes(safetensors())
    after = hash_weights(folder, own_code=False)
    assert after[0] == weights
    assert after[1] == hash_weights(folder, own_code=True)[0] != weights


def put_back_times(path: Path, before: os.stat_result) -> None:
    """Set the times that can be set; the one of the inode becomes a later one, within a tick of the kernel's clock."""
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    while path.stat().st_ctime_ns <= before.st_ctime_ns:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_it_is_computed_once(folder: Path, cache: Path, hashed: list[dict[str, Path]]) -> None:
    first = hash_weights(folder, own_code=False)
    assert hash_weights(folder, own_code=False) == first
    assert len(hashed) == 1
    (entry,) = cache.iterdir()
    assert entry.read_text().split()[0] == first[0]


def test_a_file_that_is_changed_in_place_is_hashed_again_whatever_its_times_say(
    folder: Path, cache: Path, hashed: list[dict[str, Path]]
) -> None:
    weights = folder / "model.safetensors"
    first, about = hash_weights(folder, own_code=False), weights.stat()
    assert len(list(cache.iterdir())) == 1
    with weights.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    put_back_times(weights, about)
    after = weights.stat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (about.st_ino, about.st_size, about.st_mtime_ns)
    assert hash_weights(folder, own_code=False) != first
    assert len(hashed) == 2


def test_a_file_that_has_just_changed_is_not_kept(tmp_path: Path, cache: Path, hashed: list[dict[str, Path]]) -> None:
    folder = save(tmp_path / "m")
    assert hash_weights(folder, own_code=False) == hash_weights(folder, own_code=False)
    assert len(hashed) == 2
    assert not cache.exists()


def test_a_file_that_changes_while_it_is_hashed_is_not_kept(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changing(_files: dict[str, Path]) -> str:
        with (folder / "model.safetensors").open("ab") as file:
            file.write(b"x")
        return "0" * 64

    monkeypatch.setattr(weights_digest, "_hash", changing)
    assert hash_weights(folder, own_code=False)[0] == "0" * 64
    assert not cache.exists()


@pytest.mark.parametrize("damage", [b"", b"\xff" * 130, b"0" * 64 + b"\n"])
def test_a_damaged_entry_is_ignored_and_written_anew(
    folder: Path, cache: Path, hashed: list[dict[str, Path]], damage: bytes
) -> None:
    first = hash_weights(folder, own_code=False)
    (entry,) = cache.iterdir()
    whole = entry.read_bytes()
    entry.write_bytes(damage)
    assert hash_weights(folder, own_code=False) == first
    assert len(hashed) == 2
    assert entry.read_bytes() == whole


def test_one_of_other_files_is_ignored(folder: Path, cache: Path, hashed: list[dict[str, Path]]) -> None:
    first = hash_weights(folder, own_code=False)
    (entry,) = cache.iterdir()
    put_back_times(folder / "model.safetensors", (folder / "model.safetensors").stat())
    second = hash_weights(folder, own_code=False)
    (other,) = set(cache.iterdir()) - {entry}
    other.write_bytes(entry.read_bytes())
    assert second == first == hash_weights(folder, own_code=False)
    assert len(hashed) == 3


def test_without_a_cache_it_is_computed_each_time(
    folder: Path, cache: Path, hashed: list[dict[str, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.parent.parent.write_text("a file, where a folder is to be")
    first = hash_weights(folder, own_code=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as where nobody has a home
    assert hash_weights(folder, own_code=False) == first
    assert len(hashed) == 2
    assert not Path("relative").exists()
    assert not Path("~").exists()


def test_a_model_without_such_files_has_the_digest_of_nothing(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "modules.json").write_text('[{"path": "", "type": "sentence_transformers.models.BoW"}]')
    assert hash_weights(tmp_path / "m", own_code=True) == (hashlib.sha256().hexdigest(), "")
    assert not cache.exists()


def test_times_in_whole_seconds_are_no_sign_that_nothing_changed(
    folder: Path, cache: Path, hashed: list[dict[str, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of an image that is mounted: whoever made it chose its times."""
    real = Path.stat

    def whole_seconds(path: Path, **options: bool) -> os.stat_result:
        found = real(path, **options)
        times = found.st_ctime_ns // 1_000_000_000
        return os.stat_result(tuple(found), {"st_ctime": float(times), "st_ctime_ns": times * 1_000_000_000})

    monkeypatch.setattr(Path, "stat", whole_seconds)
    assert hash_weights(folder, own_code=False) == hash_weights(folder, own_code=False)
    assert len(hashed) == 2
    assert not cache.exists()
