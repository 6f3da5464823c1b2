from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from embedfleet.protocol.index.metadata_filter import MetadataFilter, comparable, metadata_filter, spellings
from embedfleet.protocol.index.queries import SparseQuery, nearest_request

edge = pytest.importorskip("qdrant_edge")

METADATA = [
    {"kind": "even", "n": 0, "on": True},
    {"kind": "odd", "n": 1, "on": False},
    {"kind": "even", "n": 2, "on": True, "deep": {"x": "y"}},
    {"kind": "true", "n": 3, "on": "true"},
]
DENSE = np.array([1.0, 0.0], np.float32)


def equal(key: str, *values: str) -> MetadataFilter:
    return MetadataFilter(key, values)


def shard_of(folder: Any, metadata: list[Any]) -> Any:
    """A shard with a point for each of the metadata, whose ids are their places."""
    vectors = {"dense": edge.EdgeVectorParams(size=2, distance=edge.Distance.Cosine)}
    made = edge.EdgeShard.create(str(folder), edge.EdgeConfig(vectors=vectors))
    points = [edge.Point(row, {"dense": [1.0, 0.0]}, {"metadata": one}) for row, one in enumerate(metadata)]
    made.update(edge.UpdateOperation.upsert_points(points))
    return made


def rows_of(shard: Any, *wanted: MetadataFilter) -> list[int]:
    found = shard.query(nearest_request("dense", DENSE, 1000, False, metadata_filter(wanted, shard)))
    return sorted(point.id for point in found)


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
    only = metadata_filter([equal(*one) for one in wanted], shard)
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
    metadata = [{"v": one, "größe": one, "a=b": "x" if row == 3 else "y"} for row, one in enumerate(VALUES)]
    made = shard_of(tmp_path, metadata)
    assert rows_of(made, equal(key, value)) == expected
    made.close()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (("even", "odd"), [0, 1, 2]),
        (("1", "true"), [1, 3]),
        (("nobody",), []),
    ],
)
def test_any_of_several_values_may_match(tmp_path, values, expected):
    made = shard_of(
        tmp_path, [one | {"either": one["n"] if row == 1 else one["kind"]} for row, one in enumerate(METADATA)]
    )
    assert rows_of(made, equal("either", *values)) == [row for row in expected if row != 1 or "1" in values]
    many = [str(number) for number in range(5_000)]
    assert rows_of(made, equal("n", *many, "null", "2.0")) == [0, 1, 2, 3]
    made.close()


SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}


def number_holds(value: Any, relation: str, bound: str) -> bool:
    """As Python compares them: whole numbers exactly; fractions as doubles, of which the last bit does not count."""
    if isinstance(value, list):
        return any(number_holds(one, relation, bound) for one in value if not isinstance(one, list))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if re.fullmatch(r"[+-]?\d+", bound):
        return SIGNS[relation](value, int(bound))
    double, limit = float(value), float(bound)
    if not (limit.is_integer() and abs(limit) <= 2**53) and abs(double - limit) <= math.ulp(limit):
        return "=" in relation
    as_short = not limit.is_integer() and double in (float(np.float32(limit)), float(np.float16(limit)))
    return SIGNS[relation](double, limit) or ("=" in relation and as_short)


BOUNDS = (
    "3", "+3", "-0", "0", "2", "3.5", "3.0", "0.3", "0.1", "1000", "1000.5", "1e3", "9007199254740991", "9007199254740992",
    "9007199254740993", "9007199254740994", "-9223372036854775808", "9223372036854775807", "9223372036854775808",
    "9223372036854775809", "18446744073709551615", "100000000000000000", "100000000000000001", "-100000000000000000", "1e17",
    "1e300", "-1e300", "1180591620717411303424", "-2.7e-05", "33554436",
)  # fmt: skip


def test_ranges_of_numbers_are_those_of_python(tmp_path):
    made = shard_of(tmp_path, [{"v": one} for one in VALUES])
    found = 0
    for bound in BOUNDS:
        for relation in SIGNS:
            expected = [row for row, one in enumerate(VALUES) if number_holds(one, relation, bound)]
            assert rows_of(made, MetadataFilter("v", (bound,), relation)) == expected, (relation, bound)  # pyright: ignore[reportArgumentType] - a relation
            found += len(expected)
    made.close()
    assert found > 1000


