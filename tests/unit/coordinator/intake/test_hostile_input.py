"""Every case of the table of bad input through the intake: each record committed once or rejected with its reason."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import orjson
import pyarrow.parquet as pq
import pytest
from embedfleet.coordinator.intake.limits import MAX_NESTING, too_deep
from embedfleet.coordinator.intake.loader import ChunkLoader, SegmentLimits, SpooledSegment
from embedfleet.coordinator.reading.line_reader import MAX_LINE_BYTES
from embedfleet.protocol.errors import SourceError
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.spec.run_spec import PREPROCESSING, PassSpec, RunSpec
from embedfleet.protocol.text.refused_texts import MAX_TEXT_BYTES

from ....hostile_input import CASES, DONE, LINE_LIMIT, QUARANTINED, TEXT_LIMIT, Case, line

SECONDS = 10.0
"""For the slowest case; all of them take well under two on one core."""
PASSES = (PassSpec(vector="dense-fake-8", kind="dense", model="fake:8"),)


def spec_of(source: Path) -> RunSpec:
    return RunSpec(source=str(source), passes=PASSES, preprocessing=PREPROCESSING)


def load(source: Path, root: Path, stop_after: int | None = None) -> tuple[RunLayout, list[SpooledSegment]]:
    layout, segments = RunLayout(root), list[SpooledSegment]()
    stopping = lambda: stop_after is not None and len(segments) >= stop_after  # noqa: E731
    ChunkLoader(spec_of(source), layout, SegmentLimits(rows=64), segments.append, stopping).load()
    return layout, segments


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_record_is_committed_once_or_rejected_with_its_reason(case: Case, tmp_path: Path) -> None:
    source = tmp_path / case.file
    source.write_bytes(case.data())
    start = time.monotonic()
    if case.committed:
        layout, segments = load(source, tmp_path / "run")
    else:  # alone, such a source is refused; what was read of it is on file all the same
        with pytest.raises(SourceError, match="not one record in it can be used"):
            load(source, tmp_path / "run")
        layout, segments = RunLayout(tmp_path / "run"), []
    assert time.monotonic() - start < SECONDS
    rows = [row for one in segments for row in pq.read_table(layout.chunk_segment(one.segment)).to_pylist()]
    assert [row["row"] for row in rows] == list(range(len(rows)))
    assert {row["id"]: row["text"] for row in rows} == case.committed
    found = [
        orjson.loads(one)
        for path in sorted(layout.intake_folder.glob("*.rejected.jsonl"))
        for one in path.read_bytes().splitlines()
    ]
    assert [one["record"] for one in found] == list(case.rejected)
    for one in found:
        reason = case.rejected[one["record"]].replace("PATH", str(source))
        assert one["reason"].startswith(reason)
        assert one["file"] == case.file
    assert len(rows) + len(found) == case.records
    assert case.code == (QUARANTINED if found else DONE)


def test_the_limits_are_those_of_the_table() -> None:
    assert (MAX_TEXT_BYTES, MAX_LINE_BYTES, MAX_NESTING) == (TEXT_LIMIT, LINE_LIMIT, 64)


def test_nesting_counts_the_tuples_of_maps_too() -> None:
    value: object = 1
    for _ in range(MAX_NESTING // 2):
        value = [("key", value)]
    assert not too_deep(value)
    assert too_deep({"more": value})


WORST: dict[str, tuple[Callable[[], bytes], int]] = {
    "100 MB": (lambda: b'{"id":"x","text":"' + b"x" * 100_000_000 + b'"}\n', 150),
    "empty objects": (lambda: b'{"id":"x","text":"t","m":[' + b"{}," * 11_000_000 + b"1]}\n", 1_100),
    "small objects": (lambda: b'{"id":"x","text":"t","m":[' + b'{"":0},' * 4_700_000 + b"1]}\n", 1_200),
    "escapes": (lambda: b'{"id":"x","text":"' + b"\\u00e9" * 5_000_000 + b'"}\n', 250),
    "brackets": (lambda: b"[" * 33_000_000 + b"\n", 150),
}
"""Lines, and how many MiB each may take. Made when they are needed: all of them together have 225 MB."""


def peak_of(folder: Path, data: bytes) -> float:
    """MiB of an intake of one good line and these bytes, in a process of its own, since the peak is the process's."""
    source = folder / "c.jsonl"
    source.write_bytes(line("good", "a good line") + data)
    script = """if True:
        import pathlib, resource, sys, msgspec
        from embedfleet.coordinator.intake.loader import ChunkLoader, SegmentLimits
        from embedfleet.protocol.run_directory.layout import RunLayout
        from embedfleet.protocol.spec.run_spec import RunSpec
        spec, layout = msgspec.json.decode(sys.argv[1], type=RunSpec), RunLayout(pathlib.Path(sys.argv[2]))
        counts = ChunkLoader(spec, layout, SegmentLimits(), lambda one: None, lambda: False).load()
        print(counts.rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    """
    command = [sys.executable, "-c", script, msgspec.json.encode(spec_of(source)).decode(), str(folder / "run")]
    rows, peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert int(rows) >= 1
    return int(peak) / 1024


@pytest.fixture(scope="module")
def usual_peak(tmp_path_factory: pytest.TempPathFactory) -> float:
    """MiB of an intake of one good line."""
    return peak_of(tmp_path_factory.mktemp("good"), b"")


@pytest.mark.parametrize("worst", WORST)
def test_memory_that_the_worst_lines_take(tmp_path: Path, usual_peak: float, worst: str) -> None:
    content, most = WORST[worst]
    assert peak_of(tmp_path, content()) - usual_peak < most


def test_a_folder_without_chunks(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "notes.txt").write_text("no chunks")
    with pytest.raises(SourceError, match=r"corpus: the folder holds no chunks; looked for \*\.jsonl"):
        load(tmp_path / "corpus", tmp_path / "run")


@pytest.mark.parametrize("change", ["longer", "shorter", "as long, other words", "gone", "replaced by a folder"])
def test_a_source_that_changes_between_start_and_resume(tmp_path: Path, change: str) -> None:
    source = tmp_path / "c.jsonl"
    data = b"".join(line(f"c{n}", f"text {n}") for n in range(2000))
    source.write_bytes(data)
    layout, segments = load(source, tmp_path / "run", stop_after=1)
    standing = sorted(path.name for path in layout.chunks.glob("*.parquet"))
    assert len(standing) == len(segments) > 0
    if change == "longer":
        source.write_bytes(data + line("more", "more"))
    elif change == "shorter":
        source.write_bytes(data[:-20])
    elif change == "as long, other words":
        source.write_bytes(data.replace(b"text", b"word"))
    else:
        source.unlink()
    if change == "replaced by a folder":
        source.mkdir()
        (source / "c.jsonl").write_bytes(data.replace(b"text", b"word"))
    with pytest.raises(SourceError, match=r"changed since its intake began|no such file"):
        load(source, tmp_path / "run")
    assert sorted(path.name for path in layout.chunks.glob("*.parquet")) == standing
