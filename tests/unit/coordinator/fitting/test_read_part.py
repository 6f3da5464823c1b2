"""Terms and a sample of the parts of a source: the same however it is divided."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from embedfleet.coordinator.fitting.read_part import read_part
from embedfleet.coordinator.fitting.sample import Sample
from embedfleet.protocol.run_directory.records.fit import SAMPLE_SUFFIX, FitRecord, SampledChunk, TermCount
from embedfleet.protocol.spec.run_spec import PREPROCESSING, PassSpec, RunSpec
from embedfleet.protocol.spec.shard import Shard

BM25 = PassSpec(vector="sparse-bm25", kind="bm25", model="bm25")
INT8 = PassSpec(vector="dense-fake-8", kind="dense", model="fake:8", storage="int8")


def source(path: Path, rows: int) -> RunSpec:
    lines = [json.dumps({"id": f"c{row}", "text": "different terms " * (row % 5 + 1)}) for row in range(rows)]
    path.write_text("\n".join([*lines, '{"text": ', "{}"]) + "\n")
    return RunSpec(source=str(path), passes=(BM25, INT8), preprocessing=PREPROCESSING)


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_counts_add_up(tmp_path: Path, parts: int) -> None:
    spec = source(tmp_path / "c.jsonl", 200)
    found = [read_part(spec, Shard(part, parts), tmp_path / f"{part}") for part in range(parts)]
    assert sum(one.chunks for one in found) == 200
    assert sum(one.rejected for one in found) == 2
    assert sum(one.terms for one in found) == sum(2 * (row % 5 + 1) for row in range(200))
    assert not list(tmp_path.glob("*/chunks/*.parquet"))


def test_a_sample_does_not_depend_on_the_parts(tmp_path: Path) -> None:
    ids = [f"c{row}" for row in range(1000)]
    whole = Sample(50)
    whole.add(ids, ids)
    halves = Sample(50), Sample(50)
    halves[0].add(ids[:300], ids[:300])
    halves[1].add(ids[300:], ids[300:])
    found = list[list[SampledChunk]]()
    for number, sample in enumerate((whole, *halves)):
        path = tmp_path / f"{number}{SAMPLE_SUFFIX}"
        sample.write(path)
        found.append([msgspec.json.decode(line, type=SampledChunk) for line in path.read_bytes().splitlines()])
    merged = sorted([*found[1], *found[2]], key=lambda one: one.hash)[:50]
    assert found[0] == merged
    assert len({one.id for one in merged}) == 50


def test_a_part_that_needs_no_sample_writes_none(tmp_path: Path) -> None:
    spec = msgspec.structs.replace(source(tmp_path / "c.jsonl", 10), passes=(BM25,))
    read_part(spec, Shard(0, 1), tmp_path / "0")
    assert not list(tmp_path.glob(f"*{SAMPLE_SUFFIX}"))
    read_part(msgspec.structs.replace(spec, passes=(INT8,)), Shard(0, 1), tmp_path / "1")
    assert len(list(tmp_path.glob(f"*{SAMPLE_SUFFIX}"))) == 1


def test_no_terms_at_all_have_the_length_of_one() -> None:
    record = FitRecord(files=(), preprocessing=PREPROCESSING, counts=TermCount(chunks=3, terms=0))
    assert record.average_length == 1.0


def test_terms_alone_need_no_line_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part on object storage would read all that is before it for them."""
    (tmp_path / "c.jsonl").write_text("".join(f'{{"text": "two terms {row}"}}\n' for row in range(50)))
    spec = RunSpec(source=str(tmp_path / "c.jsonl"), passes=(BM25,), preprocessing=PREPROCESSING)
    monkeypatch.setattr("embedfleet.coordinator.reading.readers.count_lines", None)
    found = [read_part(spec, Shard(part, 3), tmp_path / f"{part}") for part in range(3)]
    assert sum(one.chunks for one in found) == 50


def test_terms_that_nobody_asked_for_are_none(tmp_path: Path) -> None:
    spec = msgspec.structs.replace(source(tmp_path / "c.jsonl", 10), passes=(INT8,))
    assert read_part(spec, Shard(0, 1), tmp_path / "0").terms is None