def test_both_ends_of_a_range(tmp_path):
    made = shard_of(
        tmp_path, [{"n": number} for number in range(100)] + [{"n": [5, 200]}, {}, {"n": None}, {"n": "50"}]
    )
    both = (MetadataFilter("n", ("40",), ">="), MetadataFilter("n", ("43.5",), "<"))
    assert rows_of(made, *both) == [40, 41, 42, 43, 100], (
        "of a list, one element may be within one end, another in the other"
    )
    assert rows_of(made, *both, equal("n", "41", "7")) == [41]
    made.close()


DATES: list[Any] = [
    "2024-01-31", "2024-01-31T23:59:59.5Z", "2024-02-01", "2023-12-31 10:00:00", "2024-02-01T00:30:00+01:00",
    ["2020-01-01", "2024-06-01"], "2024-01-31T10:00:00", "2024-01-31 10:00", "1969-07-20T20:17:40Z", "2024-02-29",
    "2023-02-29", "2024-02-30", "soon", "", 2024, 2025.5, None, True, "2024-01", "20240131", {"year": 2024},
    ["soon", "2024-12-31"],
]  # fmt: skip


def instants(value: Any) -> list[datetime]:
    found: list[datetime] = []
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, str) and re.match(r"\d{4}-\d\d-\d\d", one):
            try:
                read = datetime.fromisoformat(one)
            except ValueError:
                continue
            found.append(read if read.tzinfo else read.replace(tzinfo=UTC))
    return found


@pytest.mark.parametrize(
    ("bound", "first", "last"),
    [
        ("2024-01-31", (2024, 1, 31), (2024, 1, 31, 23, 59, 59, 999_999)),
        ("2024-02", (2024, 2, 1), (2024, 2, 29, 23, 59, 59, 999_999)),
        ("2023", (2023, 1, 1), (2023, 12, 31, 23, 59, 59, 999_999)),
        ("2024", (2024, 1, 1), (2024, 12, 31, 23, 59, 59, 999_999)),
        ("2024-01-31T10:00:00Z", (2024, 1, 31, 10), (2024, 1, 31, 10)),
        ("2024-01-31T11:00+01:00", (2024, 1, 31, 10), (2024, 1, 31, 10)),
        ("1969-07-20 20:17:40.5", (1969, 7, 20, 20, 17, 40, 500_000), (1969, 7, 20, 20, 17, 40, 500_000)),
        ("0001-01-01", (1, 1, 1), (1, 1, 1, 23, 59, 59, 999_999)),
        ("9999-12-31", (9999, 12, 31), (9999, 12, 31, 23, 59, 59, 999_999)),
    ],
)
def test_ranges_of_dates_are_those_of_python(tmp_path, bound, first, last):
    made = shard_of(tmp_path, [{"d": one} for one in DATES])
    begin, end = datetime(*first, tzinfo=UTC), datetime(*last, tzinfo=UTC)
    for relation, edge_of, sign in (
        (">", end, operator.gt),
        (">=", begin, operator.ge),
        ("<", begin, operator.lt),
        ("<=", end, operator.le),
    ):
        expected = [
            row
            for row, one in enumerate(DATES)
            if any(sign(at, edge_of) for at in instants(one))
            or (len(bound) == 4 and number_holds(one, relation, bound))
        ]
        assert rows_of(made, MetadataFilter("d", (bound,), relation)) == expected, relation  # pyright: ignore[reportArgumentType] - a relation
    made.close()


def test_what_a_range_may_find_at_all(tmp_path):
    made = shard_of(tmp_path, [{"n": 1, "d": "2024-01-31", "t": "x", "b": True}])
    for key, bound, there in (
        ("n", "1", True), ("n", "2024-01", False), ("n", "2024", True), ("d", "2024", True), ("d", "1", False),
        ("d", "2024-01", True), ("t", "2024", False), ("b", "1", False), ("none", "1", False),
    ):  # fmt: skip
        count = made.count(edge.CountRequest(exact=True, filter=comparable(key, bound)))
        assert bool(count) == there, (key, bound)
    made.close()
