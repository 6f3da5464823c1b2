"""A spool: the local folder of a run directory that is kept in object storage, and the notes beside it.

`SPOOL/spool.json` names the address, `SPOOL/objects.jsonl` the objects that the files in `SPOOL/NAME` are equal to, and
`SPOOL/lease.json` until when this host may put objects there. None of them holds a key.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

import msgspec

from ..errors import RunDirectoryError
from ..run_directory.atomic_files import commit_new
from .address import Address, parse_address

_DEPTH = 6
"""How many levels above a folder its spool may be: `SPOOL/NAME/rerank/run` is three below it."""
_LOCAL_FOLDERS = ("qdrant", "cache")
"""Of a run directory: they are made of its segments, and stay where they were made."""
_LOCAL_FILES = ("published.json",)
_BESIDE = ("lock", ".lock", "objects.jsonl", "lease.json", "lease.tmp")
"""Of a spool that was being made or removed when its process was killed."""
_SHARDED = 3
"""`shards/00017/NAME`: the least parts of a name in a shard."""


class SpoolRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `spool.json`."""

    address: str
    folder: str
    """The name of the run directory in the spool."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of `objects.jsonl`: an object, and the file that is equal to it. The last line of a name counts."""

    name: str
    e_tag: str = ""
    size: int = 0
    mtime_ns: int = 0
    gone: bool = False


def below_shard(name: str) -> str:
    """The name in the run directory that the object is of: `chunks/00000.parquet` for that of a shard."""
    parts = PurePosixPath(name).parts
    return str(PurePosixPath(*parts[2:])) if parts[0] == "shards" and len(parts) >= _SHARDED else name


def is_manifest(name: str) -> bool:
    """Whether the object says that a run is done: of the directory itself, a shard, or another run inside it."""
    return PurePosixPath(name).name == "manifest.json"


