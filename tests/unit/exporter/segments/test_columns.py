"""The columns of a segment in the making, one class a form: rows in any order, and what does not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from embedfleet.exporter.segments.columns import make_column
from embedfleet.protocol.errors import ProtocolError
from embedfleet.protocol.spec.run_spec import Form

GOOD = np.zeros(3, np.bool_)
LAST_BAD = np.array([False, False, True])


def lists(name: str, *rows: Any) -> dict[str, np.ndarray]:
    """`offsets` and the rows, one after another."""
    return {"offsets": np.cumsum([0, *map(len, rows)]), name: np.concatenate(rows)}


def sparse(*rows: dict[int, float]) -> dict[str, np.ndarray]:
    indices = [np.array(list(row), np.uint32) for row in rows]
    values = [np.array(list(row.values()), np.float32) for row in rows]
    return lists("indices", *indices) | lists("values", *values)


def tokens(*counts: int) -> list[np.ndarray]:
    return [np.full((count, 2), count, np.float16) for count in counts]


def halves(*rows: np.ndarray) -> dict[str, np.ndarray]:
    return lists("tokens", *rows)


DENSE = np.array([[0.6, 0.8], [1.0, 0.0], [0.0, -1.0]], np.float32)
RESULTS: dict[Form, tuple[dict[str, np.ndarray], dict[str, np.ndarray]]] = {
    "dense": ({"vector": DENSE[[2, 0]]}, {"vector": DENSE[[1]]}),
    "sparse": (sparse({9: 1.0}, {}), sparse({3: 0.5, 7: 2.0})),
    "multivector": (halves(*tokens(1, 3)), halves(*tokens(2))),
    "score": ({"score": np.array([3, 1], np.float32)}, {"score": np.array([2], np.float32)}),
}
"""By form: a result for the rows 2 and 0, and one for row 1."""

FIELDS: dict[Form, dict[str, list[Any]]] = {
    "dense": {"vector": [[0.6, 0.8], [1.0, 0.0], [0.0, -1.0]]},
    "sparse": {"indices": [[], [3, 7], [9]], "values": [[], [0.5, 2.0], [1.0]]},
    "multivector": {"vector": [[[3.0, 3.0]] * 3, [[2.0, 2.0]] * 2, [[1.0, 1.0]]]},
    "score": {"score": [1.0, 2.0, 3.0]},
}
TYPES: dict[Form, list[pa.DataType]] = {
    "dense": [pa.list_(pa.float32(), 2)],
    "sparse": [pa.list_(pa.uint32()), pa.list_(pa.float32())],
    "multivector": [pa.list_(pa.list_(pa.float16(), 2))],
    "score": [pa.float32()],
}


@pytest.mark.parametrize("form", list(RESULTS))
def test_rows_stand_where_they_belong_whatever_their_order(form: Form) -> None:
    column = make_column(form, 3, 2)
    for positions, arrays in zip(([2, 0], [1]), RESULTS[form], strict=True):
        assert list(column.set(np.array(positions), arrays)) == []
    fields = column.fields(GOOD)
    assert [one.type for one in fields.values()] == TYPES[form]
    for name, expected in FIELDS[form].items():
        found = fields[name].to_pylist()
        assert found == (pytest.approx(expected) if form == "score" else expected) or np.allclose(found, expected)
    for one in column.fields(LAST_BAD).values():
        assert one.is_null().to_pylist() == [False, False, True]


@pytest.mark.parametrize(
    ("form", "arrays", "why"),
    [
        ("dense", {"vector": np.array([[1, 0], [np.nan, 0]], np.float32)}, "not normalized: squared length nan"),
        ("dense", {"vector": np.array([[1, 0], [0.6, 0.9]], np.float32)}, "not normalized: squared length 1.17"),
        ("sparse", sparse({1: 1.0}, {1: float("inf")}), "a weight is not finite"),
        ("multivector", halves(tokens(1)[0], np.array([[1, np.nan]], np.float16)), "a component is not finite"),
        ("score", {"score": np.array([1, np.nan], np.float32)}, "the score is not finite"),
    ],
)
def test_values_that_must_not_be_written_are_named(form: Form, arrays: dict[str, np.ndarray], why: str) -> None:
    ((position, reason),) = make_column(form, 3, 2).set(np.array([0, 2]), arrays)
    assert position == 1
    assert why in reason


@pytest.mark.parametrize(
    ("form", "arrays"),
    [
        ("dense", {"vector": np.ones((2, 3), np.float32)}),
        ("dense", {"vector": np.ones((1, 2), np.float32)}),
        ("sparse", sparse({1: 1.0}, {}) | {"offsets": np.array([0, 1])}),
        ("sparse", sparse({1: 1.0}, {}) | {"offsets": np.array([0, 1, 2])}),
        ("sparse", sparse({1: 1.0}, {}) | {"values": np.ones(2, np.float32)}),
        ("sparse", sparse({1: 1.0}, {2: 1.0}) | {"offsets": np.array([0, 3, 2])}),
        ("multivector", lists("tokens", *tokens(1, 1)) | {"offsets": np.array([1, 1, 2])}),
        ("multivector", {"offsets": np.array([0, 1, 2]), "tokens": np.ones((2, 3), np.float16)}),
        ("multivector", {"offsets": np.array([0, 1, 2]), "tokens": np.ones(2, np.float16)}),
        ("score", {"score": np.ones(3, np.float32)}),
    ],
)
def test_arrays_that_do_not_fit_are_refused(form: Form, arrays: dict[str, np.ndarray]) -> None:
    with pytest.raises(ProtocolError):
        list(make_column(form, 3, 2).set(np.array([0, 2]), arrays))
