"""ChunkLoader: what stands in the run directory after an intake, after a crash, and after the resume."""

from __future__ import annotations

import errno
import gzip
import io
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedfleet.coordinator.intake import segment_writer
from embedfleet.coordinator.intake.loader import ChunkLoader, IntakeCounts, SegmentLimits, SpooledSegment
from embedfleet.protocol.errors import RunDirectoryError, SourceError
from embedfleet.protocol.run_directory.layout import RunLayout, damaged_of
from embedfleet.protocol.run_directory.segment_info import ChunkSegmentInfo, Cursor, Passed
from embedfleet.protocol.run_directory.tables import CHUNK_SCHEMA, read_info
from embedfleet.protocol.spec.run_spec import PREPROCESSING, PassSpec, RunSpec
from xxhash import xxh3_128_hexdigest

PASSES = (PassSpec(vector="dense-fake-8", kind="dense", model="fake:8"),)


class Intake:
    """One run directory and the intakes into it."""

    def __init__(self, source: Path | str, root: Path, **spec: Any) -> None:
        self.layout = RunLayout(root)
        self.spec = RunSpec(source=str(source), passes=PASSES, **{"preprocessing": PREPROCESSING} | spec)
        self.written: list[SpooledSegment] = []
        self.limits: SegmentLimits | None = None
        """In place of those of `load`."""

    def load(
        self,
        rows: int = 4,
        tokens: int = 1000,
        crash_at: int | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> IntakeCounts:
        def on_segment(segment: SpooledSegment) -> None:
            if segment.segment == crash_at:
                raise KeyboardInterrupt
            self.written.append(segment)

        self.written = []
        limits = self.limits or SegmentLimits(rows, tokens)
        return ChunkLoader(self.spec, self.layout, limits, on_segment, stopping).load()

    def table(self) -> list[dict[str, Any]]:
        tables = [pq.read_table(self.layout.chunk_segment(one.segment)) for one in self.written]
        return pa.concat_tables(tables).to_pylist() if tables else []

    def infos(self) -> list[ChunkSegmentInfo]:
        return [read_info(self.layout.chunk_segment(one.segment), ChunkSegmentInfo) for one in self.written]

    def rejected(self, segment: int) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.layout.rejected_segment(segment).read_bytes().splitlines()]

    def files(self) -> dict[str, bytes]:
        folders = (self.layout.chunks, self.layout.intake_folder)
        return {path.name: path.read_bytes() for folder in folders for path in sorted(folder.iterdir())}


def json_lines(*records: Any) -> bytes:
    return b"".join((one if isinstance(one, bytes) else orjson.dumps(one)) + b"\n" for one in records)


def numbered(first: int, stop: int) -> list[dict[str, Any]]:
    return [{"id": f"d{n}", "text": f"text {n}"} for n in range(first, stop)]


