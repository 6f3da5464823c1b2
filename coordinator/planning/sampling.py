"""Sample the records of all files of a source, of whatever formats, and count them.

A source is sampled in at most two parts. What is read from beginning to end is one: its records all have the same chance.
Parquet beyond READ_BYTES is the other: some row groups, evenly over all, stand for the rest, and the footers count.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import NamedTuple

from ...protocol.source.source_file import SourceFile
from .even_sample import EvenSample
from .record_stream import Found, Numbered, RowGroup, read_blocks, read_group, row_groups, size_of

READ_BYTES = 2 << 30
"""Parquet with more bytes, before compression, is not read whole."""
LEAST_GROUPS = 16
MOST_BYTES = 256 << 20
"""Of records in the sample."""
LEAST_BLOCKS, MOST_BLOCK_BYTES = 32, 64 << 20
"""Blocks of neighbouring records in the sample: what compression makes of chunks depends on their neighbours."""


class Record(NamedTuple):
    """A record of file `at`, with its number there."""

    at: int
    number: int
    found: Found


Block = list[Record]


@dataclass(slots=True)
class Part:
    """One part of the source. `records` counts all of it."""

    sample: EvenSample[Record]
    blocks: EvenSample[Block]
    records: int = 0

    def take(self, at: int, block: Numbered) -> None:
        """Take the next records of the part, all of file `at`."""
        self.sample.take(block, lambda one: (Record(at, *one), size_of(one[1])))
        if block:
            self.blocks.take([block], lambda one: (_records(at, one), sum(size_of(found) for _, found in one)))


def _records(at: int, block: Numbered) -> Block:
    return [Record(at, *one) for one in block]


@dataclass(slots=True)
class Sampled:
    """The sample of a source. Each part has records of its own."""

    parts: list[Part] = field(default_factory=list[Part])
    cut: bool = False
    """Whether the source has more records, which a run with this limit does not need."""

    @property
    def records(self) -> int:
        return sum(part.records for part in self.parts)

    @property
    def whole(self) -> bool:
        """Whether every record of the source is in the sample."""
        return all(part.sample.whole and len(part.sample.items) == part.records for part in self.parts)


def sample_source(files: Sequence[SourceFile], rows: int, limit: int | None) -> Sampled:
    """Sample at least `rows` records, if the source has them. With `limit`, no more of the source is read than a run with that
    limit needs. SourceError if a file cannot be read."""
    most = None if limit is None else (2 * limit + rows // 4 if limit <= rows // 2 else limit)
    stream, large = _divide(files) if most is None else (list(range(len(files))), [])
    part = _part(rows)
    for at in stream:
        with closing(read_blocks(files[at])) as blocks:
            for block in blocks:
                block = block if most is None else block[: most - part.records]
                part.records += len(block)
                part.take(at, block)
                if part.records == most:
                    return Sampled([part], cut=True)
    return Sampled([part, *([_of_groups(files, large, rows)] if large else [])])


def _part(rows: int) -> Part:
    return Part(EvenSample(rows, MOST_BYTES), EvenSample(LEAST_BLOCKS, MOST_BLOCK_BYTES))


def _divide(files: Sequence[SourceFile]) -> tuple[list[int], list[RowGroup]]:
    """The files that are read from beginning to end, and the row groups of the others; empty if Parquet is read too."""
    stream, large = list[int](), list[RowGroup]()
    for at, file in enumerate(files):
        groups = row_groups(at, file) if file.format == "parquet" and file.path is not None else None
        if groups is None:
            stream.append(at)
        else:
            large += groups
    if sum(group.n_bytes for group in large) <= READ_BYTES:
        return list(range(len(files))), []
    return stream, large


def _of_groups(files: Sequence[SourceFile], groups: Sequence[RowGroup], rows: int) -> Part:
    part = _part(rows)
    part.records = sum(group.rows for group in groups)
    for group in _chosen(groups):
        for block in read_group(files[group.at], group):
            part.take(group.at, block)
    return part


def _chosen(groups: Sequence[RowGroup]) -> list[RowGroup]:
    """As many groups as READ_BYTES allows, at least LEAST_GROUPS, evenly over all rows."""
    filled = [group for group in groups if group.rows]
    each = sum(group.n_bytes for group in filled) / len(filled)
    wanted = min(len(filled), max(LEAST_GROUPS, int(READ_BYTES / max(each, 1))))
    step = sum(group.rows for group in filled) / wanted
    chosen, reached, due = list[RowGroup](), 0, step / 2
    for group in filled:
        reached += group.rows
        if reached > due:
            chosen.append(group)
            while due < reached:
                due += step
    return chosen
