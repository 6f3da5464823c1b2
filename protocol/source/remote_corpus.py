"""The files of a source that is an address: one object or file, or all objects below a prefix."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import PurePosixPath

from ..errors import SourceError
from ..object_storage.objects import StoredObject
from ..text.terminal_text import on_one_line
from .file_names import SUPPORTED, format_of, has_collection
from .folder import EMPTY, HIDDEN, NO_RECORDS, OTHER_RUN, LeftOut, suffix_kind
from .json_head import holds_records
from .remote_files import Listing, fetch
from .source_file import SourceFile

HEADS_AT_ONCE = 16
"""Beginnings of `.json` files that are read side by side."""


def find_remote(source: str, text_field: str | None, *, is_file: bool = False) -> tuple[list[SourceFile], LeftOut]:
    """The files by name, and the names that are not read, by the rules for folders. SourceError as for `survey`. `is_file`: see
    `Listing`."""
    listing, left_out = Listing(source, is_file=is_file), LeftOut()
    if listing.single:
        files = [_file(listing, listing.files[0])]
    else:
        if "" in listing.runs():
            raise SourceError(
                f"{listing.address}: holds a run, not a corpus; give the corpus of that run, or files in it by name"
            )
        files = _with_records([_file(listing, one) for one in _read(listing, left_out)], text_field, left_out)
    if not files:
        raise SourceError(
            f"{listing.address}: there are no chunks; looked for *.jsonl, *.ndjson, *.json with records (also .gz, .zst) and "
            f"*.parquet below it" + (f". It has {line}" if (line := left_out.line()) else "; check bucket and key")
        )
    if not any(file.size for file in files):
        what = "is an empty file" if listing.single else f"holds only empty files ({len(files)})"
        raise SourceError(f"{listing.address}: {what}; give a source with at least one record")
    return files, left_out


def check_readable(source: str, text_field: str | None, *, is_file: bool = False) -> None:
    """Find the files, and read one byte of them. SourceError with the remedy if any of that is refused. `is_file`: see
    `Listing`."""
    files, _ = find_remote(source, text_field, is_file=is_file)
    first = next(file for file in files if file.size)
    fetch(first, 0, 1)


def remote_bytes(source: str, most: int) -> int | None:
    """As `plain_bytes`, from a listing."""
    try:
        listing = Listing(source)
    except SourceError:
        return None
    total = 0
    for one in listing.files:
        name = one.name or listing.address.name
        format_, compression = format_of(name)
        if format_ == "parquet" or compression is not None:
            return None
        if format_ == "jsonl" or (format_ == "json" and (listing.single or has_collection(name))):
            total += one.size
    return min(total, most + 1) or None


def _read(listing: Listing, left_out: LeftOut) -> Iterator[StoredObject]:
    """The objects with a suffix that is read, outside of hidden folders and of runs."""
    runs, seen = listing.runs(), set[str]()
    for one in listing.files:
        path = PurePosixPath(one.name)
        run = next((str(folder) for folder in path.parents if str(folder) in runs), None)
        if run is not None:
            if run not in seen:
                seen.add(run)
                left_out.add(OTHER_RUN, run)
        elif any(part.startswith(".") for part in path.parts):
            left_out.add(HIDDEN, one.name)
        elif format_of(path.name)[0] is None:
            left_out.add(suffix_kind(path.name), one.name)
        else:
            yield one


def _with_records(files: list[SourceFile], text_field: str | None, left_out: LeftOut) -> list[SourceFile]:
    """The files without those `.json` that hold no records by their beginnings."""
    asked = [file for file in files if file.format == "json" and file.collection is None and file.size]
    with ThreadPoolExecutor(HEADS_AT_ONCE, "heads") as pool:
        answers = pool.map(partial(holds_records, text_field=text_field), asked)
        good = {file.name for file, holds in zip(asked, answers, strict=True) if holds}
    found: list[SourceFile] = []
    for file in files:
        if file.format == "json" and file.collection is None and file.name not in good:
            left_out.add(NO_RECORDS if file.size else EMPTY, file.name)
        else:
            found.append(file)
    return found


def _file(listing: Listing, one: StoredObject) -> SourceFile:
    address = listing.address.below(one.name) if one.name else listing.address
    format_, compression = format_of(address.name)
    if format_ is None:
        suffix = on_one_line(PurePosixPath(address.name).suffix) or "a name without extension"
        raise SourceError(f"{address}: {suffix} is not supported; give {SUPPORTED}")
    folder = address.key.rpartition("/")[0].rpartition("/")[2]
    return SourceFile(
        path=None,
        name=one.name or address.name,
        format=format_,
        compression=compression,
        collection=folder if has_collection(address.name) else None,
        size=one.size,
        mtime_ns=one.mtime_ns,
        url=str(address),
        e_tag=one.e_tag,
    )
