"""The row groups of a Parquet file, from its footer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any


class DamagedFooter(Exception):
    """A file whose bytes can be read, but not as Parquet."""


@dataclass(frozen=True, slots=True)
class RowGroup:
    """One row group: its number, the rows before it, its rows, its bytes in the file, and their size when unpacked."""

    number: int
    before: int
    rows: int
    start: int
    end: int
    unpacked: int


def row_groups(file: Path | IO[bytes], start: int = 0, end: int | None = None) -> list[RowGroup]:
    """The row groups that begin in these bytes of the file. OSError or DamagedFooter if it is no Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return groups_of(pq.read_metadata(file), start, end)
    except pa.ArrowException as error:
        raise DamagedFooter(str(error)) from error


def span_of(groups: Sequence[RowGroup]) -> tuple[int, int]:
    """The bytes of the file in which these row groups are, in whatever order they lie there; 0 and 0 without a group."""
    return min((one.start for one in groups), default=0), max((one.end for one in groups), default=0)


def groups_of(meta: Any, start: int = 0, end: int | None = None) -> list[RowGroup]:
    """The row groups that begin in these bytes, from the metadata of a file."""
    found, before = list[RowGroup](), 0
    for number in range(meta.num_row_groups):
        group = meta.row_group(number)
        begin, stop = _bytes_of(group)
        if start <= begin and (end is None or begin < end):
            found.append(RowGroup(number, before, group.num_rows, begin, stop, group.total_byte_size))
        before += group.num_rows
    return found


def _bytes_of(group: Any) -> tuple[int, int]:
    """The offsets in the file where a row group begins and ends."""
    starts, ends = list[int](), [0]
    for number in range(group.num_columns):
        column = group.column(number)
        start = column.data_page_offset
        if column.dictionary_page_offset:  # 0 in the files of old writers, if there is none
            start = min(start, column.dictionary_page_offset)
        starts.append(start)
        ends.append(start + column.total_compressed_size)
    return min(starts, default=0), max(ends)
