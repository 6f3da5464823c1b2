"""Decide by the records in a run directory which files in `export/` the run wrote.

A record names a file by its path in `export/`: `points.jsonl`, and for a part of the table `table/00000.parquet`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ..errors import RunDirectoryError
from .json_bytes import decode_json
from .layout import RunLayout, segment_file
from .records.exports import FileNames


def part_name(layout: RunLayout, part: int) -> str:
    """The name of a part of the table, as records have it."""
    return f"{layout.table.name}/{segment_file(part)}"


def paths_in_export(layout: RunLayout) -> dict[str, Path]:
    """What lies in `export/` and in its folder `table/`, by the names that records use. Nothing behind a symbolic link."""
    found: dict[str, Path] = {}
    for folder, before in ((layout.export, ""), (layout.table, f"{layout.table.name}/")):
        if folder.is_dir() and not folder.is_symlink():
            found |= {f"{before}{path.name}": path for path in folder.iterdir()}
    return found


def recorded_names(path: Path) -> set[str]:
    """The file names in a record of an export or an evaluation, with those that were about to be written."""
    record = decode_json(path.read_bytes(), FileNames)
    return {one.name for one in record.files} | set(record.ours)


def claim_names(layout: RunLayout, record: Path, names: Iterable[str]) -> set[str]:
    """Check that files of these names may be written to `export`, and return the names that `record` has from then on.

    The folder of the table is replaced as a whole, so it must hold nothing else. RunDirectoryError if another file has one of
    the names or lies in that folder, or if the record is damaged.
    """
    try:
        ours = recorded_names(record)
    except FileNotFoundError:
        ours = set[str]()
    except ValueError as error:  # msgspec raises a plain one where the bytes are no UTF-8
        raise RunDirectoryError(
            f"{record}: not a record of files ({error}), so nobody knows whose the files in {layout.export} are; move it away, "
            "and those of them that are in the way, and run the same command again"
        ) from error
    names = set(names)
    if others := sorted(name for name in names | _in_the_way(layout, names) if _is_other(layout, name, ours)):
        raise RunDirectoryError(
            f"{layout.export}: {', '.join(others)} would be written over, and {record.name} does not say that this run wrote "
            "that; move it away, and run the same command again"
        )
    return ours | names


def _in_the_way(layout: RunLayout, names: set[str]) -> set[str]:
    """What lies where the folder of the table goes, if a part of it is among the names."""
    folder = layout.table
    if not any(name.startswith(f"{folder.name}/") for name in names):
        return set()
    if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir()):
        return {folder.name}
    return {name for name, path in paths_in_export(layout).items() if path.parent == folder}


def _is_other(layout: RunLayout, name: str, ours: set[str]) -> bool:
    return name not in ours and os.path.lexists(layout.export / name)
