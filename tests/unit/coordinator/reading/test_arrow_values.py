"""Every type of Arrow as JSON-able values: the same whatever is installed, whole or in slices, and none refused."""

from __future__ import annotations

import decimal
import uuid
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedfleet.coordinator.reading.arrow_values import rows, values
from embedfleet.coordinator.reading.records import Noted, Reject

D = decimal.Decimal
NAN, INF = float("nan"), float("inf")
NOWHERE = pa.timestamp("us", "Nowhere/Town")
NS = 1_700_000_000_123_456_789


def stored(kind: Any, storage: pa.Array) -> pa.Array:
    return pa.ExtensionArray.from_storage(kind, storage)


CASES: dict[str, tuple[Any, list[Any]]] = {
    "null": (pa.nulls(2), [None, None]),
    "bool": (pa.array([True, None]), [True, None]),
    "uint64": (pa.array([2**64 - 1, None], pa.uint64()), [2**64 - 1, None]),
    "half float": (pa.array([1.5, None], pa.float16()), [1.5, None]),
    "float": (pa.array([0.5, None], pa.float32()), [0.5, None]),
    "string": (pa.array(["a", None]), ["a", None]),
    "large string": (pa.array(["a", None], pa.large_string()), ["a", None]),
    "string view": (pa.array(["a" * 30, None], pa.string_view()), ["a" * 30, None]),
    "binary": (pa.array([b"\xff", None]), [b"\xff", None]),
    "binary view": (pa.array([b"\xff", None], pa.binary_view()), [b"\xff", None]),
    "dictionary": (pa.array(["a", None]).dictionary_encode(), ["a", None]),
    "dictionary of times": (
        pa.DictionaryArray.from_arrays(pa.array([1, 0]), pa.array([0, 1], NOWHERE)),
        ["1970-01-01T00:00:00.000001+00:00", "1970-01-01T00:00:00+00:00"],
    ),
    "runs": (pa.RunEndEncodedArray.from_arrays(pa.array([1, 2], pa.int32()), pa.array(["x", None])), ["x", None]),
    "list": (pa.array([[1, 2], None, [], [3]]), [[1, 2], None, [], [3]]),
    "large list": (pa.array([[1], None], pa.large_list(pa.int8())), [[1], None]),
    "list view": (pa.array([[1, 2], None, [3]], pa.list_view(pa.int64())), [[1, 2], None, [3]]),
    "large list view": (pa.array([[b"a"], None], pa.large_list_view(pa.binary())), [[b"a"], None]),
    "fixed-size list": (pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int8(), 2)), [[1, 2], None, [3, 4]]),
    "map": (
        pa.array([[("id", "m"), ("l", "de")], None, []], pa.map_(pa.string(), pa.string())),
        [{"id": "m", "l": "de"}, None, {}],
    ),
    "map, a key twice": (pa.array([[("k", 1), ("k", 2)]], pa.map_(pa.string(), pa.int64())), [{"k": 2}]),
    "map of numbers": (pa.array([[(1, "a"), (-2, None)]], pa.map_(pa.int64(), pa.string())), [{"1": "a", "-2": None}]),
    "map of days": (pa.array([[(0, 1)]], pa.map_(pa.date32(), pa.int64())), [{"1970-01-01": 1}]),
    "map of bytes": (pa.array([[(b"k", 1), (b"\xff", 2)]], pa.map_(pa.binary(), pa.int64())), [{"k": 1, "/w==": 2}]),
    "map in a map": (
        pa.array([[("a", [("b", D("1.5"))])], None], pa.map_(pa.string(), pa.map_(pa.string(), pa.decimal128(3, 1)))),
        [{"a": {"b": 1.5}}, None],
    ),
    "maps in a list": (pa.array([[[("a", 1)], None]], pa.list_(pa.map_(pa.string(), pa.int64()))), [[{"a": 1}, None]]),
    "struct": (
        pa.array(
            [{"a": 0, "m": [("k", 1)]}, None, {"a": None, "m": None}],
            pa.struct([("a", pa.timestamp("s")), ("m", pa.map_(pa.string(), pa.int64()))]),
        ),
        [{"a": "1970-01-01T00:00:00", "m": {"k": 1}}, None, {"a": None, "m": None}],
    ),
    "empty struct": (pa.array([{}, None], pa.struct([])), [{}, None]),
    "decimal": (pa.array([D("3.50"), D("4.00"), None], pa.decimal128(10, 2)), [3.5, 4, None]),
    "whole decimal": (pa.array([D(2**63 - 1), D(2**64)], pa.decimal128(38, 0)), [2**63 - 1, str(2**64)]),
    "long decimal": (pa.array([D("0.12345678901234567891")], pa.decimal256(60, 20)), ["0.12345678901234567891"]),
    "small decimal": (pa.array([D("-1.5")], pa.decimal32(5, 1)), [-1.5]),
    "seconds": (pa.array([0, None, -1], pa.timestamp("s")), ["1970-01-01T00:00:00", None, "1969-12-31T23:59:59"]),
    "milliseconds": (pa.array([1_500], pa.timestamp("ms")), ["1970-01-01T00:00:01.500"]),
    "microseconds": (pa.array([1, 0], pa.timestamp("us")), ["1970-01-01T00:00:00.000001", "1970-01-01T00:00:00"]),
    "nanoseconds": (pa.array([NS, None], pa.timestamp("ns")), ["2023-11-14T22:13:20.123456789", None]),
    "UTC": (pa.array([NS], pa.timestamp("ns", "UTC")), ["2023-11-14T22:13:20.123456789+00:00"]),
    "an offset": (pa.array([0], pa.timestamp("s", "+02:00")), ["1970-01-01T00:00:00+00:00"]),
    "a known zone": (pa.array([0], pa.timestamp("s", "Europe/Berlin")), ["1970-01-01T00:00:00+00:00"]),
    "an unknown zone": (pa.array([0], pa.timestamp("s", "CEST")), ["1970-01-01T00:00:00+00:00"]),
    "a far year": (pa.array([2**40], pa.timestamp("s")), ["36812-02-20T00:36:16"]),
    "day": (pa.array([0, None, -1], pa.date32()), ["1970-01-01", None, "1969-12-31"]),
    "day in milliseconds": (pa.array([86_400_000, None], pa.date64()), ["1970-01-02", None]),
    "time": (pa.array([86_399, None], pa.time32("s")), ["23:59:59", None]),
    "time in milliseconds": (pa.array([61_001], pa.time32("ms")), ["00:01:01.001"]),
    "time in nanoseconds": (pa.array([1], pa.time64("ns")), ["00:00:00.000000001"]),
    "duration": (
        pa.array([90_061_000_000_001, None, -1_500_000_000, 0], pa.duration("ns")),
        ["P1DT1H1M1.000000001S", None, "-PT1.5S", "PT0S"],
    ),
    "interval": (
        pa.array([pa.MonthDayNano([14, -3, -1_500_000_000]), None], pa.month_day_nano_interval()),
        ["P14M-3DT-1.5S", None],
    ),
    "uuid": (pa.array([uuid.UUID(int=5).bytes, None], pa.uuid()), [str(uuid.UUID(int=5)), None]),
    "uuids in a list": (
        pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), pa.array([uuid.UUID(int=5).bytes], pa.uuid())),
        [[str(uuid.UUID(int=5))]],
    ),
    "json": (pa.array(['{"a":1}', None], pa.json_()), ['{"a":1}', None]),
    "bool8": (stored(pa.bool8(), pa.array([2, None, 0], pa.int8())), [True, None, False]),
    "tensor": (
        stored(pa.fixed_shape_tensor(pa.int8(), [2]), pa.array([[1, 2], [3, 4]], pa.list_(pa.int8(), 2))),
        [[1, 2], [3, 4]],
    ),
    "opaque": (stored(pa.opaque(pa.int64(), "kind", "vendor"), pa.array([1, None])), [1, None]),
    "union": (
        pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["a", "b"])]),
        [1, "b"],
    ),
    "union of what Python cannot show": (
        pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([0], NOWHERE)]),
        ["a value of type sparse_union<0: timestamp[us, tz=Nowhere/Town]=0>"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_each_type_becomes(name: str) -> None:
    array, expected = CASES[name]
    assert values(array) == expected
    assert [values(array.slice(row, 1))[0] for row in range(len(array))] == expected
    assert [type(one) for one in values(array)] == [type(one) for one in expected], "4 is no 4.0"
    orjson.dumps([one for one in expected if not isinstance(one, bytes)], default=repr)


@pytest.mark.parametrize("name", CASES)
def test_what_each_type_becomes_through_a_file(name: str, tmp_path: Path) -> None:
    array, expected = CASES[name]
    path = tmp_path / "c.parquet"
    try:
        pq.write_table(pa.table({"m": array}), path)
    except (pa.ArrowException, NotImplementedError):
        pytest.skip("Parquet has no such type")
    with pq.ParquetFile(path) as file:
        found = [one for batch in file.iter_batches() for one in rows(batch, 1)]
    assert found == [(row, {"m": value}) for row, value in enumerate(expected, 1)]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([NAN, INF, 1.5, None]), [None, None, 1.5, None]),
        (pa.array([NAN, -INF, 1.5, None], pa.float16()), [None, None, 1.5, None]),
        (pa.array([[1.0, NAN], [INF], [], None]), [[1.0, None], [None], [], None]),
        (pa.array([[NAN], [INF], [1.0], None], pa.list_(pa.float32(), 1)), [[None], [None], [1.0], None]),
        (
            pa.array([{"a": {"b": NAN}}, {"a": {"b": INF}}, {"a": None}, None]),
            [{"a": {"b": None}}] * 2 + [{"a": None}, None],
        ),
        (
            pa.array([[("a", NAN)], [("a", INF)], [("a", 1.0)], None], pa.map_(pa.string(), pa.float64())),
            [{"a": None}, {"a": None}, {"a": 1.0}, None],
        ),
        (pa.array([NAN, INF, 1.5, None]).dictionary_encode(), [None, None, 1.5, None]),
    ],
)
def test_numbers_that_are_not_finite_become_null_and_are_noted(column: Any, expected: list[Any]) -> None:
    found = rows(pa.record_batch({"m": column, "n": pa.array([1.0] * 4)}), 1)
    records = [{"m": value, "n": 1.0} for value in expected]
    noted = [Noted(record, ("not_finite",)) for record in records[:2]]
    assert found == list(enumerate([*noted, *records[2:]], 1))


def test_only_the_row_whose_text_is_not_utf8_is_rejected() -> None:
    texts = pa.StringArray.from_buffers(3, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0"), pa.py_buffer(b"a\xffb"))
    lists = pa.array([[1], [2, 3], [4]])
    first, second, third = rows(pa.record_batch({"text": texts, "l": lists}), 7)
    assert first == (7, {"text": "a", "l": [1]})
    assert second == (8, Reject("invalid UTF-8 at byte 0", "\ufffd"))
    assert third == (9, {"text": "b", "l": [4]})


def test_rows_without_columns() -> None:
    assert rows(pa.RecordBatch.from_struct_array(pa.array([{}, {}], pa.struct([]))), 1) == [(1, {}), (2, {})]
