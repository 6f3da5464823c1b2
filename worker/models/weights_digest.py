"""The SHA-256 of a model's weights, for fingerprints. It is cached, since every load and every search needs it.

The key of an entry in the user's cache directory is the `stat` of the files. It has the inode change time, which on most file
systems only the kernel sets, so a file that is changed in place never matches. The hub's own file hashes cannot be used: the
digest is over the names and contents of all files together.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterable
from pathlib import Path

from ...protocol.host.own_cache import cache_folder
from ...protocol.run_directory.atomic_files import commit_bytes
from .parts import parts_of, weight_files

RECENT_SECONDS = 2.0
"""The digest of a file that changed less than this ago is not cached: another change might leave the same times."""


def hash_weights(folder: Path, *, own_code: bool) -> tuple[str, str]:
    """SHA-256 over the names and contents of the weight files, and of the files that decide tokens and pooling.

    The second value is the hash of 0.1.0 if it differs: that covered unused folders too.
    """
    everything = {
        *folder.rglob("*.safetensors"),
        *folder.rglob("tokenizer.json"),
        *folder.glob("*_Pooling/config.json"),
    }
    parts = parts_of(folder)
    weights = {folder / path for part in parts for path in weight_files(folder, part)}
    places = {folder / part.path for part in parts}
    used = {one for one in everything if one in weights or (one.suffix == ".json" and one.parent in places)}
    if own_code or not weights or used == everything:
        return digest_files(folder, everything), ""
    return digest_files(folder, used), digest_files(folder, everything)


def digest_files(folder: Path, paths: Iterable[Path]) -> str:
    """The SHA-256 over the names and contents of these files of a folder, cached if possible."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(paths)}
    begin, key, cache = time.time(), _key(files), cache_folder("weights")
    if cache is None or not files:
        return _hash(files)
    entry = cache / key
    if (found := _read_entry(entry)) is not None:
        return found
    digest = _hash(files)
    with contextlib.suppress(OSError):  # a file was removed, or the home cannot be written to: cache nothing
        if _key(files) == key and _is_settled(files, begin):
            cache.mkdir(parents=True, exist_ok=True)
            commit_bytes(entry, _entry(key, digest))
    return digest


def _is_settled(files: dict[str, Path], begin: float) -> bool:
    """Whether a change of any of the files would show in its times.

    Times in whole seconds come from an image (squashfs, ISO 9660) or from FAT, and not from the kernel's clock.
    """
    stats = [path.stat() for path in files.values()]
    return all(one.st_ctime < begin - RECENT_SECONDS and one.st_ctime_ns % 1_000_000_000 for one in stats)


def _hash(files: dict[str, Path]) -> str:
    state = hashlib.sha256()
    for name, path in files.items():
        state.update(name.encode() + b"\0")
        with path.open("rb") as handle:
            while block := handle.read(1 << 22):
                state.update(block)
    return state.hexdigest()


def _key(files: dict[str, Path]) -> str:
    """The cache key for the files as they are now."""
    stats = {name: path.stat() for name, path in files.items()}
    stamps = [
        (name, one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for name, one in stats.items()
    ]
    return hashlib.blake2b(repr(stamps).encode(), digest_size=16).hexdigest()


def _entry(key: str, digest: str) -> bytes:
    """The content of an entry: the digest, and a checksum."""
    return f"{digest} {hashlib.sha256((key + digest).encode()).hexdigest()}\n".encode()


def _read_entry(entry: Path) -> str | None:
    try:
        found = entry.read_bytes()
    except OSError:
        return None
    digest = found[:64].decode("ascii", "replace")
    return digest if found == _entry(entry.name, digest) else None
