"""From raw records to id, text, metadata and notes: what is found by convention, what flags name, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from embedfleet.coordinator.intake.conventions import Conventions
from embedfleet.coordinator.intake.usual_fields import field_names
from embedfleet.coordinator.reading.records import Noted, Reject

TITLE, OUTER, SKIPPED = ("title_joined",), ("outer_kept",), ("elements_skipped",)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"id": "a", "text": "t"}, ("a", "t", None, ())),
        ({"id": -(2**63), "text": "t"}, (str(-(2**63)), "t", None, ())),
        ({"id": 7.0, "text": "t"}, ("7", "t", None, ())),
        ({"text": "t", "id": None}, (None, "t", {"id": None}, ())),
        ({"text": None, "content": "c"}, (None, "c", {"text": None}, ())),
        ({"page_content": "p", "metadata": "note"}, (None, "p", {"metadata": "note"}, ())),
        ({"text": "t", "metadata": {}}, (None, "t", None, ())),
        ({"text": "t", "metadata": None}, (None, "t", None, ())),
        ({"text": "t", "metadata": ""}, (None, "t", {"metadata": ""}, ())),
        ({"text": "t", "metadata": [{}]}, (None, "t", {"metadata": [{}]}, ())),
        ({"text": b"caf\xc3\xa9", "id": b"\xc3\xa9"}, ("\u00e9", "caf\u00e9", None, ())),
        # a chunk's own id before its document's
        ({"id": "doc1", "chunk_id": "doc1-0", "text": "t"}, ("doc1-0", "t", {"id": "doc1"}, ())),
        ({"id": "doc1", "element_id": "e", "text": "t"}, ("e", "t", {"id": "doc1"}, ())),
        ({"text": "t", "metadata": {"id": "d", "chunk_id": "c"}}, ("c", "t", {"id": "d", "chunk_id": "c"}, ())),
        ({"docid": "7#1", "text": "t"}, ("7#1", "t", None, ())),
        ({"id": "a", "chunk_id": 0, "text": "t"}, ("a", "t", {"chunk_id": 0}, ())),
        ({"id": "a", "chunk_id": "3", "text": "t"}, ("a", "t", {"chunk_id": "3"}, ())),
        ({"chunk_id": 3, "text": "t"}, ("3", "t", None, ())),
        # a field beside the metadata and inside of it
        (
            {"id": "1", "text": "t", "source": "top", "metadata": {"source": "inner", "page": 3}},
            ("1", "t", {"source": "inner", "page": 3, "_outer": {"source": "top"}}, OUTER),
        ),
        ({"id": "1", "text": "t", "metadata": {"id": "2"}}, ("1", "t", {"id": "2"}, ())),
        ({"text": "t", "a": 1, "metadata": {"a": 1}}, (None, "t", {"a": 1}, ())),
        ({"text": "t", "a": 1, "metadata": {"a": True}}, (None, "t", {"a": True, "_outer": {"a": 1}}, OUTER)),
        ({"text": "t", "a": 1, "metadata": {"a": None, "b": 2}}, (None, "t", {"a": 1, "b": 2}, ())),
        ({"text": "t", "a": None, "metadata": {"a": 2}}, (None, "t", {"a": 2}, ())),
        (
            {"text": "t", "a": 1, "metadata": {"a": 2, "_outer": "x"}},
            (None, "t", {"a": 2, "_outer": "x", "__outer": {"a": 1}}, OUTER),
        ),
        # titles
        ({"_id": "d", "title": "T", "text": "x", "metadata": {}}, ("d", "T x", {"title": "T"}, TITLE)),
        ({"id": "d", "title": "T", "content": "x"}, ("d", "T x", {"title": "T"}, TITLE)),
        ({"id": "d", "title": b"T", "text": "x"}, ("d", "T x", {"title": b"T"}, TITLE)),
        ({"id": "d", "title": ["T"], "text": "x"}, ("d", "x", {"title": ["T"]}, ())),
        ({"id": "d", "title": " ", "text": "x"}, ("d", "x", {"title": " "}, ())),
        ({"id": "d", "text": "x", "metadata": {"title": "T"}}, ("d", "x", {"title": "T"}, ())),
        # inside of other objects
        (
            {"_index": "i", "_id": "7", "_score": 1.0, "_source": {"content": "c", "lang": "en"}},
            ("7", "c", {"_index": "i", "_score": 1.0, "lang": "en"}, ()),
        ),
        ({"_id": "7", "_source": {"id": "own", "text": "c"}}, ("7", "c", {"id": "own"}, ())),
        ({"_source": {"text": "c", "metadata": {"id": "m"}}}, ("m", "c", {"id": "m"}, ())),
        (
            {
                "lc": 1,
                "type": "constructor",
                "id": ["langchain", "schema", "document", "Document"],
                "kwargs": {"page_content": "p", "metadata": {"id": "m", "k": 1}, "type": "Document"},
            },
            ("m", "p", {"type": "Document", "id": "m", "k": 1}, ()),
        ),
        (
            {"__data__": {"id_": "n", "text": "t", "metadata": {"k": 1}}, "__type__": "1"},
            ("n", "t", {"k": 1}, ()),
        ),
        ({"id_": "n", "text_resource": {"text": "t"}, "metadata": {"k": 1}}, ("n", "t", {"k": 1}, ())),
        # MongoDB
        ({"_id": {"$oid": "65f0"}, "text": "t"}, ("65f0", "t", None, ())),
        ({"_id": {"$numberLong": "9007199254740993"}, "text": "t"}, ("9007199254740993", "t", None, ())),
    ],
)
def test_conventions(record: dict[str, Any], expected: object) -> None:
    assert Conventions().read(record) == expected


@pytest.mark.parametrize(
    ("names", "record", "expected"),
    [
        (("body", "key"), {"id": "a", "text": "t", "body": "b", "key": 3}, ("3", "b", {"id": "a", "text": "t"}, ())),
        (("body", "key"), {"body": "b", "metadata": {"key": "k"}}, ("k", "b", {"key": "k"}, ())),
        (("text", "text"), {"text": "same"}, ("same", "same", None, ())),
        (("doc.body",), {"id": "1", "doc": {"body": "b", "n": 1}}, ("1", "b", {"doc": {"n": 1}}, ())),
        (("doc.body",), {"id": "1", "doc": {"body": "b"}}, ("1", "b", None, ())),
        (("doc.body",), {"doc.body": "flat", "doc": {"body": "b"}}, (None, "flat", {"doc": {"body": "b"}}, ())),
        (("a.b.c",), {"a": {"b.c": "x"}}, (None, "x", None, ())),
        (('"a.b"."c"',), {"a.b": {"c": "x"}}, (None, "x", None, ())),
        (("metadata.body", "metadata.n"), {"metadata": {"body": "b", "n": 1}}, ("1", "b", {"n": 1}, ())),
        (
            ("_source.content",),
            {"_index": "i", "_id": "7", "_source": {"content": "c", "lang": "en"}},
            ("7", "c", {"_index": "i", "lang": "en"}, ()),
        ),
        (("body",), {"_id": "7", "_source": {"body": "c", "text": "other"}}, ("7", "c", {"text": "other"}, ())),
        (
            ("_source.doc.body", "_source.key"),
            {"_id": "7", "_source": {"doc": {"body": "c"}, "key": "k"}},
            ("k", "c", None, ()),
        ),
        (("_source.body", "_id"), {"_id": "7", "_source": {"body": "c"}}, ("7", "c", None, ())),
        ((None, None, "heading"), {"heading": "H", "title": "T", "text": "x"}, (None, "H x", None, TITLE)),
        ((None, None, "metadata.title"), {"text": "x", "metadata": {"title": "T"}}, (None, "T x", None, TITLE)),
        (("body", None, "title"), {"title": "T", "body": "x"}, (None, "T x", None, TITLE)),
        (("body",), {"title": "T", "body": "x"}, (None, "x", {"title": "T"}, ())),
        ((None, None, "none"), {"_id": "d", "title": "T", "text": "x"}, ("d", "x", {"title": "T"}, ())),
        ((None, None, "heading"), {"title": "T", "text": "x"}, (None, "x", {"title": "T"}, ())),
        ((None, "none"), {"id": "a", "text": "t"}, (None, "t", {"id": "a"}, ())),
        ((None, '"none"'), {"none": "a", "text": "t"}, ("a", "t", None, ())),
    ],
)
def test_fields_that_are_named(names: tuple[str | None, ...], record: dict[str, Any], expected: Any) -> None:
    found = Conventions(*names).read(record)
    if len(names) == 3 and names[2] not in (None, "none"):  # a title stays in the metadata
        assert not isinstance(found, Reject | Noted)
        assert (found[0], found[1], found[3]) == (expected[0], expected[1], expected[3])
    else:
        assert found == expected


@pytest.mark.parametrize(
    "record",
    [
        {"type": "PageBreak", "element_id": "e", "text": "", "metadata": {"page_number": 1}},
        {"type": "PageBreak", "metadata": {}},
        {"type": "PageBreak", "text": None},
        {"type": "Image", "element_id": "e", "text": ""},
    ],
)
def test_elements_without_text_are_passed_over(record: dict[str, Any]) -> None:
    assert Conventions().read(record) == Noted(None, SKIPPED)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"text": "t", "id": True}, "id field 'id' is a boolean, not a string or an integer"),
        ({"text": "t", "id": []}, "id field 'id' is an array, not a string or an integer"),
        ({"text": "t", "_id": {"$unknown": 1}}, "id field '_id' is an object, not a string or an integer"),
        ({"text": "t", "_id": ""}, "id field '_id' is empty"),
        ({"text": "t", "metadata": {"id": ""}}, "id field 'metadata.id' is empty"),
        (
            {"text": "t", "id": 2.0**64},
            "id field 'id' is a number too large to be read exactly (1.8446744073709552e+19); "
            "write numbers over 64 bits as strings",
        ),
        ({"text": "t", "id": 1.5}, "id field 'id' is a float, not a string or an integer (1.5)"),
        (
            {"text": "t", "id": b"\xff"},
            "id field 'id' is bytes that are not UTF-8 (the one at 0), not a string or an integer",
        ),
        ({"text": "t", "id": "i" * 16_385}, "id field 'id' has 16385 characters, over the limit of 16384"),
        ({"text": 3, "id": "a"}, "text field 'text' is an integer, not a string"),
        ({"text": b"ab\xff"}, "text field 'text' is bytes that are not UTF-8 (the one at 2), not a string"),
        ({"content": ["x"]}, "text field 'content' is an array, not a string"),
        ({"text": None}, "text field 'text' is null, not a string"),
        ({"body": "x"}, "no text: the record has none of 'text', 'page_content', 'content'"),
        ({"_source": {"body": "x"}}, "no text: the record has none of 'text', 'page_content', 'content'"),
    ],
)
def test_reasons(record: dict[str, Any], reason: str) -> None:
    rejected = Conventions().read(record)
    assert isinstance(rejected, Reject)
    assert rejected.reason == reason
    assert rejected.id == (record["id"] if record.get("id") == "a" else None)


def test_reasons_for_named_fields() -> None:
    for name, record in (
        ("body", {"text": "t"}),
        ("a.b", {"a": {"c": "t"}}),
        ("a.b", {"a": "t"}),
        ('"a"b', {"a": "t"}),
    ):
        rejected = Conventions(name).read(record)
        assert isinstance(rejected, Reject)
        assert rejected.reason == f"no text: the record has no field {name!r}"
    rejected = Conventions(None, "key").read({"text": "t", "id": "a"})
    assert rejected == Reject("no id: the record has no field 'key'", '{"text":"t","id":"a"}')


def test_the_folder_of_a_file_gives_way_to_a_collection_of_the_record() -> None:
    read = Conventions()
    assert read.with_folder(None, "f") == ({"collection": "f"}, ())
    assert read.with_folder({"collection": "f"}, "f") == ({"collection": "f"}, ())
    assert read.with_folder({"collection": "own"}, "f") == ({"collection": "own", "_outer": {"collection": "f"}}, OUTER)


@pytest.mark.parametrize(
    ("metadata", "written", "met"),
    [
        ({"a": b"\xff", "b": {"c": [b"\xfe"]}}, '{"a":"/w==","b":{"c":["/g=="]}}', ["bytes_as_base64"]),
        ({"when": {"$date": "2024-01-02T03:04:05Z"}}, '{"when":"2024-01-02T03:04:05Z"}', []),
        ({"when": {"$date": {"$numberLong": "1700000000123"}}}, '{"when":"2023-11-14T22:13:20.123+00:00"}', []),
        ({"when": {"$date": -1000}}, '{"when":"1969-12-31T23:59:59+00:00"}', []),
        (
            {"n": [{"$numberLong": "5"}, {"$numberInt": "6"}, {"$numberDouble": "NaN"}]},
            '{"n":[5,6,null]}',
            ["not_finite"],
        ),
        (
            {"a": {"$numberDecimal": "-Infinity"}, "b": [{"$numberDouble": "Infinity"}, {"$numberDecimal": "NaN"}]},
            '{"a":null,"b":[null,null]}',
            ["not_finite"],
        ),
        ({"n": {"$numberDecimal": "3.50"}}, '{"n":3.5}', []),
        ({"n": {"$numberDecimal": "1E+6000"}}, '{"n":"1' + "0" * 6_000 + '"}', []),
        ({"n": {"$numberDecimal": "9" * 5_000}}, '{"n":"' + "9" * 5_000 + '"}', []),
        ({"n": {"$numberDecimal": "1E+30000000"}}, '{"n":{"$numberDecimal":"1E+30000000"}}', []),
        ({"n": {"$numberDecimal": "1E-30000000"}}, '{"n":{"$numberDecimal":"1E-30000000"}}', []),
        ({"n": {"$numberDecimal": "0E+30000000"}}, '{"n":{"$numberDecimal":"0E+30000000"}}', []),
        ({"n": {"$numberLong": "18446744073709551615"}}, '{"n":18446744073709551615}', []),
        ({"n": {"$numberLong": "18446744073709551616"}}, '{"n":{"$numberLong":"18446744073709551616"}}', []),
        ({"n": {"$numberInt": "-9223372036854775809"}}, '{"n":{"$numberInt":"-9223372036854775809"}}', []),
        ({"b": {"$binary": {"base64": "/w==", "subType": "00"}}}, '{"b":"/w=="}', []),
        (
            {"u": {"$binary": {"base64": "AAAAAAAAAAAAAAAAAAAABQ==", "subType": "04"}}},
            '{"u":"00000000-0000-0000-0000-000000000005"}',
            [],
        ),
        ({"ref": {"$ref": "#/a"}, "d": {"$date": []}}, '{"ref":{"$ref":"#/a"},"d":{"$date":[]}}', []),
    ],
)
def test_metadata_as_json(metadata: dict[str, Any], written: str, met: list[str]) -> None:
    conventions = Conventions()
    assert conventions.write(metadata) == written
    assert conventions.met == met


def test_fields_are_shown_as_a_flag_names_them() -> None:
    assert field_names({"a": 1, "b": {"c": 1, "d": {"e": 1}}, "f": {}}) == ["a", "b.c", "b.d", "f"]
