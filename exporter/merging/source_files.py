"""The files of the source, as the shards read them: which of them several shards share, and the digests of the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ...protocol.run_directory.segment_info import Cursor, Passed
from .shard_run import ShardRun


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
