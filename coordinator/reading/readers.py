"""Read the numbered records of a source file of any format; damage becomes a rejected record."""

from __future__ import annotations

import shlex
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from ...protocol.errors import SourceError, is_host_failure
from ...protocol.source.json_head import BLANKS, BOM, array_inside, begins_lines
from ...protocol.source.line_range import count_lines, line_start
from ...protocol.source.row_groups import groups_of, span_of
from ...protocol.source.source_file import SourceFile
from ...protocol.source.unpacked import BLOCK_BYTES, Read, opened, parquet_source, raw_bytes, seekable
from . import arrow_values, first_conventions, lenient_json
from .bulk_file import BulkFile, is_bulk
from .encodings import not_utf8
from .json_values import JsonValues, Value
from .line_reader import MAX_LINE_BYTES, LineReader, OversizedLine
from .records import Item, Numbered, Raw, Reject, excerpt
from .running_digest import RunningDigest

ROWS = 4096
"""Records in a block, at most."""
VALUES_BLOCK = 256 << 10

ZSTD_WINDOW = "Frame requires too much memory"
"""The library's error text for a window beyond 128 MiB, its limit."""
_DAMAGE = (OSError, EOFError, zlib.error, pa.ArrowException)


def read_records(
    file: SourceFile,
    skip: int = 0,
    digest: RunningDigest | None = None,
    *,
    first: bool = False,
) -> Generator[Numbered]:
    """Blocks of (number, item), with ascending numbers above `skip`; a block may be empty.

    The number is the line (JSON lines), the position in the array (JSON array) or the row (Parquet), from 1. A damaged file
    yields the records before the damage, then one reject that names the file. `digest` takes all bytes read. With `first`,
    read as version 0.1.0 did. Of a part of a file that has its `own_lines`, these are numbered from 1, and
    those before are not read.
    """
    digest = digest or RunningDigest()
    if file.format == "parquet":
        return _parquet(file, skip, digest, first)
    return _text(file, skip, digest, first)


def _damaged(
    file: SourceFile, number: int, skip: int, error: Exception, rest: str = "the rest of it"
) -> Generator[Numbered]:
    """A reject for the damage, numbered after the whole records, so that a resumed intake does not report it again. `rest` is
    what is left out.

    SourceError if the system could not deliver the bytes: they may be there the next time.
    """
    if isinstance(error, OSError) and is_host_failure(error):
        raise SourceError(
            f"{file.where} cannot be read on: {error.strerror or error}; the same command goes on there"
        ) from error
    if number > skip:
        where = file.where
        reason = f"{where} is damaged or cannot be read from here on ({error}); {rest} is left out"
        if ZSTD_WINDOW in str(error):
            command = f"zstd -d --long=31 {shlex.quote(str(where))}"
            reason = f"{where} was packed with a window above 128 MiB, which cannot be read; unpack it first: {command}"
        yield [(number, Reject(reason))]


def _text(file: SourceFile, skip: int, digest: RunningDigest, first: bool) -> Generator[Numbered]:
    """Records of JSON, line by line or value by value."""
    form = _Form(skip, first, looked=file.start > 0)
    whole = 0
    try:
        for whole in () if file.own_lines else lines_before(file):  # noqa: B007 - the last count is that of the lines before this part
            yield []
        with opened(file) as (read, most):
            begin = _first_block(read, most)
            refused = _refusal(file, begin)
            if refused is not None:
                if skip < 1:
                    yield [(1, Reject(refused))]
                return
            values = _values(file, begin, _after(begin, read), most, skip, digest, whole)
            form.begin(values)
            for found in values:
                block = form.look(values, found)
                # Cut a block of very short lines: a rejected line takes far more memory than its bytes.
                for start in range(0, len(block) or 1, ROWS):
                    yield form.parsed(block[start : start + ROWS])
                whole = values.number
            if left := form.finish():
                yield left
            if isinstance(values, JsonValues) and values.fault:
                yield from _damaged(file, values.number + 1, skip, ValueError(values.fault))
            else:
                digest.finish()
    except _DAMAGE as error:
        yield from _damaged(file, whole + 1, skip, error)


def lines_before(file: SourceFile) -> Iterator[int]:
    """The number of lines before a part of a file, counted a block at a time; nothing for a whole file."""
    if not file.start:
        return
    with seekable(file) as handle:
        end = line_start(handle, file.start)
    with raw_bytes(file, end=end) as stream:
        yield from count_lines(stream, end)


def _refusal(file: SourceFile, begin: bytes) -> str | None:
    """Why nothing of a file with this beginning can be read; None if it can, or if this is a later part of it."""
    if file.start:
        return None
    return not_utf8(file, begin) or (_no_records(file, begin) if file.format == "json" else None)


