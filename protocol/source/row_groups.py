"""The row groups of a Parquet file, from its footer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any


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
    """The row groups that begin in these bytes of the file. OSError or ArrowException if it is no Parquet file."""
    import pyarrow.parquet as pq

    return groups_of(pq.read_metadata(file), start, end)


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
        if column.dictionary_page_offset is not None:
            start = min(start, column.dictionary_page_offset)
        starts.append(start)
        ends.append(start + column.total_compressed_size)
    return min(starts, default=0), max(ends)
