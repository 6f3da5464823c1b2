"""A real exporter process: int8 with ranges of each segment, and ensembles as part of it, through kills and resumes."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from embedfleet.client.verify.recount import verify_run
from embedfleet.protocol.errors import UsageError
from embedfleet.protocol.run_directory.segment_info import VectorSegmentInfo
from embedfleet.protocol.run_directory.tables import dense_vectors, read_info
from embedfleet.protocol.spec.ensemble_spec import EnsembleSpec
from embedfleet.protocol.spec.output_dims import output_dims
from embedfleet.protocol.spec.run_spec import PassSpec
from embedfleet.protocol.vectors.ensembles import combine
from embedfleet.protocol.wire.export import BeginPass, Committed, ExportFailed, ScrubbedMessage
from embedfleet.protocol.wire.work import RowError

from . import test_exporter as base
from .test_exporter import ROWS, Bench, close, fingerprint, send_rows, vectors_of

INT8 = (PassSpec(vector="dense-a", kind="dense", model="fake:4", storage="int8"),)
PAIR = tuple(PassSpec(vector=f"dense-{name}", kind="dense", model="fake:4") for name in "ab")


def about(bench: Bench, vector: str = "dense-a") -> dict[str, Any]:
    return json.loads(bench.layout.pass_file(vector).read_bytes())


def contents(bench: Bench) -> dict[str, bytes]:
    """Every segment of every vector."""
    root = bench.layout.vectors
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.glob("*/*.parquet"))}


def int8_run(make: Any, folder: Path, *, order: tuple[int, ...], kill_at: int | None) -> Bench:
    """Three small segments, one of them after a kill."""
    folder.mkdir()
    bench = Bench(folder, rows=3 * ROWS, passes=INT8)
    exporter, _ = bench.begin(make)
    for place, segment in enumerate(order):
        if place == kill_at:
            exporter.process.kill()
            assert exporter.exit_code() == -signal.SIGKILL
            exporter, opened = bench.begin(make)
            assert opened.committed == (tuple(sorted(order[:place])),)
        send_rows(exporter, segment, range(ROWS), errors=[RowError(1, "no luck")] if segment == 1 else [])
        assert exporter.hear(Committed).segment == segment
    close(exporter)
    return bench


def test_a_killed_and_resumed_run_has_the_same_int8(make_exporter: Any, tmp_path: Path) -> None:
    whole = int8_run(make_exporter, tmp_path / "whole", order=(0, 1, 2), kill_at=None)
    resumed = int8_run(make_exporter, tmp_path / "resumed", order=(2, 0, 1), kill_at=2)
    assert contents(whole) == contents(resumed)
    assert about(whole) == about(resumed)
    assert about(whole)["storage"] == "int8"
    report = verify_run(whole.root)
    assert (report.problems, report.notes) == ([], [])
    table = pq.read_table(whole.layout.vector_segment("dense-a", 1))
    expected = vectors_of(1)
    expected[1] = np.nan
    np.testing.assert_allclose(dense_vectors(table), expected, atol=0.005)


def ensemble_bench(folder: Path, method: Any = "concat", index: str = "none") -> Bench:
    bench = Bench(folder, passes=PAIR, index=index)
    one = EnsembleSpec(vector=f"ensemble-{method}", method=method, members=("dense-a", "dense-b"), weights=(3.0, 1.0))
    bench.spec = base.RunSpec(source=bench.spec.source, passes=PAIR, index=bench.spec.index, ensembles=(one,))
    return bench


@pytest.mark.parametrize("method", ["concat", "average"])
def test_an_ensemble_is_derived_when_its_members_stand(make_exporter: Any, tmp_path: Path, method: str) -> None:
    pytest.importorskip("qdrant_edge")
    bench = ensemble_bench(tmp_path, method, "edge")
    exporter, _ = bench.begin(make_exporter)
    name = f"ensemble-{method}"
    send_rows(exporter, 0, range(ROWS), errors=[RowError(1, "no luck")])
    exporter.hear(Committed)
    assert bench.standing(name) == []
    second = vectors_of(7)
    send_rows(exporter, 0, range(ROWS), second, number=1, errors=[RowError(2, "bad luck"), RowError(1, "bad luck")])
    exporter.hear(Committed)
    assert bench.standing(name) == ["00000.parquet"]  # before the member's segment is reported
    table = pq.read_table(bench.layout.vector_segment(name, 0))
    assert table.column("error").to_pylist() == [None, "no luck", "bad luck", None, None]
    assert table.column("n_tokens").to_pylist() == [10, 11, 12, 13, 14]
    expected = combine(bench.spec.ensembles[0], [vectors_of(0), second])
    expected[[1, 2]] = np.nan
    np.testing.assert_allclose(dense_vectors(table), expected, atol=1e-6)
    for number in range(2):
        send_rows(exporter, 1, range(ROWS), number=number)
        exporter.hear(Committed)
    closed = close(exporter)
    assert (closed.committed, closed.quarantined, closed.published) == (2 * ROWS - 2, 3, 2 * ROWS)
    assert verify_run(bench.root).problems == []
    record = about(bench, name)
    assert (record["method"], record["members"], record["kind"]) == (method, ["dense-a", "dense-b"], "ensemble")
    assert record["settings"] == {"dense-a": 0.75, "dense-b": 0.25}
    manifest = json.loads(bench.layout.manifest.read_bytes())
    assert [one["vector"] for one in manifest["passes"]] == ["dense-a", "dense-b", name]


def test_a_missing_ensemble_is_derived_again_without_any_worker(make_exporter: Any, tmp_path: Path) -> None:
    bench = ensemble_bench(tmp_path)
    exporter, _ = bench.begin(make_exporter)
    for segment in range(2):
        for number in range(2):
            send_rows(exporter, segment, range(ROWS), vectors_of(segment + 5 * number), number=number)
            exporter.hear(Committed)
    close(exporter)
    before = contents(bench)
    torn = bench.layout.vector_segment("ensemble-concat", 0)
    torn.write_bytes(torn.read_bytes()[:-9])
    bench.layout.vector_segment("ensemble-concat", 1).unlink()
    second = make_exporter()
    second.open(bench.root, bench.spec)
    assert second.hear(base.Opened).committed == ((0, 1), (0, 1))
    second.hear(ScrubbedMessage)
    close(second)
    assert contents(bench) == before
    assert verify_run(bench.root).problems == []


def test_an_ensemble_of_a_member_that_is_computed_again_is_derived_again(make_exporter: Any, tmp_path: Path) -> None:
    bench = ensemble_bench(tmp_path)
    exporter, _ = bench.begin(make_exporter)
    for number in range(2):
        send_rows(exporter, 0, range(ROWS), number=number)
        exporter.hear(Committed)
    close(exporter, "interrupted")
    bench.layout.vector_segment("dense-b", 0).unlink()
    second, opened = bench.begin(make_exporter)
    assert opened.committed == ((0,), ())
    # What was made of the lost one is gone before another one can stand beside it.
    assert bench.standing("ensemble-concat") == []
    second.hear(ScrubbedMessage)
    send_rows(second, 0, range(ROWS), vectors_of(9), number=1)
    second.hear(Committed)
    table = pq.read_table(bench.layout.vector_segment("ensemble-concat", 0))
    expected = combine(bench.spec.ensembles[0], [vectors_of(0), vectors_of(9)])
    np.testing.assert_allclose(dense_vectors(table), expected, atol=1e-6)
    info = read_info(bench.layout.vector_segment("ensemble-concat", 0), VectorSegmentInfo)
    assert info.fingerprint == about(bench, "ensemble-concat")["fingerprint"]
    close(second, "interrupted")


def test_a_disk_that_refuses_the_ensemble_is_told(make_exporter: Any, tmp_path: Path) -> None:
    bench = ensemble_bench(tmp_path)
    exporter, _ = bench.begin(make_exporter)
    send_rows(exporter, 0, range(ROWS))
    exporter.hear(Committed)
    shutil.rmtree(bench.layout.passes)
    send_rows(exporter, 0, range(ROWS), number=1)
    assert "ensemble-concat" in exporter.hear(ExportFailed).message


def test_members_of_unequal_dimensions_cannot_be_averaged(make_exporter: Any, tmp_path: Path) -> None:
    bench = ensemble_bench(tmp_path, "average")
    fingerprints = {0: fingerprint(4), 1: fingerprint(6)}
    with pytest.raises(UsageError, match="dense-a has 4, dense-b has 6"):
        output_dims(bench.spec, fingerprints)
    exporter = make_exporter()
    exporter.open(bench.root, bench.spec)
    exporter.hear(base.Opened)
    bench.spool()
    for number, one in fingerprints.items():
        exporter.send(BeginPass(number, one))
    send_rows(exporter, 0, range(ROWS))
    assert "dense-a has 4, dense-b has 6" in exporter.hear(ExportFailed).message
