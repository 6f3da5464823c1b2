"""Read and write single files of a run directory. Errors name the file and the remedy."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec

from ...protocol.errors import EmbedfleetError, RunDirectoryError, unreadable
from ...protocol.run_directory.directory_lock import read_holder
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.records.quarantine import QuarantineLine
from ...protocol.run_directory.run_json import read_spec as read_spec
from ...protocol.text.number_spans import spans as spans

if TYPE_CHECKING:
    import pyarrow as pa

AGAIN = "run the same command again"

_OBJECT = msgspec.json.Decoder(dict[str, Any])


@contextmanager
def writing(path: Path) -> Generator[None]:
    """Convert OSErrors of writing `path` in this block to EmbedfleetError."""
    try:
        yield
    except OSError as error:
        what = error.strerror or str(error)
        raise EmbedfleetError(f"{path}: {what}; make room there or let it be written to, and {AGAIN}") from error


def read_lines(path: Path) -> list[QuarantineLine]:
    """The lines of a file of rejected records."""
    try:
        return [cast("QuarantineLine", one) for one in _OBJECT.decode_lines(path.read_bytes())]
    except FileNotFoundError:
        raise RunDirectoryError(f"{path} is gone; {AGAIN}") from None
    except (OSError, ValueError, RecursionError) as error:
        damage = f"{path}: not JSON objects, one a line ({error}); delete it and {AGAIN}"
        raise unreadable(path, error, damage) from error


def count_lines(path: Path) -> int:
    """The number of JSON objects in `path`, one on each line; reads line by line. RunDirectoryError for any other line."""
    count = 0
    try:
        with path.open("rb") as lines:
            for line in lines:
                count += 1
                _OBJECT.decode(line)
    except (OSError, ValueError, RecursionError) as error:
        damage = f"{path}: not JSON objects, one a line ({error} in line {count}); delete it and {AGAIN}"
        raise unreadable(path, error, damage) from error
    return count


def rejected_files(layout: RunLayout) -> list[Path]:
    """The files of rejected input records, in the order of their segments."""
    return [layout.rejected_segment(segment) for segment in layout.rejected_segments()]


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Columns of one segment file (None: all), without file metadata. Verifies page checksums, if the file has them.

    RunDirectoryError if the file is missing, torn, or lacks a column.
    """
    import pyarrow as pa  # late, as the next line: few searches need them
    import pyarrow.parquet as pq

    try:
        # not pq.read_table: it reads folders named `key=value` above the file as columns
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read(columns=None if columns is None else list(columns))
        table.validate(full=True)
    except FileNotFoundError:
        raise RunDirectoryError(f"{path} is gone; {AGAIN}") from None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise unreadable(path, error, f"{path}: torn or unreadable ({error}); delete it and {AGAIN}") from error
    absent = [name for name in columns or () if name not in cast("list[str]", table.column_names)]
    if absent:
        raise RunDirectoryError(f"{path}: has no column {', '.join(absent)}; delete it and {AGAIN}")
    return table.replace_schema_metadata(None)


def is_being_written(layout: RunLayout) -> bool:
    """Whether a run holds the directory now."""
    found = read_holder(layout)
    return found is not None and found[1]
