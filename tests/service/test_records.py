"""Records as people have them, through the command line: what each becomes, what is said of it, what can be filtered."""

from __future__ import annotations

import datetime
import json
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedfleet import open_run
from embedfleet.coordinator.intake.loader import ChunkLoader, SegmentLimits
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec

STRINGS = pa.map_(pa.string(), pa.string())
NS = 1_700_000_000_123_456_789
ISO = "2023-11-14T22:13:20.123456789"


def lines(*records: Any) -> bytes:
    return b"".join((one if isinstance(one, bytes) else json.dumps(one).encode()) + b"\n" for one in records)


def table(**columns: Any) -> pa.Table:
    return pa.table(columns)


TEXTS = ["one text", "two texts"]
CORPUS: dict[str, Any] = {
    "f01.parquet": table(
        text=TEXTS,
        metadata=pa.array([[("id", "m1"), ("lang", "de")], [("id", "m2"), ("lang", "en")]], STRINGS),
    ),
    "f01-nested.parquet": table(
        id=["f01a", "f01b"],
        text=TEXTS,
        facts=pa.array([[(2020, [[("k", "v")]])], []], pa.map_(pa.int32(), pa.list_(STRINGS))),
        inner=pa.array([{"m": [("a", "1"), ("a", "2")]}, None], pa.struct([("m", STRINGS)])),
    ),
    "f02.jsonl": lines(
        {"id": "f02", "text": "a b", "source": "top", "metadata": {"source": "inner", "page": 3}},
        {
            "id": "f02b",
            "text": "a c",
            "collection": "x",
            "title": "T",
            "metadata": {"collection": "y", "title": "U", "id": "z"},
        },
        {"id": "f02c", "text": "a d", "source": "same", "metadata": {"source": "same"}},
    ),
    "f03.parquet": table(id=pa.array([uuid.UUID(int=n).bytes for n in (1, 2)], pa.uuid()), text=TEXTS),
    "f03-meta.parquet": table(id=["f03a"], text=["uuid beside"], who=pa.array([uuid.UUID(int=3).bytes], pa.uuid())),
    "f03-text.parquet": table(id=["f03b"], text=pa.array([uuid.UUID(int=4).bytes], pa.uuid())),
    "f04.parquet": table(
        id=["f04a", "f04b"], text=TEXTS, doc=pa.array([b"\xff" * 8 + b"\xfe" * 8, b"\xfd" * 16], pa.binary(16))
    ),
    "f04-nested.parquet": table(
        id=["f04c"], text=["nested bytes"], l=pa.array([[b"\x00", b"a"]]), s=pa.array([{"b": b"\xff"}])
    ),
    "f05.parquet": table(
        id=pa.array([51, 52], pa.decimal128(38, 0)),
        text=TEXTS,
        price=pa.array([Decimal("3.50"), Decimal("4.00")], pa.decimal128(10, 2)),
        exact=pa.array([Decimal("0.1234567890123456789"), None], pa.decimal256(60, 19)),
    ),
    "f05-scaled.parquet": table(
        id=pa.array([Decimal("53.00"), Decimal(2**70)], pa.decimal128(38, 2)),
        text=["scaled", "long"],
        n=pa.array([1.0, 2.0]),
    ),
    "f06.parquet": table(
        id=["f06"],
        text=["times"],
        ns=pa.array([NS], pa.timestamp("ns")),
        berlin=pa.array([NS], pa.timestamp("ns", "Europe/Berlin")),
        time=pa.array([1], pa.time64("ns")),
        lasts=pa.array([1_500_000_000], pa.duration("ns")),
        day=pa.array([datetime.date(2024, 1, 2)]),
        many=pa.array([[NS]], pa.list_(pa.timestamp("ns"))),
    ),
    "f07.parquet": table(
        id=["f07"],
        text=["zones"],
        cest=pa.array([NS // 1000], pa.timestamp("us", "CEST")),
        nowhere=pa.array([{"at": 0}], pa.struct([("at", pa.timestamp("s", "Nowhere/Town"))])),
    ),
    "f08.jsonl": lines(*({"id": "doc1", "chunk_id": f"doc1-{n}", "text": f"part {n}"} for n in range(3))),
    "f14.jsonl": lines(
        {"index": {"_id": "f14a"}},
        {"content": "some bulk text", "lang": "en"},
        {"delete": {"_id": "old"}},
        {"create": {"_id": "f14b"}},
        {"content": "other bulk text"},
    ),
    "f14-mongo.jsonl": lines(
        {
            "_id": {"$oid": "65f0c0ffee"},
            "text": "from mongo",
            "at": {"$date": "2024-01-02T03:04:05Z"},
            "n": {"$numberLong": "5"},
        }
    ),
    "f14-hits.jsonl": lines({"_index": "i", "_id": "f14c", "_source": {"content": "a hit", "lang": "en"}}),
    "f14-langchain.jsonl": lines(
        {
            "lc": 1,
            "type": "constructor",
            "id": ["langchain", "schema", "document", "Document"],
            "kwargs": {"page_content": "from langchain", "metadata": {"id": "f14d", "page": 1}},
        }
    ),
    "f15.jsonl": lines(
        {"id": "f15", "text": "end of page\fStart of next\vline\u0085more\u001fhere\u2028and\u2029there"},
        {"id": "f15b", "text": "p\u00e4ge\fStart \f"},
    ),
    "f16.jsonl": lines(
        rb'{"id":"f16a","text":"nice \ud83d"}',
        rb'{"id":"f16b","text":"t","no\udc00te":"\ud83d"}',
        rb'{"id":"f16c\ud83d","text":"fine \ud83d\ude00"}',
    ),
    "f16_chunks.json": rb'[{"id":"f16d","text":"in an array \udfff"}]',
    "f17.jsonl": lines(
        b'{"id":"f17a","text":"one","score":NaN}',
        b'{"id":"f17b","text":"two","deep":[{"score":-Infinity}]}',
        b'{"id":"f17c","text":"three","score":1.5}',
    ),
    "f17.parquet": table(id=["f17d", "f17e"], text=TEXTS, score=[float("nan"), 1.5], l=[[1.0], [float("inf")]]),
    "f18.parquet": table(id=["f18a"], title=["Tapirs"], text=["They swim."]),
    "f18.jsonl": lines({"docid": "f18#0", "title": "Rails", "text": "They run."}),
    "f21_chunks.json": json.dumps(
        [
            {"type": "Title", "element_id": "f21a", "text": "An element", "metadata": {"page_number": 1}},
            {"type": "PageBreak", "element_id": "f21b", "text": "", "metadata": {"page_number": 1}},
            {"type": "Image", "element_id": "f21c", "text": ""},
        ]
    ).encode(),
    "f22.parquet": table(id=pa.array([b"f22a", b"f22b"]), text=pa.array([b"ab", "\u00e9".encode()])),
}
EXPECTED: dict[str, tuple[str, dict[str, Any]]] = {
    "m1": (TEXTS[0], {"id": "m1", "lang": "de"}),
    "m2": (TEXTS[1], {"id": "m2", "lang": "en"}),
    "f01a": (TEXTS[0], {"facts": {"2020": [{"k": "v"}]}, "inner": {"m": {"a": "2"}}}),
    "f01b": (TEXTS[1], {"facts": {}, "inner": None}),
    "f02": ("a b", {"source": "inner", "page": 3, "_outer": {"source": "top"}}),
    "f02b": ("T a c", {"collection": "y", "title": "U", "id": "z", "_outer": {"collection": "x", "title": "T"}}),
    "f02c": ("a d", {"source": "same"}),
    str(uuid.UUID(int=1)): (TEXTS[0], {}),
    str(uuid.UUID(int=2)): (TEXTS[1], {}),
    "f03a": ("uuid beside", {"who": str(uuid.UUID(int=3))}),
    "f03b": (str(uuid.UUID(int=4)), {}),
    "f04a": (TEXTS[0], {"doc": "///////////+/v7+/v7+/g=="}),
    "f04b": (TEXTS[1], {"doc": "/f39/f39/f39/f39/f39/Q=="}),
    "f04c": ("nested bytes", {"l": ["AA==", "YQ=="], "s": {"b": "/w=="}}),
    "51": (TEXTS[0], {"price": 3.5, "exact": "0.1234567890123456789"}),
    "52": (TEXTS[1], {"price": 4, "exact": None}),
    "53": ("scaled", {"n": 1.0}),
    str(2**70): ("long", {"n": 2.0}),
    "f06": (
        "times",
        {
            "ns": ISO,
            "berlin": f"{ISO}+00:00",
            "time": "00:00:00.000000001",
            "lasts": "PT1.5S",
            "day": "2024-01-02",
            "many": [ISO],
        },
    ),
    "f07": ("zones", {"cest": "2023-11-14T22:13:20.123456+00:00", "nowhere": {"at": "1970-01-01T00:00:00+00:00"}}),
    **{f"doc1-{n}": (f"part {n}", {"id": "doc1"}) for n in range(3)},
    "f14a": ("some bulk text", {"lang": "en"}),
    "f14b": ("other bulk text", {}),
    "65f0c0ffee": ("from mongo", {"at": "2024-01-02T03:04:05Z", "n": 5}),
    "f14c": ("a hit", {"_index": "i", "lang": "en"}),
    "f14d": ("from langchain", {"id": "f14d", "page": 1}),
    "f15": ("end of page Start of next line more here and there", {}),
    "f15b": ("p\u00e4ge Start", {}),
    "f16a": ("nice", {}),
    "f16b": ("t", {"note": ""}),
    "f16c": ("fine \U0001f600", {}),
    "f16d": ("in an array", {"collection": "corpus"}),
    "f17a": ("one", {"score": None}),
    "f17b": ("two", {"deep": [{"score": None}]}),
    "f17c": ("three", {"score": 1.5}),
    "f17d": (TEXTS[0], {"score": None, "l": [1.0]}),
    "f17e": (TEXTS[1], {"score": 1.5, "l": [None]}),
    "f18a": ("Tapirs They swim.", {"title": "Tapirs"}),
    "f18#0": ("Rails They run.", {"title": "Rails"}),
    "f21a": ("An element", {"collection": "corpus", "type": "Title", "page_number": 1}),
    "f22a": ("ab", {}),
    "f22b": ("\u00e9", {}),
}
NOTES = {
    "title_joined": 3,
    "outer_kept": 2,
    "bytes_as_base64": 3,
    "not_finite": 4,
    "halves_removed": 4,
    "elements_skipped": 2,
    "actions_skipped": 1,
}


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    if isinstance(content, pa.Table):
        pq.write_table(content, path)
    else:
        path.write_bytes(content)
    return path


def run(source: Path, out: Path, *more: str) -> tuple[Any, ...]:
    return ("run", source, "--out", out, "--dense", "fake:8", "--devices", "cpu", "--json", *more)


def chunks(out: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    found = open_run(out).chunks
    columns = (found.column(name).to_pylist() for name in ("id", "text", "metadata"))
    return {
        id_: (text, (json.loads(metadata) if isinstance(metadata, str) else metadata) or {})
        for id_, text, metadata in zip(*columns, strict=True)
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, cli: Any) -> tuple[Path, Any]:
    """A run over all files, and what it printed."""
    folder = tmp_path_factory.mktemp("records")
    for name, content in CORPUS.items():
        write(folder / "corpus" / name, content)
    return folder / "run", cli(*run(folder / "corpus", folder / "run"))


def test_every_record_is_a_chunk_as_documented(whole: tuple[Path, Any], cli: Any) -> None:
    out, done = whole
    assert chunks(out) == EXPECTED
    assert (done.json["committed"], done.json["quarantined"]) == (len(EXPECTED), 0)
    assert cli("verify", out, "--json").json["ok"] is True


def test_what_was_done_to_records_is_said_once_and_counted(whole: tuple[Path, Any], cli: Any) -> None:
    out, done = whole
    assert done.json["notes"] == NOTES
    for line in (
        "title put before the text in 3 records; --title-field none leaves it out",
        "_outer.FIELD the outer one",
        "bytes in the metadata kept as base64 in 3 records",
        "NaN or Infinity became null in 4 records",
        "half a surrogate pair removed in 4 records",
        "elements without text skipped, page breaks for example: 2 records",
        "delete and update actions of bulk files skipped: 1 record",
    ):
        assert done.err.count(line) == 1, line
    assert json.loads((out / "manifest.json").read_bytes())["counts"]["notes"] == NOTES
    assert cli("info", out, "--json").json["chunks"]["notes"] == NOTES
    assert b"became null in 4 records" in cli("info", out).out


@pytest.mark.parametrize(
    ("wanted", "id_"),
    [
        ("lang=de", "m1"),
        ("source=inner", "f02"),
        ("_outer.source=top", "f02"),
        ("facts.2020[].k=v", "f01a"),
        ("price=4", "52"),
        (f"ns={ISO}", "f06"),
        ("doc=/f39/f39/f39/f39/f39/Q==", "f04b"),
        (f"who={uuid.UUID(int=3)}", "f03a"),
    ],
)
def test_values_can_be_filtered(whole: tuple[Path, Any], cli: Any, wanted: str, id_: str) -> None:
    hits = cli("search", whole[0], "text", "--filter", wanted, "--json").json
    assert [one["id"] for one in hits] == [id_]


def test_an_id_that_is_not_the_chunks_is_said_with_the_remedies(cli: Any, tmp_path: Path) -> None:
    records = [{"page_content": f"piece {n} of doc{n % 2}", "metadata": {"id": f"doc{n % 2}"}} for n in range(8)]
    source = write(tmp_path / "c.jsonl", lines(*records))
    done = cli(*run(source, tmp_path / "run"), code=3)
    assert (done.json["committed"], done.json["quarantined"]) == (2, 6)
    assert done.json["notes"] == {"id_shared": 6}
    (line,) = [one for one in done.err.splitlines() if "id used before with another text in 6 records" in one]
    assert "--id-field F" in line
    assert "--id-field none" in line
    cli(*run(source, tmp_path / "run", "--id-field", "none"), code=2)  # of another spec: not without --restart
    done = cli(*run(source, tmp_path / "run", "--id-field", "none", "--restart"))
    assert chunks(tmp_path / "run")["c.jsonl#8"] == ("piece 7 of doc1", {"id": "doc1"})
    assert done.json["committed"] == 8


NESTED = [
    {"_index": "i", "_id": str(n), "_source": {"content": f"some text {n}", "lang": "en", "head": "H"}} for n in (7, 8)
]


@pytest.mark.parametrize(
    ("records", "flags", "expected"),
    [
        (
            NESTED,
            ("--text-field", "_source.content", "--title-field", "_source.head"),
            {str(n): (f"H some text {n}", {"_index": "i", "lang": "en", "head": "H"}) for n in (7, 8)},
        ),
        (
            [{"doc": {"body": "b", "key": 1}, "n": 1}, {"doc.body": "flat", "doc": {"body": "x", "key": 2}}],
            ("--text-field", "doc.body", "--id-field", "doc.key"),
            {"1": ("b", {"doc": {"key": 1}, "n": 1}), "2": ("flat", {"doc": {"body": "x", "key": 2}})},
        ),
        (
            [{"id": "a", "title": "T", "text": "t"}, {"_id": "b", "title": "T", "text": "t"}],
            ("--title-field", "none"),
            {"a": ("t", {"title": "T"}), "b": ("t", {"title": "T"})},
        ),
        (
            [{"id": "a", "meta": {"heading": "H"}, "text": "t"}, {"id": "b", "text": "u"}],
            ("--title-field", "meta.heading"),
            {"a": ("H t", {"meta": {"heading": "H"}}), "b": ("u", {})},
        ),
    ],
    ids=["Elasticsearch", "dots", "no titles", "a named title"],
)
def test_fields_are_named(cli: Any, tmp_path: Path, records: Any, flags: Any, expected: Any) -> None:
    source = write(tmp_path / "c.jsonl", lines(*records))
    cli(*run(source, tmp_path / "run", "--index", "none", *flags))
    assert chunks(tmp_path / "run") == expected


def test_a_title_that_no_record_has_is_said(cli: Any, tmp_path: Path) -> None:
    source = write(tmp_path / "c.jsonl", lines({"id": "a", "title": "T", "text": "t"}))
    done = cli(*run(source, tmp_path / "run", "--index", "none", "--title-field", "heading"))
    assert "no record has the title field 'heading'; check --title-field" in done.err


def test_fields_inside_of_objects_are_shown_where_the_text_is_not_found(cli: Any, tmp_path: Path) -> None:
    source = write(tmp_path / "c.jsonl", lines({"id": "a", "doc": {"body": "t", "n": 1}}))
    error = cli(*run(source, tmp_path / "run")[:-1], code=2).error
    assert "The fields of that record: id, doc.body, doc.n" in error


def test_what_cannot_be_taken_is_rejected_with_its_reason(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    write(tmp_path / "corpus" / "a.jsonl", lines({"index": {"_id": "1"}}, {"index": {"_id": "2"}}, {"text": "t"}))
    write(tmp_path / "corpus" / "b.parquet", table(id=pa.array([b"3", b"\xff"]), text=pa.array([b"a\xff", b"b"])))
    done = cli(*run(tmp_path / "corpus", tmp_path / "run", "--index", "none"), code=3)
    assert done.json["committed"] == 1
    reasons = [json.loads(one)["reason"] for one in (tmp_path / "run" / "quarantine.jsonl").read_bytes().splitlines()]
    assert reasons == [
        "the 'index' action has no document on the line after it",
        "text field 'text' is bytes that are not UTF-8 (the one at 1), not a string",
        "id field 'id' is bytes that are not UTF-8 (the one at 0), not a string or an integer",
    ]


def test_a_run_of_the_first_version_goes_on_with_its_own_rules(cli: Any, tmp_path: Path) -> None:
    """Interrupted after its first segment, resumed by the same command, then searched and given one model more."""
    records = [{"id": f"d{n}", "chunk_id": f"c{n}", "title": "T", "text": f"page{n}\fStart"} for n in range(5)]
    source = write(tmp_path / "c.jsonl", lines(*records, b'{"id":"n","text":"t","score":NaN}'))
    layout = RunLayout(tmp_path / "run")
    spec = RunSpec(source=str(source), passes=(PassSpec(vector="dense-fake-8", kind="dense", model="fake:8"),))
    segments: list[Any] = []
    ChunkLoader(spec, layout, SegmentLimits(rows=2), segments.append, lambda: bool(segments)).load()
    assert 0 < len(segments) < 3
    assert not layout.intake.exists()
    layout.spec.write_bytes(msgspec.json.encode(spec))  # as 0.1.0 writes it: it says nothing of a policy
    done = cli(*run(source, tmp_path / "run"), code=3)
    assert (done.json["committed"], done.json["quarantined"], done.json["notes"]) == (5, 1, {})
    expected = {f"d{n}": (f"page{n}Start", {"chunk_id": f"c{n}", "title": "T"}) for n in range(5)}
    assert chunks(tmp_path / "run") == expected
    assert b"preprocessing" not in layout.spec.read_bytes()
    hits = cli("search", tmp_path / "run", "page3\fStart", "--top-k", "1", "--json").json
    assert (hits[0]["id"], round(hits[0]["score"], 4)) == ("d3", 1.0), "a query goes through the policy of the chunks"
    cli(*run(source, tmp_path / "run", "--dense", "fake:16"), code=3)
    assert chunks(tmp_path / "run") == expected
    assert cli("verify", tmp_path / "run", "--json").json["ok"] is True
    assert "title_field" in cli(*run(source, tmp_path / "run", "--dense", "fake:16", "--title-field", "T"), code=2).err
    cli(*run(source, tmp_path / "run", "--restart"))
    assert chunks(tmp_path / "run")["c3"] == ("T page3 Start", {"id": "d3", "title": "T"})
    assert b"nfc-blank-2" in layout.spec.read_bytes()
