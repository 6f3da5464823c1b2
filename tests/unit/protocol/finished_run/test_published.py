from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from embedfleet.client.run_directory.edge_shard import published_digests, published_segments
from embedfleet.client.verify.recount import verify_run
from embedfleet.exporter.index import edge_index
from embedfleet.exporter.index.edge_index import EdgeIndex
from embedfleet.protocol.errors import RunDirectoryError
from embedfleet.protocol.finished_run.point_batches import BatchLimits
from embedfleet.protocol.finished_run.point_ids import point_id

edge = pytest.importorskip("qdrant_edge")


@pytest.fixture
def files(run_files, tmp_path):
    files = run_files.RunFiles(tmp_path / "run", sizes=(3, 4)).write()
    assert publish(files, run_files) == [3, 4]
    return files


def publish(files, run_files) -> list[int]:
    """Publish all segments, as a session does that finds them standing: how many points each wrote."""
    index = EdgeIndex(files.layout, files.spec)
    try:
        return [index.publish(segment, {run_files.DENSE: 4, run_files.SPARSE: 0}) for segment in range(2)]
    finally:
        index.close()


def compute_again(files, run_files, segment: int) -> None:
    """The segment's dense file is another one, in which row 0 of the segment is in quarantine and the rest is turned."""
    table = files.dense_table(segment)
    vectors = [None, *(one[::-1] for one in table.column("vector").to_pylist()[1:])]
    for name, values in {"vector": vectors, "error": ["kills the model"] + [None] * (table.num_rows - 1)}.items():
        place = table.column_names.index(name)
        field = table.schema.field(name)
        table = table.set_column(place, field, pa.array(values, field.type))
    files.vector_segment(run_files.DENSE, segment, table)


def in_shard(files, row: int) -> dict:
    shard = edge.EdgeShard.load(str(files.layout.edge))
    try:
        (record,) = shard.retrieve([point_id(f"c{row}")], with_payload=True, with_vector=True)
    finally:
        shard.close()
    return record.vector


def test_what_was_computed_again_is_published_again(files, run_files):
    assert publish(files, run_files) == [0, 0]
    compute_again(files, run_files, 1)
    assert publish(files, run_files) == [0, 4]
    assert run_files.DENSE not in in_shard(files, 3), "its vector is in quarantine now"
    assert np.allclose(in_shard(files, 4)[run_files.DENSE], run_files.dense_of(7)[4][::-1], atol=1e-6)
    assert publish(files, run_files) == [0, 0]


def test_bare_numbers_of_an_earlier_version_are_published_again(files, run_files):
    files.layout.published.write_text('{"segments": [0, 1]}')
    assert published_segments(files.layout) == [0, 1]
    assert any("does not say which vectors of segments 0-1" in note for note in verify_run(files.root).notes)
    assert publish(files, run_files) == [3, 4]
    assert publish(files, run_files) == [0, 0]
    assert all(len(one) == 16 for one in json.loads(files.layout.published.read_bytes())["segments"].values())


def test_verify_names_the_segments_whose_vectors_differ(files, run_files):
    assert verify_run(files.root).problems == []
    compute_again(files, run_files, 1)
    found = "\n".join(verify_run(files.root).problems)
    assert "qdrant: holds other vectors of segments 1 than the files; run the same command again" in found


def test_a_damaged_file_is_told_to_readers_and_made_again_by_the_writer(files, run_files):
    files.layout.published.write_text("{")
    with pytest.raises(RunDirectoryError, match=r"published\.json: cannot be read"):
        published_digests(files.layout)
    assert publish(files, run_files) == [3, 4]


def test_points_go_to_the_engine_so_many_bytes_at_once(run_files, tmp_path, monkeypatch):
    files = run_files.RunFiles(tmp_path / "run", sizes=(6,), dim=32, multivector=True).write()
    # 32 numbers of the dense vector and, row by row, 1, 2 and 3 tokens of as many
    monkeypatch.setattr(edge_index, "AT_ONCE", BatchLimits(points=512, bytes=11_000, number_bytes=40))
    given: list[int] = []

    class Counted:
        def __init__(self, shard) -> None:
            self.flush, self._shard = shard.flush, shard

        def update(self, operation) -> None:
            self._shard.update(operation)
            given.append(self._shard.info().points_count)

    index = EdgeIndex(files.layout, files.spec)
    opened = index._open
    monkeypatch.setattr(index, "_open", lambda dims: Counted(opened(dims)))
    assert index.publish(0, {run_files.DENSE: 32, run_files.SPARSE: 0, run_files.MULTI: 32}) == 6
    assert given == [2, 4, 6]
