"""The cache of converted models: `embedfleet/models/KEY` in the user's cache folder."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ...protocol.host.own_cache import cache_folder
from ...protocol.run_directory.atomic_files import commit_bytes, make_folder, sync_folder
from ...protocol.spec.run_spec import PassSpec
from ..models.identity import identity
from ..models.locate import ModelFiles
from ..models.weights_digest import hash_weights
from .engines.versions import engine_of, library_versions
from .record import FORMAT, Done

DONE = "done.json"
GRAPH, WEIGHTS, RECORD, TOKENIZER, REFERENCE = "model.xml", "model.bin", "record.json", "tokenizer.json", "probe.npz"
HEAD = "head.npz"
FILES = (GRAPH, WEIGHTS, RECORD, TOKENIZER, REFERENCE)
EXPORTED_FILES = (RECORD, TOKENIZER, REFERENCE, HEAD)
"""The files of a conversion whose graph stays in the model's repository."""
LOCK_SECONDS = 1_800.0
"""How long to wait for another process that makes the same conversion."""
LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Conversions:
    """The conversions of a user."""

    folder: Path

    def find(self, key: str) -> Path | Done | None:
        """The folder of a conversion; a Done with the reason if it was refused; None if it is not there or damaged."""
        folder = self.folder / key
        done = _read_done(folder)
        if done is None or done.refused:
            return done
        return folder if _is_whole(folder, done) else None

    @contextlib.contextmanager
    def locked(self, key: str) -> Generator[None]:
        """Hold the lock of a key. TimeoutError if another process holds it too long, OSError if no lock can be made."""
        make_folder(self.folder)
        lock = os.open(self.folder / f".{key}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _wait_for(lock)
            yield
        finally:
            os.close(lock)

    def clear(self, key: str) -> None:
        """Delete the files of a conversion, also half-written ones. The caller holds its lock."""
        for one in (self.folder / key, *self.folder.glob(f".{key}.*.tmp")):
            if one.exists():
                shutil.rmtree(one)

    def commit(self, key: str, write: Callable[[Path], None], names: tuple[str, ...] = FILES) -> None:
        """Let `write` fill a folder with these files; rename it to its key once they are on the disk. OSError if that fails."""
        partial = self.folder / f".{key}.{os.getpid()}.tmp"
        partial.mkdir()
        try:
            write(partial)
            done = Done(files={name: _sha256(partial / name) for name in names})
            for name in names:
                _sync(partial / name)
            sync_folder(partial)
            partial.rename(self.folder / key)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        sync_folder(self.folder)
        self._finish(key, done)

    def refuse(self, key: str, reason: str) -> None:
        """Remember that a model cannot be converted."""
        (self.folder / key).mkdir(exist_ok=True)
        self._finish(key, Done(refused=reason))

    def _finish(self, key: str, done: Done) -> None:
        commit_bytes(self.folder / key / DONE, msgspec.json.encode(done))


def cannot_store(folder: Path, error: OSError) -> str:
    """The message for a conversion that could not be written, with the remedy."""
    return (
        f"the conversion cannot be stored in {folder} ({error.strerror or error}); make room there, or set XDG_CACHE_HOME to a "
        "folder that can be written to"
    )


def open_conversions() -> Conversions | None:
    """The user's conversions; None without a home."""
    folder = cache_folder("models")
    return None if folder is None else Conversions(folder)


def key_of(spec: PassSpec, files: ModelFiles, graph: str = "") -> str:
    """The key of a model's conversion: what decides its numbers, the digest of its own graph if that one is computed, and the
    versions of the libraries."""
    weights, _ = hash_weights(files.folder, own_code=spec.trust_remote_code)
    own = (graph,) if graph else ()
    parts = (FORMAT, spec.kind, files.name, weights, identity(files.folder, own_code=spec.trust_remote_code), *own)
    versions = library_versions(engine_of(spec))
    return hashlib.sha256(msgspec.json.encode((*parts, versions), order="sorted")).hexdigest()[:32]


def _wait_for(lock: int) -> None:
    end = time.monotonic() + LOCK_SECONDS
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if time.monotonic() > end:
            raise TimeoutError(f"another process has been at it for {LOCK_SECONDS:.0f} s")
        time.sleep(LOOK_SECONDS)


def _read_done(folder: Path) -> Done | None:
    try:
        return msgspec.json.decode((folder / DONE).read_bytes(), type=Done)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _is_whole(folder: Path, done: Done) -> bool:
    try:
        is_complete = set(done.files) in (set(FILES), set(EXPORTED_FILES))
        return is_complete and all(_sha256(folder / name) == one for name, one in done.files.items())
    except OSError:
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
