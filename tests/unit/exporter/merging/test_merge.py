"""Shards that are merged are the run that one command over the whole source makes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest
from embedfleet.client.run_directory.reader import Run, open_run
from embedfleet.client.verify.recount import verify_run
from embedfleet.exporter.merging.merge import merge_shards
from embedfleet.exporter.run_directory.manifest import recount, write_manifest
from embedfleet.protocol.errors import RunDirectoryError, UsageError
from embedfleet.protocol.run_directory.json_bytes import pretty_json
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.run_directory.records.intake import IntakeRecord, SegmentLimits, read_intake
from embedfleet.protocol.run_directory.records.manifest import read_manifest
from embedfleet.protocol.run_directory.records.merge import MergeSummary, OnDuplicate, read_merge
from embedfleet.protocol.source.check import read_trail
from embedfleet.protocol.spec.ensemble_spec import EnsembleSpec
from embedfleet.protocol.spec.run_spec import RunSpec

from ....shard_runs import (
    DENSE,
    HEADS,
    INT8,
    MULTI,
    SPARSE,
    begin_shards,
    embed,
    make_shard,
    make_shards,
    put,
    shard_spec,
    write_files,
)

OTHER = msgspec.structs.replace(DENSE, vector="dense-other", model="fake:4")
CONCAT = EnsembleSpec(
    vector="ensemble-concat", method="concat", members=(DENSE.vector, "dense-other"), weights=(2.0, 1.0)
)


def merge(root: Path, on_duplicate: OnDuplicate = "fail") -> MergeSummary:
    return merge_shards(RunLayout(root), on_duplicate, lambda _step, _done, _of: None)


def spec_of(source: Path, *passes: Any, **more: Any) -> RunSpec:
    return RunSpec(source=str(source), passes=passes or (DENSE, SPARSE, MULTI), **{"index": "none", **more})


def quarantine_of(run: Run) -> list[Any]:
    return [orjson.loads(line) for line in (run.root / "quarantine.jsonl").read_bytes().splitlines()]


def assert_same(merged: Path, whole: Path) -> None:
    """Everything that a reader of either run sees."""
    ours, theirs = open_run(merged), open_run(whole)
    assert verify_run(merged).problems == []
    assert ours.complete
    assert ours.chunks.equals(theirs.chunks)
    assert quarantine_of(ours) == quarantine_of(theirs)
    for name in theirs.vector_names:
        found, expected = ours.vectors(name), theirs.vectors(name)
        if isinstance(expected, np.ndarray):
            np.testing.assert_array_equal(found, expected)
        else:
            for field in ("indptr", "indices", "values", "stood_in", "tokens"):
                if hasattr(expected, field):
                    np.testing.assert_array_equal(getattr(found, field), getattr(expected, field))
    one, other = read_manifest(RunLayout(merged)), read_manifest(RunLayout(whole))
    assert one is not None
    assert other is not None
    assert (one.counts, one.spec_digest) == (other.counts, other.spec_digest)
    assert [(p.rows, p.quarantined, p.tokens, p.truncated, p.fingerprint) for p in one.passes] == [
        (p.rows, p.quarantined, p.tokens, p.truncated, p.fingerprint) for p in other.passes
    ]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("corpus") / "files", 16, 7)


@pytest.fixture(scope="module")
def whole(corpus: Path) -> Path:
    return embed(spec_of(corpus), corpus.parent / "whole")


@pytest.fixture(scope="module")
def three(corpus: Path) -> Path:
    """Three shards of the corpus, not merged: for copies."""
    root = corpus.parent / "three"
    make_shards(spec_of(corpus), root, 3)
    return root


@pytest.fixture
def shards(three: Path, tmp_path: Path, copied: Callable[[Path, Path], Path]) -> Path:
    copied(three.with_name("three-parts"), tmp_path / "run-parts")
    return copied(three, tmp_path / "run")


@pytest.fixture(scope="module")
def copied() -> Callable[[Path, Path], Path]:
    from ....run_copies import copied as copy

    return copy


@pytest.mark.parametrize("count", [1, 3, 16])
def test_shards_merged_are_one_run(corpus: Path, whole: Path, tmp_path: Path, count: int) -> None:
    root = tmp_path / "run"
    make_shards(spec_of(corpus), root, count)
    done = merge(root)
    assert (done.shards, done.rows, done.changed, done.duplicates) == (count, 16 * 7, True, 0)
    assert_same(root, whole)
    trail, other = read_trail(RunLayout(root)), read_trail(RunLayout(whole))
    assert trail.whole
    assert trail.finished == other.finished
    assert RunLayout(root).source.read_bytes() == RunLayout(whole).source.read_bytes()
    assert done.segments == 1, "all of it fits into one segment"


def test_each_form_and_ensembles_are_merged(corpus: Path, tmp_path: Path) -> None:
    spec = spec_of(corpus, DENSE, OTHER, HEADS, ensembles=(CONCAT,))
    whole = embed(spec, tmp_path / "whole")
    make_shards(spec, tmp_path / "run", 3)
    merge(tmp_path / "run")
    assert_same(tmp_path / "run", whole)


def test_int8_segments_keep_their_ranges(corpus: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    make_shards(spec_of(corpus, INT8, DENSE), root, 3)
    done = merge(root)
    assert verify_run(root).problems == []
    layouts = [RunLayout(root).shard(index) for index in range(3)]
    before = np.concatenate([open_run(one.root).vectors(INT8.vector) for one in layouts])
    np.testing.assert_array_equal(open_run(root).vectors(INT8.vector), before)
    assert done.segments == sum(len(list(one.chunks.glob("*.parquet"))) for one in layouts)


def test_the_collection_is_made(corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("qdrant_edge")
    spec = spec_of(corpus, DENSE, SPARSE, index="edge")
    root = tmp_path / "run"
    make_shards(spec, root, 3)
    assert merge(root).points == 16 * 7
    report = verify_run(root)
    assert (report.problems, report.points) == ([], 16 * 7)


def test_segments_are_joined_within_their_limits(whole: Path, shards: Path, monkeypatch: Any) -> None:
    from embedfleet.exporter.merging import plan

    monkeypatch.setattr(plan, "JOINED", SegmentLimits(rows=10))
    done = merge(shards)
    sizes = [pq.read_metadata(path).num_rows for path in sorted((shards / "chunks").glob("*.parquet"))]
    assert len(sizes) == done.segments > 10
    assert all(size <= 10 for size in sizes)
    assert_same(shards, whole)


@pytest.mark.parametrize("empty", [0, 1, 2])
def test_a_shard_without_a_chunk(tmp_path: Path, empty: int) -> None:
    """No model was loaded for it. Its only record is rejected."""
    folder = write_files(tmp_path / "files", 3, 3, bad=False)
    put(folder / f"{empty:02d}.jsonl", [{"id": "nothing", "text": ""}])
    whole = embed(spec_of(folder), tmp_path / "whole")
    root = tmp_path / "run"
    record = begin_shards(spec_of(folder), root, 3)
    for index in {0, 1, 2} - {empty}:
        make_shard(record, root, index)
    shard = RunLayout(root).shard(empty)
    for path in (shard.chunks, shard.intake_folder):
        path.mkdir(parents=True)
    shard.spec.write_bytes(pretty_json(shard_spec(record, root, empty)))
    shard.source.write_bytes(msgspec.json.encode(record.files[empty : empty + 1]))
    rejected = {"file": f"{empty:02d}.jsonl", "record": 1, "id": "nothing", "reason": "empty text", "excerpt": ""}
    shard.rejected_segment(0).write_text(json.dumps(rejected) + "\n")
    counts = IntakeRecord(segments=0, rows=0, rejected=1, duplicates=0, complete=True, finished=("00",))
    shard.intake.write_bytes(msgspec.json.encode(counts))
    write_manifest(shard, shard_spec(record, root, empty), "r", *recount(shard, record.spec), 0)
    merge(root)
    assert_same(root, whole)


class TestIdsInTwoShards:
    """c0 has the same text in three files, c1 another text in each; the last file has more of both."""

    @pytest.fixture
    def repeated(self, tmp_path: Path) -> Path:
        folder = tmp_path / "files"
        folder.mkdir()
        for file in range(4):
            lines: list[dict[str, Any]] = [
                {"id": f"own{file}", "text": f"own text {file}"},
                {"id": "same", "text": "the same text"},
                {"id": "other", "text": f"text {file}"},
                {"id": "", "text": ""},
                {"id": f"last{file}", "text": f"last text {file}"},
            ]
            if file == 3:
                lines.append({"id": "last3", "text": "refused by its own shard"})
                lines.append({"id": "own1", "text": "text at the end"})
            put(folder / f"{file}.jsonl", lines)
        return folder

    @pytest.mark.parametrize("count", [2, 4])
    def test_first_is_what_one_run_does(self, repeated: Path, tmp_path: Path, count: int) -> None:
        whole = embed(spec_of(repeated), tmp_path / "whole")
        root = tmp_path / "run"
        make_shards(spec_of(repeated), root, count)
        with pytest.raises(UsageError):
            merge(root)
        assert not (root / "chunks").exists()
        assert not (root / "merge.json").exists()
        merge(root, "first")
        assert_same(root, whole)
        intake, expected = read_intake(RunLayout(root)), read_intake(RunLayout(whole))
        assert intake is not None
        assert expected is not None
        assert (intake.rejected, intake.duplicates, intake.notes) == (
            expected.rejected,
            expected.duplicates,
            expected.notes,
        )
        assert intake.duplicates == 3, "`same` three times"

    def test_both_places_are_named(self, repeated: Path, tmp_path: Path) -> None:
        root = tmp_path / "run"
        make_shards(spec_of(repeated), root, 4)
        with pytest.raises(UsageError) as caught:
            merge(root)
        message = str(caught.value)
        assert "ids stand in two shards, in 7 records: " in message
        assert "'same' in shard 0, row 1 (0.jsonl#2) and in shard 1, row 1 (1.jsonl#2)" in message
        assert "and 4 more" in message
        assert f"`embedfleet merge {root} --on-duplicate first` keeps the first record of each" in message

    def test_first_with_nothing_twice_is_as_fail(self, shards: Path, whole: Path) -> None:
        assert merge(shards, "first").duplicates == 0
        assert_same(shards, whole)
        assert not merge(shards, "fail").changed

    def test_fail_after_first_refuses_and_leaves_the_run(self, repeated: Path, tmp_path: Path) -> None:
        root = tmp_path / "run"
        make_shards(spec_of(repeated), root, 2)
        merge(root, "first")
        with pytest.raises(UsageError, match="stand in two shards"):
            merge(root, "fail")
        assert verify_run(root).problems == []
        assert not merge(root, "first").changed

    def test_a_shard_of_which_nothing_is_left(self, tmp_path: Path) -> None:
        folder = tmp_path / "files"
        folder.mkdir()
        for file in range(3):
            put(folder / f"{file}.jsonl", [{"id": "a", "text": "one"}, {"id": "b", "text": f"two {file}"}])
        put(folder / "3.jsonl", [{"id": "c", "text": "three"}])
        whole = embed(spec_of(folder), tmp_path / "whole")
        make_shards(spec_of(folder), tmp_path / "run", 4)
        merge(tmp_path / "run", "first")
        assert_same(tmp_path / "run", whole)
        (folder / "3.jsonl").unlink()
        whole = embed(spec_of(folder), tmp_path / "whole-2")
        make_shards(spec_of(folder), tmp_path / "run-2", 3)
        merge(tmp_path / "run-2", "first")
        assert_same(tmp_path / "run-2", whole)
        assert (tmp_path / "run-2" / "intake" / "00001.rejected.jsonl").exists(), "after the last chunk"

    def test_a_segment_of_which_nothing_is_left_does_not_decide_the_form(self, tmp_path: Path) -> None:
        """Its int8 vectors have other ranges than those that they are joined to."""
        folder = tmp_path / "files"
        folder.mkdir()
        for file, id_ in enumerate(["a", "a", "c"]):
            put(folder / f"{file}.jsonl", [{"id": f"{id_}{row}", "text": f"text {id_} {row}"} for row in range(3)])
        root = tmp_path / "run"
        make_shards(spec_of(folder, INT8), root, 3)
        merge(root, "first")
        assert verify_run(root).problems == []
        before = [open_run(RunLayout(root).shard(index).root).vectors(INT8.vector) for index in (0, 2)]
        np.testing.assert_array_equal(open_run(root).vectors(INT8.vector), np.concatenate(before))


def written(path: Path) -> tuple[int, int]:
    """Tells whether a file was written again. The number alone may be that of a file that was removed."""
    return path.stat().st_ino, path.stat().st_mtime_ns


class TestAgain:
    def test_nothing_changes_where_nothing_has(self, shards: Path) -> None:
        first = merge(shards)
        before = {path: path.stat().st_mtime_ns for path in shards.rglob("*") if path.is_file()}
        again = merge(shards)
        assert (first.changed, again.changed, again.copied) == (True, False, 0)
        assert before == {path: path.stat().st_mtime_ns for path in shards.rglob("*") if path.is_file()}
        assert (again.rows, again.quarantined) == (first.rows, first.quarantined)

    def test_a_file_that_is_gone_is_copied_again(self, shards: Path, whole: Path) -> None:
        merge(shards)
        layout = RunLayout(shards)
        for path in (layout.vector_segment(DENSE.vector, 0), layout.manifest):
            path.unlink()
            assert merge(shards).changed
            assert_same(shards, whole)

    @pytest.mark.parametrize("step", ["shards", "ids", "copy"])
    def test_interrupted_it_is_no_run_and_the_next_merge_ends_well(self, shards: Path, whole: Path, step: str) -> None:
        def interrupt(at: str, _done: int, _of: int) -> None:
            if at == step:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            merge_shards(RunLayout(shards), "fail", interrupt)
        with pytest.raises(RunDirectoryError, match="3 shards that are not merged"):
            open_run(shards)
        assert list(shards.rglob("*.tmp")) == []
        merge(shards)
        assert_same(shards, whole)

    def test_a_shard_that_was_run_again_replaces_its_part(
        self, three: Path, tmp_path: Path, copied: Callable[[Path, Path], Path], monkeypatch: Any
    ) -> None:
        from embedfleet.exporter.merging import plan
        from embedfleet.protocol.run_directory.records.shards import read_shards

        root = copied(three, tmp_path / "run")
        copied(three.with_name("three-parts"), tmp_path / "run-parts")
        monkeypatch.setattr(plan, "JOINED_BYTES", 1)  # so that each segment is one of a shard
        first = merge(root)
        record = read_shards(RunLayout(root))
        assert record is not None
        layout = RunLayout(root).shard(2)
        kept = {path.name: written(path) for path in (root / "chunks").glob("*.parquet")}
        shutil.rmtree(layout.root)
        make_shard(record, root, 2, SegmentLimits(rows=5))
        again = merge(root)
        assert again.changed
        assert 0 < again.copied < again.segments
        assert again.rows == first.rows
        stay = sum(kept.get(path.name) == written(path) for path in (root / "chunks").glob("*.parquet"))
        assert stay == again.segments - again.copied
        assert verify_run(root).problems == []

    def test_a_spec_without_one_of_the_vectors_takes_it_out(self, corpus: Path, shards: Path, tmp_path: Path) -> None:
        merge(shards)
        shutil.rmtree(shards / "shards")
        make_shards(spec_of(corpus, DENSE), shards, 3)
        merge(shards)
        assert not (shards / "vectors" / SPARSE.vector).exists()
        assert_same(shards, embed(spec_of(corpus, DENSE), tmp_path / "whole"))


def test_a_folder_with_files_of_another_run_is_left_alone(shards: Path) -> None:
    (shards / "spec.json").write_text("{}")
    with pytest.raises(RunDirectoryError, match=r"spec\.json, which is not of a merge"):
        merge(shards)
    assert read_merge(RunLayout(shards)) is None


def test_no_room_is_told_before_anything_is_written(shards: Path, monkeypatch: Any) -> None:
    from embedfleet.exporter.merging import merge as module

    monkeypatch.setattr(module.shutil, "disk_usage", lambda _path: type("Usage", (), {"free": 1_000})())
    with pytest.raises(UsageError, match="the disk has 1,000 free"):
        merge(shards)
    assert not (shards / "chunks").exists()
