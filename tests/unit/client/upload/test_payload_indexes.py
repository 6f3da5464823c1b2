from __future__ import annotations

import json

import pytest
from embedfleet.client.upload.payload_indexes import choose_indexes
from embedfleet.protocol.errors import UsageError
from embedfleet.protocol.finished_run.done_run import open_done_run

ROWS = (
    {"lang": "de", "words": 3, "share": 1, "draft": True, "day": "2024-02-29", "tags": ["a", "b"], "mixed": 1},
    {"lang": "2024-02-29", "words": None, "share": 0.5, "day": "2024-02-29T10:00:00.5Z", "mixed": "one", "a key": 7},
    {"author": {"name": "Ada", "born": 1815}, "parts": [{"n": 1}, {"n": 2}], "serial": 1 << 64, "last": "2024-02-30"},
    {"late": "2024-02-29 10:00", "nothing": None, "none": [], "grid": [[1], [2]], "zone": "2024-02-29T10:00:00+02:00"},
)


@pytest.fixture
def run(run_files, tmp_path):
    files = run_files.RunFiles(tmp_path / "run", sizes=(2, 2)).write()
    files.chunk_segment(0, metadata=[json.dumps(one) for one in ROWS[:2]])
    files.chunk_segment(1, metadata=[json.dumps(one) for one in ROWS[2:]])
    return open_done_run(files.root)


@pytest.mark.parametrize(
    ("name", "path", "kind"),
    [
        ("lang", "metadata.lang", "keyword"),  # one text is a date, the other is not
        ("metadata.lang", "metadata.lang", "keyword"),
        ("lang:text", "metadata.lang", "text"),
        ("words", "metadata.words", "integer"),
        ("words:float", "metadata.words", "float"),
        ("share", "metadata.share", "float"),
        ("draft", "metadata.draft", "bool"),
        ("day", "metadata.day", "datetime"),
        ("late", "metadata.late", "datetime"),
        ("zone", "metadata.zone", "datetime"),
        ("last", "metadata.last", "keyword"),  # February has no 30th
        ("day:keyword", "metadata.day", "keyword"),
        ("tags", "metadata.tags", "keyword"),
        ("mixed:integer", "metadata.mixed", "integer"),
        ('"a key"', 'metadata."a key"', "integer"),
        ("author.name", "metadata.author.name", "keyword"),
        ("author.born", "metadata.author.born", "integer"),
        ("parts[].n", "metadata.parts[].n", "integer"),
        ("serial", "metadata.serial", "keyword"),  # sent as text
        ("id", "id", "keyword"),
        ("row", "row", "integer"),
        ("text", "text", "text"),
    ],
)
def test_a_field_gets_the_type_of_its_values(run, name, path, kind):
    assert choose_indexes(run, [name]) == {path: kind}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["langg"], r"--payload-index langg: no chunk has a value of metadata.langg; fields: a key, author, "),
        (["nothing"], "--payload-index nothing: no chunk has a value"),
        (["none"], "--payload-index none: no chunk has a value"),
        (["lang:words"], "--payload-index lang:words: 'words' is no type; the types are keyword, integer"),
        (["row:keyword"], "--payload-index row:keyword: the chunk's row is indexed as integer; leave :keyword out"),
        (["a key"], "--payload-index a key: is no path; put a key .* in double quotes"),
        (["author"], r"--payload-index author: metadata.author has objects .*'c2'.*name a key"),
        (["grid"], r"--payload-index grid: metadata.grid has objects or lists in lists \(chunk 'c3'\)"),
        (
            ["mixed"],
            r"mixed: metadata.mixed has whole numbers \(chunk 'c0'\) and text \(chunk 'c1'\); .*mixed:integer$",
        ),
        (["words:keyword"], r"words:keyword: metadata.words has whole numbers .*leave :keyword out"),
        (["lang", "lang:text"], "--payload-index lang:text: metadata.lang is named twice"),
    ],
)
def test_a_field_that_cannot_be_indexed(run, names, message):
    with pytest.raises(UsageError, match=message):
        choose_indexes(run, names)


def test_nothing_is_read_where_nothing_is_asked_for(run):
    for segment in run.segments:
        run.layout.chunk_segment(segment).unlink()
    assert choose_indexes(run, []) == {}
    assert choose_indexes(run, ["text", "id"]) == {"text": "text", "id": "keyword"}
