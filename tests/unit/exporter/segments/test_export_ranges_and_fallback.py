"""ExportRuntime where a vector needs more than its rows: ranges for int8, and the metadata's weights for what failed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedfleet import open_run
from embedfleet.client.run_directory.info import describe_run
from embedfleet.client.verify.recount import verify_run
from embedfleet.exporter.segments import columns
from embedfleet.protocol.finished_run.points import read_points
from embedfleet.protocol.run_directory.segment_info import VectorSegmentInfo
from embedfleet.protocol.run_directory.tables import dense_vectors, digest, read_info, vector_schema, with_info
from embedfleet.protocol.spec.ensemble_spec import EnsembleSpec
from embedfleet.protocol.spec.int8_ranges import Int8Ranges
from embedfleet.protocol.spec.run_spec import PassSpec
from embedfleet.protocol.vectors.ensembles import combine
from embedfleet.protocol.vectors.metadata_terms import term_index
from embedfleet.protocol.vectors.storage import measure_ranges, pack, storage_of, unpack
from embedfleet.protocol.wire.export import Committed
from embedfleet.protocol.wire.work import RowError

from ....export_bench import DENSE, DIM, HEADS, OTHER, ROWS, Bench, vectors_of

BOTH = EnsembleSpec(vector="ensemble-concat", method="concat", members=("dense-a", "dense-b"), weights=(3.0, 1.0))

INT8 = PassSpec(vector="dense-a", kind="dense", model=f"fake:{DIM}", storage="int8")
INT8_B = PassSpec(vector="dense-b", kind="dense", model=f"fake:{DIM}", storage="int8")
METADATA = PassSpec(vector="sparse-metadata", kind="metadata", model="metadata")
SPARSE = PassSpec(vector="sparse-learned", kind="sparse", model="fake:sparse")


class TestRanges:
    """Each segment of int8 vectors has ranges of its own, and waits for nobody."""

    def test_a_segment_is_committed_as_soon_as_it_is_whole(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(INT8, segments=2)
        session = bench.begin()
        session.rows(1)
        assert session.hear(Committed).segment == 1
        path = bench.layout.vector_segment("dense-a", 1)
        np.testing.assert_allclose(dense_vectors(pq.read_table(path)), vectors_of(1), atol=0.005)
        info = read_info(path, VectorSegmentInfo)
        assert info.storage == "int8"
        assert 0.9996 <= (info.worst_cosine or 0) <= 1
        session.rows(0)
        session.hear(Committed)
        session.source_read(2)
        assert session.close().float16_segments == {}
        (record,) = json.loads(bench.layout.manifest.read_bytes())["passes"]
        assert record["float16_segments"] == 0
        worst = [read_info(path, VectorSegmentInfo).worst_cosine for path in bench.layout.vectors.glob("*/*.parquet")]
        assert record["worst_cosine"] == min(worst)
        assert "ranges" not in json.loads(bench.layout.pass_file("dense-a").read_bytes())
        assert verify_run(bench.root).notes == []

    def test_bytes_are_the_same_in_any_order_and_after_an_interruption(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(DENSE, INT8_B, segments=3)
        found: list[dict[int, bytes]] = []
        for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2)):
            for segment in order:
                session = bench.begin()
                session.rows(segment, number=1, errors=[RowError(1, "no luck")] if segment == 1 else [])
                session.hear(Committed)
                session.close("interrupted")
            paths = [bench.layout.vector_segment("dense-b", segment) for segment in range(3)]
            found.append({segment: path.read_bytes() for segment, path in enumerate(paths)})
            for path in paths:
                path.unlink()
        assert found == [found[0]] * 3

    def test_a_segment_that_int8_would_spoil_is_float16_and_counted(
        self, make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bench = make_bench(INT8, OTHER, segments=2, index="edge", ensembles=[BOTH])
        promise = columns.INT8_COSINE
        monkeypatch.setattr(columns, "INT8_COSINE", 1.1)  # nothing is so good
        session = bench.begin()
        session.rows(0)
        session.hear(Committed)
        monkeypatch.setattr(columns, "INT8_COSINE", promise)
        session.rows(1)
        session.hear(Committed)
        for segment in (0, 1):
            session.rows(segment, number=1)
            session.hear(Committed)
        session.source_read(2)
        closed = session.close()
        assert closed.float16_segments == {"dense-a": 1}
        assert closed.published == 2 * ROWS
        files = [pq.read_schema(bench.layout.vector_segment("dense-a", segment)) for segment in (0, 1)]
        assert [storage_of(one.field("vector")) for one in files] == ["float16", "int8"]
        record = json.loads(bench.layout.manifest.read_bytes())["passes"][0]
        assert (record["storage"], record["float16_segments"]) == ("int8", 1)
        described = describe_run(bench.root)["vectors"][0]
        assert (described["float16_segments"], described["worst_cosine"]) == (1, record["worst_cosine"])
        report = verify_run(bench.root)
        assert report.problems == []
        (note,) = report.notes
        assert "1 segment stored as float16, since int8 would be below a cosine of 0.9996" in note
        expected = np.concatenate([vectors_of(0), vectors_of(1)])
        np.testing.assert_allclose(open_run(bench.root).vectors("dense-a"), expected, atol=0.005)
        both = combine(BOTH, [open_run(bench.root).vectors(name) for name in ("dense-a", "dense-b")])
        np.testing.assert_allclose(open_run(bench.root).vectors("ensemble-concat"), both, atol=1e-6)
        exported = [
            one.vectors["dense-a"] for segment in (0, 1) for one in read_points(bench.layout, ["dense-a"], segment)
        ]
        np.testing.assert_array_equal(np.stack(exported), open_run(bench.root).vectors("dense-a"))

    def test_a_directory_of_the_first_release_goes_on_and_is_read(self, make_bench: Callable[..., Bench]) -> None:
        """There all segments have the ranges of `pass.json`, taken from the first rows; what lay outside was clipped."""
        bench = make_bench(INT8, segments=3)
        session = bench.begin()
        for segment in (0, 1):
            session.rows(segment)
            session.hear(Committed)
        session.close("interrupted")
        ranges = measure_ranges(0.5 * vectors_of(0))
        for segment in (0, 1):
            as_before(bench.layout.vector_segment("dense-a", segment), vectors_of(segment), ranges)
        path = bench.layout.pass_file("dense-a")
        path.write_text(json.dumps(json.loads(path.read_bytes()) | {"ranges": msgspec.to_builtins(ranges)}))
        before = [bench.layout.vector_segment("dense-a", segment).read_bytes() for segment in (0, 1)]
        closed = bench.finish()
        assert closed.committed == 3 * ROWS
        assert [bench.layout.vector_segment("dense-a", segment).read_bytes() for segment in (0, 1)] == before
        found = open_run(bench.root).vectors("dense-a")
        np.testing.assert_allclose(found[2 * ROWS :], vectors_of(2), atol=0.005)
        kept = unpack(pack(vectors_of(0), "int8", ranges), "int8", ranges)
        np.testing.assert_array_equal(found[:ROWS], kept)
        report = verify_run(bench.root)
        assert [one for one in report.problems if "length" not in one] == []
        (note,) = report.notes
        assert "values are at an end of the ranges that 0.1.0 took from the first rows" in note
        assert describe_run(bench.root)["vectors"][0]["worst_cosine"] is None


def as_before(path: Path, vectors: np.ndarray, ranges: Int8Ranges) -> None:
    """Rewrite an int8 segment with these ranges, as 0.1.0 wrote it."""
    table, info = pq.read_table(path), read_info(path, VectorSegmentInfo)
    schema = vector_schema("dense", DIM, "int8", ranges)
    flat = pa.array(pack(vectors, "int8", ranges).reshape(-1))
    parts = [table.column(name) for name in schema.names]  # there were no counts of tokens that were cut
    parts[schema.names.index("vector")] = pa.chunked_array([pa.FixedSizeListArray.from_arrays(flat, DIM)])
    made = pa.Table.from_arrays(parts, schema=schema)
    changed = msgspec.structs.replace(
        info, digest=digest(made), storage=None, worst_cosine=None, truncated=None, tokens_cut=None
    )
    pq.write_table(with_info(made, changed), path, write_page_checksum=True)


def weights(*terms: str) -> dict[str, Any]:
    listed = [{"term": term, "tf": 1, "weight": 2.0} for term in terms]
    return {"sparse_features": {"term_weights": listed}}


class TestHeads:
    """Three vectors of one pass, of which a row may lack one."""

    def test_what_a_row_lacks_is_counted_by_vector_and_once_by_row(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(HEADS, segments=1)
        session = bench.begin()
        late = [RowError(1, "too large", "multivector", too_large=True)]
        session.rows(0, [0, 1], errors=[*late, RowError(0, "no luck")])
        session.rows(0, [2, 3], errors=late)
        assert session.hear(Committed).quarantined == 3
        session.source_read(1)
        closed = session.close()
        assert (closed.committed, closed.quarantined) == (1, 3)
        assert closed.covered == {"dense-m3": 3, "sparse-m3": 3, "multivector-m3": 1}
        lines = [json.loads(line) for line in bench.layout.quarantine.read_text().splitlines()]
        assert [(one["vector"], one["row"], one["reason"]) for one in lines] == [
            ("dense-m3", 0, "no luck"),
            ("sparse-m3", 0, "no luck"),
            ("multivector-m3", 0, "no luck"),
            ("multivector-m3", 1, "too large"),
            ("multivector-m3", 3, "too large"),
        ]
        report = verify_run(bench.root)
        assert report.problems == []
        assert [count.quarantined for count in report.vectors.values()] == [1, 1, 3]
        vectors = open_run(bench.root).vectors("multivector-m3")
        assert np.diff(vectors.indptr).tolist() == [0, 0, 3, 0]

    def test_metadata_fills_the_sparse_one(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(HEADS, segments=1, metadata=[weights("cat"), {}])
        session = bench.begin()
        session.rows(0, [2, 3])
        session.give_up(0, [0, 1], "took its worker down")
        assert session.hear(Committed).quarantined == 2
        session.source_read(1)
        assert session.close().stood_in == {"sparse-m3": 1}
        (section,) = json.loads(bench.layout.manifest.read_bytes())["sparse_run"]
        assert [section[name] for name in ("vector", "live", "from_metadata", "without")] == ["sparse-m3", 2, 1, 1]
        assert verify_run(bench.root).problems == []


class TestFallback:
    """Weights of the chunk's metadata, where the model gave none."""

    def test_metadata_fills_what_a_model_could_not_do(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(SPARSE, segments=1, metadata=[{}, weights("cat"), {"sparse_features": {"term_weights": 7}}])
        session = bench.begin()
        session.rows(0, [3])
        session.fill(0, "the model cannot be loaded")
        assert session.hear(Committed).quarantined == 2
        table = pq.read_table(bench.layout.vector_segment("sparse-learned", 0))
        assert table.column("indices").to_pylist() == [None, [term_index("cat")], None, [0, 1, 2, 3]]
        assert table.column("stood_in").to_pylist() == [False, True, False, False]
        errors = table.column("error").to_pylist()
        assert errors[0] == "the model cannot be loaded"
        assert errors[2].startswith("the model cannot be loaded; metadata.sparse_features.term_weights is no list")
        info = read_info(bench.layout.vector_segment("sparse-learned", 0), VectorSegmentInfo)
        assert (info.stood_in, info.unusable) == (1, 1)

    def test_without_fallback_an_error_is_an_error(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(
            PassSpec(vector="s", kind="sparse", model="m", fallback=False), segments=1, metadata=[weights("a")]
        )
        session = bench.begin()
        session.fill(0, "the model cannot be loaded")
        assert session.hear(Committed).quarantined == ROWS

    def test_a_pass_of_metadata_alone(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(METADATA, segments=1, metadata=[weights("b", "a")])
        session = bench.begin()
        session.fill(0, "no model")
        assert session.hear(Committed).quarantined == 0, "no weights is an empty vector, which is the truth"
        closed = session.close()
        assert (closed.covered, closed.stood_in) == ({"sparse-metadata": 1}, {"sparse-metadata": 1})

    def test_a_row_that_was_given_up_before_keeps_its_reason(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(SPARSE, segments=1)
        session = bench.begin()
        session.give_up(0, [2], "took its worker down")
        session.fill(0, "the model cannot be loaded")
        assert session.hear(Committed).quarantined == ROWS
        errors = pq.read_table(bench.layout.vector_segment("sparse-learned", 0)).column("error").to_pylist()
        assert errors == ["took its worker down" if row == 2 else "the model cannot be loaded" for row in range(ROWS)]

    def test_a_committed_segment_is_not_filled_again(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(SPARSE, segments=1, metadata=[weights("cat")])
        session = bench.begin()
        session.rows(0)
        session.hear(Committed)
        before = bench.layout.vector_segment("sparse-learned", 0).stat()
        session.fill(0, "the model cannot be loaded")
        session.wait()
        assert bench.layout.vector_segment("sparse-learned", 0).stat() == before
        session.source_read(1)
        assert session.close().stood_in == {"sparse-learned": 0}
