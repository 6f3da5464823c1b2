"""The rejected records of a merged segment: those of the shards, and those whose id an earlier shard has with another text."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import orjson

from ...protocol.errors import SourceError
from ...protocol.run_directory.atomic_files import commit_bytes
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.records.quarantine import QuarantineLine
from ...protocol.run_directory.records.shards import ShardsRecord
from ...protocol.source.shared_ids import shared_id_reason, with_new_row
from ..run_directory.manifest import EXCERPT
from .duplicates import LeftOut, record_at
from .shard_run import DamagedShard, InputSegment, ShardRun, read_columns


def check_usable(record: ShardsRecord, shards: Sequence[ShardRun]) -> None:
    """SourceError if no shard has a chunk, as for one run over such a source, with the reason of the first rejected record."""
    inputs = [one for shard in shards for one in shard.inputs]
    if any(one.rows for one in inputs):
        return
    source, rejected = record.spec.source, [one for one in inputs if one.rejected]
    if not rejected:
        raise SourceError(f"{source}: there is no record in it; give a source with at least one")
    reason = next(_lines_of(shards[rejected[0].shard], rejected[0]))["reason"]
    raise SourceError(
        f"{source}: not one record in it can be used ({sum(one.rejected for one in rejected):,} rejected): {reason}. "
        "Name its fields with --text-field and --id-field, and give another --out"
    )


class RejectedRecords:
    """Collects and writes them, in the order of the source."""

    def __init__(self, root: RunLayout, record: ShardsRecord, shards: Sequence[ShardRun], left_out: LeftOut) -> None:
        self._root, self._record, self._shards, self._left_out = root, record, shards, left_out
        self._places = {one.path: place for place, one in enumerate(record.files)}

    def write(self, segment: int, inputs: Sequence[InputSegment]) -> None:
        """Make the file of a merged segment what it has to be; no file if nothing is rejected."""
        lines = b"".join(
            orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for one in inputs for line in self._of(one)
        )
        path = self._root.rejected_segment(segment)
        if lines:
            with contextlib.suppress(FileNotFoundError):
                if path.read_bytes() == lines:
                    return
            commit_bytes(path, lines)
        else:
            path.unlink(missing_ok=True)

    def _of(self, one: InputSegment) -> list[QuarantineLine]:
        lines = [*self._of_shard(one), *self._of_left_out(one)]
        return sorted(lines, key=self._place_of)

    def _place_of(self, line: QuarantineLine) -> tuple[int, int, int]:
        """A record whose place the shard did not note comes last."""
        place = self._places.get(line.get("file", ""), len(self._places))
        return place, line.get("from_byte", 0), line.get("record", 0)

    def _of_shard(self, one: InputSegment) -> Iterator[QuarantineLine]:
        """The shard's own, with the rows in their reasons as the merged run numbers them."""
        if not one.rejected:
            return
        shard = self._shards[one.shard]
        for line in _lines_of(shard, one):
            if "id" in line:
                line["reason"] = with_new_row(
                    line["reason"], line["id"], lambda row: self._left_out.row_of(shard.first + row)
                )
            yield line

    def _of_left_out(self, one: InputSegment) -> Iterator[QuarantineLine]:
        part = self._left_out.within(one)
        chosen = np.flatnonzero(self._left_out.other_text[part]) + part.start
        if not len(chosen):
            return
        shard = self._shards[one.shard]
        rows = (self._left_out.places[chosen] - one.first).tolist()
        table = read_columns(shard, one, ("id", "text"))
        records = record_at(self._record, shard, one, rows)
        for number, (at, row) in enumerate(zip(chosen.tolist(), rows, strict=True)):
            id_, text = table.column("id")[row].as_py(), table.column("text")[row].as_py()
            holder = self._left_out.row_of(int(self._left_out.holders[at]))
            line: QuarantineLine = {"id": id_, "reason": shared_id_reason(id_, holder), "excerpt": text[:EXCERPT]}
            yield _with_place(records[number], line) if records else line


def _with_place(place: tuple[str, int, int], line: QuarantineLine) -> QuarantineLine:
    file, record, from_byte = place
    known: QuarantineLine = {"file": file, "record": record, **line}
    return {**known, "from_byte": from_byte} if from_byte else known


def _lines_of(shard: ShardRun, one: InputSegment) -> Iterator[QuarantineLine]:
    """The rejected records of a shard's segment, as the shard wrote them. DamagedShard if the file is not whole."""
    path, count = shard.layout.rejected_segment(one.segment), 0
    try:
        with path.open("rb") as lines:
            for count, raw in enumerate(lines, 1):  # noqa: B007 - its last value is used
                line: QuarantineLine = orjson.loads(raw)
                yield line
    except (FileNotFoundError, ValueError) as error:
        raise DamagedShard(one.shard, f"{path}: damaged or gone ({error})") from error
    if count != one.rejected:
        raise DamagedShard(one.shard, f"{path}: has {count} rejected records instead of {one.rejected}")
