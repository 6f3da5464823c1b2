"""Metadata weights fill rows where a sparse model gave none, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedfleet.exporter.segments.builder import SegmentBuilder
from embedfleet.exporter.segments.metadata_weights import fill_from_metadata
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.spec.run_spec import Output, PassSpec
from embedfleet.protocol.vectors.metadata_terms import term_index
from embedfleet.protocol.wire.work import RowError

WEIGHTS = json.dumps({"sparse_features": {"term_weights": [{"term": "fox", "weight": 2.0}]}})
METADATA = [WEIGHTS, WEIGHTS, json.dumps({"page": 1}), None]
"""Of four chunks."""
SPARSE = PassSpec(vector="sparse-a", kind="sparse", model="a")
METADATA_PASS = PassSpec(vector="sparse-a", kind="metadata", model="metadata")


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    found = RunLayout(tmp_path)
    found.chunks.mkdir()
    pq.write_table(pa.table({"metadata": pa.array(METADATA, pa.string())}), found.chunk_segment(0))
    return found


def builder(errors: dict[int, str]) -> SegmentBuilder:
    """Each row has the model's weight 1 of term 5, but for those with an error."""
    made = SegmentBuilder(4, [Output("sparse-a", "sparse", "sparse")], [0])
    arrays: dict[str, Any] = {
        "positions": np.arange(4),
        "offsets": np.arange(5),
        "indices": np.full(4, 5, np.uint32),
        "values": np.ones(4, np.float32),
        "n_tokens": np.ones(4),
        "truncated": np.zeros(4),
    }
    made.add(arrays, [RowError(row, reason) for row, reason in errors.items()])
    return made


def rows(made: SegmentBuilder) -> list[tuple[Any, Any, bool, Any]]:
    table = made.table(0, pa.array(range(4)), pa.array(list("abcd")))
    return [tuple(one[name] for name in ("indices", "values", "stood_in", "error")) for one in table.to_pylist()]


def test_rows_that_the_model_failed_get_the_metadatas_weights(layout: RunLayout) -> None:
    made = builder({1: "no luck", 2: "no luck", 3: "no luck"})
    fill_from_metadata(layout, SPARSE, 0, made)
    assert rows(made) == [
        ([5], [1.0], False, None),
        ([term_index("fox")], [2.0], True, None),
        (None, None, False, "no luck"),
        (None, None, False, "no luck"),
    ]
    assert made.from_metadata == {1}


def test_where_metadata_is_all_that_was_asked_for_a_row_without_is_empty(layout: RunLayout) -> None:
    made = builder(dict.fromkeys(range(4), "the weights are those of the metadata"))
    fill_from_metadata(layout, METADATA_PASS, 0, made)
    assert [(indices is not None, stood_in, error) for indices, _, stood_in, error in rows(made)] == [
        (True, True, None),
        (True, True, None),
        (True, False, None),
        (True, False, None),
    ]


TORN = json.dumps({"sparse_features": {"term_weights": [{"term": "fox", "weight": 1e300}]}})
PART = json.dumps({"sparse_features": {"term_weights": [{"term": "fox", "weight": 2.0}, {"term": "dog"}]}})


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (METADATA_PASS, "metadata.sparse_features.term_weights[0] has the weight 1e+300, which float32 does not keep"),
        (SPARSE, "no luck; metadata.sparse_features.term_weights[0] has the weight 1e+300"),
    ],
)
def test_weights_that_cannot_be_used_are_counted_and_named(tmp_path: Path, one: PassSpec, reason: str) -> None:
    layout = RunLayout(tmp_path)
    layout.chunks.mkdir()
    pq.write_table(pa.table({"metadata": pa.array([WEIGHTS, TORN, PART, PART])}), layout.chunk_segment(0))
    made = builder(dict.fromkeys(range(3), "no luck"))
    fill_from_metadata(layout, one, 0, made)
    assert list(made.errors[0]) == [1]
    assert made.errors[0][1].startswith(reason)
    assert (made.from_metadata, made.unusable) == ({0, 2}, {1, 2})
    assert rows(made)[2][1] == [2.0]


def test_nothing_is_read_where_the_model_did_its_work(tmp_path: Path) -> None:
    fill_from_metadata(RunLayout(tmp_path / "nowhere"), SPARSE, 0, builder({}))


def test_other_forms_have_no_fallback(tmp_path: Path) -> None:
    made = SegmentBuilder(1, [Output("dense-a", "dense", "dense")], [2])
    made.give_up(np.array([0], np.int32), "no luck")
    fill_from_metadata(RunLayout(tmp_path / "nowhere"), SPARSE, 0, made)
    assert made.errors == ({0: "no luck"},)


HEADS_PASS = PassSpec(vector="heads-a", kind="bge-m3", model="a")


def test_of_three_heads_the_sparse_one_alone_has_a_fallback(layout: RunLayout) -> None:
    made = SegmentBuilder(4, HEADS_PASS.outputs, [2, 0, 2])
    made.give_up(np.arange(4, dtype=np.int32), "no luck")
    fill_from_metadata(layout, HEADS_PASS, 0, made)
    assert [list(errors) for errors in made.errors] == [[0, 1, 2, 3], [2, 3], [0, 1, 2, 3]]
    assert (made.from_metadata, made.quarantined) == ({0, 1}, 4)
    table = made.table(1, pa.array(range(4)), pa.array(list("abcd")))
    assert table.column("indices").to_pylist() == [[term_index("fox")], [term_index("fox")], None, None]
