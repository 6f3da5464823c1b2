"""ExportRuntime in this process: what is on disk when it reports, what a later session finds, and how it ends."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from embedfleet.client.run_directory.reader import open_run
from embedfleet.exporter import commit_path
from embedfleet.exporter.segments import writer
from embedfleet.protocol.errors import ProtocolError, RunDirectoryError, SpecMismatch
from embedfleet.protocol.run_directory.segment_info import VectorSegmentInfo
from embedfleet.protocol.run_directory.tables import dense_vectors, digest, read_info
from embedfleet.protocol.run_directory.truncation import Truncation
from embedfleet.protocol.statistics.pass_statistics import PassStatistics
from embedfleet.protocol.statistics.pass_stats import describe_pass
from embedfleet.protocol.statistics.run_stats import as_values
from embedfleet.protocol.wire.export import (
    ChunksDamaged,
    Closed,
    Committed,
    ExportFailed,
    Record,
    ScrubbedMessage,
    SegmentDamagedMessage,
)
from embedfleet.protocol.wire.work import RowError

from ...export_bench import BM25, DENSE, HEADS, OTHER, ROWS, Bench, fingerprint, flip, vectors_of


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_segment_stands_when_it_is_reported_and_no_sooner(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    session = bench.begin()
    session.hear(ScrubbedMessage)
    assert session.runtime.take() == []
    session.rows(0, [2, 0])
    assert bench.standing() == []
    session.rows(0, [3, 1])
    done = session.hear(Committed)
    assert (done.number, done.segment, done.rows, done.quarantined) == (0, 0, ROWS, 0)
    path = bench.layout.vector_segment("dense-a", 0)
    table, info = pq.read_table(path), read_info(path, VectorSegmentInfo)
    assert dense_vectors(table).tobytes() == vectors_of(0).tobytes()
    assert table.column("id").to_pylist() == ["c0", "c1", "c2", "c3"]
    assert (info.digest, info.fingerprint, info.tokens) == (digest(table), fingerprint().digest(), 3 * ROWS)
    assert session.runtime.committed == ((0,),)


def test_a_row_is_given_up_with_its_reason(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(segments=1)
    session = bench.begin()
    session.rows(0, [0, 1], errors=[RowError(1, "not finite")])
    session.give_up(0, [3, 2], "takes its worker down")
    assert session.hear(Committed).quarantined == 3
    table = pq.read_table(bench.layout.vector_segment("dense-a", 0))
    reasons = [None, "not finite", "takes its worker down", "takes its worker down"]
    assert table.column("error").to_pylist() == reasons
    closed = session.close()
    assert (closed.chunks, closed.committed, closed.quarantined) == (4, 1, 3)
    assert [one["reason"] for one in records(bench.layout.quarantine)] == reasons[1:]


def test_what_is_committed_is_not_written_again(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    first = bench.begin()
    first.rows(0)
    first.hear(Committed)
    stamp = bench.layout.vector_segment("dense-a", 0).stat()
    first.rows(0)
    first.give_up(0, range(ROWS), "late")
    first.close("interrupted")
    second = bench.begin()
    assert second.runtime.committed == ((0,),)
    assert second.runtime.fingerprints == (fingerprint(),)
    second.rows(0)
    second.give_up(0, range(ROWS), "late")
    second.rows(1)
    assert second.hear(Committed).segment == 1
    assert second.close().committed == 2 * ROWS
    assert [one for one in second.heard if not isinstance(one, ScrubbedMessage)] == []
    assert bench.layout.vector_segment("dense-a", 0).stat().st_ino == stamp.st_ino


def test_a_result_that_does_not_fit_is_refused(make_bench: Callable[..., Bench]) -> None:
    session = make_bench().begin()
    with pytest.raises(ProtocolError, match="outside its segment"):
        session.give_up(0, [ROWS], "why")


def test_another_model_is_refused(make_bench: Callable[..., Bench]) -> None:
    session = make_bench().begin()
    with pytest.raises(SpecMismatch, match="pooling"):
        session.runtime.begin_pass(0, fingerprint(pooling="cls"))
    assert session.runtime.fingerprints == (fingerprint(),)


def test_events_are_lines_as_soon_as_they_come(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    session = bench.begin()
    session.runtime.record(Record("lease", 12.5, {"memory": {1: 2}, "path": bench.root}))
    line = {"time": 12.5, "event": "lease", "memory": {"1": 2}, "path": str(bench.root)}
    assert records(bench.layout.events) == [line]
    assert session.runtime.root == bench.root


def test_the_files_of_one_model_stand_before_its_segment_is_reported(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(HEADS, segments=1)
    session = bench.begin()
    session.rows(0)
    assert session.hear(Committed).rows == ROWS
    assert [bench.standing(one.vector) for one in HEADS.outputs] == [["00000.parquet"]] * 3
    tokens = pq.read_table(bench.layout.vector_segment("multivector-m3", 0)).column("vector").to_pylist()
    assert [len(one) for one in tokens] == [1, 2, 3, 4]
    assert session.close().covered == {"dense-m3": 4, "sparse-m3": 4, "multivector-m3": 4}
    passes = json.loads(bench.layout.manifest.read_bytes())["passes"]
    counted = [one.get("token_vectors") for one in passes]
    assert counted == [None, None, {"total": 10, "fewest": 1, "most": 4}]


class TestChunks:
    """A segment's results meet its chunks when it is committed."""

    def test_other_chunks_than_the_results_are_of_end_the_run(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench()
        session = bench.begin()
        path = bench.layout.chunk_segment(0)
        pq.write_table(pq.read_table(path).slice(1), path)
        session.rows(0)
        told = session.hear(ExportFailed).message
        assert f"{path} has 3 rows, the results {ROWS}; --restart starts over" in told
        assert bench.standing() == []

    def test_chunks_in_several_row_groups_are_one_segment(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(segments=1)
        session = bench.begin()
        path = bench.layout.chunk_segment(0)
        pq.write_table(pq.read_table(path), path, row_group_size=1)
        session.rows(0)
        session.hear(Committed)
        assert pq.read_table(bench.layout.vector_segment("dense-a", 0)).column("row").to_pylist() == [0, 1, 2, 3]


class TestEnd:
    """`close` leaves what the next session and people need."""

    def test_a_run_that_is_done_has_a_manifest(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(DENSE, BM25)
        closed = bench.finish()
        counts = ({"dense-a": 8, "sparse-bm25": 8}, {"sparse-bm25": 0})
        assert closed == Closed(8, 8, 0, 0, 0, *counts, truncation={"dense-a": Truncation(8, 0, 24, 0)})
        manifest = json.loads(bench.layout.manifest.read_bytes())
        assert (manifest["status"], manifest["run"], manifest["counts"]["committed"]) == ("done", "run-1", 8)
        assert json.loads(bench.layout.stats.read_bytes())["status"] == "done"
        assert bench.layout.quarantine.read_bytes() == b""

    def test_one_that_is_interrupted_has_none_and_keeps_what_is_whole(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench()
        session = bench.begin()
        session.rows(0)
        session.rows(1, [0, 1])
        assert session.close("interrupted").committed == ROWS
        assert [type(one) for one in session.heard if isinstance(one, Committed)] == [Committed]
        assert bench.standing() == ["00000.parquet"]
        assert not bench.layout.manifest.exists()
        assert json.loads(bench.layout.stats.read_bytes())["status"] == "interrupted"

    def test_the_directory_is_free_then(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench()
        bench.finish("interrupted")
        bench.begin()
        with pytest.raises(RunDirectoryError, match="another run is writing there"):
            bench.begin()

    def test_a_session_with_nothing_to_do_leaves_the_figures_of_the_one_before(
        self, make_bench: Callable[..., Bench]
    ) -> None:
        bench = make_bench()
        bench.finish()
        before = bench.layout.stats.read_bytes()
        assert b'"seconds": 9' not in before
        bench.begin().close(seconds=9)
        assert bench.layout.stats.read_bytes() == before
        bench.layout.vector_segment("dense-a", 1).unlink()
        bench.finish()
        assert bench.layout.stats.read_bytes() != before, "this one computed something"

    def test_the_figures_say_how_many_rows_each_pass_has(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench()
        session = bench.begin()
        session.rows(0)
        told = describe_pass("dense-a", "fake:4", 0, 0, PassStatistics())
        session.close("interrupted", passes=[as_values(told)])
        stats = json.loads(bench.layout.stats.read_bytes())
        assert [(one["vector"], one["chunks"]) for one in stats["passes"]] == [("dense-a", ROWS)]
        assert stats["export_seconds"]["commit"] > 0


class TestDisk:
    """The disk, or whatever else, refuses."""

    def test_it_is_told_once_and_nothing_is_committed_any_more(
        self, make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bench = make_bench(segments=3)
        session = bench.begin()
        session.rows(0)
        session.hear(Committed)

        def full(*_args: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(writer, "commit_file", full)
        session.rows(1)
        assert session.hear(ExportFailed).message == (
            f"{bench.root}: No space left on device; make room and run the same command again"
        )
        monkeypatch.undo()
        session.rows(2)
        session.give_up(2, range(ROWS), "late")
        session.source_read(3)
        assert session.close("failed").committed == ROWS
        assert [one for one in session.heard if isinstance(one, Committed | ExportFailed)] == []
        assert bench.standing() == ["00000.parquet"]
        assert bench.finish().committed == 3 * ROWS

    def test_a_failure_that_nobody_has_heard_of_yet_makes_no_manifest(
        self, make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The coordinator may say `done` before it reads that the last commit failed."""
        bench = make_bench(segments=1)
        session = bench.begin()
        monkeypatch.setattr(writer, "commit_file", lambda *_args: 1 / 0)
        session.rows(0)
        assert session.close("done").committed == 0
        assert session.hear(ExportFailed).message == f"{bench.root}: ZeroDivisionError: division by zero"
        assert not bench.layout.manifest.exists()

    def test_the_end_is_refused_too(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(segments=1)
        session = bench.begin()
        session.rows(0)
        bench.layout.stats.mkdir()
        with pytest.raises(IsADirectoryError):
            session.close()
        assert not bench.layout.manifest.exists()


def test_what_is_read_back_is_what_was_computed(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(DENSE, OTHER, segments=3)
    bench.finish()
    found = open_run(bench.root)
    for number, vector in enumerate(("dense-a", "dense-b")):
        expected = np.concatenate([vectors_of(segment, number) for segment in range(3)])
        assert found.vectors(vector).tobytes() == expected.tobytes()


def test_damage_is_not_reported_of_what_is_whole(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    bench.finish()
    session = bench.begin()
    session.hear(ScrubbedMessage)
    session.close()
    assert [one for one in session.heard if isinstance(one, SegmentDamagedMessage)] == []


def test_chunks_that_changed_name_no_vectors(make_bench: Callable[..., Bench]) -> None:
    """The ids come from the chunk segment, which nobody may have looked at yet."""
    bench = make_bench(segments=1)
    session = bench.begin()
    session.hear(ScrubbedMessage)
    flip(bench.layout.chunk_segment(0))
    session.rows(0)
    damaged = session.hear(ChunksDamaged)
    assert (damaged.segment, "CRC" in damaged.reason) == (0, True)
    assert bench.standing() == []


def test_nothing_is_made_of_a_segment_of_another_pass_before_it_is_looked_at(
    make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one pass goes on and commits while the other one's damaged segment is still to be read: no word of failure."""
    bench = make_bench(DENSE, OTHER, segments=1, index="edge")
    first = bench.begin()
    first.rows(0, number=0)
    first.hear(Committed)
    first.close("interrupted")
    flip(bench.layout.vector_segment(DENSE.vector, 0))
    looked_at = threading.Event()
    look = commit_path.scrub

    def later(*args: Any) -> Any:
        looked_at.wait(20)
        yield from look(*args)

    monkeypatch.setattr(commit_path, "scrub", later)
    second = bench.begin()
    second.rows(0, number=1)
    assert second.hear(Committed).number == 1
    looked_at.set()
    assert second.hear(SegmentDamagedMessage).segment == 0
    second.rows(0, number=0)
    assert second.hear(Committed).number == 0
    closed = second.close()
    assert (closed.committed, closed.published) == (ROWS, ROWS)
    assert not [one for one in second.heard if isinstance(one, ExportFailed)]