class _Form:
    """Turns the values of one file into items. The first value, even a skipped one, shows whether this is a bulk file."""

    def __init__(self, skip: int, first: bool, *, looked: bool) -> None:
        self._skip, self._looked = skip, first or looked
        self._parse = first_conventions.parse_line if first else lenient_json.parse_line
        self._item: Callable[[Any], Item] = self._parse  # called for millions of lines: no wrapper in between
        self._bulk: BulkFile | None = None

    def begin(self, values: LineReader | JsonValues) -> None:
        """Prepare for the first block."""
        if isinstance(values, JsonValues):
            self._looked = True
            self._item = self._value
        elif not self._looked:
            values.skip = 0  # until the first line has been checked

    def look(self, values: LineReader | JsonValues, block: Sequence[Value]) -> Sequence[Value]:
        """The block without skipped values."""
        if self._looked or not block or isinstance(values, JsonValues):
            return block
        self._looked = True
        self._bulk = BulkFile() if is_bulk(self._item(block[0][1])) else None
        values.skip = self._skip
        return [one for one in block if one[0] > self._skip]

    def parsed(self, block: Sequence[Value]) -> Numbered:
        """The items of a block."""
        item = self._item
        items: Numbered = [(number, item(value)) for number, value in block]
        return items if self._bulk is None else self._bulk.take(items)

    def finish(self) -> Numbered:
        """The remaining items at the end of the file."""
        return self._bulk.finish() if self._bulk is not None else []

    def _value(self, value: bytes | OversizedLine | Raw) -> Item:
        return value if isinstance(value, dict) else self._parse(value)


def _first_block(read: Read, most: int) -> bytes:
    """The first block, which shows encoding and form; from a pipe, the bytes that arrive first."""
    block = read(most)
    while 0 < len(block) < len(BOM) and (more := read(most)):
        block += more
    return block


def _after(first: bytes, read: Read) -> Read:
    """`read`, beginning with a block that was read before."""
    waiting = [first]

    def again(most: int) -> bytes:
        if not waiting:
            return read(most)
        block = waiting.pop()
        if len(block) > most:
            waiting.append(block[most:])
        return block[:most]

    return again


def _values(
    file: SourceFile, first: bytes, read: Read, most: int, skip: int, digest: RunningDigest, before: int
) -> LineReader | JsonValues:
    """A reader that begins with `first`, after `before` lines of the file."""
    head = first.removeprefix(BOM).lstrip(BLANKS)
    if file.format == "json" and (head[:1] == b"[" or _is_spread(head)):
        block_bytes = min(most, VALUES_BLOCK)
        return JsonValues(
            read,
            array=head[:1] == b"[",
            digest=digest,
            skip=skip,
            block_bytes=block_bytes,
            max_value_bytes=MAX_LINE_BYTES,
        )
    return LineReader(read, digest=digest, skip=skip, before=before, block_bytes=most, inside=file.start > 0)


def _is_spread(head: bytes) -> bool:
    """Whether the first object spans several lines."""
    _, end, rest = head.partition(b"\n")
    return bool(end) and not begins_lines(head) and rest.lstrip(BLANKS)[:1] != b"{"


def _no_records(file: SourceFile, first: bytes) -> str | None:
    """Why a `.json` file with this beginning has no records; None if it is an array, or objects."""
    head = first.removeprefix(BOM).lstrip(BLANKS)
    if head[:1] in (b"", b"["):
        return None
    where = file.where
    if head[:1] != b"{":
        return (
            f"{where}: not JSON records: it begins with {excerpt(head[:20])!r}; give an array of objects, or one a line"
        )
    name = array_inside(head)
    if name is None:
        return None
    command = f"jq -c {shlex.quote(f'.[{orjson.dumps(name).decode()}][]')} {shlex.quote(str(where))}"
    return f"{where} holds an object around the array of records {name!r}; write them one a line: {command} > records.jsonl"


def _parquet(file: SourceFile, skip: int, digest: RunningDigest, first: bool) -> Generator[Numbered]:
    rows_of = first_conventions.rows if first else arrow_values.rows
    done, begun = 0, not file.start  # a damaged footer is reported once, by the part that begins the file
    rest = "the rest of it"
    try:
        # With a buffer size, the library streams a column's pages instead of loading a whole row group.
        with parquet_source(file) as (source, on_disk), pq.ParquetFile(source, buffer_size=BLOCK_BYTES) as table:
            groups = groups_of(table.metadata, file.start, file.end)
            begun, origin = True, 0
            if file.is_part:
                rest = "the rest of this part of it"  # the other parts know their row groups
                origin, end = span_of(groups)
                on_disk.between(origin, end)
            digest.follow(on_disk)
            for group in groups:
                done = group.before
                # Read the group in which `skip` lies even if it is the group's last row: damage may have ended it.
                if done + group.rows < skip:
                    continue
                digest.add_group(done + 1, group.rows, group.end - origin)
                # The size depends on the group alone, so that batches and numbers are always the same.
                rows = max(1, min(ROWS, 4 * BLOCK_BYTES * group.rows // max(1, group.unpacked)))
                for batch in table.iter_batches(batch_size=rows, row_groups=[group.number]):
                    begin = done + 1
                    done += batch.num_rows
                    passed = min(max(0, skip - begin + 1), batch.num_rows)
                    yield rows_of(batch.slice(passed), begin + passed)
            digest.finish()
    except _DAMAGE as error:
        yield from _damaged(file, done + 1 if begun else 0, skip, error, rest)
