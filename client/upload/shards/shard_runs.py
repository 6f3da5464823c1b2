"""The shards of a directory as finished runs, and the points that an upload of each sends."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from ....protocol.errors import RunDirectoryError, UsageError
from ....protocol.finished_run.done_run import DoneRun, open_done_run
from ....protocol.finished_run.payload import RESERVED
from ....protocol.finished_run.points import Point
from ....protocol.finished_run.published import segment_digest
from ....protocol.object_storage.address import is_address
from ....protocol.object_storage.copies import local_copy
from ....protocol.run_directory.layout import RunLayout, segments_in
from ....protocol.run_directory.records.shards import read_shards
from ....protocol.spec.shard import Shard
from ....protocol.text.number_spans import spans
from ...arguments import run_folder
from ..payload_indexes import OWN, Indexes

SHARD = "shard"
"""Key in the payload of a point that was uploaded with its shard: the shard's number."""

SHARD_FIELDS: Indexes = {**OWN, SHARD: "integer"}
"""The fields of such a payload beside its metadata."""

SHOWN = 5
"""Shards that a message describes, at most."""


def open_shards(path: str | PathLike[str], own: int | None = None) -> ShardRuns:
    """The shards of a directory here, or in object storage. Those in object storage are copied first; with `own`, only that
    shard is, and each other shard when it is first needed. RunDirectoryError if there are none, or they cannot be read."""
    if own is None or not is_address(path):
        return ShardRuns(run_folder(path))

    def copy(index: int) -> Path:
        return local_copy(path, part=str(RunLayout(Path()).shard(index).root))

    return ShardRuns(copy(own), copy)


class ShardRuns:
    """The shards of the directory `root`. Each is opened when it is asked for."""

    def __init__(self, root: Path, copy: Callable[[int], Path] | None = None) -> None:
        """`copy` is called before a shard is read, and returns the folder to read it from; without it, that is `root`.

        RunDirectoryError if the folder has no shards.
        """
        self.layout, self._copy = RunLayout(root), copy
        record = read_shards(self.layout)
        if record is None:
            raise RunDirectoryError(
                f"{root}: has no shards (there is no {self.layout.shards_record.name}); give the folder that "
                "`embedfleet run --shard` had as --out, or leave --shard and --finish out"
            )
        self.record = record
        self._digests: dict[int, frozenset[str]] = {}

    @property
    def count(self) -> int:
        """The number of shards."""
        return self.record.shards

    def shard(self, index: int) -> Shard:
        """The name of a shard."""
        return Shard(index, self.count)

    def check(self, shard: Shard) -> None:
        """Raise UsageError if the directory has no such shard."""
        if shard.count != self.count:
            raise UsageError(
                f"--shard {shard}: {self.layout.root} has {self.count:,} shards; give I/{self.count}, from 0/{self.count} to "
                f"{self.count - 1}/{self.count}"
            )

    def open(self, index: int) -> DoneRun:
        """The run of a shard. RunDirectoryError, with the command that completes it, if it is not done."""
        if (run := self._opened(index)) is None:
            raise RunDirectoryError(f"{self.layout.root}: {self._not_done([index])}")
        return run

    def open_all(self) -> list[DoneRun]:
        """The runs of all shards. RunDirectoryError, with commands, if some are not done."""
        opened = [self._opened(index) for index in range(self.count)]
        if left := [index for index, run in enumerate(opened) if run is None]:
            raise RunDirectoryError(f"{self.layout.root}: {self._not_done(left)}")
        return [run for run in opened if run is not None]

    def digests(self, index: int) -> frozenset[str]:
        """The digests of a shard's segments as its files are now; empty if files are missing. From any thread."""
        if (known := self._digests.get(index)) is not None:
            return known
        layout = self._shard_layout(index)
        names = [one.vector for one in self.record.spec.outputs]
        try:
            found = frozenset(segment_digest(layout, names, segment) for segment in segments_in(layout.chunks))
        except RunDirectoryError:
            found = frozenset[str]()
        return self._digests.setdefault(index, found)

    def points(self, run: DoneRun, index: int) -> Iterator[Point]:
        """The points of a shard, in the order of its rows. Their payload names the shard besides: rows begin at 0 in each."""
        for point in run.points():
            yield replace(point, payload={**point.payload, SHARD: index})

    def _shard_layout(self, index: int) -> RunLayout:
        return (RunLayout(self._copy(index)) if self._copy is not None else self.layout).shard(index)

    def _opened(self, index: int) -> DoneRun | None:
        layout = self._shard_layout(index)
        if not (layout.spec.exists() and layout.manifest.exists()):
            return None
        run = open_done_run(layout.root)
        return run if run.spec.outputs == self.record.spec.outputs else None  # a model may have been added since

    def _not_done(self, left: list[int]) -> str:
        words = ["embedfleet", "run", self.record.spec.source, "--out", str(self.layout.root)]
        commands = describe_shards(left, lambda index: f"`{shlex.join(words)} --shard {self.shard(index)}`")
        merged = (
            "; or, since the directory is merged, leave --shard and --finish out"
            if self.layout.manifest.exists()
            else ""
        )
        return (
            f"{len(left):,} of {self.count:,} shards are not done; these commands, with the flags of the others, complete "
            f"them: {commands}{merged}"
        )


class OtherShards:
    """Finds ids in two shards: their points would overwrite each other."""

    def __init__(self, runs: ShardRuns, own: int) -> None:
        self._runs, self._own = runs, own

    def check(self, point: Point, there: Mapping[str, Any]) -> None:
        """UsageError if the payload that is `there` was written by another shard of the directory, as its files are now."""
        index, mark = there.get(SHARD), there.get(RESERVED)
        if not isinstance(index, int) or index == self._own or not 0 <= index < self._runs.count:
            return
        if not isinstance(mark, dict) or mark.get("vectors") not in self._runs.digests(index):
            return
        root = self._runs.layout.root
        raise UsageError(
            f"{root}: the id {point.payload['id']!r} stands in two shards: {self._runs.shard(index)}, row {there.get('row'):,} "
            f"and {self._runs.shard(self._own)}, row {point.payload['row']:,}. `embedfleet merge {root} --on-duplicate first` "
            f"keeps the first record, and `embedfleet upload {root}` uploads what it makes; or name a field that differs for "
            "each chunk with --id-field, and run the shards again"
        )


def describe_shards(indices: list[int], describe: Callable[[int], str]) -> str:
    """The first shards, each described; of the others the numbers, as in `and 96 more: 5-99,104`."""
    shown, rest = indices[:SHOWN], indices[SHOWN:]
    more = f"; and {len(rest):,} more: {spans(rest)}" if rest else ""
    return "; ".join(map(describe, shown)) + more
