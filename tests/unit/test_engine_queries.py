from __future__ import annotations

import numpy as np
import pytest
from embedfleet.protocol.engine_queries import (
    SparseQuery,
    drop_empty,
    metadata_filter,
    nearest_request,
    spellings,
    with_terms,
)
from embedfleet.protocol.terms import term_index

edge = pytest.importorskip("qdrant_edge")

METADATA = [
    {"kind": "even", "n": 0, "on": True},
    {"kind": "odd", "n": 1, "on": False},
    {"kind": "even", "n": 2, "on": True, "deep": {"x": "y"}},
    {"kind": "true", "n": 3, "on": "true"},
]
DENSE = np.array([1.0, 0.0], np.float32)


@pytest.fixture
def shard(tmp_path):
    vectors = {"dense": edge.EdgeVectorParams(size=2, distance=edge.Distance.Cosine)}
    made = edge.EdgeShard.create(
        str(tmp_path), edge.EdgeConfig(vectors=vectors, sparse_vectors={"sparse": edge.EdgeSparseVectorParams()})
    )
    points = [
        edge.Point(
            row,
            {"dense": [1.0, 0.1 * row], "sparse": edge.SparseVector([1, 2 + row], [1.0, 1.0])},
            {"metadata": one, "row": row},
        )
        for row, one in enumerate(METADATA)
    ]
    made.update(edge.UpdateOperation.upsert_points(points))
    yield made
    made.close()


@pytest.mark.parametrize(
    ("wanted", "rows"),
    [
        ([("kind", "even")], {0, 2}),
        ([("n", "1")], {1}),
        ([("on", "true")], {0, 2, 3}),
        ([("on", "False")], {1}),
        ([("kind", "even"), ("deep.x", "y")], {2}),
        ([("kind", "even"), ("n", "1")], set()),
        ([("absent", "1")], set()),
        ([], {0, 1, 2, 3}),
    ],
)
def test_a_filter_holds_in_every_signal(shard, wanted, rows):
    only = metadata_filter(wanted)
    for name, vector in {"dense": DENSE, "sparse": SparseQuery([1], [1.0])}.items():
        assert {point.id for point in shard.query(nearest_request(name, vector, 10, False, only))} == rows


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("json", ["json"]),
        ("True", ["True", True]),
        ("-7", ["-7", -7]),
        ("1.5", ["1.5"]),
        ("²", ["²"]),
        ("-", ["-"]),
        ("99999999999999999999", ["99999999999999999999"]),
    ],
)
def test_spellings(value, expected):
    assert spellings(value) == expected


def test_a_query_without_a_term_a_token_or_anything_but_zeros_asks_nothing():
    vectors = {"a": SparseQuery([], []), "b": SparseQuery([1], [1.0]), "c": np.empty((0, 4), np.float32), "d": DENSE}
    vectors |= {"e": np.zeros(2, np.float32), "f": np.zeros((3, 2), np.float32), "g": SparseQuery([1, 2], [0.0, 0.0])}
    assert list(drop_empty(vectors)) == ["b", "d"]


def test_the_words_of_a_query_come_after_the_models_indices():
    found = with_terms(SparseQuery([3, 9], [0.5, 0.25]), "Zebra")
    assert found.indices == [3, 9, term_index("zebra")]
    assert found.values == [0.5, 0.25, 1.0]
