from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedfleet.client.run_directory import edge_shard
from embedfleet.client.run_directory.files import count_lines
from embedfleet.client.verify.recount import verify_run
from embedfleet.protocol.errors import RunDirectoryError
from embedfleet.protocol.run_directory.records.manifest import digest_spec
from embedfleet.protocol.run_directory.tables import digest


@pytest.fixture
def files(run_files, tmp_path):
    return run_files.RunFiles(tmp_path / "run", sizes=(3, 4), quarantined=(4,), index="none").write()


def problems(files) -> str:
    report = verify_run(files.root)
    assert not report.ok
    return "\n".join(report.problems)


def replaced(table: pa.Table, name: str, values: list[object]) -> pa.Table:
    place = table.column_names.index(name)
    return table.set_column(place, table.schema.field(name), pa.array(values, table.schema.field(name).type))


def changed(table: pa.Table, name: str, place: int, value: object) -> pa.Table:
    values = table.column(name).to_pylist()
    values[place] = value
    return replaced(table, name, values)


def test_a_whole_run_is_ok(files, run_files):
    report = verify_run(files.root)
    assert report.problems == []
    assert report.notes == []
    assert (report.chunks, report.segments, report.rejected) == (7, 2, 1)
    dense, sparse = report.vectors[run_files.DENSE], report.vectors[run_files.SPARSE]
    assert (dense.rows, dense.segments, dense.quarantined, dense.dim) == (7, 2, 1, 4)
    assert (sparse.rows, sparse.dim) == (7, None)


def test_a_quarantined_sparse_row_is_ok(run_files, tmp_path):
    files = run_files.RunFiles(tmp_path / "run", sparse_quarantined=(0, 3), index="none").write()
    report = verify_run(files.root)
    assert report.problems == []
    assert report.vectors[run_files.SPARSE].quarantined == 2


def test_no_run_is_an_error(tmp_path):
    with pytest.raises(RunDirectoryError, match="not a run directory"):
        verify_run(tmp_path)


def test_a_flipped_bit_is_found_by_the_digest(files, run_files):
    table = files.dense_table(0)
    vectors = np.array(table.column("vector").to_pylist(), dtype=np.float32)
    vectors.view(np.uint32)[1, 2] ^= 1
    files.vector_segment(run_files.DENSE, 0, replaced(table, "vector", vectors.tolist()), digest=digest(table))
    found = problems(files)
    assert "vectors/dense-fake/00000.parquet: its content is not what was committed" in found
    assert len(found.splitlines()) == 1


def test_a_wrong_id_is_found(files, run_files):
    files.vector_segment(run_files.SPARSE, 1, changed(files.sparse_table(1), "id", 2, "c0"))
    assert "sparse-bm25/00001.parquet: row 5: id 'c0' where the chunk has 'c5'" in problems(files)


def test_crossed_rows_are_found(files, run_files):
    files.vector_segment(run_files.DENSE, 0, replaced(files.dense_table(0), "row", [0, 2, 1]))
    assert "row 1: row 2 where the chunk has 1, and 1 more rows alike" in problems(files)


def test_a_short_segment_is_found(files, run_files):
    files.vector_segment(run_files.DENSE, 1, files.dense_table(1).slice(0, 2))
    assert "has 2 rows; its chunk segment has 4" in problems(files)


def test_missing_segments_are_found(files, run_files):
    files.layout.vector_segment(run_files.DENSE, 1).unlink()
    assert "vectors/dense-fake: lacks segments 1 of 2; run the same command again" in problems(files)


def test_a_missing_chunk_segment_is_found(files):
    """Also the last one. The same command reads it again, and the vectors stay: nothing is to be deleted."""
    for segment, lacks in ((0, "0"), (1, "0-1")):
        files.layout.chunk_segment(segment).unlink()
        found = problems(files)
        assert (
            f"chunks: lacks segments {lacks}; run the same command again, which reads it from the source, and" in found
        )
        assert "delete" not in found
        assert "--restart" not in found


