"""Lines of JSON on their way to a file, one at a time."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import orjson

from ...protocol.run_directory.atomic_files import commit_file

BUFFER_BYTES = 1 << 20

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE


def write_lines(path: Path, records: Iterable[object]) -> int:
    """Commit a file with a line a record; numpy arrays become JSON arrays, each number the shortest that reads back."""
    count = 0

    def write(partial: Path) -> None:
        nonlocal count
        with partial.open("wb", buffering=BUFFER_BYTES) as out:
            for record in records:
                out.write(orjson.dumps(record, option=_OPTIONS))
                count += 1

    commit_file(path, write)
    return count
