"""The files of a corpus: which they are, in which order, and how they stood when the intake began."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from .errors import RunDirectoryError, SourceError

Format = Literal["jsonl", "json", "parquet"]
Compression = Literal["gzip", "zstd"]

MOST_LOOKED = 10_000
"""Files of a folder that are looked at for their sizes."""
STDIN = "-"
SUPPORTED = ".jsonl, .ndjson (also .gz, .zst), .parquet, or .json with one array of objects"

_COMPRESSIONS: dict[str, Compression] = {".gz": "gzip", ".zst": "zstd"}
_CHUNKS = "_chunks.json"


class FileStamp(msgspec.Struct, frozen=True):
    """A source file as it stood: path below the source, bytes, and time of change."""

    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file to read; `path` is None for standard input. `name` is what reports and made-up ids call it."""

    path: Path | None
    name: str
    format: Format
    compression: Compression | None = None
    collection: str | None = None
    """The folder of a `*_chunks.json` file, which its records get as metadata."""
    size: int = 0
    mtime_ns: int = 0


def resolve(source: str, exclude: Path | None = None) -> list[SourceFile]:
    """The files of a source: one file, a folder with all below it by relative path, or `-` for standard input.

    Hidden names and what lies under `exclude` (the run directory) are left out. SourceError where there is nothing to
    read, or something that cannot be read.
    """
    if source == STDIN:
        return [SourceFile(None, "stdin", "jsonl")]
    root = Path(source)
    try:
        if root.is_dir():
            files = _in_folder(root, exclude)
        elif root.is_file():
            files = [_given(root)]
        elif root.exists():
            raise SourceError(f"{source}: neither a file nor a folder; to read a pipe, give - as the source")
        else:
            raise SourceError(f"{source}: no such file or folder; give a file, a folder, or - for standard input")
    except OSError as error:
        raise SourceError(
            f"{error.filename or source}: cannot be read ({error.strerror}); check its permissions"
        ) from error
    for file in files:
        if file.path is not None and not os.access(file.path, os.R_OK):
            raise SourceError(f"{file.path}: cannot be read (permission denied); check its permissions")
    if not any(file.size for file in files):
        what = "is an empty file" if root.is_file() else f"holds only empty files ({len(files)})"
        raise SourceError(f"{source}: {what}; give a source with at least one record")
    return files


def plain_bytes(source: str, most: int, exclude: Path | None = None) -> int | None:
    """Bytes of the source's files, counted until they are more than `most`.

    None where they do not tell how much text there is: standard input, something compressed, Parquet, nothing readable, or so
    many files that looking at them would hold up whoever asks.
    """
    if source == STDIN:
        return None
    root = Path(source)
    total = 0
    try:
        for number, path in enumerate(_walk(root, exclude) if root.is_dir() else (root,)):
            format_, compression = _format(path.name)
            if format_ == "parquet" or compression is not None or number >= MOST_LOOKED:
                return None
            if format_ == "json" and path != root and not path.name.lower().endswith(_CHUNKS):
                continue
            total += path.stat().st_size if format_ is not None else 0
            if total > most:
                break
    except OSError:
        return None
    return total or None


def fingerprint(files: list[SourceFile]) -> list[FileStamp]:
    """What has to be unchanged for a resume: path, size and time of each file, in order."""
    return [FileStamp(file.name, file.size, file.mtime_ns) for file in files]


def first_difference(before: list[FileStamp], now: list[FileStamp]) -> str | None:
    """The first file in which two fingerprints differ, and how; None where they are the same."""
    old, new = {one.path: one for one in before}, {one.path: one for one in now}
    for path in sorted(old.keys() | new.keys()):
        if path not in new:
            return f"{path} is gone"
        if path not in old:
            return f"{path} is new"
        if old[path].size != new[path].size:
            return f"{path} had {old[path].size} bytes and has {new[path].size}"
        if old[path].mtime_ns != new[path].mtime_ns:
            return f"{path} was written to"
    return None if before == now else "the order of the files"


def check_unchanged(source: str, files: list[SourceFile], stamps: Path) -> bool:
    """Whether the file `stamps` says how the source stood when its intake began; False where there is none.

    SourceError where `files` are not as they were then, RunDirectoryError where `stamps` cannot be understood.
    """
    try:
        before = msgspec.json.decode(stamps.read_bytes(), type=list[FileStamp])
    except FileNotFoundError:
        return False
    except msgspec.MsgspecError as error:
        raise RunDirectoryError(f"{stamps}: damaged ({error}); start over with --restart") from error
    difference = first_difference(before, fingerprint(files))
    if difference is not None:
        raise SourceError(
            f"{source}: the source changed since its intake began: {difference}; "
            "put it back as it was, or start over with --restart"
        )
    return True


def _given(path: Path) -> SourceFile:
    """A file named directly, where any .json is taken for an array."""
    format_, compression = _format(path.name)
    if format_ is None:
        raise SourceError(f"{path}: {path.suffix or 'a name without extension'} is not supported; give {SUPPORTED}")
    return _source_file(path, path.name, format_, compression)


def _in_folder(root: Path, exclude: Path | None) -> list[SourceFile]:
    if exclude is not None and exclude.resolve() == root.resolve():
        raise SourceError(f"{root}: the source cannot be the run directory too; give another output folder")
    found: list[SourceFile] = []
    for path in _walk(root, exclude):
        format_, compression = _format(path.name)
        if format_ is None or (format_ == "json" and not path.name.lower().endswith(_CHUNKS)):
            continue
        found.append(_source_file(path, path.relative_to(root).as_posix(), format_, compression))
    if not found:
        raise SourceError(
            f"{root}: the folder holds no chunks; looked for *.jsonl, *.ndjson (also .gz, .zst), *.parquet and "
            f"*{_CHUNKS} in it and below"
        )
    return sorted(found, key=lambda file: file.name)


def _walk(root: Path, exclude: Path | None) -> Iterator[Path]:
    barred = None if exclude is None else exclude.resolve()

    def refuse(error: OSError) -> None:
        raise error

    for folder, folders, names in os.walk(root, onerror=refuse):
        here = Path(folder)
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and (barred is None or (here / name).resolve() != barred)
        ]
        for name in names:
            if not name.startswith(".") and (here / name).is_file():
                yield here / name


def _format(name: str) -> tuple[Format | None, Compression | None]:
    stem, suffix = os.path.splitext(name.lower())
    compression = _COMPRESSIONS.get(suffix)
    if compression is not None:
        suffix = os.path.splitext(stem)[1]
    if suffix in (".jsonl", ".ndjson"):
        return "jsonl", compression
    if compression is None and suffix == ".parquet":
        return "parquet", None
    if compression is None and suffix == ".json":
        return "json", None
    return None, None


def _source_file(path: Path, name: str, format_: Format, compression: Compression | None) -> SourceFile:
    stat = path.stat()
    return SourceFile(
        path=path,
        # A file name need not be UTF-8, but reports and ids must.
        name=os.fsencode(name).decode("utf-8", "replace"),
        format=format_,
        compression=compression,
        collection=path.absolute().parent.name if path.name.lower().endswith(_CHUNKS) else None,
        size=stat.st_size,
        mtime_ns=stat.st_mtime_ns,
    )
