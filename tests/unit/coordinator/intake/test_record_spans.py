"""A segment of a shard notes where the records of its rows stand; that of another run does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from embedfleet.coordinator.intake.loader import ChunkLoader, SegmentLimits
from embedfleet.coordinator.intake.segment_writer import spans_of
from embedfleet.protocol.run_directory.chunk_columns import read_chunk_columns
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.run_directory.segment_info import ChunkSegmentInfo, RecordSpan
from embedfleet.protocol.run_directory.tables import read_info
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec
from embedfleet.protocol.spec.shard import Shard


def load(
    source: Path,
    out: Path,
    shard: Shard | None,
    *,
    numbered: bool | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> list[ChunkSegmentInfo]:
    spec = RunSpec(
        source=str(source),
        passes=(PassSpec(vector="dense-a", kind="dense", model="fake:4"),),
        index="none",
        shard=shard,
    )
    layout = RunLayout(out)
    limits = SegmentLimits(rows=4)
    counts = ChunkLoader(spec, layout, limits, lambda _segment: None, stopping, numbered=numbered).load()
    return [read_info(layout.chunk_segment(segment), ChunkSegmentInfo) for segment in range(counts.segments)]


def test_the_records_of_a_shard(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    for name in "ab":
        lines = [{"id": f"{name}{row}", "text": f"text {row}" if row != 2 else ""} for row in range(5)]
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    first, second = load(folder, tmp_path / "shard", Shard(0, 1))
    assert first.records == (RecordSpan(0, 1, 2), RecordSpan(0, 4, 2))
    assert second.records == (RecordSpan(1, 1, 2), RecordSpan(1, 4, 2))
    assert [one.records for one in load(folder, tmp_path / "run", None)] == [(), ()]


@pytest.mark.parametrize(("numbered", "before"), [(False, 0), (None, 4)], ids=["in a fit", "in a run"])
def test_records_that_are_counted_from_a_byte_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbered: bool | None, before: int
) -> None:
    """As those of a file elsewhere are. Ids count from the beginning of the file all the same; a fit needs none."""
    lines = [json.dumps({"text": f"text {row}"}) for row in range(8)]
    lines[6] = "no json"
    source, out = tmp_path / "c.jsonl", tmp_path / "shard"
    source.write_text("".join(f"{line}\n" for line in lines))
    half, first = source.stat().st_size // 2, sum(len(line) + 1 for line in lines[:4])
    assert len(lines[3]) > first - half > 0
    monkeypatch.setattr(ChunkLoader, "_with_lines", lambda _self, file: replace(file, own_lines=True))
    (one,) = load(source, out, Shard(1, 2), numbered=numbered)
    assert one.records == (RecordSpan(0, 1, 2, half), RecordSpan(0, 4, 1, half))
    layout = RunLayout(out)
    ids = read_chunk_columns(layout, 0, ("id",)).column("id").to_pylist()
    assert ids == [f"c.jsonl#{before + number}" for number in (1, 2, 4)]
    (reject,) = layout.rejected_segment(0).read_bytes().splitlines()
    assert {name: json.loads(reject)[name] for name in ("file", "record", "from_byte")} == {
        "file": "c.jsonl",
        "record": 3,
        "from_byte": half,
    }


def test_an_intake_may_end_while_it_counts_what_is_before_its_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "c.jsonl"
    source.write_text("".join(f"{json.dumps({'text': f'text {row}'})}\n" for row in range(8)))
    monkeypatch.setattr(ChunkLoader, "_with_lines", lambda _self, file: replace(file, own_lines=True))
    asked: list[None] = []

    def stopping() -> bool:
        asked.append(None)
        return len(asked) > 1  # not yet when the first block is looked at

    assert load(source, tmp_path / "shard", Shard(1, 2), stopping=stopping) == []
    assert len(load(source, tmp_path / "shard", Shard(1, 2))) == 1


def test_spans() -> None:
    assert spans_of(7, [1, 2, 3, 9, 11, 12]) == [RecordSpan(7, 1, 3), RecordSpan(7, 9, 1), RecordSpan(7, 11, 2)]
    assert spans_of(0, [5]) == [RecordSpan(0, 5, 1)]
    assert spans_of(0, []) == []
