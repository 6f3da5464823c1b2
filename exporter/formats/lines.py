"""Write lines of JSON to a file, one at a time."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import orjson

from ...protocol.run_directory.atomic_files import commit_file

BUFFER_BYTES = 1 << 20

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE


def write_lines(path: Path, records: Iterable[object]) -> int:
    """Commit a file with one line for each record; return their number.

    Numpy arrays become JSON arrays, with each number in its shortest exact form.
    """
    count = 0

    def write(partial: Path) -> None:
        nonlocal count
        with partial.open("wb", buffering=BUFFER_BYTES) as out:
            for record in records:
                out.write(orjson.dumps(record, option=_OPTIONS))
                count += 1

    commit_file(path, write)
    return count