class Spool:
    """One spool. `root` is its run directory."""

    def __init__(self, folder: Path, address: Address) -> None:
        self.folder, self.address = folder, address
        self.root = folder / (address.name or "run")
        self.lease_file = folder / "lease.json"
        self._index = folder / "objects.jsonl"
        self._entries: dict[str, Entry] = {}
        self._folders: dict[str, set[str]] = {}
        self._read_to = 0

    @classmethod
    def make(cls, folder: Path, address: Address, *, copy: bool = False) -> Spool:
        """The spool in `folder`, which may be new; with `copy` a copy to read, in which nothing is mirrored.

        RunDirectoryError if the folder holds anything else.
        """
        record = SpoolRecord(address=str(address), folder=address.name or "run")
        path, what = folder / ("copy.json" if copy else "spool.json"), str(folder) if copy else f"--spool {folder}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if any(_is_foreign(one.name, path) for one in folder.iterdir()) and not path.exists():
                raise RunDirectoryError(f"{what}: is not empty and no spool; give a new or empty folder")
            if not path.exists():
                with suppress(FileExistsError):  # by another process, a moment ago
                    commit_new(path, msgspec.json.encode(record))
            stood = msgspec.json.decode(path.read_bytes(), type=SpoolRecord)
            if stood != record:
                raise RunDirectoryError(f"{what}: is the spool of {stood.address}; give another folder")
        except OSError as error:
            raise RunDirectoryError(f"{what}: {error.strerror or error}; give a folder that can be written") from error
        except msgspec.MsgspecError as error:
            raise RunDirectoryError(f"{path}: not the record of a spool ({error}); give another folder") from error
        return cls(folder, address)

    @classmethod
    def around(cls, folder: Path) -> Spool | None:
        """The spool whose run directory is `folder`, or holds it; None if there is none."""
        for root in (folder, *folder.parents)[:_DEPTH]:
            try:
                record = msgspec.json.decode((root.parent / "spool.json").read_bytes(), type=SpoolRecord)
            except (OSError, msgspec.MsgspecError):
                continue
            if record.folder == root.name:
                return cls(root.parent, parse_address(record.address, "spool.json", RunDirectoryError))
        return None

    @contextmanager
    def alone(self) -> Generator[None]:
        """Keep other processes of this host out of the spool. RunDirectoryError if one is in it."""
        path = self.folder / ".lock"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise RunDirectoryError(
                f"{path}: {error.strerror or error}; run the same command again, or give another --spool"
            ) from error
        try:
            if not self._is_locked(fd, path):
                raise RunDirectoryError(
                    f"--spool {self.folder}: another process is working in it; wait for it, or give another folder"
                )
            yield
        finally:
            os.close(fd)

    def _is_locked(self, fd: int, path: Path) -> bool:
        """Lock the file, unless it is another's, or that of a spool that another has just removed."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks: the lock in the store is left
            return True
        try:
            return os.path.samestat(os.fstat(fd), path.stat()) and (self.folder / "spool.json").exists()
        except FileNotFoundError:
            return False

    def remove(self) -> None:
        """Remove the spool, the run directory first: what a kill leaves is known for a spool, and used again."""
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def name_of(self, path: Path) -> str | None:
        """The object for a file below `root`; None for files that stay local."""
        parts = path.relative_to(self.root).parts
        name = PurePosixPath(*parts)
        local = (
            not parts
            or parts[0] in _LOCAL_FOLDERS
            or parts[-1] in _LOCAL_FILES
            or any(part.startswith(".") for part in parts)
            or name.suffix == ".damaged"
        )
        return None if local else str(name)

    def path_of(self, name: str) -> Path | None:
        """The file of an object; None for a name that no run directory has."""
        parts = PurePosixPath(name).parts
        if not parts or any(part in ("..", "/") or part.startswith(".") for part in parts):
            return None
        return self.root.joinpath(*parts)

    def entries(self) -> dict[str, Entry]:
        """By name, the objects that processes of this host have noted."""
        try:
            with self._index.open("rb") as lines:
                lines.seek(self._read_to)
                data = lines.read()
        except FileNotFoundError:
            return self._entries
        whole = data[: data.rfind(b"\n") + 1]
        self._read_to += len(whole)
        for line in whole.splitlines():
            try:
                entry = msgspec.json.decode(line, type=Entry)
            except msgspec.MsgspecError:  # cut short by a power cut: the object counts as unknown
                continue
            inside = self._folders.setdefault(str(PurePosixPath(entry.name).parent), set())
            if entry.gone:
                self._entries.pop(entry.name, None)
                inside.discard(entry.name)
            else:
                self._entries[entry.name] = entry
                inside.add(entry.name)
        return self._entries

    def folders(self) -> dict[str, set[str]]:
        """By folder, as in `chunks` (`.` for the run directory itself), the names of `entries` in it."""
        self.entries()
        return self._folders

    def note(self, *entries: Entry) -> None:
        """Add lines, each at once, so that several processes can."""
        fd = os.open(self._index, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            for entry in entries:
                os.write(fd, msgspec.json.encode(entry) + b"\n")
        finally:
            os.close(fd)

    def entry_of(self, name: str, path: Path, e_tag: str) -> Entry:
        """The line for a file that is equal to an object."""
        about = path.stat()
        return Entry(name=name, e_tag=e_tag, size=about.st_size, mtime_ns=about.st_mtime_ns)

    def files(self) -> dict[str, Path]:
        """By name, the files below `root` that belong into the store."""
        found: dict[str, Path] = {}
        for folder, folders, names in os.walk(self.root):
            here = Path(folder)
            at_root = here == self.root
            folders[:] = [one for one in folders if not one.startswith(".") and not (at_root and one in _LOCAL_FOLDERS)]
            for one in names:
                path = here / one
                if (name := self.name_of(path)) is not None and not path.is_symlink():
                    found[name] = path
        return found


def _is_foreign(name: str, record: Path) -> bool:
    return name not in (record.name, *_BESIDE) and not name.startswith(f".{record.name}.")
