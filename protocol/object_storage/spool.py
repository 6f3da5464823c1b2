"""A spool: the local folder of a run directory that is kept in object storage, and the notes beside it.

`SPOOL/spool.json` names the address, `SPOOL/objects.jsonl` the objects that the files in `SPOOL/NAME` are equal to, and
`SPOOL/lease.json` until when this host may put objects there. None of them holds a key.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import msgspec

from ..errors import RunDirectoryError
from .address import Address, parse_address

_DEPTH = 6
"""How many levels above a folder its spool may be: `SPOOL/NAME/rerank/run` is three below it."""
_LOCAL_FOLDERS = ("qdrant", "cache")
"""Of a run directory: they are made of its segments, and stay where they were made."""
_LOCAL_FILES = ("published.json",)


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


class Spool:
    """One spool. `root` is its run directory."""

    def __init__(self, folder: Path, address: Address) -> None:
        self.folder, self.address = folder, address
        self.root = folder / (address.name or "run")
        self.lease_file = folder / "lease.json"
        self._index = folder / "objects.jsonl"
        self._entries: dict[str, Entry] = {}
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
            if path.exists():
                stood = msgspec.json.decode(path.read_bytes(), type=SpoolRecord)
                if stood != record:
                    raise RunDirectoryError(f"{what}: is the spool of {stood.address}; give another folder")
            elif any(folder.iterdir()):
                raise RunDirectoryError(f"{what}: is not empty and no spool; give a new or empty folder")
            else:
                path.write_bytes(msgspec.json.encode(record))
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
            if entry.gone:
                self._entries.pop(entry.name, None)
            else:
                self._entries[entry.name] = entry
        return self._entries

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
