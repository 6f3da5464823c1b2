"""Rows that a merge leaves out, since an earlier shard has their id: as one run over the whole source would have done."""

from __future__ import annotations

import hashlib
import heapq
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...protocol.errors import UsageError
from ...protocol.run_directory.records.shards import ShardsRecord
from ...protocol.run_directory.segment_info import ChunkSegmentInfo
from ...protocol.run_directory.tables import read_info
from .id_table import IdTable, Places
from .shard_run import DamagedShard, InputSegment, ShardRun, read_columns

SHOWN = 3
"""Ids that the message names, at most."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The rows that are left out, by ascending places; places count the rows of all shards, one after the other."""

    places: Places
    holders: Places
    """For each of them, the place of the row that has its id."""
    other_text: Mask
    """Whether the text of that row is another one. Then the record is rejected, else it is skipped."""

    def within(self, one: InputSegment) -> slice:
        """The part of the arrays that is for the rows of a segment."""
        start, stop = np.searchsorted(self.places, (one.first, one.first + one.rows)).tolist()
        return slice(start, stop)

    def count(self, one: InputSegment) -> int:
        """How many rows of a segment are left out."""
        part = self.within(one)
        return part.stop - part.start

    def row_of(self, place: int) -> int:
        """The row that has the id of this place in the merged run."""
        at = int(np.searchsorted(self.places, place))
        if at < len(self.places) and self.places[at] == place:
            return self.row_of(int(self.holders[at]))
        return place - at


NOTHING = LeftOut(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.bool_))


def find_repeated(
    shards: Sequence[ShardRun], folder: Path, show: Callable[[int], None], damaged: list[DamagedShard]
) -> tuple[Places, Places]:
    """Ids in more than one shard: the places of their first rows, and the ascending places of the others. `folder` holds the
    scratch files. `show` gets the number of rows read. `damaged` gains the shards whose ids cannot be read."""
    if len(shards) < 2:  # a shard's own intake has compared its ids
        return NOTHING.holders, NOTHING.places
    with IdTable(folder, sum(one.rows for one in shards)) as table:
        for one in segments_of(shards):
            try:
                ids = read_columns(shards[one.shard], one, ("id",)).column("id")
            except DamagedShard as error:
                damaged.append(error)
                continue
            first = one.first
            for part in ids.chunks:
                table.add(part, first)
                first += len(part)
            show(first)
        found = list(table.repeated())
    holders = np.concatenate([NOTHING.holders, *(one for one, _ in found)])
    places = np.concatenate([NOTHING.places, *(one for _, one in found)])
    order = np.argsort(places)
    return holders[order], places[order]


def compare_texts(shards: Sequence[ShardRun], holders: Places, places: Places) -> LeftOut:
    """Which of the later records have the text of the first one. Texts count as the same if their BLAKE2b-128 digests are."""
    if not len(places):
        return NOTHING
    wanted = np.unique(np.concatenate([holders, places]))
    digests = np.empty((len(wanted), 16), np.uint8)
    for one in segments_of(shards):
        start, stop = np.searchsorted(wanted, (one.first, one.first + one.rows)).tolist()
        if start == stop:
            continue
        texts = read_columns(shards[one.shard], one, ("text",)).column("text")
        for at in range(start, stop):
            text = texts[int(wanted[at]) - one.first].as_py()
            digests[at] = np.frombuffer(hashlib.blake2b(text.encode(), digest_size=16).digest(), np.uint8)
    ours, theirs = (digests[np.searchsorted(wanted, of)] for of in (places, holders))
    return LeftOut(places, holders, (ours != theirs).any(axis=1))


def refusal(
    root: Path, record: ShardsRecord, shards: Sequence[ShardRun], holders: Places, places: Places
) -> UsageError:
    """The error for ids in two shards, with both places of the first ones."""
    first = heapq.nsmallest(SHOWN, zip(places.tolist(), holders.tolist(), strict=True))
    shown = [f"{_id_at(shards, place)!r} in {_where(record, shards, holder)} and in {_where(record, shards, place)}"
             for place, holder in first]  # fmt: skip
    more = len(places) - len(shown)
    what = "an id stands in two shards" if len(places) == 1 else f"ids stand in two shards, in {len(places):,} records"
    return UsageError(
        f"{root}: {what}: {'; '.join(shown)}{f'; and {more:,} more' if more else ''}. "
        f"`embedfleet merge {root} --on-duplicate first` keeps the first record of each, as one run would; or name a field "
        "that differs for each chunk with --id-field, and run the shards again"
    )


def record_at(
    record: ShardsRecord, one: ShardRun, segment: InputSegment, rows: Sequence[int]
) -> list[tuple[str, int, int]]:
    """File and number of the records of these rows of a segment, and the byte from which the number counts. The rows count from
    the segment's first. Empty if the shard did not note the records."""
    spans = read_info(one.layout.chunk_segment(segment.segment), ChunkSegmentInfo).records
    starts = np.cumsum([0, *(span.rows for span in spans)]).tolist()
    if starts[-1] != segment.rows:
        return []
    found: list[tuple[str, int, int]] = []
    for row in rows:
        at = bisect_right(starts, row) - 1
        path = record.files[one.files[spans[at].file]].path
        found.append((path, spans[at].first + row - starts[at], spans[at].from_byte))
    return found


def segments_of(shards: Sequence[ShardRun]) -> Iterator[InputSegment]:
    """The segments of all shards that have rows, in order."""
    return (one for one in chain.from_iterable(shard.inputs for shard in shards) if one.rows)


def _where(record: ShardsRecord, shards: Sequence[ShardRun], place: int) -> str:
    shard, segment = _segment_at(shards, place)
    found = record_at(record, shard, segment, [place - segment.first])
    file, number, byte = found[0] if found else ("", 0, 0)
    at = f" ({file}#{number}{f' from byte {byte:,} on' if byte else ''})" if found else ""
    return f"shard {shard.index}, row {place - shard.first:,}{at}"


def _id_at(shards: Sequence[ShardRun], place: int) -> str:
    shard, segment = _segment_at(shards, place)
    ids = read_columns(shard, segment, ("id",)).column("id")
    return ids[place - segment.first].as_py()


def _segment_at(shards: Sequence[ShardRun], place: int) -> tuple[ShardRun, InputSegment]:
    shard = shards[bisect_right(shards, place, key=lambda one: one.first) - 1]
    return shard, next(one for one in shard.inputs if one.first <= place < one.first + one.rows)
