"""The records of a source for a survey: lines are only split, not parsed, so that counting them costs little more than reading.

Lines, their blanks, byte order marks and limits are those of `reading/line_reader.py`. Arrays, objects over several lines and
bulk files are read as the run reads them, and so are files that the run would refuse. Of Parquet, the footers count the rows.
"""

from __future__ import annotations

import zlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from ...protocol.errors import SourceError, is_host_failure
from ...protocol.source.json_head import BLANKS, BOM, HEAD_BYTES
from ...protocol.source.source_file import SourceFile
from ...protocol.source.unpacked import head_of, opened
from ..reading.bulk_file import is_bulk
from ..reading.encodings import not_utf8
from ..reading.lenient_json import parse_line
from ..reading.line_reader import LineReader, OversizedLine
from ..reading.readers import read_records
from ..reading.records import Item, Reject

_DAMAGE = (OSError, EOFError, zlib.error, pa.ArrowException)

Found = bytes | OversizedLine | Item
"""A line that is not parsed yet, or a record."""
Numbered = list[tuple[int, Found]]


def parsed(found: Found) -> Item:
    """The record, from a line too."""
    return parse_line(found) if isinstance(found, bytes | OversizedLine) else found


def size_of(found: Found) -> int:
    """About its bytes in memory."""
    return len(found) + 64 if isinstance(found, bytes) else 1_024


def is_lines(file: SourceFile) -> bool:
    """Whether each line of the file is a record by itself."""
    if file.format != "jsonl":
        return False
    begin = head_of(file, HEAD_BYTES)
    if not_utf8(file, begin) is not None:
        return False
    first = begin.removeprefix(BOM).lstrip(BLANKS).partition(b"\n")[0]
    return not is_bulk(parse_line(first))


def read_blocks(file: SourceFile) -> Generator[Numbered]:
    """Every record of a file, in blocks. SourceError if the system does not deliver its bytes."""
    if not is_lines(file):
        for block in read_records(file):
            yield list(block)
        return
    reader: LineReader | None = None
    try:
        with opened(file) as (read, most):
            reader = LineReader(read, block_bytes=most)
            for lines in reader:
                yield list(lines)
    except _DAMAGE as error:
        if isinstance(error, OSError) and is_host_failure(error):
            raise SourceError(f"{file.path or file.name} cannot be read: {error.strerror or error}") from error
        number = reader.number + 1 if reader is not None else 1
        yield [(number, Reject(f"{file.path or file.name} is damaged ({error})"))]


@dataclass(frozen=True, slots=True)
class RowGroup:
    """One row group of a Parquet file: its first row in the file, from 0, its rows, and their bytes before compression."""

    at: int
    """The number of the file in the source."""
    first: int
    rows: int
    n_bytes: int


def row_groups(at: int, file: SourceFile) -> list[RowGroup] | None:
    """The row groups of a file, from its footer; None if it cannot be read, which the reader then reports."""
    assert file.path is not None, "not standard input"
    try:
        with pq.ParquetFile(file.path) as table:
            infos = [table.metadata.row_group(group) for group in range(table.metadata.num_row_groups)]
            found, first = list[RowGroup](), 0
            for info in infos:
                found.append(RowGroup(at, first, info.num_rows, info.total_byte_size))
                first += info.num_rows
            return found
    except _DAMAGE:
        return None


def read_group(file: SourceFile, group: RowGroup) -> Iterator[Numbered]:
    """The rows of one row group, but for its first row: a reader that begins with that one would read the group before, too."""
    last = group.first + group.rows
    for block in read_records(file, skip=group.first + 1):
        yield [one for one in block if one[0] <= last]
        if block and block[-1][0] >= last:
            return
