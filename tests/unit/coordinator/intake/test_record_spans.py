"""A segment of a shard notes where the records of its rows stand; that of another run does not."""

from __future__ import annotations

import json
from pathlib import Path

from embedfleet.coordinator.intake.loader import ChunkLoader, SegmentLimits
from embedfleet.coordinator.intake.segment_writer import spans_of
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.run_directory.segment_info import ChunkSegmentInfo, RecordSpan
from embedfleet.protocol.run_directory.tables import read_info
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec
from embedfleet.protocol.spec.shard import Shard


def load(source: Path, out: Path, shard: Shard | None) -> list[ChunkSegmentInfo]:
    spec = RunSpec(
        source=str(source),
        passes=(PassSpec(vector="dense-a", kind="dense", model="fake:4"),),
        index="none",
        shard=shard,
    )
    layout = RunLayout(out)
    counts = ChunkLoader(spec, layout, SegmentLimits(rows=4), lambda _segment: None, lambda: False).load()
    return [read_info(layout.chunk_segment(segment), ChunkSegmentInfo) for segment in range(counts.segments)]


def test_the_records_of_a_shard(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    for name in "ab":
        lines = [{"id": f"{name}{row}", "text": f"text {row}" if row != 2 else ""} for row in range(5)]
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    first, second = load(folder, tmp_path / "shard", Shard(0, 1))  # of all of it
    assert first.records == (RecordSpan(0, 1, 2), RecordSpan(0, 4, 2))
    assert second.records == (RecordSpan(1, 1, 2), RecordSpan(1, 4, 2))
    assert [one.records for one in load(folder, tmp_path / "run", None)] == [(), ()]


def test_spans() -> None:
    assert spans_of(7, [1, 2, 3, 9, 11, 12]) == [RecordSpan(7, 1, 3), RecordSpan(7, 9, 1), RecordSpan(7, 11, 2)]
    assert spans_of(0, [5]) == [RecordSpan(0, 5, 1)]
    assert spans_of(0, []) == []
