"""What a merge knows of a shard that is done: its segments and its files. Reads its chunks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...protocol.errors import RunDirectoryError, is_host_failure
from ...protocol.run_directory.chunk_columns import read_chunk_columns
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.records.intake import SegmentLimits
from ...protocol.run_directory.records.passes import PassRecord
from ...protocol.run_directory.segment_info import Cursor


class DamagedShard(RunDirectoryError):
    """A file of shard `index` is not what the shard committed."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index


START = Cursor()


@dataclass(frozen=True, slots=True)
class InputSegment:
    """One segment of a shard; or, with no rows, the records that the shard's source has after its last chunk."""

    shard: int
    segment: int
    first: int
    """The place of its first row among the rows of all shards, one after the other."""
    rows: int
    rejected: int
    duplicates: int
    notes: Mapping[str, int]
    n_bytes: int = 0
    cursor: Cursor = START
    """Its file is counted among those of the whole source."""
    mark: tuple[int, str] = (0, "")
    """Bytes and digest of the cursor's file up to the cursor."""
    content: bytes = b""
    """A digest of what it holds, from its footers."""
    shape: bytes = b""
    """A digest of the columns of its vectors. Segments of one shape can be joined."""
    file_bytes: int = 0
    """The size of its largest vector file."""
    all_bytes: int = 0
    """The size of all its files."""


@dataclass(frozen=True, slots=True)
class ShardRun:
    """A shard that is done. `passes` lacks the vectors of a shard without a chunk."""

    index: int
    layout: RunLayout
    first: int
    """The place of its first row among the rows of all shards."""
    rows: int
    inputs: tuple[InputSegment, ...]
    """Its segments and, last, the records after its last chunk."""
    files: tuple[int, ...]
    """The files that it read, by their numbers in the whole source."""
    parts: tuple[tuple[int, int], ...]
    """The bytes of each of these files in which the records begin that it read."""
    digests: tuple[str, ...]
    """Digests of these files; empty where one is not known."""
    passes: Mapping[str, PassRecord]
    limits: SegmentLimits
    manifest: str
    """A digest of its manifest."""


def damage(one: InputSegment, error: RunDirectoryError) -> RunDirectoryError:
    """The error for a file of a shard that cannot be read: DamagedShard, unless the host failed."""
    return error if is_host_failure(error) else DamagedShard(one.shard, str(error))


def read_columns(shard: ShardRun, one: InputSegment, names: Sequence[str]) -> Any:
    """Columns of the chunks of a segment. DamagedShard if its file is not whole."""
    try:
        table = read_chunk_columns(shard.layout, one.segment, names, threads=False)  # segments are read side by side
    except RunDirectoryError as error:
        raise damage(one, error) from error
    if table.num_rows != one.rows:
        path = shard.layout.chunk_segment(one.segment)
        raise DamagedShard(one.shard, f"{path}: has {table.num_rows:,} rows, not {one.rows:,}")
    return table
