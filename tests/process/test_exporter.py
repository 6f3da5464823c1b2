"""A real exporter process; the test is its coordinator and spools the chunks."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
import zmq
from embedfleet.coordinator.intake.loader import ChunkLoader, SegmentLimits
from embedfleet.coordinator.runs.exporter_process import ExporterProcess
from embedfleet.protocol.finished_run.point_ids import point_id
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.run_directory.segment_info import VectorSegmentInfo
from embedfleet.protocol.run_directory.tables import dense_vectors, digest, read_info
from embedfleet.protocol.run_directory.truncation import Truncation
from embedfleet.protocol.spec.fingerprint import Fingerprint
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec
from embedfleet.protocol.version import PROTOCOL
from embedfleet.protocol.wire import arrays
from embedfleet.protocol.wire.export import (
    BeginPass,
    Closed,
    CloseRunMessage,
    Committed,
    ExportFailed,
    FailedRows,
    Opened,
    OpenRefused,
    OpenRunMessage,
    PassRefused,
    Record,
    Rows,
)
from embedfleet.protocol.wire.work import RowError

DIM, ROWS = 4, 5
"""Rows of a full segment."""


def fingerprint(dim: int = DIM, **changed: Any) -> Fingerprint:
    values: dict[str, Any] = {
        "model": f"fake:{dim}" if dim else "bm25",
        "revision": "1",
        "weights": "",
        "dtype": "float32",
        "max_tokens": 512,
        "prompt": "",
        "pooling": "none",
        "dim": dim,
        "normalized": bool(dim),
        "versions": {},
    }
    return Fingerprint(**{**values, **changed})


def vectors_of(segment: int, rows: int = ROWS) -> np.ndarray:
    """Unit vectors, different for each segment, the same every time."""
    found = np.random.default_rng(segment).normal(size=(rows, DIM)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


class Bench:
    """A corpus of `rows` records in segments of ROWS, and a run directory for it."""

    def __init__(
        self, folder: Path, rows: int = 2 * ROWS, passes: Sequence[PassSpec] = (), index: str = "none"
    ) -> None:
        self.root, self.source, self.rows = folder / "run", folder / "corpus.jsonl", rows
        self.layout = RunLayout(self.root)
        lines = [json.dumps({"id": f"c{row}", "text": f"text of row {row}", "page": row}) for row in range(rows)]
        self.source.write_text("\n".join([*lines, "no json", lines[0]]) + "\n")
        chosen = tuple(passes) or (PassSpec(vector="dense-a", kind="dense", model="fake:4"),)
        self.spec = RunSpec(source=str(self.source), passes=chosen, index=index)

    def spool(self) -> None:
        """What the coordinator's intake does. After the exporter has taken the directory."""
        limits = SegmentLimits(rows=ROWS)
        ChunkLoader(self.spec, self.layout, limits, lambda _segment: None, lambda: False).load()

    def begin(self, make: Callable[[], Any], *, restart: bool = False) -> tuple[Any, Opened]:
        """An exporter that holds the directory and knows the models of all passes."""
        exporter = make()
        exporter.open(self.root, self.spec, restart=restart)
        opened = exporter.hear(Opened)
        self.spool()
        for number, one in enumerate(self.spec.passes):
            exporter.send(BeginPass(number, fingerprint(0 if one.kind == "bm25" else DIM)))
        return exporter, opened

    def standing(self, vector: str = "dense-a") -> list[str]:
        return sorted(path.name for path in self.layout.vector_folder(vector).glob("*.parquet"))


def send_rows(
    exporter: Any,
    segment: int,
    positions: Sequence[int],
    vectors: np.ndarray | None = None,
    *,
    number: int = 0,
    errors: Sequence[RowError] = (),
    rows: int = ROWS,
) -> None:
    """A batch's results: those of `positions`, from `vectors` of the whole segment."""
    chosen = (vectors_of(segment, rows) if vectors is None else vectors)[list(positions)]
    found = {
        "positions": np.array(positions, np.int32),
        "vector": chosen,
        "n_tokens": np.array([10 + position for position in positions], np.int32),
        "truncated": np.array([position == 0 for position in positions], np.uint8),
    }
    headers, frames = arrays.pack(found)
    exporter.send(Rows(number, segment, rows, headers, tuple(errors)), frames)


