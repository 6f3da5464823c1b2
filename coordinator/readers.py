"""The records of a source file, numbered, whatever its format; damage becomes a rejected record."""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from ..protocol.errors import SourceError, is_the_hosts
from ..protocol.sources import SourceFile
from . import arrow_values, first_conventions, lenient_json
from .bulk_file import BulkFile, is_bulk
from .first_conventions import as_record, why_not_json
from .lines import BLOCK_BYTES, LineReader
from .records import Item, Numbered, Reject, excerpt, kind

MAX_JSON_BYTES = 1 << 30
"""A JSON array is read whole; beyond this it has to come as JSON lines."""

ROWS = 4096
"""Records in a block, at most."""

# A read that fails takes with it what it had unpacked, so it is kept short.
_ZSTD_BLOCK = 16 << 10
_DAMAGE = (OSError, EOFError, zlib.error, pa.ArrowException)


def read_records(file: SourceFile, skip: int = 0, *, first: bool = False) -> Generator[Numbered]:
    """Blocks of (number, item), numbers rising and above `skip`; a block may be empty.

    The number is the line (JSONL), the place in the array (JSON) or the row (Parquet), from 1. Where the file turns out
    damaged, what stood before the damage is given, then one reject that names the file. `first`: as version 0.1.0 read it.
    """
    if file.format == "json":
        return _json_array(file, skip, first)
    if file.format == "parquet":
        return _parquet(file, skip, first)
    return _json_lines(file, skip, first)


def _damaged(file: SourceFile, number: int, skip: int, error: Exception) -> Generator[Numbered]:
    """Numbered by what was whole before it, so that a resumed intake does not report it again.

    SourceError where it is the system that did not give the bytes: they may be there the next time.
    """
    if isinstance(error, OSError) and is_the_hosts(error):
        raise SourceError(
            f"{file.path or file.name} cannot be read on: {error.strerror or error}; the same command goes on there"
        ) from error
    if number > skip:
        reason = (
            f"{file.path or file.name} is damaged or cannot be read from here on ({error}); the rest of it is left out"
        )
        yield [(number, Reject(reason))]


def _json_lines(file: SourceFile, skip: int, first: bool) -> Generator[Numbered]:
    parse = first_conventions.parse_line if first else lenient_json.parse_line
    whole = 0
    bulk: BulkFile | None = None
    seen = first
    """Whether the first record was looked at, which says what the file is."""
    try:
        with _opened(file) as (read, block_bytes):
            lines = LineReader(read, skip=skip if first else 0, block_bytes=block_bytes)
            for block in lines:
                if not seen and block:
                    seen = True
                    bulk = BulkFile() if is_bulk(parse(block[0][1])) else None
                    lines.skip = skip
                    block = [line for line in block if line[0] > skip]
                # A block of very short lines is cut, since a rejected line takes far more memory than its bytes.
                for start in range(0, len(block) or 1, ROWS):
                    parsed: Numbered = [(number, parse(line)) for number, line in block[start : start + ROWS]]
                    yield parsed if bulk is None else bulk.take(parsed)
                whole = lines.number
        if bulk is not None:
            yield bulk.finish()
    except _DAMAGE as error:
        yield from _damaged(file, whole + 1, skip, error)


@contextmanager
def _opened(file: SourceFile) -> Generator[tuple[Callable[[int], bytes], int]]:
    """A read function and the most to ask it for."""
    if file.path is None:
        # Whatever there is, so that a slow pipe is read as it comes.
        yield cast("io.BufferedReader", sys.stdin.buffer).read1, BLOCK_BYTES
    elif file.compression == "gzip":
        with gzip.open(file.path) as packed:
            # Unlike `read`, it fails only where the damage is, with everything before it given.
            yield packed.read1, BLOCK_BYTES
    elif file.compression == "zstd":
        with pa.input_stream(str(file.path), compression="zstd") as stream:
            yield stream.read, _ZSTD_BLOCK
    else:
        with file.path.open("rb", buffering=0) as plain:
            yield plain.read, BLOCK_BYTES


def _json_array(file: SourceFile, skip: int, first: bool) -> Generator[Numbered]:
    assert file.path is not None
    found = _load_array(file.path, first)
    if isinstance(found, Reject):
        if skip < 1:
            yield [(1, found)]
        return
    found, as_item = found
    for start in range(skip, len(found), ROWS):
        block = found[start : start + ROWS]
        # Given away: the whole array need not stay while its records are worked on.
        found[start : start + ROWS] = [None] * len(block)
        yield [(number, as_item(value)) for number, value in enumerate(block, start + 1)]


def _load_array(path: Path, first: bool) -> tuple[list[Any], Callable[[Any], Item]] | Reject:
    """The values of an array, and how each becomes an item."""
    as_item: Callable[[Any], Item] = as_record
    try:
        size = path.stat().st_size
        if size > MAX_JSON_BYTES:
            remedy = f"turn it into JSON lines: jq -c '.[]' {path.name} > {path.stem}.jsonl"
            return Reject(f"{path} has {size} bytes, over the limit of {MAX_JSON_BYTES} for a JSON array; {remedy}")
        data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        return Reject(f"{path} cannot be read ({error})")
    try:
        value: Any = orjson.loads(data)
    except (orjson.JSONDecodeError, RecursionError) as error:
        found = None if first else lenient_json.parse_leniently(data)
        if found is None:
            return Reject(f"{path}: {why_not_json(data, error)}", excerpt(data))
        (value,), as_item = found, lenient_json.cleaned_record
    if not isinstance(value, list):
        remedy = "name a file with one object a line .jsonl"
        return Reject(f"{path} holds {kind(value)}, not an array of objects; {remedy}", excerpt(data))
    return cast("list[Any]", value), as_item


def _parquet(file: SourceFile, skip: int, first: bool) -> Generator[Numbered]:
    rows_of = first_conventions.rows if first else arrow_values.rows
    done = 0
    try:
        # The buffer size makes it stream a column's pages instead of taking in a whole row group.
        with pq.ParquetFile(file.path, buffer_size=BLOCK_BYTES) as table:
            for group in range(table.metadata.num_row_groups):
                info = table.metadata.row_group(group)
                # The group that `skip` ends in is read even if it ends there: damage may have ended it.
                if done + info.num_rows < skip:
                    done += info.num_rows
                    continue
                # By group, and small where rows are large: the batches, and so the numbers, are always the same.
                rows = max(1, min(ROWS, 4 * BLOCK_BYTES * info.num_rows // max(1, info.total_byte_size)))
                for batch in table.iter_batches(batch_size=rows, row_groups=[group]):
                    begin = done + 1
                    done += batch.num_rows
                    passed = min(max(0, skip - begin + 1), batch.num_rows)
                    yield rows_of(batch.slice(passed), begin + passed)
    except _DAMAGE as error:
        yield from _damaged(file, done + 1, skip, error)
