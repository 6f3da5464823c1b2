"""The files of a corpus in reading order, and the names in a folder that are not read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import SourceError
from ..object_storage.address import is_address
from ..run_directory.own_files import holds_run
from ..spec.local_paths import check_local
from ..spec.shard import Shard
from .file_names import CHUNKS, SUPPORTED, format_of, has_collection
from .folder import EMPTY, NO_RECORDS, READ_ALREADY, LeftOut, suffix_kind, walk
from .json_head import holds_records
from .parts import part_of
from .remote_corpus import find_remote, remote_bytes
from .remote_files import can_be_read
from .source_file import Compression, Format, SourceFile

MAX_FILES_STATTED = 10_000
"""The most files of a folder whose sizes `plain_bytes` adds up."""
STDIN = "-"


@dataclass(frozen=True, slots=True)
class Corpus:
    """The files of a source, and the names in it that are not read."""

    files: list[SourceFile]
    left_out: LeftOut = field(default_factory=LeftOut)
    twins: list[SourceFile] = field(default_factory=list[SourceFile])
    """Links to files that are read anyway. 0.1.0 read them too."""


def resolve(source: str, exclude: Path | None = None, text_field: str | None = None) -> list[SourceFile]:
    """The files of the source; as `survey`, without the names that are not read."""
    return survey(source, exclude, text_field).files


def survey(
    source: str, exclude: Path | None = None, text_field: str | None = None, shard: Shard | None = None
) -> Corpus:
    """Find the files of a source: one file, all files of a folder by relative path, or `-` for standard input.

    Linked folders are followed. Files under `exclude` (the run directory) are ignored; `text_field` helps to tell records
    from settings in a `.json`. Of a shard, only its part of the files. SourceError if there is nothing to read, or a file
    cannot be read.
    """
    found = _whole(source, exclude, text_field)
    return found if shard is None else replace(found, files=part_of(found.files, shard), twins=[])


def _whole(source: str, exclude: Path | None, text_field: str | None) -> Corpus:
    if source == STDIN:
        return Corpus([SourceFile(None, "stdin", "jsonl")])
    if is_address(source):
        return Corpus(*find_remote(source, text_field))
    check_local(source, "source", SourceError)
    root = Path(source)
    try:
        if root.is_dir():
            found = _in_folder(root, exclude, text_field)
        elif root.is_file():
            found = Corpus([_named(root)])
        elif root.exists():
            raise SourceError(f"{source}: neither a file nor a folder; to read a pipe, give - as the source")
        else:
            raise SourceError(f"{source}: no such file or folder; give a file, a folder, or - for standard input")
    except OSError as error:
        raise SourceError(
            f"{error.filename or source}: cannot be read ({error.strerror}); check its permissions"
        ) from error
    for file in found.files:
        if file.path is not None and not os.access(file.path, os.R_OK):
            raise SourceError(f"{file.path}: cannot be read (permission denied); check its permissions")
    if not any(file.size for file in found.files):
        what = "is an empty file" if root.is_file() else f"holds only empty files ({len(found.files)})"
        raise SourceError(f"{source}: {what}; give a source with at least one record")
    return found


def is_gone(source: str) -> bool:
    """Whether a source is missing. So is an empty folder: its disk may not be mounted."""
    if is_address(source):
        return not can_be_read(source)
    try:
        with os.scandir(source) as found:
            return not any(found)
    except NotADirectoryError:
        return not Path(source).exists()
    except FileNotFoundError:
        return True
    except OSError:
        return False


def plain_bytes(source: str, most: int, exclude: Path | None = None) -> int | None:
    """Bytes of the source's files, added up until they exceed `most`.

    None if they do not show the amount of text: standard input, compressed files, Parquet, nothing readable, or more than
    MAX_FILES_STATTED files.
    """
    if source == STDIN:
        return None
    if is_address(source):
        return remote_bytes(source, most)
    root = Path(source)
    total = 0
    try:
        paths = (path for path, _, _ in walk(root, exclude, LeftOut())) if root.is_dir() else iter((root,))
        for number, path in enumerate(paths):
            format_, compression = format_of(path.name)
            if format_ == "parquet" or compression is not None or number >= MAX_FILES_STATTED:
                return None
            if format_ == "json" and path != root and not path.name.lower().endswith(CHUNKS):
                continue
            total += path.stat().st_size if format_ is not None else 0
            if total > most:
                break
    except OSError:
        return None
    return total or None


def _named(path: Path) -> SourceFile:
    """A file named directly."""
    format_, compression = format_of(path.name)
    if format_ is None:
        raise SourceError(f"{path}: {path.suffix or 'a name without extension'} is not supported; give {SUPPORTED}")
    return _source_file(path, path.name, format_, compression)


def _in_folder(root: Path, exclude: Path | None, text_field: str | None) -> Corpus:
    if exclude is not None and exclude.resolve() == root.resolve():
        raise SourceError(f"{root}: the source cannot be the run directory too; give another output folder")
    if holds_run(root):
        raise SourceError(
            f"{root}: is the directory of a run, not a corpus; give the corpus of that run, or files in it by name"
        )
    left_out = LeftOut()
    found = list(_files(root, exclude, text_field, left_out))
    if not found:
        raise SourceError(
            f"{root}: the folder holds no chunks; looked for *.jsonl, *.ndjson, *.json with records (also .gz, .zst) and "
            f"*.parquet in it and below" + (f". It has {line}" if (line := left_out.line()) else "")
        )
    real = {os.path.realpath(file.path) for file in found if file.path is not None and not file.path.is_symlink()}
    files, twins = list[SourceFile](), list[SourceFile]()
    for file in sorted(found, key=lambda file: file.name):
        target = os.path.realpath(file.path) if file.path is not None and file.path.is_symlink() else None
        if target is not None and target in real:
            left_out.add(READ_ALREADY, file.name)
            twins.append(file)
            continue
        if target is not None:
            real.add(target)
        files.append(file)
    return Corpus(files, left_out, twins)


def _files(root: Path, exclude: Path | None, text_field: str | None, left_out: LeftOut) -> Iterator[SourceFile]:
    """The files in a folder that are read; `left_out` gains the others."""

    for path, name, linked in walk(root, exclude, left_out):
        format_, compression = format_of(path.name)
        if format_ is None:
            left_out.add(suffix_kind(path.name), name)
            continue
        file = _source_file(path, name, format_, compression, linked=linked)
        if format_ == "json" and file.collection is None and not (file.size and holds_records(file, text_field)):
            left_out.add(NO_RECORDS if file.size else EMPTY, name)
            continue
        yield file


def _source_file(
    path: Path, name: str, format_: Format, compression: Compression | None, *, linked: bool = False
) -> SourceFile:
    stat = path.stat()
    chunks = has_collection(path.name)
    return SourceFile(
        path=path,
        # A file name need not be UTF-8, but reports and ids must.
        name=os.fsencode(name).decode("utf-8", "replace"),
        format=format_,
        compression=compression,
        collection=path.absolute().parent.name if chunks else None,
        size=stat.st_size,
        mtime_ns=stat.st_mtime_ns,
        since_0_1=linked or (format_ == "json" and not (chunks and compression is None)),
    )