def send_sparse(exporter: Any, segment: int, number: int, rows: int = ROWS) -> None:
    """Sparse results of a whole segment: row r has r terms."""
    sizes = np.arange(rows)
    found = {
        "positions": np.arange(rows, dtype=np.int32),
        "offsets": np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        "indices": np.concatenate([np.arange(size) for size in sizes]).astype(np.uint32),
        "values": np.ones(sizes.sum(), np.float32),
        "n_tokens": np.full(rows, 3, np.int32),
        "truncated": np.zeros(rows, np.uint8),
    }
    headers, frames = arrays.pack(found)
    exporter.send(Rows(number, segment, rows, headers), frames)


def close(exporter: Any, status: str = "done") -> Closed:
    exporter.send(CloseRunMessage(status, "", {"seconds": 1.5}))
    while not isinstance((message := exporter.hear((Committed, Closed), 40)), Closed):
        pass
    assert exporter.exit_code() == 0
    return message


def caught_up(exporter: Any, bench: Bench, waiting: Any, mark: str) -> None:
    """Wait until everything sent so far has been taken: messages are taken in order, and a record shows at once."""
    exporter.send(Record("mark", 1.0, {"mark": mark}))
    events = bench.layout.events
    waiting.eventually(lambda: events.exists() and mark in events.read_text(), what="the mark in events.jsonl")


def test_a_segment_is_committed_only_when_it_is_whole(make_exporter: Any, tmp_path: Path, waiting: Any) -> None:
    bench = Bench(tmp_path)
    exporter, opened = bench.begin(make_exporter)
    assert opened.committed == ((),)
    assert opened.fingerprints == (None,)
    send_rows(exporter, 0, [4, 1])
    send_rows(exporter, 1, [0])
    send_rows(exporter, 0, [3])
    caught_up(exporter, bench, waiting, "first")
    assert bench.standing() == []
    send_rows(exporter, 0, [2, 0])
    committed = exporter.hear(Committed)
    assert (committed.number, committed.segment, committed.rows, committed.quarantined) == (0, 0, ROWS, 0)
    assert bench.standing() == ["00000.parquet"]
    table = pq.read_table(bench.layout.vector_segment("dense-a", 0))
    np.testing.assert_array_equal(dense_vectors(table), vectors_of(0))
    assert table.column("row").to_pylist() == [0, 1, 2, 3, 4]
    assert table.column("id").to_pylist() == [f"c{row}" for row in range(ROWS)]
    assert table.column("n_tokens").to_pylist() == [10, 11, 12, 13, 14]
    assert table.column("truncated").to_pylist() == [True, False, False, False, False]
    info = read_info(bench.layout.vector_segment("dense-a", 0), VectorSegmentInfo)
    assert (info.rows, info.first_row, info.tokens, info.fingerprint) == (ROWS, 0, 60, fingerprint().digest())
    assert info.digest == digest(table)


