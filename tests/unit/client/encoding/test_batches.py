"""Batches of Ray Data's three formats: texts are read, columns are added."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from embedfleet.client.encoding.batches import add_columns, read_texts
from embedfleet.client.encoding.encode import make_passes
from embedfleet.protocol.errors import UsageError

TABLE = pa.table({"text": ["one", None, "three"], "n": [1, 2, 3]})
FORMATS: dict[str, Any] = {
    "arrow": TABLE,
    "numpy": {"text": np.array(["one", None, "three"], object), "n": np.array([1, 2, 3])},
    "pandas": TABLE.to_pandas(),
}
COLUMNS = {
    "dense": pa.array([[1.0, 0.0], None, [0.0, 1.0]], pa.list_(pa.float32(), 2)),
    "sparse.indices": pa.array([[7], None, []], pa.list_(pa.uint32())),
    "late": pa.array([[[1.0, 2.0], [3.0, 4.0]], None, [[5.0, 6.0]]], pa.list_(pa.list_(pa.float32()))),
    "score": pa.array([0.5, None, 1.5], pa.float32()),
    "error": pa.array([None, "no text", None], pa.string()),
}


@pytest.mark.parametrize("form", FORMATS)
def test_texts(form: str) -> None:
    assert read_texts(FORMATS[form], "text", "text") == ["one", None, "three"]
    with pytest.raises(UsageError, match="title='body': the batch has no such column, only text, n"):
        read_texts(FORMATS[form], "body", "title")
    with pytest.raises(UsageError, match="text='n': the column"):
        read_texts(FORMATS[form], "n", "text")


def test_other_kinds_of_texts_in_arrow() -> None:
    for kind in (pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())):
        table = pa.table({"text": pa.array(["a", None], pa.string()).cast(kind)})
        assert read_texts(table, "text", "text") == ["a", None]


def test_columns_in_arrow() -> None:
    found = add_columns(TABLE, COLUMNS)
    assert found.column_names == ["text", "n", *COLUMNS]
    assert all(found.column(name).combine_chunks().equals(array) for name, array in COLUMNS.items())


def test_columns_in_numpy() -> None:
    found = add_columns(FORMATS["numpy"], COLUMNS)
    np.testing.assert_array_equal(found["dense"], np.array([[1, 0], [np.nan, np.nan], [0, 1]], np.float32))
    assert [one.tolist() for one in found["sparse.indices"]] == [[7], [], []]
    assert [one.shape for one in found["late"]] == [(2, 2), (0,), (1, 2)]
    np.testing.assert_array_equal(found["score"], np.array([0.5, np.nan, 1.5], np.float32))
    assert found["error"].tolist() == [None, "no text", None]
    assert found["n"].tolist() == [1, 2, 3]


def test_columns_in_pandas() -> None:
    found = add_columns(FORMATS["pandas"], COLUMNS)
    assert found["dense"][0].tolist() == [1, 0]
    assert found["dense"][1] is None
    assert found["late"][2].tolist() == [[5, 6]]
    assert pd.isna(found["score"][1])


def test_what_is_no_batch() -> None:
    with pytest.raises(UsageError, match="a batch is a list; give batch_format="):
        read_texts([1], "text", "text")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "nothing to compute"),
        ({"sparse": "bm25"}, "needs average_length"),
        ({"sparse": "metadata"}, "only `embedfleet run` reads"),
        ({"dense": 3}, "give a name, or a list of names"),
        ({"dense": "fake:8", "store": "int8"}, "store: no option of Encode; it takes dtype"),
        ({"dense": "fake:8", "max_tokens": "many"}, "max_tokens="),
        ({"dense": ["fake:8", "fake:8"]}, "would be written twice"),
        ({"dense": "fake:0"}, "give the dimension"),
    ],
)
def test_what_cannot_be_encoded(arguments: dict[str, Any], message: str) -> None:
    models = {name: arguments.get(name, ()) for name in ("dense", "sparse", "multivector", "heads")}
    options = {name: value for name, value in arguments.items() if name not in models}
    with pytest.raises(UsageError, match=message):
        make_passes(models, None, None, options)


def test_the_names_and_kinds_of_passes() -> None:
    models = {"dense": ["a=fake:8", "fake:4"], "sparse": ["bm25"], "multivector": (), "heads": ("fake:8",)}
    found = make_passes(models, "fake:1", 12, {"max_tokens": 9})
    assert [(one.vector, one.kind) for one in found] == [
        ("dense-a", "dense"),
        ("dense-fake-4", "dense"),
        ("heads-fake-8", "bge-m3"),
        ("sparse-bm25", "bm25"),
        ("rerank-fake-1", "rerank"),
    ]
    assert [one.average_length for one in found if one.kind == "bm25"] == [12.0]
    assert found[0].max_tokens == 9
