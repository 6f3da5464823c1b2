"""The files of the source, as the shards read them: whether that is all of it, and the digests of the files that are whole."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from ...protocol.run_directory.records.intake import FileStamp
from ...protocol.run_directory.segment_info import Cursor, Passed
from .shard_run import ShardRun


@dataclass(frozen=True, slots=True)
class Break:
    """A place where what one shard read is not followed by what the next one read. `shards` may be at fault."""

    shards: tuple[int, ...]
    reason: str


def find_breaks(files: Sequence[FileStamp], shards: Sequence[ShardRun]) -> Iterator[Break]:
    """The places where the parts that the shards read, one after the other, are not every file from its first byte to its end.

    So no record is missing or doubled, whatever the shards found out about the files for themselves. Suspected are the shards
    on both sides, and those whose even parts of the bytes are missing.
    """
    offsets = list(accumulate((one.size for one in files), initial=0))
    cuts = [offsets[-1] * at // len(shards) for at in range(len(shards))] + [offsets[-1] + 1]
    read = [
        _Part(one.index, place, start, end)
        for one in shards
        for place, (start, end) in zip(one.files, one.parts, strict=True)
    ]
    last = _Part(None, -1, 0, 0)
    for part in (*read, _Part(None, len(files), 0, 0)):
        size = files[last.place].size if last.place >= 0 else 0
        begins_next = last.end == size and (part.place, part.start) == (last.place + 1, 0)
        if not begins_next and not (last.end < size and (part.place, part.start) == (last.place, last.end)):
            stop = offsets[last.place] + last.end if last.place >= 0 else 0
            start = offsets[part.place] + part.start
            twice = start < stop or (part.place <= last.place and last.end == size)
            suspects = {last.shard} if twice or last.end < size else set[int | None]()
            suspects |= {part.shard} if twice or part.start > 0 else set()
            if not twice:  # the shards to which the missing bytes fall
                suspects |= set(range(bisect_right(cuts, stop) - 1, bisect_left(cuts, max(start, stop + 1))))
            found = sorted(one for one in suspects if one is not None)
            yield Break(tuple(found), f"does not join the others: {_described(files, last, part)}")
        last = part


class _Part(NamedTuple):
    """Bytes of a file that a shard read; the source's beginning and end, without a shard."""

    shard: int | None
    place: int
    start: int
    end: int


def _described(files: Sequence[FileStamp], last: _Part, part: _Part) -> str:
    before = f"byte {last.end:,} of {files[last.place].path}" if last.place >= 0 else "the beginning of the source"
    after = f"byte {part.start:,} of {files[part.place].path}" if part.place < len(files) else "the end of the source"
    return f"what comes after {before} is {after}"


class SourceFiles:
    """Digests of the source's files, by their numbers. A file that was divided among shards has none: no shard read it all."""

    def __init__(self, count: int, shards: Sequence[ShardRun]) -> None:
        times = Counter(place for one in shards for place in one.files)
        self._divided = {place for place, number in times.items() if number > 1}
        self._digests = [""] * count
        for one in shards:
            for place, digest in zip(one.files, one.digests, strict=True):
                if place not in self._divided:
                    self._digests[place] = digest

    def passed(self, before: Cursor, cursor: Cursor, mark: tuple[int, str]) -> Passed:
        """What a segment notes of the source between two cursors. `mark`: bytes and digest of the last file up to there."""
        n_bytes, digest = (0, "") if cursor.file in self._divided else mark
        return Passed(finished=tuple(self._digests[before.file : cursor.file]), n_bytes=n_bytes, digest=digest)

    def after(self, cursor: Cursor) -> tuple[str, ...]:
        """The digests of the files from that of the cursor to the last."""
        return tuple(self._digests[cursor.file :])
