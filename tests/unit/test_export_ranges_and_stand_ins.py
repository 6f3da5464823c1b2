"""ExportRuntime where a vector needs more than its rows: ranges for int8, and the metadata's weights for what failed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from embedfleet import open_run
from embedfleet.client.verify import verify_run
from embedfleet.protocol.export_messages import Committed
from embedfleet.protocol.segments import VectorSegmentInfo, dense_vectors, read_info
from embedfleet.protocol.spec import PassSpec
from embedfleet.protocol.terms import term_index
from embedfleet.protocol.work_messages import RowError

from ..export_bench import DENSE, DIM, HEADS, ROWS, Bench, vectors_of

INT8 = PassSpec(vector="dense-a", kind="dense", model=f"fake:{DIM}", storage="int8")
INT8_B = PassSpec(vector="dense-b", kind="dense", model=f"fake:{DIM}", storage="int8")
METADATA = PassSpec(vector="sparse-metadata", kind="metadata", model="metadata")
SPARSE = PassSpec(vector="sparse-learned", kind="sparse", model="fake:sparse")


class TestRanges:
    """int8 vectors wait for the ranges that the first rows give."""

    def test_they_wait_until_the_source_is_read(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(INT8, segments=1)
        session = bench.begin()
        session.rows(0)
        session.runtime._committer.submit(lambda: None).result()
        assert bench.standing() == []
        session.source_read(1)
        session.hear(Committed)
        found = dense_vectors(pq.read_table(bench.layout.vector_segment("dense-a", 0)))
        np.testing.assert_allclose(found, vectors_of(0), atol=0.02)
        assert "ranges" in json.loads(bench.layout.pass_file("dense-a").read_bytes())

    def test_a_later_session_takes_the_ranges_that_stand(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(DENSE, INT8_B, segments=3)
        session = bench.begin()
        for segment in (0, 1):  # two held segments are enough, however few their rows
            session.rows(segment, number=1)
        assert {session.hear(Committed).segment for _ in range(2)} == {0, 1}
        before = bench.layout.pass_file("dense-b").read_bytes()
        session.close("interrupted")
        second = bench.begin()
        second.rows(2, number=1)
        assert second.hear(Committed).segment == 2
        assert bench.layout.pass_file("dense-b").read_bytes() == before


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

    def test_metadata_stands_in_for_the_sparse_one(self, make_bench: Callable[..., Bench]) -> None:
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


class TestStandIns:
    """Weights of the chunk's metadata, where the model gave none."""

    def test_metadata_stands_in_for_what_a_model_could_not_do(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(SPARSE, segments=1, metadata=[{}, weights("cat"), {"sparse_features": {"term_weights": 7}}])
        session = bench.begin()
        session.rows(0, [3])
        session.give_up(0, [0, 1, 2], "the model cannot be loaded")
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
        session.give_up(0, range(ROWS), "the model cannot be loaded")
        assert session.hear(Committed).quarantined == ROWS

    def test_a_pass_of_metadata_alone(self, make_bench: Callable[..., Bench]) -> None:
        bench = make_bench(METADATA, segments=1, metadata=[weights("b", "a")])
        session = bench.begin()
        session.give_up(0, range(ROWS), "no model")
        assert session.hear(Committed).quarantined == 0, "no weights is an empty vector, which is the truth"
        closed = session.close()
        assert (closed.covered, closed.stood_in) == ({"sparse-metadata": 1}, {"sparse-metadata": 1})