def test_two_exporters_cannot_hold_one_directory(make_exporter: Any, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    first, _ = bench.begin(make_exporter)
    second = make_exporter()
    second.open(bench.root, bench.spec)
    refused = second.hear(OpenRefused)
    assert refused.kind == "RunDirectoryError"
    assert "another run is writing there" in refused.message
    assert second.exit_code() == 0
    send_rows(first, 0, range(ROWS))
    first.hear(Committed)  # the first one is not disturbed


def test_another_spec_is_refused_by_the_fields_that_differ(make_exporter: Any, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    exporter, _ = bench.begin(make_exporter)
    send_rows(exporter, 0, range(ROWS))
    exporter.hear(Committed)
    close(exporter, "interrupted")
    other = RunSpec(
        source=bench.spec.source,
        passes=(PassSpec(vector="dense-a", kind="dense", model="fake:4", max_tokens=9),),
        index="none",
        limit=7,
    )
    second = make_exporter()
    second.open(bench.root, other)
    refused = second.hear(OpenRefused)
    assert refused.kind == "SpecMismatch"
    for part in ("limit: None → 7", "dense-a.max_tokens: None → 9", "--restart"):
        assert part in refused.message
    third = make_exporter()
    third.open(bench.root, other, restart=True)
    assert third.hear(Opened).committed == ((),)
    assert bench.standing() == []
    assert not bench.layout.chunks.joinpath("00000.parquet").exists()
    assert json.loads(bench.layout.spec.read_bytes())["limit"] == 7


def test_another_spec_is_taken_where_nothing_was_computed(make_exporter: Any, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    exporter, _ = bench.begin(make_exporter)
    close(exporter, "failed")
    other = RunSpec(source=bench.spec.source, passes=bench.spec.passes, index="none", limit=7)
    second = make_exporter()
    second.open(bench.root, other)
    second.hear(Opened)


def test_another_model_is_refused_by_the_fields_that_differ(make_exporter: Any, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    exporter, _ = bench.begin(make_exporter)
    exporter.send(BeginPass(0, fingerprint(versions={"torch": "other"})))  # recorded, not compared
    exporter.send(BeginPass(0, fingerprint(pooling="cls", max_tokens=128)))
    refused = exporter.hear(PassRefused)
    assert refused.number == 0
    for part in ("dense-a", "pooling", "max_tokens: 512 → 128"):
        assert part in refused.message


@pytest.mark.parametrize("what", ["a file", "not a run", "another protocol"])
def test_a_directory_that_cannot_be_used_is_refused(make_exporter: Any, tmp_path: Path, what: str) -> None:
    bench = Bench(tmp_path)
    exporter, protocol = make_exporter(), PROTOCOL
    if what == "a file":
        bench.root.write_text("mine")
    elif what == "not a run":
        bench.root.mkdir()
        (bench.root / "thesis.tex").write_text("mine")
    else:
        protocol = 99
    exporter.open(bench.root, bench.spec, protocol=protocol)
    refused = exporter.hear(OpenRefused)
    words = {"a file": "is a file", "not a run": "holds no run", "another protocol": "speaks protocol 99"}
    assert words[what] in refused.message
    assert refused.kind == ("ProtocolError" if what == "another protocol" else "RunDirectoryError")
    assert exporter.exit_code() == 0


def test_bad_rows_are_null_with_their_reason(make_exporter: Any, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    exporter, _ = bench.begin(make_exporter)
    vectors = vectors_of(0)
    vectors[1] = np.nan  # nobody said so
    vectors[2] *= 1.5
    vectors[3] = 0
    send_rows(exporter, 0, [4, 3, 2, 1, 0], vectors, errors=[RowError(0, "no luck")])
    assert exporter.hear(Committed).quarantined == 4
    table = pq.read_table(bench.layout.vector_segment("dense-a", 0))
    assert table.column("vector").is_null().to_pylist() == [False, True, True, True, True]
    errors = table.column("error").to_pylist()
    assert errors[0] is None
    assert all("not normalized" in errors[row] for row in (1, 2, 3))
    assert errors[4] == "no luck"
    np.testing.assert_array_equal(dense_vectors(table)[0], vectors[0])
    assert np.isnan(dense_vectors(table)[1:]).all()
    send_rows(exporter, 1, [0, 2, 4])
    exporter.send(FailedRows(0, 1, ROWS, (3, 1), "kills the model"))
    assert exporter.hear(Committed).quarantined == 2
    second = pq.read_table(bench.layout.vector_segment("dense-a", 1))
    assert second.column("error").to_pylist() == [None, "kills the model", None, "kills the model", None]
    closed = close(exporter)
    assert (closed.chunks, closed.committed, closed.quarantined) == (11, 4, 7)  # one record was no JSON
    lines = [json.loads(line) for line in bench.layout.quarantine.read_text().splitlines()]
    assert lines[0]["record"] == 11
    assert "not JSON" in lines[0]["reason"]
    assert [line["row"] for line in lines[1:]] == [1, 2, 3, 4, 6, 8]
    assert lines[4] == {
        "row": 4,
        "id": "c4",
        "vector": "dense-a",
        "reason": "no luck",
        "n_tokens": 14,
        "excerpt": "text of row 4",
    }
    assert (lines[5]["n_tokens"], lines[5]["estimated"]) == (5, True), "no tokenizer has told"


def test_a_result_that_does_not_fit_is_told(make_exporter: Any, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    exporter, _ = bench.begin(make_exporter)
    send_rows(exporter, 0, [ROWS], vectors_of(0, ROWS + 1))
    assert "outside its segment" in exporter.hear(ExportFailed).message


def test_resume_lists_what_stands_and_drops_what_is_torn(make_exporter: Any, tmp_path: Path) -> None:
    bench = Bench(tmp_path, rows=3 * ROWS)
    exporter, _ = bench.begin(make_exporter)
    for segment in range(3):
        send_rows(exporter, segment, range(ROWS))
        exporter.hear(Committed)
    close(exporter, "interrupted")
    torn = bench.layout.vector_segment("dense-a", 1)
    torn.write_bytes(torn.read_bytes()[:-100])
    stray = torn.with_name(".00002.parquet.tmp")
    stray.write_bytes(b"half")
    second, opened = bench.begin(make_exporter)
    assert opened.committed == ((0, 2),)
    assert opened.fingerprints == (fingerprint(),)
    assert not torn.exists()
    assert not stray.exists()
    send_rows(second, 0, range(ROWS))  # committed before: nothing to do
    send_rows(second, 1, range(ROWS))
    assert second.hear(Committed).segment == 1
    assert close(second).committed == 3 * ROWS
    whole = pq.read_table(torn)
    np.testing.assert_array_equal(dense_vectors(whole), vectors_of(1))


def test_sigkill_loses_nothing_acknowledged(make_exporter: Any, tmp_path: Path, waiting: Any) -> None:
    bench = Bench(tmp_path, rows=4 * ROWS)
    exporter, _ = bench.begin(make_exporter)
    for segment in (2, 0):
        send_rows(exporter, segment, range(ROWS))
        exporter.hear(Committed)
    send_rows(exporter, 1, [0, 1])
    caught_up(exporter, bench, waiting, "before the end")
    exporter.process.kill()
    assert exporter.exit_code() == -signal.SIGKILL
    second, opened = bench.begin(make_exporter)
    assert opened.committed == ((0, 2),)
    for segment in (1, 3):
        send_rows(second, segment, range(ROWS))
    assert close(second).committed == 4 * ROWS
    for segment in range(4):
        path = bench.layout.vector_segment("dense-a", segment)
        table = pq.read_table(path)
        np.testing.assert_array_equal(dense_vectors(table), vectors_of(segment))
        assert read_info(path, VectorSegmentInfo).digest == digest(table)


def test_a_run_that_is_done_leaves_manifest_stats_and_a_collection(make_exporter: Any, tmp_path: Path) -> None:
    passes = [
        PassSpec(vector="dense-a", kind="dense", model="fake:4"),
        PassSpec(vector="sparse-bm25", kind="bm25", model="bm25"),
    ]
    bench = Bench(tmp_path, rows=ROWS + 2, passes=passes, index="edge")
    exporter, _ = bench.begin(make_exporter)
    send_rows(exporter, 0, range(ROWS))
    send_sparse(exporter, 0, 1)
    send_sparse(exporter, 1, 1, rows=2)
    send_rows(exporter, 1, [1, 0], rows=2)
    closed = close(exporter)
    assert closed.publishing.rows == 7
    # These rows are as a worker of 0.1.0 sends them: it does not count the tokens that it cuts.
    assert closed.truncation == {"dense-a": Truncation(7, 2, 81, None)}
    assert msgspec.structs.replace(closed, publishing=None, truncation={}) == Closed(
        8, 7, 1, 1, published=7, covered={"dense-a": 7, "sparse-bm25": 7}, stood_in={"sparse-bm25": 0}
    )
    manifest = json.loads(bench.layout.manifest.read_bytes())
    assert manifest["status"] == "done"
    assert manifest["run"] == "run-1"
    assert manifest["counts"] == {
        "chunks": 8,
        "committed": 7,
        "quarantined": 1,
        "rejected": 1,
        "skipped_duplicates": 1,
    }
    assert [(one["vector"], one["rows"], one["dim"]) for one in manifest["passes"]] == [
        ("dense-a", 7, 4),
        ("sparse-bm25", 7, 0),
    ]
    assert manifest["index"] == {"kind": "edge", "points": 7}
    stats = json.loads(bench.layout.stats.read_bytes())
    assert (stats["status"], stats["seconds"]) == ("done", 1.5)
    assert json.loads(bench.layout.published.read_bytes())["segments"].keys() == {"0", "1"}
    import qdrant_edge

    shard = qdrant_edge.EdgeShard.load(str(bench.layout.edge))
    try:
        assert shard.info().points_count == 7
    finally:
        shard.close()
    again, opened = bench.begin(make_exporter)
    assert opened.committed == ((0, 1), (0, 1))
    assert close(again).published == 7
    assert json.loads(bench.layout.manifest.read_bytes())["index"] == {"kind": "edge", "points": 7}
    sparse = pq.read_table(bench.layout.vector_segment("sparse-bm25", 0))
    assert sparse.column("indices").to_pylist() == [list(range(row)) for row in range(ROWS)]


def test_a_segment_that_is_computed_again_is_published_again(make_exporter: Any, tmp_path: Path) -> None:
    import qdrant_edge

    bench = Bench(tmp_path, index="edge")
    exporter, _ = bench.begin(make_exporter)
    for segment in (0, 1):
        send_rows(exporter, segment, range(ROWS))
    assert close(exporter).published == 2 * ROWS
    before = json.loads(bench.layout.published.read_bytes())["segments"]
    bench.layout.vector_segment("dense-a", 1).unlink()
    second, opened = bench.begin(make_exporter)
    assert opened.committed == ((0,),)
    turned = vectors_of(1)[:, ::-1].copy()
    send_rows(second, 1, range(ROWS), turned)
    assert close(second).published == 2 * ROWS
    after = json.loads(bench.layout.published.read_bytes())["segments"]
    assert [after[name] == before[name] for name in ("0", "1")] == [True, False]
    shard = qdrant_edge.EdgeShard.load(str(bench.layout.edge))
    try:
        (point,) = shard.retrieve([point_id(f"c{ROWS}")], with_payload=False, with_vector=True)
    finally:
        shard.close()
    np.testing.assert_allclose(point.vector["dense-a"], turned[0], atol=1e-6)


def test_an_interrupted_run_has_no_manifest(make_exporter: Any, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    exporter, _ = bench.begin(make_exporter)
    send_rows(exporter, 0, range(ROWS))
    send_rows(exporter, 1, [0, 1])
    closed = close(exporter, "interrupted")
    assert closed.committed == ROWS
    assert not bench.layout.manifest.exists()
    assert json.loads(bench.layout.stats.read_bytes())["status"] == "interrupted"
    assert bench.standing() == ["00000.parquet"]


def test_a_manifest_goes_when_work_begins_again(make_exporter: Any, tmp_path: Path) -> None:
    bench = Bench(tmp_path, rows=ROWS)
    exporter, _ = bench.begin(make_exporter)
    send_rows(exporter, 0, range(ROWS))
    close(exporter)
    assert bench.layout.manifest.exists()
    bench.begin(make_exporter)
    assert not bench.layout.manifest.exists()


def test_a_disk_that_refuses_is_told(make_exporter: Any, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    exporter, _ = bench.begin(make_exporter)
    send_rows(exporter, 0, range(ROWS))
    exporter.hear(Committed)
    folder = bench.layout.vector_folder("dense-a")
    moved = folder.with_name("moved")
    folder.rename(moved)
    folder.write_text("a file where the folder was")
    send_rows(exporter, 1, range(ROWS))
    assert "Not a directory" in exporter.hear(ExportFailed).message
    folder.unlink()
    moved.rename(folder)
    exporter.send(CloseRunMessage("failed", "the disk", {}))
    assert exporter.hear(Closed).committed == ROWS
    assert exporter.exit_code() == 0
    assert not bench.layout.manifest.exists()
    _, opened = bench.begin(make_exporter)
    assert opened.committed == ((0,),)


def test_a_disk_that_refuses_the_record_of_a_pass_is_told(make_exporter: Any, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    exporter = make_exporter()
    exporter.open(bench.root, bench.spec)
    exporter.hear(Opened)
    shutil.rmtree(bench.layout.passes)
    bench.layout.passes.write_text("a file where the folder was")
    exporter.send(BeginPass(0, fingerprint()))
    assert "/passes/" in exporter.hear(ExportFailed).message


def test_a_disk_that_refuses_the_end_is_told(make_exporter: Any, tmp_path: Path) -> None:
    bench = Bench(tmp_path, rows=ROWS)
    exporter, _ = bench.begin(make_exporter)
    send_rows(exporter, 0, range(ROWS))
    exporter.hear(Committed)
    bench.layout.stats.mkdir()
    exporter.send(CloseRunMessage("done", "", {}))
    assert "stats.json" in exporter.hear(ExportFailed).message
    assert exporter.exit_code() == 0
    assert not bench.layout.manifest.exists()


@pytest.mark.timeout(30)
def test_the_coordinators_end_of_the_link_never_blocks(context: zmq.Context[Any], folder: Path) -> None:
    link = ExporterProcess(context, f"ipc://{folder}/link")
    try:
        for _ in range(1_000):  # nobody listens yet
            link.send(Record("early", 1.0, {}))
        link.process.kill()
        link.process.wait(10)
        for _ in range(1_000):  # nor will ever
            link.send(Record("late", 1.0, {}), [b"x" * 1_000])
    finally:
        link.end()
        link.wait()


@pytest.mark.timeout(30)
def test_nor_after_the_exporter_has_ended(
    context: zmq.Context[Any], folder: Path, tmp_path: Path, waiting: Any
) -> None:
    bench = Bench(tmp_path)
    bench.root.write_text("a file, so the exporter refuses and ends")
    link = ExporterProcess(context, f"ipc://{folder}/link")
    try:
        link.send(OpenRunMessage(1, "test", "run-1", str(bench.root), bench.spec, False))
        heard = waiting.eventually(lambda: list(link.receive()), what="the refusal")
        assert isinstance(heard[0], OpenRefused)
        assert link.process.wait(10) == 0
        for _ in range(1_000):
            link.send(Record("late", 1.0, {}), [b"x" * 1_000])
    finally:
        link.end()
        link.wait()


def test_events_are_lines(make_exporter: Any, tmp_path: Path) -> None:
    bench = Bench(tmp_path, rows=ROWS)
    exporter, _ = bench.begin(make_exporter)
    exporter.send(Record("lease", 12.5, {"phase": "before", "memory": {"used": 1}}))
    exporter.send(Record("note", 13.0, {"text": "ünïcödé"}))
    send_rows(exporter, 0, range(ROWS))
    close(exporter)
    lines = [json.loads(line) for line in bench.layout.events.read_text().splitlines()]
    assert lines[0] == {"time": 12.5, "event": "lease", "phase": "before", "memory": {"used": 1}}
    assert lines[1]["text"] == "ünïcödé"
