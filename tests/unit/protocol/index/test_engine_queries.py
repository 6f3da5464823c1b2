from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from embedfleet.protocol.index.queries import (
    SparseQuery,
    drop_empty,
    metadata_filter,
    nearest_request,
    spellings,
    with_terms,
)
from embedfleet.protocol.vectors.metadata_terms import term_index

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
    only = metadata_filter(wanted, shard)
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
        ("caf\u00e9", ["caf\u00e9", "cafe\u0301"]),
        ("cafe\u0301", ["cafe\u0301", "caf\u00e9"]),
    ],
)
def test_spellings(value, expected):
    assert spellings(value) == expected


VALUES: list[Any] = [
    3, 3.0, "3", 3.5, -0.0, 2**53 + 1, 2**53 + 2, 2**63, 2**64 - 1, 1e300, 0.1 + 0.2, True, "True", None, [None], [],
    [1, 2.0, "x"], {"x": {"y": 1}}, [{"x": 1}, {"x": 2}], "", "9" * 5000, -(2**63), "null", "1e3", 1000, 2**70, "005",
    2**63 + 1, float(2**63), [{"deep": [2**64 - 2]}], {"a.b": 2**63 + 2},
    2**53, 1e17, 10**17, 10**17 + 1, -1e17, [1.0, 1e18], "caf\u00e9", ["cafe\u0301"],
    float(np.float32(0.1)), float(np.float16(0.1)), 0.1, [1, float(np.float32(-2.7e-5))], 1000.5, float(np.float32(2**25 + 3)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("v", "3", [0, 1, 2]),
        ("v", "3.0", [0, 1]),
        ("v", "+3", [0, 1]),
        ("v", "3e0", [0, 1]),
        ("v", "3.5", [3]),
        ("v", "-0", [4]),
        ("v", "0", [4]),
        ("v", "5e-324", []),  # the next double is 0
        ("v", "-5e-324", []),
        ("v", "9007199254740993", [5]),
        ("v", "9007199254740994", [6]),
        ("v", "9007199254740992", [31]),
        ("v", "9007199254740992.0", [5, 31]),  # as doubles
        ("v", "100000000000000000", [32, 33]),
        ("v", "100000000000000001", [34]),
        ("v", "-100000000000000000", [35]),
        ("v", "1000000000000000000", [36]),
        ("v", "9223372036854775808", [7, 28]),
        ("v", "9223372036854775809", [27]),
        ("v", "9223372036854775811", []),
        ("v[].deep", "18446744073709551614", [29]),
        ("v[0].deep[0]", "18446744073709551614", [29]),
        ("v[1].deep[0]", "18446744073709551614", []),
        ('v."a.b"', "9223372036854775810", [30]),
        ("v", "18446744073709551615", [8]),
        ("v", "-9223372036854775808", [21]),
        ("v", "1e300", [9]),
        ("v", "0.30000000000000004", [10]),
        ("v", "0.3", [10]),  # as near as the last bit
        ("v", "true", [11]),
        ("v", "True", [11, 12]),
        ("v", "TRUE", [11]),
        ("v", "null", [13, 14, 22]),
        ("v", "2", [16]),
        ("v", "x", [16]),
        ("v.x.y", "1", [17]),
        ("v[].x", "2", [18]),
        ("v", "", [19]),
        ("v", "9" * 5000, [20]),
        ("v", "1e3", [23, 24]),
        ("v", "1000", [24]),
        ("v", "1_000", []),
        ("v", "1180591620717411303424", [25]),
        ("v", "005", [26]),
        ("v", "nan", []),
        ("v", "1e999", []),
        ("größe", "3.5", [3]),
        ("v", "0.1", [39, 40, 41]),  # as float32 and float16 have it
        ("v", "+1e-1", [39, 40, 41]),
        ("v", "0.10000000149011612", [39]),
        ("v", "0.10000001", []),
        ("v", "-2.7e-05", [42]),
        ("v", "-0.000027", [42]),
        ("v", "1000.3", []),  # its nearest float16 is 1000.5
        ("v", "1000.5", [43]),
        ("v", "33554435", []),  # its nearest float32 is 33554436
        ("v", "33554436", [44]),
        ("v", "caf\u00e9", [37, 38]),
        ("v", "cafe\u0301", [37, 38]),
        ('"a=b"', "x", [3]),
    ],
)
def test_values_match_what_they_spell(tmp_path, key, value, expected):
    made = edge.EdgeShard.create(
        str(tmp_path),
        edge.EdgeConfig(vectors={"dense": edge.EdgeVectorParams(size=2, distance=edge.Distance.Cosine)}),
    )
    points = [
        edge.Point(row, {"dense": [1.0, 0.0]}, {"metadata": {"v": one, "größe": one, "a=b": "x" if row == 3 else "y"}})
        for row, one in enumerate(VALUES)
    ]
    made.update(edge.UpdateOperation.upsert_points(points))
    found = made.query(nearest_request("dense", DENSE, 100, False, metadata_filter([(key, value)], made)))
    made.close()
    assert sorted(point.id for point in found) == expected


def test_a_query_without_a_term_a_token_or_anything_but_zeros_asks_nothing():
    vectors = {"a": SparseQuery([], []), "b": SparseQuery([1], [1.0]), "c": np.empty((0, 4), np.float32), "d": DENSE}
    vectors |= {"e": np.zeros(2, np.float32), "f": np.zeros((3, 2), np.float32), "g": SparseQuery([1, 2], [0.0, 0.0])}
    assert list(drop_empty(vectors)) == ["b", "d"]


def test_the_words_of_a_query_come_after_the_models_indices():
    found = with_terms(SparseQuery([3, 9], [0.5, 0.25]), "Zebra")
    assert found.indices == [3, 9, term_index("zebra")]
    assert found.values == [0.5, 0.25, 1.0]
