"""Source files in object storage, on the hub and on web servers: how they are found, and how their bytes are read."""

from __future__ import annotations

import io

from ..errors import SourceError, UsageError
from ..object_storage.address import Address, parse_address
from ..object_storage.failures import describe
from ..object_storage.hub import HubRanges, list_files
from ..object_storage.objects import ObjectFolder, StoredObject
from ..object_storage.ranges import Ranges, StoreRanges, read_range
from ..object_storage.stores import PROBE_PATIENCE
from ..object_storage.streams import RemoteFile, RemoteStream
from .source_file import SourceFile

_RUN_FILES = ("spec.json", "intake/limits.json")


class Listing:
    """The files at an address: `files` by their names below it. With `single`, it is one file, whose name is empty."""

    def __init__(self, source: str, *, is_file: bool = False) -> None:
        """List once. SourceError, with the remedy, if the address cannot be read. `is_file`: look for a file first, also where
        the name has no extension."""
        self.address = parse_address(source, "source", SourceError)
        self.single, self._is_file = False, is_file
        try:
            self.files = self._find()
        except UsageError as error:
            raise SourceError(str(error)) from error
        except Exception as error:
            raise SourceError(f"{self.address}: cannot be read: {describe(error, self.address)}") from error

    def _find(self) -> list[StoredObject]:
        if self.address.scheme == "hf":
            self.address, files = list_files(self.address)
            self.single = len(files) == 1 and not files[0].name
            return files
        web = self.address.scheme in ("http", "https")
        folder = ObjectFolder(self.address, PROBE_PATIENCE)
        if web or self._is_file or "." in self.address.name:
            about = folder.head() if self.address.key else None
            if about is not None:
                self.single = True
                return [about]
        if web:
            raise SourceError(
                f"{self.address}: there is no such file; give the address of one file, as web servers have no lists"
            )
        return [one for one in folder.list() if not (one.size == 0 and one.name.endswith("/"))]

    def runs(self) -> set[str]:
        """The names of folders below the address that hold a run; `` if the address itself does."""
        names = {one.name for one in self.files}
        spec, limits = _RUN_FILES
        folders = {name.removesuffix(spec).rstrip("/") for name in names if name.rpartition("/")[2] == spec}
        return {folder for folder in folders if f"{folder}/{limits}".lstrip("/") in names}


def can_be_read(source: str) -> bool:
    """Whether the address has a file that can be read now."""
    try:
        return bool(Listing(source).files)
    except SourceError:
        return False


def find_file(address: str, flag: str) -> Listing:
    """The listing of an address of a single file. SourceError, naming `flag`, for any other address."""
    try:
        listing = Listing(address, is_file=True)
    except SourceError as error:
        raise SourceError(f"{flag} {error}") from error
    if not listing.single:
        wrong = "is a folder; give a file" if listing.files else "there is no such file; check bucket and key"
        raise SourceError(f"{flag} {address}: {wrong}")
    return listing


def read_file(address: str, flag: str) -> bytes:
    """All bytes of the file at an address. SourceError if they cannot be had, or as for `find_file`."""
    listing = find_file(address, flag)
    size = listing.files[0].size
    ranges = _ranges(listing.address, size, listing.files[0].e_tag)
    return read_range(ranges, listing.address, 0, size) if size else b""


def fetch(file: SourceFile, start: int, end: int) -> bytes:
    """Exactly these bytes of a remote file as it lies there; SourceError if they cannot be had, or the file has changed."""
    address = _address(file)
    return read_range(_ranges(address, file.size, file.e_tag), address, start, end)


def open_stream(file: SourceFile, start: int = 0, end: int | None = None) -> io.RawIOBase:
    """The bytes of a remote file from `start` to `end`, or to its own end, in order, with read-ahead."""
    address = _address(file)
    ranges = _ranges(address, file.size, file.e_tag)
    last = file.size if end is None else end
    return RemoteStream(lambda begin, stop: read_range(ranges, address, begin, stop), last, start)


def open_anywhere(file: SourceFile) -> io.RawIOBase:
    """A remote file to read at any place."""
    address = _address(file)
    ranges = _ranges(address, file.size, file.e_tag)
    return RemoteFile(lambda begin, stop: read_range(ranges, address, begin, stop), file.size)


def _address(file: SourceFile) -> Address:
    assert file.url is not None, "remote"
    return parse_address(file.url, "source", SourceError)


def _ranges(address: Address, size: int, e_tag: str) -> Ranges:
    if address.scheme == "hf":
        return HubRanges(address, size)
    return StoreRanges(address, size, e_tag)