def test_what_a_segment_holds(tmp_path: Path) -> None:
    source = tmp_path / "c.jsonl"
    source.write_bytes(
        b"\xef\xbb\xbf"
        + json_lines({"id": "a", "text": " caf\u0065\u0301\x00\r\n", "metadata": {"k": [1]}}, {"text": "b"})
    )
    intake = Intake(source, tmp_path / "run")
    counts = intake.load()
    assert counts == IntakeCounts(segments=1, rows=2, rejected=0, duplicates=0, complete=True)
    assert intake.written == [SpooledSegment(segment=0, first_row=0, rows=2, n_bytes=6, rejected=0)]
    assert intake.table() == [
        {"row": 0, "id": "a", "text": "caf\u00e9", "metadata": '{"k":[1]}', "n_bytes": 5},
        {"row": 1, "id": "c.jsonl#2", "text": "b", "metadata": None, "n_bytes": 1},
    ]
    digest = xxh3_128_hexdigest(source.read_bytes())
    path = intake.layout.chunk_segment(0)
    assert pq.read_schema(path).equals(CHUNK_SCHEMA)
    assert pq.read_metadata(path).row_group(0).column(2).compression == "ZSTD"
    assert intake.infos() == [
        ChunkSegmentInfo(
            segment=0,
            first_row=0,
            rows=2,
            rejected=0,
            duplicates=0,
            n_bytes=6,
            cursor=Cursor(file=0, records=2),
            passed=Passed(n_bytes=source.stat().st_size, digest=digest),
        )
    ]
    assert sorted(intake.files()) == ["00000.parquet", "counts.json", "limits.json", "source.json"]
    assert [path.name for path in intake.layout.chunks.iterdir()] == ["00000.parquet"]
    assert orjson.loads(intake.layout.intake.read_bytes()) == {
        "segments": 1,
        "rows": 2,
        "rejected": 0,
        "duplicates": 0,
        "complete": True,
        "finished": [digest],
    }
    stat = source.stat()
    assert orjson.loads(intake.layout.source.read_bytes()) == [
        {"path": "c.jsonl", "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    ]


def test_rejects_and_duplicates_go_with_the_next_chunk(tmp_path: Path) -> None:
    source = tmp_path / "c.jsonl"
    source.write_bytes(
        json_lines(
            b"nonsense",
            {"id": "a", "text": "A"},
            {"id": "b", "text": "B"},
            {"id": "a", "text": "A\x00"},  # the same after preprocessing
            {"id": "a", "text": "other"},
            {"id": "c", "text": " \x00 "},
            {"id": "d", "text": "D"},
            {"id": "e", "text": "E"},
            {"id": "f", "text": 1},
            {"id": "e", "text": "E"},
        )[:-1]
    )
    intake = Intake(source, tmp_path / "run")
    counts = IntakeCounts(segments=2, rows=4, rejected=4, duplicates=2, complete=True, notes={"id_shared": 1})
    assert intake.load(rows=2) == counts
    assert [row["id"] for row in intake.table()] == ["a", "b", "d", "e"]
    assert [row["row"] for row in intake.table()] == [0, 1, 2, 3]
    assert [(one.rejected, one.duplicates, one.cursor.records) for one in intake.infos()] == [(1, 0, 3), (2, 1, 8)]
    ((reject,), later, last) = (intake.rejected(n) for n in range(3))
    assert reject.pop("reason").startswith("not JSON: ")
    assert reject == {"file": "c.jsonl", "record": 1, "excerpt": "nonsense"}
    assert later == [
        {
            "file": "c.jsonl",
            "record": 5,
            "id": "a",
            "reason": "id 'a' was already used by row 0 with another text",
            "excerpt": "other",
        },
        {"file": "c.jsonl", "record": 6, "id": "c", "reason": "empty text", "excerpt": " \x00 "},
    ]
    assert last == [
        {
            "file": "c.jsonl",
            "record": 9,
            "id": "f",
            "reason": "text field 'text' is an integer, not a string",
            "excerpt": '{"id":"f","text":1}',
        }
    ]
    assert orjson.loads(intake.layout.intake.read_bytes())["rejected"] == 4


def test_only_rejects(tmp_path: Path) -> None:
    source = tmp_path / "c.jsonl"
    source.write_bytes(b"x\n" * 3000)
    intake = Intake(source, tmp_path / "run")
    with pytest.raises(SourceError, match=r"c\.jsonl: not one record in it can be used \(3,000 rejected\): not JSON"):
        intake.load()
    assert [one["record"] for one in intake.rejected(0)] == list(range(1, 3001))
    assert sorted(intake.files()) == ["00000.rejected.jsonl", "limits.json", "source.json"], "no intake that is done"


def test_the_fields_of_a_corpus_that_has_none_of_those_looked_for_are_told(tmp_path: Path) -> None:
    source = tmp_path / "c.jsonl"
    source.write_bytes(json_lines("no object", {"doc": "a", "title": "b"}, {"doc": "c"}))
    told = r"has no field 'body'\. The fields of that record: doc, title\. Name them with --text-field and --id-field"
    with pytest.raises(SourceError, match=told):
        Intake(source, tmp_path / "run", text_field="body").load()
    asked = Intake(source, tmp_path / "run")
    asked.spec = msgspec.structs.replace(asked.spec, passes=(msgspec.structs.replace(PASSES[0], side="query"),))
    with pytest.raises(SourceError, match=r"The fields of that record: doc, title\. A query has `_id`"):
        asked.load()


def test_no_record_at_all(tmp_path: Path) -> None:
    source = tmp_path / "c.jsonl"
    source.write_bytes(b" \n\n")
    with pytest.raises(SourceError, match=r"c\.jsonl: there is no record in it"):
        Intake(source, tmp_path / "run").load()


def test_metadata_that_cannot_be_written_is_a_reject(tmp_path: Path) -> None:
    source = tmp_path / "c.jsonl"
    deep = b'{"id":"x","text":"t","deep":' + b'{"a":' * 500 + b"1" + b"}" * 501 + b"\n"
    source.write_bytes(deep + json_lines({"id": "y", "text": "t"}))
    intake = Intake(source, tmp_path / "run")
    assert intake.load().rejected == 1
    (reject,) = intake.rejected(0)
    assert reject["id"] == "x"
    assert reject["reason"].startswith("metadata cannot be kept as JSON: ")


def mixed_folder(root: Path) -> Path:
    """Every format, 40 good chunks, with rejects and duplicates strewn in."""
    root.mkdir()
    (root / "a.jsonl").write_bytes(
        json_lines(*numbered(0, 10), b"bad", {"id": "d3", "text": "text 3"}, {"id": "d3", "text": "!"})
    )
    (root / "b.jsonl.gz").write_bytes(gzip.compress(json_lines(b"bad", *numbered(10, 20))))
    (root / "c_chunks.json").write_bytes(orjson.dumps([*numbered(20, 30), 7, {"id": "d1", "text": "text 1"}]))
    pq.write_table(pa.Table.from_pylist(numbered(30, 35)), root / "d.parquet", row_group_size=2)
    with pa.output_stream(str(root / "e.ndjson.zst"), compression="zstd") as stream:
        stream.write(json_lines(*numbered(35, 40), b'{"id":"cut","text":"tr')[:-1])
    return root


def test_formats_follow_one_another(tmp_path: Path) -> None:
    intake = Intake(mixed_folder(tmp_path / "corpus"), tmp_path / "run")
    counts = IntakeCounts(segments=10, rows=40, rejected=5, duplicates=2, complete=True, notes={"id_shared": 1})
    assert intake.load() == counts
    assert [(row["row"], row["id"], row["text"]) for row in intake.table()] == [
        (n, f"d{n}", f"text {n}") for n in range(40)
    ]
    collections = [row["metadata"] for row in intake.table()]
    assert collections == [None] * 20 + ['{"collection":"corpus"}'] * 10 + [None] * 10
    last = intake.rejected(10)
    assert [(one["file"], one["record"]) for one in last] == [("e.ndjson.zst", 6)]


@pytest.mark.parametrize("rows", [3, 4, 7, 100])
def test_a_crash_anywhere_changes_nothing(tmp_path: Path, rows: int) -> None:
    source = mixed_folder(tmp_path / "corpus")
    whole = Intake(source, tmp_path / "whole")
    counts = whole.load(rows)
    expected = whole.files()
    for crash_at in range(counts.segments):
        intake = Intake(source, tmp_path / f"run{crash_at}")
        with pytest.raises(KeyboardInterrupt):
            intake.load(rows, crash_at=crash_at)
        # What a crash at a bad moment leaves behind.
        (intake.layout.chunks / ".00099.parquet.tmp").write_bytes(b"half")
        intake.layout.id_index.write_bytes(b"half")
        (intake.layout.intake_folder / ".counts.json.tmp").write_bytes(b"half")
        intake.layout.rejected_segment(crash_at + 1).write_bytes(b"of a segment that never came")
        assert intake.load(rows) == counts
        assert intake.written == whole.written
        assert intake.files() == expected


def test_a_gap_is_read_again(tmp_path: Path) -> None:
    intake = Intake(mixed_folder(tmp_path / "corpus"), tmp_path / "run")
    counts = intake.load()
    expected, written = intake.files(), intake.written
    intake.layout.chunk_segment(4).unlink()
    assert intake.load() == counts
    assert (intake.files(), intake.written) == (expected, written)


def test_a_file_of_the_user_beside_those_of_the_intake_stays(tmp_path: Path) -> None:
    intake = Intake(mixed_folder(tmp_path / "corpus"), tmp_path / "run")
    intake.load()
    mine = intake.layout.intake_folder / "00099.parquet"
    mine.write_bytes(b"mine")
    intake.layout.chunk_segment(4).unlink()
    intake.load()
    assert mine.read_bytes() == b"mine"


def test_a_finished_intake_needs_no_source(tmp_path: Path) -> None:
    source = tmp_path / "c.jsonl"
    source.write_bytes(json_lines(*numbered(0, 9), b"bad"))
    intake = Intake(source, tmp_path / "run")
    counts, written = intake.load(), intake.written
    source.unlink()
    intake.layout.id_index.write_bytes(b"left by a crash after the last write")
    assert intake.load() == counts
    assert not intake.layout.id_index.exists()
    assert intake.written == written


def test_a_changed_source_is_refused(tmp_path: Path) -> None:
    source = mixed_folder(tmp_path / "corpus")
    intake = Intake(source, tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        intake.load(crash_at=2)
    data = bytearray((source / "a.jsonl").read_bytes())
    data[2:4] = b"xx"
    (source / "a.jsonl").write_bytes(data)
    with pytest.raises(SourceError) as caught:
        intake.load()
    assert str(caught.value) == (
        f"{source}: the source changed since its intake began: a.jsonl has other content; "
        "put it back as it was, or start over with --restart"
    )
    assert intake.written == []


def test_records_of_the_intake_that_are_torn_are_refused_and_a_torn_segment_is_read_again(tmp_path: Path) -> None:
    source = tmp_path / "c.jsonl"
    source.write_bytes(json_lines(*numbered(0, 9)))
    intake = Intake(source, tmp_path / "run")
    intake.load()
    intake.layout.intake.write_bytes(b"{")
    with pytest.raises(RunDirectoryError, match=r"counts\.json: damaged .* delete it and run the same command again"):
        intake.load()
    intake.layout.intake.unlink()
    whole = intake.layout.chunk_segment(1).read_bytes()
    intake.layout.chunk_segment(1).write_bytes(whole[:-9])
    intake.load()
    assert intake.layout.chunk_segment(1).read_bytes() == whole


def test_a_segment_that_cannot_be_read_now_is_not_taken_for_a_torn_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many open files, a disk that fails, permissions: everything after it was deleted, and the source read again."""
    source = tmp_path / "c.jsonl"
    source.write_bytes(json_lines(*numbered(0, 9)))
    intake = Intake(source, tmp_path / "run")
    counts = intake.load()
    source.unlink()
    before = {path.name: path.read_bytes() for path in intake.layout.chunks.iterdir()}

    def fail(path: object) -> None:
        raise OSError(errno.EMFILE, "Failed to open local file", str(path))

    with monkeypatch.context() as patched:
        patched.setattr("embedfleet.protocol.run_directory.tables.pq.read_schema", fail)
        with pytest.raises(RunDirectoryError, match=r"00000\.parquet: cannot be read now \(Too many open files\)"):
            intake.load()
    assert {path.name: path.read_bytes() for path in intake.layout.chunks.iterdir()} == before
    assert intake.load() == counts


def test_a_cursor_that_has_changed_on_disk_is_not_followed(tmp_path: Path) -> None:
    """It would skip a record. The footer has a checksum, and the source is read again from that segment on."""
    source = tmp_path / "c.jsonl"
    source.write_bytes(json_lines(*numbered(0, 9)))
    intake = Intake(source, tmp_path / "run")
    intake.load()
    before = intake.files()
    intake.layout.intake.unlink()
    intake.layout.chunk_segment(2).unlink()
    path = intake.layout.chunk_segment(1)
    table = pq.read_table(path)
    said = {key: value.replace(b'"records":8', b'"records":9') for key, value in table.schema.metadata.items()}
    assert said != table.schema.metadata
    pq.write_table(table.replace_schema_metadata(said), path)
    intake.load()
    assert intake.files() == before


def test_standard_input_is_given_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = json_lines(*[{"text": f"text {n}"} for n in range(10)])
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    intake = Intake("-", tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        intake.load(crash_at=1)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    assert intake.load().rows == 10
    assert [(row["row"], row["id"], row["text"]) for row in intake.table()] == [
        (n, f"stdin#{n + 1}", f"text {n}") for n in range(10)
    ]


@pytest.mark.parametrize(("limit", "segments", "rejected"), [(1, 1, 0), (4, 1, 0), (6, 2, 1), (7, 2, 1), (99, 3, 2)])
def test_limit(tmp_path: Path, limit: int, segments: int, rejected: int) -> None:
    source = tmp_path / "c.jsonl"
    source.write_bytes(json_lines(*numbered(0, 5), b"bad", *numbered(5, 10), b"bad"))
    intake = Intake(source, tmp_path / "run", limit=limit)
    counts = IntakeCounts(segments=segments, rows=min(limit, 10), rejected=rejected, duplicates=0, complete=True)
    assert intake.load() == counts
    expected = intake.files()
    intake.layout.intake.unlink()
    assert intake.load() == counts
    assert intake.files() == expected


def test_stopping_ends_early_and_the_next_intake_goes_on(tmp_path: Path) -> None:
    source = mixed_folder(tmp_path / "corpus")
    whole = Intake(source, tmp_path / "whole")
    expected = whole.load()
    intake = Intake(source, tmp_path / "run")
    counts = intake.load(stopping=lambda: len(intake.written) >= 3)
    assert not counts.complete
    assert counts.rows == 4 * counts.segments == 4 * len(intake.written)
    assert not intake.layout.intake.exists()
    assert not intake.layout.id_index.exists()
    before = len(intake.written)
    counts = intake.load(stopping=lambda: len(intake.written) >= before)
    assert (counts.segments, counts.complete) == (before, False)
    assert intake.load() == expected
    assert intake.files() == whole.files()


def test_segments_end_by_tokens_and_by_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "c.jsonl"
    texts = ["x" * 399, "y" * 1, "z" * 4000, "a", "b"]
    source.write_bytes(json_lines(*[{"id": text[0], "text": text} for text in texts]))
    intake = Intake(source, tmp_path / "run")
    intake.load(rows=100, tokens=100)
    assert [(one.rows, one.n_bytes) for one in intake.written] == [(2, 400), (1, 4000), (2, 2)]
    monkeypatch.setattr(segment_writer, "MAX_HELD_BYTES", 500)
    source.write_bytes(json_lines(*[{"id": str(n), "text": "t", "m": "m" * 240} for n in range(5)]))
    intake = Intake(source, tmp_path / "run2")
    intake.load(rows=100)
    assert [one.rows for one in intake.written] == [2, 2, 1]


def peak_of(intake: Intake) -> int:
    tracemalloc.start()
    try:
        intake.load(rows=1000, tokens=1_000_000)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_source(tmp_path: Path) -> None:
    peaks: list[int] = []
    for rows in (12_000, 36_000):
        source = tmp_path / f"{rows}.jsonl"
        source.write_bytes(b"".join(b'{"id":"%d","text":"%s"}\n' % (n, b"word " * 60) for n in range(rows)))
        peaks.append(peak_of(Intake(source, tmp_path / f"run{rows}")))
    assert peaks[1] < peaks[0] + 1_000_000


def test_one_very_long_text(tmp_path: Path) -> None:
    source = tmp_path / "c.jsonl"
    texts = ["a", "x" * 10_000_000, "b"]
    source.write_bytes(json_lines(*[{"id": text[0], "text": text} for text in texts]))
    intake = Intake(source, tmp_path / "run")
    assert intake.load(tokens=1_000_000).rows == 3
    assert [(one.rows, one.n_bytes) for one in intake.written] == [(2, 10_000_001), (1, 1)]
    assert [row["text"] for row in intake.table()] == texts


def test_counts_survive_a_round_trip() -> None:
    counts = IntakeCounts(segments=1, rows=2, rejected=3, duplicates=4, complete=True)
    assert msgspec.json.decode(msgspec.json.encode(counts), type=IntakeCounts) == counts


def test_a_crash_of_the_process_itself(tmp_path: Path) -> None:
    """Killed in the middle, without any clean-up: the open reject file and id index stay behind."""
    source = mixed_folder(tmp_path / "corpus")
    whole = Intake(source, tmp_path / "whole")
    counts = whole.load()
    intake = Intake(source, tmp_path / "run")
    script = """if True:
        import os, pathlib, sys, msgspec
        from embedfleet.coordinator.intake.loader import ChunkLoader, SegmentLimits
        from embedfleet.protocol.run_directory.layout import RunLayout, damaged_of
        from embedfleet.protocol.spec.run_spec import RunSpec
        seen = []
        stopping = lambda: len(seen) >= 3 and os._exit(9)
        spec = msgspec.json.decode(sys.argv[1], type=RunSpec)
        ChunkLoader(spec, RunLayout(pathlib.Path(sys.argv[2])), SegmentLimits(4, 1000), seen.append, stopping).load()
    """
    command = [sys.executable, "-c", script, msgspec.json.encode(intake.spec).decode(), str(intake.layout.root)]
    assert subprocess.run(command, check=False).returncode == 9
    assert intake.layout.id_index.exists()
    assert intake.load() == counts
    assert (intake.files(), intake.written) == (whole.files(), whole.written)


def test_a_segment_ends_where_the_first_session_decided(tmp_path: Path) -> None:
    """Its vectors may stand already, and another host may have other limits."""
    source = tmp_path / "c.jsonl"
    source.write_bytes(json_lines(*numbered(0, 11)))
    intake = Intake(source, tmp_path / "run")
    intake.load(rows=4)
    whole = intake.layout.chunk_segment(1).read_bytes()
    intake.layout.chunk_segment(1).unlink()
    intake.load(rows=7, tokens=10)
    assert intake.layout.chunk_segment(1).read_bytes() == whole
    assert [one.rows for one in intake.written] == [4, 4, 3]
    intake.layout.chunk_segment(1).unlink()
    for damaged in (b"{", b'{"rows": 0}', b'{"first_rows": 0}'):
        intake.layout.limits.write_bytes(damaged)
        with pytest.raises(
            RunDirectoryError, match=r"limits\.json: damaged .*; delete it and run the same command again"
        ):
            intake.load()
    intake.layout.limits.unlink()
    intake.load(rows=4)
    intake.layout.limits.unlink()
    intake.load(rows=4)  # also where the intake has ended
    assert intake.layout.limits.exists()


def test_first_segments_are_small_and_a_resume_keeps_their_bounds(tmp_path: Path) -> None:
    """A segment's bounds depend on its number alone, and the second session has other limits."""
    source = tmp_path / "c.jsonl"
    source.write_bytes(json_lines(*numbered(0, 30)))
    intake = Intake(source, tmp_path / "run")
    intake.limits = SegmentLimits(rows=8, tokens=1000, first_rows=2)
    intake.load()
    assert [one.rows for one in intake.written] == [2, 4, 8, 8, 8]
    files = intake.files()
    for number in (1, 2, 3, 4):
        intake.layout.chunk_segment(number).unlink()
    intake.layout.intake.unlink()
    intake.limits = None
    intake.load(rows=7)
    assert intake.files() == files


def test_the_tokens_of_a_first_segment_are_in_proportion() -> None:
    limits = SegmentLimits(rows=2_048, tokens=131_072, first_rows=64)
    assert [limits.of(segment) for segment in (0, 1, 5, 6, 1_000)] == [
        (64, 4_096),
        (128, 8_192),
        (2_048, 131_072),
        (2_048, 131_072),
        (2_048, 131_072),
    ]
    assert SegmentLimits(7, 9).of(0) == (7, 9)


def test_what_was_set_aside_as_damaged_goes_once_it_is_read_again(tmp_path: Path) -> None:
    source = tmp_path / "c.jsonl"
    source.write_bytes(json_lines(*numbered(0, 9)))
    intake = Intake(source, tmp_path / "run")
    intake.load()
    path = intake.layout.chunk_segment(1)
    for aside in (intake.layout.damaged_chunk_segment(1), damaged_of(path)):  # now, and in earlier versions
        path.rename(aside)
        intake.load()
        assert path.exists()
        assert not aside.exists()


ODD = [
    b'{"id":"n0","text":"a","x":NaN}',
    b'{"type":"PageBreak"}',
    {"id": "n1", "title": "T", "text": "b", "x": 1, "metadata": {"x": 2}},
    {"id": "n0", "text": "another"},
    {"id": "n2", "title": "T", "text": "c"},
    {"id": "n3", "text": "d"},
    b'{"id":"n4","text":"half \\ud800"}',
    {"id": "n5", "text": "e"},
    {"type": "PageBreak"},
    b'{"type":"PageBreak","x":"\\ud800"}',
]
"""One note a record or two, some after the last chunk; of what is passed over nothing else is noted."""
NOTES = {
    "elements_skipped": 3,
    "halves_removed": 1,
    "id_shared": 1,
    "not_finite": 1,
    "outer_kept": 1,
    "title_joined": 2,
}


@pytest.mark.parametrize("rows", [1, 2, 3, 100])
def test_what_is_done_to_records_is_counted_whatever_the_sessions(tmp_path: Path, rows: int) -> None:
    source = tmp_path / "c.jsonl"
    source.write_bytes(json_lines(*ODD))
    whole = Intake(source, tmp_path / "whole")
    counts = whole.load(rows)
    assert (counts.rows, counts.rejected, counts.notes) == (6, 1, NOTES)
    for crash_at in range(counts.segments):
        intake = Intake(source, tmp_path / f"run{crash_at}")
        with pytest.raises(KeyboardInterrupt):
            intake.load(rows, crash_at=crash_at)
        assert intake.load(rows) == counts
        assert intake.files() == whole.files()
        assert intake.load(rows) == counts


def test_notes_beyond_the_limit_are_not_counted(tmp_path: Path) -> None:
    source = tmp_path / "c.jsonl"
    source.write_bytes(json_lines(*ODD))
    counts = Intake(source, tmp_path / "run", limit=2).load()
    assert counts.notes == {"elements_skipped": 1, "not_finite": 1, "outer_kept": 1, "title_joined": 1}


def test_a_source_of_nothing_but_page_breaks(tmp_path: Path) -> None:
    source = tmp_path / "c.jsonl"
    source.write_bytes(json_lines(*({"type": "PageBreak"} for _ in range(3000))))
    with pytest.raises(
        SourceError, match=r"no record in it can be used \(elements without text skipped.*: 3,000 records"
    ):
        Intake(source, tmp_path / "run").load()


def test_bulk_files_are_resumed_between_documents(tmp_path: Path) -> None:
    source = tmp_path / "c.jsonl"
    pairs = [one for n in range(9) for one in ({"index": {"_id": str(n)}}, {"text": f"text {n}"})]
    source.write_bytes(json_lines(*pairs, {"delete": {"_id": "0"}}))
    whole = Intake(source, tmp_path / "whole")
    counts = whole.load(rows=2)
    assert (counts.rows, counts.rejected, counts.notes) == (9, 0, {"actions_skipped": 1})
    assert [row["id"] for row in whole.table()] == [str(n) for n in range(9)]
    for crash_at in range(counts.segments):
        intake = Intake(source, tmp_path / f"run{crash_at}")
        with pytest.raises(KeyboardInterrupt):
            intake.load(rows=2, crash_at=crash_at)
        assert intake.load(rows=2) == counts
        assert intake.files() == whole.files()


def test_an_intake_of_the_first_version_goes_on_as_it_began(tmp_path: Path) -> None:
    """Its rows have vectors already: which records become rows, and as what, must not change."""
    source = tmp_path / "c.jsonl"
    records = [{"id": f"d{n}", "chunk_id": f"c{n}", "title": "T", "text": f"a\fb {n}"} for n in range(4)]
    records.append({"id": "x", "text": "t", "k": 1, "metadata": {"k": 2}})
    source.write_bytes(
        json_lines(*records, b'{"id":"n","text":"t","k":NaN}', b'{"id":"h","text":"\\ud800a"}', *ODD[-3:])
    )
    intake = Intake(source, tmp_path / "run", preprocessing="nfc-strip-1")
    counts = intake.load(rows=2)
    assert [(row["id"], row["text"]) for row in intake.table()] == [
        *((f"d{n}", f"ab {n}") for n in range(4)),
        ("x", "t"),
        ("n5", "e"),
    ]
    assert intake.table()[4]["metadata"] == '{"k":2}'
    assert (counts.rejected, counts.notes) == (4, {})
    before = intake.files()
    intake.layout.chunk_segment(1).unlink()
    assert intake.load(rows=2) == counts
    assert intake.files() == before
