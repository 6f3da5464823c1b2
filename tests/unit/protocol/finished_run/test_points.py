from __future__ import annotations

import uuid

import numpy as np
import pyarrow.parquet as pq
import pytest
from embedfleet.protocol.errors import RunDirectoryError
from embedfleet.protocol.finished_run.done_run import open_done_run
from embedfleet.protocol.finished_run.payload import RESERVED
from embedfleet.protocol.finished_run.points import read_points
from embedfleet.protocol.finished_run.published import segment_digest
from embedfleet.protocol.run_directory import segment_stream
from embedfleet.protocol.run_directory.vector_rows import SparseVector, VectorShape, read_vectors


@pytest.fixture
def files(run_files, tmp_path):
    return run_files.RunFiles(
        tmp_path / "run", sizes=(3, 4), quarantined=(4,), sparse_quarantined=(0,), multivector=True
    ).write()


def same(ours, theirs) -> bool:
    if isinstance(ours, SparseVector):
        return ours.indices.tolist() == theirs[0] and ours.values.tolist() == theirs[1]
    return np.array_equal(ours, theirs)


def test_points_hold_ids_payloads_and_vectors(files, run_files):
    run = open_done_run(files.root)
    points, names = list(run.points()), run.names
    assert [point.payload["row"] for point in points] == list(range(7))
    dense = run_files.dense_of(7)
    for row, point in enumerate(points):
        assert point.id == str(uuid.uuid5(uuid.NAMESPACE_URL, f"embedfleet:c{row}"))
        about = point.payload.pop(RESERVED)
        assert about == {"vectors": segment_digest(files.layout, names, 0 if row < 3 else 1)}
        assert point.payload == {"id": f"c{row}", "row": row, "text": f"text {row}", "metadata": {"n": row}}
        wanted = {run_files.DENSE: dense[row], run_files.MULTI: run_files.multi_of(row)} if row != 4 else {}
        if row not in (0, 1):  # 0 is quarantined, 1 has no term
            wanted[run_files.SPARSE] = run_files.sparse_of(row)
        assert point.vectors.keys() == wanted.keys()
        assert all(same(point.vectors[name], one) for name, one in wanted.items())


def test_number_formats_are_those_of_the_files(files, run_files):
    vectors = next(open_done_run(files.root).points()).vectors
    assert vectors[run_files.DENSE].dtype == np.float32
    assert vectors[run_files.MULTI].dtype == np.float16
    run = open_done_run(files.root)
    assert run.shapes() == {
        run_files.DENSE: VectorShape("dense", 4),
        run_files.SPARSE: VectorShape("sparse", 0),
        run_files.MULTI: VectorShape("multivector", 4),
    }


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_small_batches_hold_the_same(files, monkeypatch, rows):
    whole = list(open_done_run(files.root).points())
    monkeypatch.setattr(segment_stream, "MOST_ROWS", rows)
    for one, other in zip(whole, open_done_run(files.root).points(), strict=True):
        assert (one.id, one.payload, one.vectors.keys()) == (other.id, other.payload, other.vectors.keys())
        for name, vector in one.vectors.items():
            theirs = other.vectors[name]
            if isinstance(theirs, SparseVector):
                theirs = (theirs.indices.tolist(), theirs.values.tolist())
            assert same(vector, theirs)


def test_a_row_without_terms_is_not_a_quarantined_one(files, run_files):
    rows = list(read_vectors(files.layout.vector_segment(run_files.SPARSE, 0)))
    assert [row.vector is None for row in rows] == [True, False, False]
    assert len(rows[1].vector.indices) == 0


def test_large_rows_come_in_small_batches(tmp_path, monkeypatch):
    import pyarrow as pa

    path = tmp_path / "large.parquet"
    pq.write_table(pa.table({"text": ["x" * 10_000 + str(n) for n in range(100)]}), path, compression="none")
    monkeypatch.setattr(segment_stream, "BATCH_BYTES", 100_000)
    sizes = [batch.num_rows for batch in segment_stream.stream_batches(path, ["text"])]
    assert sum(sizes) == 100
    assert 5 <= max(sizes) <= 10


def test_crossed_rows_are_refused(files, run_files):
    files.vector_segment(run_files.SPARSE, 1, files.sparse_table(1).take([0, 2, 1, 3]))
    with pytest.raises(RunDirectoryError, match=r"00001\.parquet: has row 5 \(id 'c5'\) where the chunk is row 4"):
        list(read_points(files.layout, [run_files.SPARSE], 1))


def test_files_of_different_length_are_refused(files, run_files):
    files.vector_segment(run_files.SPARSE, 1, files.sparse_table(1).slice(0, 3))
    with pytest.raises(RunDirectoryError, match="segment 1 differ in their number of rows"):
        list(open_done_run(files.root).points())


def test_torn_and_foreign_files_are_named(files, run_files):
    path = files.layout.vector_segment(run_files.MULTI, 1)
    good = path.read_bytes()
    place = good.index(b"c5") - 20  # the page's header or values: the checksum or the decoder notices
    path.write_bytes(good[:place] + b"\xff" * 40 + good[place + 40 :])
    with pytest.raises(RunDirectoryError, match=r"multivector-fake/00001\.parquet: torn"):
        list(open_done_run(files.root).points())
    path.write_bytes(good[:-20])
    with pytest.raises(RunDirectoryError, match=r"multivector-fake/00001\.parquet: not a whole segment"):
        list(open_done_run(files.root).points())
    path.write_bytes(good)
    pq.write_table(pq.ParquetFile(path).read().drop_columns(["error"]), path)
    with pytest.raises(RunDirectoryError, match="its footer is not as it was written"):
        list(open_done_run(files.root).points())
    files.vector_segment(run_files.MULTI, 1, files.multi_table(1).drop_columns(["error"]), digest="0" * 64)
    with pytest.raises(RunDirectoryError, match="has no column error"):
        list(open_done_run(files.root).points())


def test_only_a_run_that_is_done_can_be_read(files, run_files, tmp_path):
    with pytest.raises(RunDirectoryError, match="not a run directory"):
        open_done_run(tmp_path)
    files.layout.vector_segment(run_files.DENSE, 1).unlink()
    with pytest.raises(RunDirectoryError, match="chunks and dense-fake differ in segment 1"):
        open_done_run(files.root)
    files.layout.manifest.unlink()
    with pytest.raises(RunDirectoryError, match="the run is not done"):
        open_done_run(files.root)
    files.layout.spec.write_text("{")
    with pytest.raises(RunDirectoryError, match=r"spec\.json: not a spec that this version reads"):
        open_done_run(files.root)


def test_an_empty_corpus_has_no_points(run_files, tmp_path):
    run = open_done_run(run_files.RunFiles(tmp_path / "empty", sizes=()).write().root)
    assert (list(run.points()), run.shapes(), run.fingerprints(), run.rows) == ([], {}, {}, 0)
