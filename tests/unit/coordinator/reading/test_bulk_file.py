"""Elasticsearch bulk files: actions and documents put together, from the first line on and after a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from embedfleet.coordinator.reading.readers import read_records
from embedfleet.coordinator.reading.records import Item, Noted, Reject
from embedfleet.protocol.source.corpus import resolve

SKIPPED = Noted(None, ("actions_skipped",))


def read(path: Path, *lines: Any, skip: int = 0) -> list[tuple[int, Item]]:
    path.write_bytes(b"\n".join(one if isinstance(one, bytes) else orjson.dumps(one) for one in lines) + b"\n")
    (file,) = resolve(str(path))
    return [one for block in read_records(file, skip) for one in block]


def hit(number: str, **source: Any) -> dict[str, Any]:
    return {"_id": number, "_source": source}


def test_actions_and_documents(tmp_path: Path) -> None:
    lines = (
        {"index": {"_id": "1", "_index": "i", "routing": "r"}},
        {"text": "a"},
        {"create": {"_id": "2"}},
        b'{"text":"b","n":NaN}',
        {"delete": {"_id": "1"}},
        {"update": {"_id": "2"}},
        {"doc": {"text": "c"}},
        {"index": {}},
        {"text": "d"},
    )
    expected = [
        (2, {"_index": "i", "_id": "1", "routing": "r", "_source": {"text": "a"}}),
        (4, Noted(hit("2", text="b", n=None), ("not_finite",))),
        (5, SKIPPED),
        (7, SKIPPED),
        (9, {"_source": {"text": "d"}}),
    ]
    for skip in (0, 2, 4, 5, 7, 9):  # where a segment may end
        assert read(tmp_path / "b.ndjson", *lines, skip=skip) == [one for one in expected if one[0] > skip]


def test_what_is_missing_is_rejected(tmp_path: Path) -> None:
    found = read(
        tmp_path / "b.jsonl",
        {"index": {"_id": "1"}},
        {"index": {"_id": "2"}},
        {"text": "b"},
        {"text": "no action"},
        {"index": {"_id": "3"}},
        b"nonsense",
        {"index": {"_id": "4"}},
    )
    missing = "the 'index' action has no document on the line after it"
    assert found[0] == (1, Reject(missing, '{"index":{"_id":"1"}}'))
    assert found[1] == (3, hit("2", text="b"))
    assert found[2][0] == 4
    assert isinstance(found[2][1], Reject)
    assert found[2][1].reason.startswith("no action on the line before")
    assert found[3][0] == 6
    assert isinstance(found[3][1], Reject)
    assert found[3][1].reason.startswith("not JSON")
    assert found[4] == (7, Reject(missing, '{"index":{"_id":"4"}}'))
    assert len(found) == 5


@pytest.mark.parametrize(
    "first", [{"index": 3}, {"index": {"a": 1}}, {"text": "t"}, {"index": {}, "text": "t"}, b"[]", b"x"]
)
def test_only_a_file_that_begins_with_an_action_is_one(tmp_path: Path, first: Any) -> None:
    found = read(tmp_path / "b.jsonl", first, {"index": {"_id": "1"}})
    assert found[1] == (2, {"index": {"_id": "1"}})


def test_a_run_of_the_first_version_reads_lines(tmp_path: Path) -> None:
    path = tmp_path / "b.jsonl"
    read(path, {"index": {"_id": "1"}}, {"text": "a"})
    (file,) = resolve(str(path))
    assert [one for block in read_records(file, first=True) for one in block] == [
        (1, {"index": {"_id": "1"}}),
        (2, {"text": "a"}),
    ]