def test_a_segment_beyond_the_end_of_the_source_is_found(files, run_files):
    stray = files.layout.vector_segment(run_files.DENSE, 2)
    stray.write_bytes(files.layout.vector_segment(run_files.DENSE, 1).read_bytes())
    assert f"{stray}: has no chunk segment, since the source has only 2; move it away and" in problems(files)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_found(files, run_files, value):
    files.vector_segment(run_files.DENSE, 0, changed(files.dense_table(0), "vector", 1, [value, 0.0, 0.0, 1.0]))
    files.vector_segment(run_files.SPARSE, 0, changed(files.sparse_table(0), "values", 2, [value, 1.0]))
    found = problems(files)
    assert "row 1 (id 'c1'): NaN or infinity in the vector" in found
    assert "row 2 (id 'c2'): NaN or infinity in the values" in found


def test_a_wrong_norm_is_found_unless_the_model_does_not_normalize(files, run_files):
    files.vector_segment(run_files.DENSE, 0, changed(files.dense_table(0), "vector", 2, [2.0, 0.0, 0.0, 0.0]))
    assert "row 2 (id 'c2'): the vector has length 2.0000, not 1" in problems(files)
    about = json.loads(files.layout.pass_file(run_files.DENSE).read_text())
    files.layout.pass_file(run_files.DENSE).write_text(json.dumps({**about, "normalized": False}))
    assert verify_run(files.root).ok


def test_a_null_vector_needs_its_reason(files, run_files):
    files.vector_segment(run_files.DENSE, 0, changed(files.dense_table(0), "vector", 0, None))
    files.vector_segment(run_files.DENSE, 1, changed(files.dense_table(1), "error", 3, "odd"))
    found = problems(files)
    assert "row 0 (id 'c0'): has no vector and no reason" in found
    assert "row 6 (id 'c6'): is quarantined and yet has a vector" in found


def test_other_dimensions_are_found(files, run_files):
    other = run_files.RunFiles(files.root, sizes=files.sizes, quarantined=files.quarantined, dim=6)
    other.vector_segment(run_files.DENSE, 1, other.dense_table(1))
    assert "dense-fake/00001.parquet: its vectors have 6 dimensions, others of the pass 4" in problems(files)


@pytest.mark.parametrize("indices", [[9, 9], [9, 3]])
def test_unsorted_sparse_indices_are_found(files, run_files, indices):
    files.vector_segment(run_files.SPARSE, 0, changed(files.sparse_table(0), "indices", 2, indices))
    assert "row 2 (id 'c2'): indices do not strictly increase" in problems(files)


def test_uneven_sparse_rows_are_found(files, run_files):
    files.vector_segment(run_files.SPARSE, 0, changed(files.sparse_table(0), "values", 2, [1.0]))
    assert "row 2 (id 'c2'): indices and values differ in number" in problems(files)


def test_another_model_is_found(files, run_files):
    files.vector_segment(run_files.DENSE, 0, files.dense_table(0), fingerprint="0" * 64)
    assert "dense-fake/00000.parquet: computed by another model" in problems(files)
    files.layout.pass_file(run_files.DENSE).write_text("{")
    path = files.layout.pass_file(run_files.DENSE)
    assert f"{path}: cannot be read, so the model is unknown; delete {path} and the folder" in problems(files)


def test_a_footer_that_lies_is_found(files, run_files):
    files.vector_segment(run_files.DENSE, 0, files.dense_table(0), quarantined=2)
    assert "its footer says quarantined 2, the file itself 0" in problems(files)


@pytest.mark.parametrize("cut", [0, 3, 200, -1])
def test_a_torn_segment_is_a_problem_and_no_traceback(files, run_files, cut):
    for path in (files.layout.vector_segment(run_files.DENSE, 0), files.layout.chunk_segment(1)):
        path.write_bytes(path.read_bytes()[:cut])
    found = problems(files)
    assert "dense-fake/00000.parquet: not a whole segment" in found
    assert "chunks/00001.parquet: not a whole segment" in found
    assert "run the same command again" in found


