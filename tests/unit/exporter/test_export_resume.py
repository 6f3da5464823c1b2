"""ExportRuntime over what an earlier session left: damage is found and made good, ensembles and the shard follow."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
from embedfleet.client.run_directory.edge_shard import open_shard
from embedfleet.client.verify.recount import verify_run
from embedfleet.exporter import commit_path
from embedfleet.exporter.index import shard
from embedfleet.exporter.run_directory import scrub
from embedfleet.protocol.run_directory.tables import dense_vectors
from embedfleet.protocol.spec.ensemble_spec import EnsembleSpec
from embedfleet.protocol.wire.export import (
    ChunksDamaged,
    Committed,
    ExportFailed,
    ScrubbedMessage,
    SegmentDamagedMessage,
)

from ...export_bench import BM25, DENSE, OTHER, ROWS, SECONDS, Bench, flip, vectors_of

BOTH = EnsembleSpec(vector="ensemble-concat", method="concat", members=("dense-a", "dense-b"), weights=(1.0, 1.0))


class Panic(BaseException):
    """As PyO3's own, which is no Exception."""


def test_a_damaged_segment_goes_and_is_computed_again(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(DENSE, OTHER)
    bench.finish()
    path = bench.layout.vector_segment("dense-b", 1)
    whole = path.read_bytes()
    flip(path)
    session = bench.begin()
    damaged = session.hear(SegmentDamagedMessage)
    assert (damaged.number, damaged.segment) == (1, 1)
    assert damaged.reason.startswith("dense-b: ")
    assert not path.exists(), "removed before anybody hears of it"
    assert session.runtime.committed == ((0, 1), (0,))
    session.hear(ScrubbedMessage)
    session.rows(1, number=1)
    assert session.hear(Committed).segment == 1
    assert session.close().committed == 2 * ROWS
    assert path.read_bytes() == whole
    assert verify_run(bench.root).ok


def test_the_word_of_a_damage_comes_before_results_are_taken(make_bench: Callable[..., Bench]) -> None:
    """Until `take` has handed it out, results for the segment are those of nobody: it counts as committed."""
    bench = make_bench()
    bench.finish()
    flip(bench.layout.vector_segment("dense-a", 0))
    session = bench.begin()
    session.wait()
    session.rows(0)
    assert session.runtime.committed == ((0, 1),)
    session.hear(SegmentDamagedMessage)
    assert session.runtime.committed == ((1,),)
    session.rows(0)
    assert session.hear(Committed).segment == 0


def test_damaged_chunks_are_told_and_nothing_is_made_of_them(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(DENSE, OTHER, ensembles=[BOTH])
    bench.finish()
    bench.layout.vector_segment(BOTH.vector, 1).unlink()
    flip(bench.layout.chunk_segment(1))
    session = bench.begin()
    damaged = session.hear(ChunksDamaged)
    assert damaged.segment == 1
    assert "torn or unreadable" in damaged.reason or "not a whole segment" in damaged.reason
    session.close("failed")
    assert session.heard == [], "what stands is not known to be whole"
    assert bench.standing(BOTH.vector) == ["00000.parquet"]


def test_a_run_that_ends_early_does_not_wait_for_the_look(
    make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stops between two segments: what was not looked at is left for the next session to look at."""
    bench = make_bench(segments=3)
    bench.finish("interrupted")
    looked: list[int] = []
    looking, closing = threading.Event(), threading.Event()

    def look(_layout: Any, segment: int) -> str:
        looked.append(segment)
        looking.set()
        assert closing.wait(SECONDS)
        return ""

    monkeypatch.setattr(scrub, "chunk_damage", look)
    session = bench.begin()
    told = session.runtime._path._closing
    begin = told.set
    monkeypatch.setattr(told, "set", lambda: (begin(), closing.set()))
    assert looking.wait(SECONDS)
    session.close("interrupted")
    assert looked == [0]
    assert session.heard == [], "it cannot say that all was looked at"
    assert bench.standing() == ["00000.parquet", "00001.parquet", "00002.parquet"]


@pytest.mark.parametrize("status", ["interrupted", "failed"])
@pytest.mark.parametrize("folder", ["vectors", "chunks"])
def test_a_run_that_ends_before_the_look_leaves_torn_footers_to_the_next(
    make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch, status: str, folder: str
) -> None:
    bench = make_bench()
    first = bench.begin()
    for segment in (0, 1):
        first.rows(segment, [0, 1, 2])
        first.give_up(segment, [3], "too long")
    first.source_read(2)
    assert first.close().quarantined == 2
    before = bench.layout.quarantine.read_bytes().splitlines(keepends=True)
    layout = bench.layout
    torn = layout.vector_segment("dense-a", 1) if folder == "vectors" else layout.chunk_segment(1)
    data = torn.read_bytes()
    torn.write_bytes(data[:-200] + bytes(192) + data[-8:])  # its end is that of a whole file
    monkeypatch.setattr(commit_path, "scrub", lambda *_: iter(()))
    closed = bench.begin().close(status)
    assert closed.committed == (ROWS - 1 if folder == "vectors" else 2 * (ROWS - 1))
    assert bench.layout.quarantine.read_bytes() == before[0]
    assert json.loads(bench.layout.stats.read_bytes())["status"] == status
    problem = bench.begin().close("done").problem
    aside = "passes/dense-a.00001.parquet.damaged" if folder == "vectors" else "intake/00001.parquet.damaged"
    assert f"{torn} is not the file that was committed (it is {aside} now)" in problem
    assert (layout.root / aside).exists()
    assert not layout.manifest.exists()


def test_an_ensemble_comes_with_the_last_of_its_members(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(DENSE, OTHER, ensembles=[BOTH])
    session = bench.begin()
    session.rows(0)
    session.hear(Committed)
    assert bench.standing(BOTH.vector) == []
    session.rows(0, number=1)
    session.hear(Committed)
    assert bench.standing(BOTH.vector) == ["00000.parquet"], "before the report"
    found = dense_vectors(pq.read_table(bench.layout.vector_segment(BOTH.vector, 0)))
    assert found.shape == (ROWS, 16)


@pytest.mark.parametrize("what", ["missing", "damaged"])
def test_an_ensemble_that_is_not_whole_is_derived_again(make_bench: Callable[..., Bench], what: str) -> None:
    bench = make_bench(DENSE, OTHER, ensembles=[BOTH])
    bench.finish()
    path = bench.layout.vector_segment(BOTH.vector, 0)
    whole = path.read_bytes()
    path.unlink() if what == "missing" else flip(path)
    session = bench.begin()
    session.hear(ScrubbedMessage)
    assert path.read_bytes() == whole
    session.close()
    assert session.heard == [], "no pass has anything to compute"
    assert verify_run(bench.root).ok


def test_an_ensemble_of_a_damaged_member_is_made_of_the_new_one(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(DENSE, OTHER, ensembles=[BOTH])
    bench.finish()
    flip(bench.layout.vector_segment("dense-a", 1))
    session = bench.begin()
    session.hear(SegmentDamagedMessage)
    assert not bench.layout.vector_segment(BOTH.vector, 1).exists(), "before another member can stand beside it"
    session.rows(1)
    session.hear(Committed)
    assert bench.layout.vector_segment(BOTH.vector, 1).exists()
    session.close()
    assert verify_run(bench.root).ok


@pytest.mark.parametrize("missing", [0, 1])
def test_what_lacks_its_chunks_waits_until_they_are_read_again(make_bench: Callable[..., Bench], missing: int) -> None:
    """They were set aside for damage. The intake removes those behind them too, while what stands is looked at."""
    bench = make_bench(DENSE, OTHER, index="edge", ensembles=[BOTH])
    bench.finish()
    bench.layout.published.unlink()
    for segment in (0, 1):
        bench.layout.vector_segment(BOTH.vector, segment).unlink()
    bench.layout.chunk_segment(missing).unlink()
    session = bench.begin()
    session.hear(ScrubbedMessage)
    assert bench.standing(BOTH.vector) == ["00000.parquet"][:missing]
    session.spool()
    session.source_read(2)
    session.wait()
    assert bench.standing(BOTH.vector) == ["00000.parquet", "00001.parquet"]
    assert session.close().published == 2 * ROWS
    assert session.heard == []
    assert verify_run(bench.root).ok


class TestShard:
    """The embedded collection, segment by segment."""

    @pytest.fixture(autouse=True)
    def _engine(self) -> None:
        pytest.importorskip("qdrant_edge")

    def published(self, bench: Bench) -> list[str]:
        return sorted(json.loads(bench.layout.published.read_bytes())["segments"])

    def test_a_segment_is_published_when_every_vector_stands(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(DENSE, BM25, index="edge")
        session = bench.begin()
        for number, segment in ((0, 0), (0, 1), (1, 1)):
            session.rows(segment, number=number)
            session.hear(Committed)
        session.wait()
        assert self.published(bench) == ["1"]
        session.rows(0, number=1)
        closed = session.close()
        assert closed.published == 2 * ROWS
        assert self.published(bench) == ["0", "1"]
        assert json.loads(bench.layout.manifest.read_bytes())["index"] == {"kind": "edge", "points": 2 * ROWS}
        assert json.loads(bench.layout.stats.read_bytes())["export_seconds"]["publish"] > 0

    def test_what_was_published_before_is_counted(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(index="edge")
        assert bench.finish().published == 2 * ROWS
        assert bench.begin().close().published == 2 * ROWS

    def test_a_damaged_segment_is_never_published(self, make_bench: Callable[..., Bench]) -> None:
        """It stood whole in one vector when the run was interrupted; its bit flips before the other is there."""
        bench = make_bench(DENSE, BM25, segments=1, index="edge")
        first = bench.begin()
        first.rows(0)
        first.close("interrupted")
        flip(bench.layout.vector_segment("dense-a", 0))
        session = bench.begin()
        session.hear(SegmentDamagedMessage)
        session.rows(0, number=1)
        session.hear(Committed)
        assert not bench.layout.published.exists()
        session.rows(0)
        session.hear(Committed)
        assert session.close().published == ROWS
        assert verify_run(bench.root).ok

    @pytest.mark.parametrize("kind", [RuntimeError, Panic])
    def test_a_shard_that_refuses_ends_the_run(
        self, make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
    ) -> None:
        bench = make_bench(segments=1, index="edge")
        session = bench.begin()

        def broken(*_args: Any) -> int:
            raise kind("the shard is locked")

        monkeypatch.setattr(session.runtime._path.publisher.index, "publish", broken)
        session.rows(0)
        assert session.hear(ExportFailed).message == f"{bench.root}: {kind.__name__}: the shard is locked"
        assert bench.standing() == ["00000.parquet"], "what is committed is committed"
        session.close("failed")
        assert bench.finish().published == ROWS

    def test_a_panic_of_the_engine_ends_the_run_as_well(
        self, make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class PanicException(BaseException):
            """As PyO3's, which no `except Exception` catches."""

        def panic(*_args: Any) -> int:
            raise PanicException("index out of bounds")

        bench = make_bench(segments=1, index="edge")
        session = bench.begin()
        monkeypatch.setattr(session.runtime._path.publisher.index, "publish", panic)
        session.rows(0)
        session.close()
        assert session.hear(ExportFailed).message == f"{bench.root}: PanicException: index out of bounds"
        assert not bench.layout.manifest.exists()
        assert bench.finish().published == ROWS

    def test_a_run_is_done_when_all_its_segments_are_in(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(DENSE, OTHER, segments=1, index="edge")
        session = bench.begin()
        session.rows(0)
        problem = session.close("done").problem
        assert (
            f"{bench.layout.vector_segment('dense-b', 0)} is gone; run the same command again, which computes it"
            in problem
        )
        assert not bench.layout.manifest.exists()

    @pytest.mark.parametrize("more", [False, True])
    def test_a_damaged_shard_is_made_anew(self, make_bench: Callable[..., Bench], more: bool) -> None:
        """Found by the count at the end, or by the first segment that is published."""
        bench = make_bench(index="edge")
        bench.finish()
        (about,) = bench.layout.edge.rglob("segment.json")
        about.write_bytes(bytes(about.stat().st_size))
        if more:
            bench.layout.vector_segment("dense-a", 1).unlink()
        assert bench.finish().published == 2 * ROWS
        assert self.published(bench) == ["0", "1"]
        assert verify_run(bench.root).ok

    def test_a_shard_that_another_process_holds_is_left_as_it_is(
        self, make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bench = make_bench(index="edge")
        bench.finish()
        monkeypatch.setattr(shard, "LOCK_SECONDS", 0.0)
        with open_shard(bench.layout):
            session = bench.begin()
            session.close()
        told = session.hear(ExportFailed).message
        assert f"{bench.layout.edge}: in use by another process" in told
        assert "run the same command again when it has ended" in told
        assert self.published(bench) == ["0", "1"]
        assert bench.finish().published == 2 * ROWS

    def test_a_shard_that_the_host_withholds_is_left_as_it_is(
        self, make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import qdrant_edge

        def full(_path: str) -> None:
            raise RuntimeError("failed to open WAL: No space left on device (os error 28)")

        bench = make_bench(index="edge")
        bench.finish()
        with monkeypatch.context() as patch:
            patch.setattr(qdrant_edge, "EdgeShard", SimpleNamespace(load=full))
            session = bench.begin()
            session.close()
        assert "No space left" in session.hear(ExportFailed).message
        assert self.published(bench) == ["0", "1"]
        assert bench.finish().published == 2 * ROWS

    def test_what_was_computed_again_is_published_again(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(index="edge")
        bench.finish()
        before = json.loads(bench.layout.published.read_bytes())["segments"]
        bench.layout.vector_segment("dense-a", 1).unlink()
        session = bench.begin()
        session.give_up(1, [0], "another fate")
        session.rows(1, [1, 2, 3])
        assert session.close().published == 2 * ROWS
        after = json.loads(bench.layout.published.read_bytes())["segments"]
        assert [after[name] == before[name] for name in ("0", "1")] == [True, False]


def test_vectors_are_those_of_their_own_segment(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(segments=3)
    bench.finish()
    for segment in range(3):
        found = dense_vectors(pq.read_table(bench.layout.vector_segment("dense-a", segment)))
        assert found.tobytes() == vectors_of(segment).tobytes()
