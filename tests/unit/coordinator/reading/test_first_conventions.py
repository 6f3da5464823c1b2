"""Records as version 0.1.0 read them, which its runs go on with: nothing here may change."""

from __future__ import annotations

import datetime
import math
import uuid
from typing import Any

import orjson
import pytest
from embedfleet.coordinator.reading.first_conventions import read_record
from embedfleet.coordinator.reading.records import Reject, excerpt


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"id": "a", "text": "t"}, ("a", "t", None)),
        ({"id": 7, "text": "t"}, ("7", "t", None)),
        ({"id": -(2**63), "text": "t"}, (str(-(2**63)), "t", None)),
        ({"chunk_id": "c", "page_content": "p"}, ("c", "p", None)),
        ({"id_": "i", "content": "c"}, ("i", "c", None)),
        ({"text": "t"}, (None, "t", None)),
        ({"text": "t", "id": None}, (None, "t", {"id": None})),
        ({"text": "t", "metadata": {"id": "m", "x": 1}}, ("m", "t", {"id": "m", "x": 1})),
        ({"text": "t", "metadata": {}}, (None, "t", None)),
        ({"text": "t", "metadata": None}, (None, "t", None)),
        ({"text": "t", "metadata": "note"}, (None, "t", {"metadata": "note"})),
        ({"id": 1, "_id": "b", "text": "t", "content": "c"}, ("1", "t", {"_id": "b", "content": "c"})),
        ({"text": None, "content": "c"}, (None, "c", {"text": None})),
        ({"text": "t", "a": 1, "metadata": {"b": 2}}, (None, "t", {"a": 1, "b": 2})),
        ({"text": "t", "a": 1, "metadata": {"a": 2}}, (None, "t", {"a": 2})),
        ({"text": "t", "id": "\u00fc\x00"}, ("\u00fc\x00", "t", None)),
    ],
)
def test_conventions(record: dict[str, Any], expected: object) -> None:
    assert read_record(record) == expected


def test_beir_title_goes_before_the_text() -> None:
    assert read_record({"_id": "d", "title": "T", "text": "x", "metadata": {}}) == ("d", "T x", {"title": "T"})


@pytest.mark.parametrize(
    ("record", "text_field"),
    [
        ({"id": "d", "title": "T", "text": "x"}, None),
        ({"_id": "d", "title": "T", "text": "x"}, "text"),
        ({"_id": "d", "title": "T", "content": "x"}, None),
        ({"_id": "d", "title": ["T"], "text": "x"}, None),
        ({"_id": "d", "title": "", "text": "x"}, None),
    ],
)
def test_no_title_outside_beir(record: dict[str, Any], text_field: str | None) -> None:
    fields = read_record(record, text_field)
    assert not isinstance(fields, Reject)
    assert fields[1] == "x"


def test_named_fields_are_the_only_ones() -> None:
    assert read_record({"id": "a", "text": "t", "body": "b", "key": 3}, "body", "key") == (
        "3",
        "b",
        {"id": "a", "text": "t"},
    )
    assert read_record({"body": "b", "metadata": {"key": "k"}}, "body", "key") == ("k", "b", {"key": "k"})
    assert read_record({"text": "same"}, "text", "text") == ("same", "same", None)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"text": "t", "id": True}, "id field 'id' is a boolean, not a string or an integer"),
        ({"text": "t", "id": []}, "id field 'id' is an array, not a string or an integer"),
        ({"text": "t", "id": {}}, "id field 'id' is an object, not a string or an integer"),
        ({"text": "t", "_id": ""}, "id field '_id' is empty"),
        ({"text": "t", "id": "a\ud800"}, "id field 'id' holds a lone surrogate"),
        ({"text": "t", "metadata": {"id": ""}}, "id field 'metadata.id' is empty"),
        (
            {"text": "t", "id": 1.8446744073709552e19},
            "id field 'id' is a number too large to be read exactly (1.8446744073709552e+19); "
            "write numbers over 64 bits as strings",
        ),
        ({"text": "t", "id": 1.5}, "id field 'id' is a float, not a string or an integer (1.5)"),
        ({"text": "t", "id": math.inf}, "id field 'id' is a float, not a string or an integer (inf)"),
        ({"text": 3, "id": "a"}, "text field 'text' is an integer, not a string"),
        ({"content": ["x"]}, "text field 'content' is an array, not a string"),
        ({"text": None}, "text field 'text' is null, not a string"),
        ({"text": b"x"}, "text field 'text' is of type bytes, not a string"),
        (
            {"body": "x"},
            "no text: the record has none of 'text', 'page_content', 'content'",
        ),
    ],
)
def test_reasons(record: dict[str, Any], reason: str) -> None:
    rejected = read_record(record)
    assert isinstance(rejected, Reject)
    assert rejected.reason == reason
    assert rejected.id == (record["id"] if record.get("id") == "a" else None)


def test_reasons_for_named_fields() -> None:
    assert read_record({"text": "t"}, "body") == Reject("no text: the record has no field 'body'", '{"text":"t"}')
    assert read_record({"text": "t", "id": "a"}, None, "key") == Reject(
        "no id: the record has no field 'key'", '{"text":"t","id":"a"}'
    )


def test_excerpt_is_short_and_always_encodes() -> None:
    assert excerpt("x" * 999) == "x" * 200
    assert excerpt(b"a\xffb") == "a\ufffdb"
    assert excerpt("a\ud800") == "a?"
    assert excerpt({"when": datetime.date(2024, 1, 2), "raw": b"z\xff"}) == '{"when":"2024-01-02","raw":"z\ufffd"}'
    number = uuid.UUID(int=1)
    assert orjson.loads(excerpt({"n": number})) == {"n": str(number)}
    nested: dict[str, Any] = {}
    for _ in range(500):
        nested = {"a": nested}
    assert excerpt(nested) == ""