def test_damaged_pages_are_a_problem_and_no_traceback(files, run_files):
    path = files.layout.vector_segment(run_files.DENSE, 0)
    whole = path.read_bytes()
    for place in range(4, len(whole) // 2, 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        verify_run(files.root)  # some of these bytes mean nothing; none may raise


def test_an_id_in_two_rows_is_found(files):
    files.chunk_segment(1, ids=["c3", "c0", "c5", "c6"])
    assert "chunks/00001.parquet: the id 'c0' stands in two rows" in problems(files)


def test_totals_of_the_manifest_are_compared(files):
    claimed = json.loads(files.layout.manifest.read_text())
    claimed["counts"]["chunks"] = 9
    claimed["passes"][0]["quarantined"] = 0
    files.layout.manifest.write_text(json.dumps(claimed))
    found = problems(files)
    assert "manifest.json: chunks 9, but the files have 8" in found
    assert "manifest.json: dense-fake: quarantined 0, but the files have 1" in found


def test_lost_rejected_records_are_found(files):
    files.layout.rejected_segment(0).unlink()
    assert "1 records were rejected before it, 0 are on file" in problems(files)
    files.layout.rejected_segment(0).write_text("{\n")
    assert "rejected.jsonl: not JSON objects" in problems(files)


def test_an_unfinished_run_says_so(files):
    files.layout.manifest.unlink()
    assert f"{files.layout.manifest}: not there, the run is not done; run the same command again" in problems(files)
    files.layout.intake.unlink()
    assert "the source was not read to its end" in problems(files)


def test_partial_files_are_noted(files, run_files):
    partial = files.layout.vector_folder(run_files.DENSE) / ".00000.parquet.tmp"
    partial.write_bytes(b"half")
    report = verify_run(files.root)
    assert report.ok
    assert str(partial) in report.notes[0]


@pytest.mark.parametrize("name", ["row", "id", "text", "metadata", "n_bytes"])
def test_a_changed_byte_of_any_chunk_column_is_found(files, name):
    path = files.layout.chunk_segment(1)
    with pq.ParquetFile(path) as file:
        group = file.metadata.row_group(0)
    (column,) = [one for one in map(group.column, range(5)) if one.path_in_schema == name]
    start = column.dictionary_page_offset or column.data_page_offset
    data = bytearray(path.read_bytes())
    data[start + column.total_compressed_size - 2] ^= 0x10
    path.write_bytes(data)
    assert f"{path}: torn or unreadable" in problems(files)


def test_chunks_that_do_not_fit_their_text_or_hold_no_metadata_are_found(files):
    files.chunk_segment(1, n_bytes=[6, 7, 6, 8], metadata=[None, "[1]", '{"a"', "{}"])
    found = problems(files)
    assert "row 4 (id 'c4'): `n_bytes` is not the length of its text, and 1 more rows alike; run the same" in found
    assert "row 4 (id 'c4'): its metadata is not a JSON object, and 1 more rows alike; run the same" in found
    files.chunk_segment(1, row=[3, 4, 6, 5])
    assert "row 6 (id 'c5'): its number is not the next one, and 1 more rows alike" in problems(files)


def test_a_chunk_segment_of_other_types_is_found(files):
    path = files.layout.chunk_segment(1)
    table = pq.read_table(path)
    place = table.column_names.index("n_bytes")
    pq.write_table(table.set_column(place, "n_bytes", table.column("n_bytes").cast(pa.string())), path)
    assert f"{path}: its column n_bytes is of string" in problems(files)


@pytest.mark.parametrize(
    ("name", "damaged"),
    [
        ("manifest.json", b'{"status": "done", "counts": null, "passes": []}'),
        ("manifest.json", b'{"status": "done", "counts": {"chunks": "8"}, "passes": []}'),
        ("manifest.json", b'{"status": "d\xffne"}'),
        ("intake/counts.json", b'{"segments": 2, "rows": 7, "rejected": 1, "duplicates": "none"}'),
        ("intake/counts.json", b"[]"),
        ("passes/dense-fake.json", b'{"fingerprint": 7}'),
        ("published.json", b'{"segments": {"0": 1'),
        ("published.json", b"\xff"),
    ],
)
def test_a_record_of_other_types_is_a_problem_and_no_traceback(files, name, damaged):
    files.layout.edge.mkdir()
    (files.layout.edge / "edge_config.json").write_text("{}")
    (files.root / name).write_bytes(damaged)
    assert f"{files.root / name}: " in problems(files)


def test_a_manifest_without_its_passes_is_a_problem(files):
    claimed = json.loads(files.layout.manifest.read_text())
    files.layout.manifest.write_text(json.dumps({**claimed, "passes": claimed["passes"][:1]}))
    assert "manifest.json: tells of the vectors dense-fake, the spec has dense-fake, sparse-bm25" in problems(files)
    del claimed["passes"]
    files.layout.manifest.write_text(json.dumps(claimed))
    assert f"{files.layout.manifest}: damaged" in problems(files)


def test_lines_are_counted_in_little_memory(tmp_path):
    path = tmp_path / "many.jsonl"
    path.write_text("".join(json.dumps({"record": number, "reason": "x" * 100}) + "\n" for number in range(20_000)))
    tracemalloc.start()
    try:
        assert count_lines(path) == 20_000
        assert tracemalloc.get_traced_memory()[1] < path.stat().st_size // 4
    finally:
        tracemalloc.stop()


def test_rejected_records_are_read_once(files, monkeypatch):
    read = []
    monkeypatch.setattr(
        "embedfleet.client.verify.chunk_recount.count_lines", lambda path: read.append(path) or count_lines(path)
    )
    assert verify_run(files.root).ok
    assert read == [files.layout.rejected_segment(0)]


@pytest.mark.parametrize(
    "damage", [Path.unlink, lambda path: path.write_bytes(b""), lambda path: path.write_text("{}")]
)
def test_stamps_of_the_source_that_are_gone_or_damaged_are_a_problem(files, damage):
    damage(files.layout.source)
    (problem,) = verify_run(files.root).problems
    assert problem.startswith(
        f"{files.layout.source}: gone or damaged; run the same command again: it makes it anew where"
    )


def test_limits_of_the_segments_that_are_gone_or_damaged_are_a_problem(files):
    files.layout.limits.write_text('{"rows": 1')
    (problem,) = verify_run(files.root).problems
    assert problem.startswith(f"{files.layout.limits}: damaged")
    files.layout.limits.unlink()
    assert verify_run(files.root).problems == [
        f"{files.layout.limits}: is gone; run the same command again, which writes it again"
    ]


def test_a_spec_that_was_changed_by_hand_is_a_problem(files):
    """Its source does not count: it is known by its content, and moves with the project."""
    claimed = json.loads(files.layout.manifest.read_text())
    claimed["spec_digest"] = digest_spec(files.spec)
    files.layout.manifest.write_text(json.dumps(claimed))
    files.layout.spec.write_bytes(files.layout.spec.read_bytes().replace(b"/corpus.jsonl", b"/elsewhere.jsonl"))
    assert verify_run(files.root).problems == []
    files.layout.spec.write_bytes(files.layout.spec.read_bytes().replace(b"fake:4", b"fake:5"))
    (problem,) = verify_run(files.root).problems
    assert problem.startswith(f"{files.layout.spec}: was changed after the run")
    assert problem.endswith("put it back as it was, or start over with --restart")


def test_a_pass_that_was_changed_by_hand_is_a_problem(files, run_files):
    claimed, path = json.loads(files.layout.manifest.read_text()), files.layout.pass_file(run_files.DENSE)
    claimed["passes"][0] |= {"model": "fake", "normalized": True}
    files.layout.manifest.write_text(json.dumps(claimed))
    assert verify_run(files.root).problems == []
    path.write_bytes(path.read_bytes().replace(b'"fake"', b'"another"'))
    (problem,) = verify_run(files.root).problems
    assert problem.startswith(
        f"{path}: model 'another', but manifest.json has 'fake'; put it back as it was, or delete"
    )


def test_summaries_that_are_cut_are_a_problem(files):
    assert not files.layout.stats.exists(), "figures are no part of the vectors"
    files.layout.stats.write_text('{"seconds": 1')
    files.layout.quarantine.write_text("{}\n{}\n")
    (problem,) = verify_run(files.root).problems
    assert problem.startswith(f"{files.layout.stats}: damaged")
    assert problem.endswith("delete it and run the same command again")
    files.layout.stats.unlink()
    assert verify_run(files.root).problems == []
    files.layout.quarantine.write_text("{}\n")
    (problem,) = verify_run(files.root).problems
    assert (
        problem
        == f"{files.layout.quarantine}: has 1 line, and the files have 2 in quarantine; run the same command again"
    )


def test_points_are_counted(files):
    pytest.importorskip("qdrant_edge")
    files.publish()
    report = verify_run(files.root)
    assert report.problems == []
    assert report.points == 7
    files.layout.published.write_text(json.dumps({"segments": [0]}))
    assert "holds 7 points; the published segments have 3 rows" in problems(files)


def test_a_collection_that_was_asked_for_and_is_gone_is_a_problem(tmp_path, run_files):
    files = run_files.RunFiles(tmp_path / "run").write()
    assert "the collection is missing" in problems(files)


@pytest.fixture
def published(run_files, tmp_path):
    """A run whose shard holds everything; one dense vector is missing, one sparse one is empty."""
    pytest.importorskip("qdrant_edge")
    files = run_files.RunFiles(tmp_path / "run", sizes=(3, 4), quarantined=(4,)).write()
    files.publish()
    assert verify_run(files.root).problems == []
    return files


def shard_file(files, pattern: str) -> Path:
    (path,) = files.layout.edge.glob(f"segments/*/{pattern}")
    return path


@pytest.mark.parametrize(
    ("pattern", "size", "said"),
    [
        ("segment.json", 9, "cannot be opened"),
        ("payload_storage/tracker.dat", 0, "cannot be opened"),
        ("vector_storage-dense-fake/deleted/status.dat", 0, "cannot be opened"),  # where the engine panics
        ("payload_storage/page_0.dat", None, "cannot be read back"),
        (
            "vector_storage-dense-fake/vectors/chunk_0.mmap",
            None,
            "holds 0 vectors dense-fake, the published segments 6",
        ),
        ("vector_storage-sparse-bm25/store/page_0.dat", None, "holds 0 vectors sparse-bm25, the published segments 6"),
    ],
)
def test_a_broken_shard_is_a_problem(published, pattern, size, said):
    """Cut to `size` bytes, or emptied by zeros."""
    path = shard_file(published, pattern)
    whole = path.stat().st_size
    os.truncate(path, size or 0)
    if size is None:
        os.truncate(path, whole)
    found = problems(published)
    assert said in found
    assert f"{published.layout.edge}: " in found
    assert "run the same command again" in found


def test_points_under_other_payloads_are_found(published):
    import qdrant_edge as edge
    from embedfleet.protocol.finished_run.point_ids import point_id

    shard = edge.EdgeShard.load(str(published.layout.edge))
    shard.update(edge.UpdateOperation.overwrite_payload([point_id("c2")], {"id": "c3", "row": 3}))
    shard.close()
    assert "qdrant: 1 points have another chunk's payload" in problems(published)


def test_a_shard_that_is_in_use_is_a_note(published, monkeypatch):
    monkeypatch.setattr(edge_shard, "PATIENCE", 0.0)
    with edge_shard.open_shard(published.layout):
        report = verify_run(published.root)
    assert report.ok
    assert report.points is None
    assert "points not counted" in report.notes[0]
    assert "in use by another process" in report.notes[0]
