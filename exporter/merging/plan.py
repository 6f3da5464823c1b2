"""Which segments of the shards make up each segment of the merged run. Small ones are joined: fewer files are faster to read.

A joined segment stays within the limits of a run's segments, and its vectors have one form: the same columns, and for int8
the same ranges.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import numpy as np

from ...protocol.run_directory.records.intake import SegmentLimits
from ...protocol.run_directory.segment_info import ChunkSegmentInfo, Cursor
from ...protocol.source.intake_notes import ID_SHARED
from ...protocol.text.token_estimates import BYTES_PER_TOKEN
from .duplicates import LeftOut
from .shard_run import InputSegment, ShardRun
from .source_files import SourceFiles

JOINED = SegmentLimits()
"""The limits of a segment that is made by joining, unless shards had larger ones."""
JOINED_BYTES = 48 << 20
"""The largest vector file that is made by joining: a reader loads the whole file into memory."""


@dataclass(frozen=True, slots=True)
class MergedSegment:
    """One segment of the merged run. `info` lacks the bytes of its texts."""

    info: ChunkSegmentInfo
    inputs: tuple[InputSegment, ...]
    made_of: str
    """A digest of everything that its files depend on."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The merged run: its segments, and the records after its last chunk."""

    segments: tuple[MergedSegment, ...]
    rest: tuple[InputSegment, ...]
    limits: SegmentLimits
    rows: int


def make_plan(shards: Sequence[ShardRun], left_out: LeftOut, source: SourceFiles) -> Plan:
    """The plan for the shards without the rows that are left out."""
    found = [JOINED, *(one.limits for one in shards)]
    limits = SegmentLimits(rows=max(one.rows for one in found), tokens=max(one.tokens for one in found))
    segments: list[MergedSegment] = []
    cursor, row = Cursor(), 0
    groups, rest = _groups((one for shard in shards for one in shard.inputs), left_out, limits)
    for inputs in groups:
        merged = _merged(len(segments), row, inputs, left_out, source, cursor)
        segments.append(merged)
        cursor, row = merged.info.cursor, row + merged.info.rows
    return Plan(tuple(segments), rest, limits, row)


def _groups(
    inputs: Iterable[InputSegment], left_out: LeftOut, limits: SegmentLimits
) -> tuple[list[tuple[InputSegment, ...]], tuple[InputSegment, ...]]:
    """The inputs of each merged segment, and those after the last row. Inputs without a row belong to the next row's
    segment."""
    groups: list[_Group] = []
    waiting: list[InputSegment] = []
    for one in inputs:
        if one.rows == left_out.count(one):
            waiting.append(one)
            continue
        if not groups or not groups[-1].fits(one, limits):
            groups.append(_Group(one.shape))
        groups[-1].add(one, waiting)
        waiting = []
    return [tuple(one.inputs) for one in groups], tuple(waiting)


class _Group:
    """The inputs of one merged segment, with their sums."""

    def __init__(self, shape: bytes) -> None:
        self.inputs: list[InputSegment] = []
        self._shape, self._rows, self._text_bytes, self._file_bytes = shape, 0, 0, 0

    def fits(self, one: InputSegment, limits: SegmentLimits) -> bool:
        """Whether the segment may be joined to these."""
        return (
            self._shape == one.shape
            and self._rows + one.rows <= limits.rows
            and self._text_bytes + one.n_bytes <= limits.tokens * BYTES_PER_TOKEN
            and self._file_bytes + one.file_bytes <= JOINED_BYTES
        )

    def add(self, one: InputSegment, before: Sequence[InputSegment]) -> None:
        """Add a segment, and those `before` it of which no row is kept."""
        self.inputs += [*before, one]
        self._rows += one.rows
        self._text_bytes += one.n_bytes
        self._file_bytes += one.file_bytes


def _merged(
    segment: int, row: int, inputs: tuple[InputSegment, ...], left_out: LeftOut, source: SourceFiles, before: Cursor
) -> MergedSegment:
    last, counts = [one for one in inputs if one.rows][-1], counts_of(inputs, left_out)
    info = ChunkSegmentInfo(
        segment=segment,
        first_row=row,
        rows=sum(one.rows - left_out.count(one) for one in inputs),
        rejected=counts.rejected,
        duplicates=counts.duplicates,
        notes=counts.notes,
        cursor=last.cursor,
        passed=source.passed(before, last.cursor, last.mark),
    )
    state = hashlib.blake2b(msgspec.json.encode(info), digest_size=8)
    for one in inputs:
        part = left_out.within(one)
        state.update(one.content + (left_out.places[part] - one.first).astype("<i8").tobytes() + b"\n")
    return MergedSegment(info, inputs, state.hexdigest())


class RecordCounts(NamedTuple):
    """Records that became no row of the merged run, and the notes of the intake."""

    rejected: int
    duplicates: int
    notes: dict[str, int]


def counts_of(inputs: Sequence[InputSegment], left_out: LeftOut) -> RecordCounts:
    """The counts of these inputs, with the rows that are left out."""
    parts = [left_out.other_text[left_out.within(one)] for one in inputs]
    shared = sum(int(np.count_nonzero(part)) for part in parts)
    names = dict.fromkeys(name for one in inputs for name in one.notes)
    notes = {name: sum(one.notes.get(name, 0) for one in inputs) for name in names}
    if shared:
        notes[ID_SHARED] = notes.get(ID_SHARED, 0) + shared
    return RecordCounts(
        rejected=sum(one.rejected for one in inputs) + shared,
        duplicates=sum(one.duplicates for one in inputs) + sum(map(len, parts)) - shared,
        notes=dict(sorted(notes.items())),
    )
