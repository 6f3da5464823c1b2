from __future__ import annotations

import json

import embedfleet
import numpy as np
import pytest
from embedfleet.client.run_directory.info import describe_run
from embedfleet.client.run_directory.reader import SparseVectors, open_run
from embedfleet.protocol.errors import RunDirectoryError, UsageError


@pytest.fixture
def files(run_files, tmp_path):
    return run_files.RunFiles(tmp_path / "key=value", sizes=(3, 2, 4), quarantined=(4,)).write()


def test_everything_comes_back_in_row_order(files, run_files):
    run = embedfleet.open_run(files.root)
    assert run.complete
    assert run.root == files.root
    assert run.spec == files.spec
    assert run.vector_names == (run_files.DENSE, run_files.SPARSE)
    assert run.ids == [f"c{row}" for row in range(9)]
    assert run.chunks.column("row").to_pylist() == list(range(9))
    assert run.chunks.column_names == ["row", "id", "text", "metadata", "n_bytes"]
    dense = run.vectors()
    assert dense.dtype == np.float32
    expected = run_files.dense_of(9)
    expected[4] = np.nan
    np.testing.assert_array_equal(dense, expected)


def test_sparse_vectors_are_csr(files, run_files):
    sparse = open_run(files.root).vectors(run_files.SPARSE)
    assert isinstance(sparse, SparseVectors)
    assert (sparse.indptr.dtype, sparse.indices.dtype, sparse.values.dtype) == (np.int64, np.uint32, np.float32)
    assert sparse.indptr.tolist() == [0, 2, 2, 4, 6, 8, 10, 12, 14, 16]
    for row in (0, 1, 3, 8):
        part = slice(sparse.indptr[row], sparse.indptr[row + 1])
        assert (sparse.indices[part].tolist(), sparse.values[part].tolist()) == run_files.sparse_of(row)


def test_a_quarantined_sparse_row_is_empty(run_files, tmp_path):
    files = run_files.RunFiles(tmp_path / "run", sparse_quarantined=(0, 3), stood_in=(2, 4)).write()
    sparse = open_run(files.root).vectors(run_files.SPARSE)
    assert isinstance(sparse, SparseVectors)
    assert sparse.stood_in.tolist() == [False, False, True, False, True]
    assert sparse.indptr.tolist() == [0, 0, 0, 2, 2, 4]
    assert sparse.indices.tolist() == [5, 102, 5, 104]


def test_quarantine_names_rows_and_rejected_records(files, run_files):
    assert open_run(files.root).quarantine == [
        {"row": 4, "id": "c4", "vector": run_files.DENSE, "reason": "kills the model"},
        {"file": "corpus.jsonl", "record": 9, "reason": "no text"},
    ]


def test_a_folder_without_a_spec_is_no_run(tmp_path):
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(RunDirectoryError, match="not a run directory"):
            open_run(path)
    (tmp_path / "spec.json").write_text("{")
    with pytest.raises(RunDirectoryError, match=r"spec\.json: not a spec"):
        open_run(tmp_path)


def test_missing_segments_are_named(files, run_files):
    files.layout.manifest.unlink()
    for segment in (0, 1):
        files.layout.vector_segment(run_files.DENSE, segment).unlink()
    run = open_run(files.root)
    assert not run.complete
    assert len(run.ids) == 9
    with pytest.raises(RunDirectoryError, match="dense-fake lacks segments 0-1 of 3; run the same command again"):
        run.vectors()
    assert isinstance(run.vectors(run_files.SPARSE), SparseVectors)


def test_an_unfinished_intake_is_not_taken_for_the_whole(files):
    files.layout.manifest.unlink()
    files.layout.intake.unlink()
    with pytest.raises(RunDirectoryError, match="not read to its end"):
        open_run(files.root).vectors()


def test_a_lost_chunk_segment_is_named(files):
    files.layout.chunk_segment(1).unlink()
    with pytest.raises(RunDirectoryError, match="lacks segments 1"):
        _ = open_run(files.root).ids


def test_torn_files_are_named(files, run_files):
    for vector in (run_files.DENSE, run_files.SPARSE):
        path = files.layout.vector_segment(vector, 1)
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(RunDirectoryError, match=r"00001\.parquet: torn"):
            open_run(files.root).vectors(vector)


def test_a_segment_with_other_rows_is_refused(files, run_files):
    files.vector_segment(run_files.DENSE, 1, files.dense_table(2))
    files.vector_segment(run_files.SPARSE, 1, files.sparse_table(2))
    for vector in (run_files.DENSE, run_files.SPARSE):
        with pytest.raises(RunDirectoryError, match=r"00001\.parquet"):
            open_run(files.root).vectors(vector)


def test_a_vector_that_is_not_there(files):
    with pytest.raises(UsageError, match="'nope'; this run has dense-fake, sparse-bm25"):
        open_run(files.root).vectors("nope")


def test_a_description_is_json(files):
    described = json.loads(json.dumps(describe_run(files.root)))
    assert described["status"] == "done"
    assert described["chunks"]["rows"] == 9
    dense, sparse = described["vectors"]
    assert (dense["rows"], dense["quarantined"], dense["dim"], sparse["dim"]) == (9, 1, 4, None)
    assert dense["bytes"] > 0
    files.layout.manifest.unlink()
    assert describe_run(files.root)["status"] == "interrupted"
