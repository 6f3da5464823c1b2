"""What `embedfleet search` finds by its filters and shows to people, and `query-vectors` for a server with the run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from embedfleet import open_run
from embedfleet.client.search.hybrid import search

pytest.importorskip("qdrant_edge")

WORDS = ("lease", "batch", "segment", "vector", "worker")
ROWS = 60
QUERY = "the workers and their leases"

Metadata = dict[str, Any]


def record(row: int) -> dict[str, Any]:
    """Each chunk has another length, so that no two have the same score. Some fields are missing, or of another kind."""
    text = f"Chunk {row} is about a {WORDS[row % 5]}. {'It is filled with words. ' * row}Then a {WORDS[row % 4]} ends."
    metadata: Metadata = {"lang": ("de", "en", "fr")[row % 3], "tags": ["a", "b", "c"][row % 3 :], "sizes": [row, -row]}
    if row % 5:
        metadata["words"] = row * 10 if row % 7 else f"{row * 10}"
    metadata["score"] = row / 8 if row % 6 else row
    metadata["flag"] = (True, False, None, "true")[row % 4]
    if row % 4:
        day = f"2024-{1 + row % 12:02d}-{1 + row % 28:02d}"
        metadata["date"] = (day, f"{day}T10:00:00Z", f"{day} 23:59", "soon", [day, "2030-01-01"])[row % 5]
    metadata["big"] = 2**53 + row % 3
    return {"id": f"c{row}", "text": text, "metadata": metadata}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, cli: Any) -> Path:
    folder = tmp_path_factory.mktemp("hits")
    corpus = folder / "corpus.jsonl"
    corpus.write_text("".join(json.dumps(record(row)) + "\n" for row in range(ROWS)))
    cli("run", corpus, "--out", folder / "run", "--dense", "fake:32", "--sparse", "bm25", "--devices", "cpu")
    return folder / "run"


def each(metadata: Metadata, key: str) -> list[Any]:
    value = metadata.get(key)
    return value if isinstance(value, list) else [value]


def numbers(metadata: Metadata, key: str) -> Iterator[float]:
    return (one for one in each(metadata, key) if isinstance(one, int | float) and not isinstance(one, bool))


def days(metadata: Metadata) -> Iterator[str]:
    return (one[:10] for one in each(metadata, "date") if isinstance(one, str) and re.match(r"\d{4}-\d\d-\d\d", one))


CASES: dict[str, Callable[[Metadata], bool]] = {
    "words>300": lambda one: any(n > 300 for n in numbers(one, "words")),
    "words>=300": lambda one: any(n >= 300 for n in numbers(one, "words")),
    "words<300": lambda one: any(n < 300 for n in numbers(one, "words")),
    "words<=300": lambda one: any(n <= 300 for n in numbers(one, "words")),
    "words>=100 words<200.5": lambda one: any(100 <= n < 200.5 for n in numbers(one, "words")),
    "words=30|70|x": lambda one: one.get("words") in (30, 70, "30", "70"),
    "score>1.5": lambda one: any(n > 1.5 for n in numbers(one, "score")),
    "score<=1.625": lambda one: any(n <= 1.625 for n in numbers(one, "score")),
    "sizes>55": lambda one: any(n > 55 for n in numbers(one, "sizes")),
    "sizes<-55": lambda one: any(n < -55 for n in numbers(one, "sizes")),
    "big>9007199254740992": lambda one: one["big"] > 2**53,
    "big<=9007199254740993": lambda one: one["big"] <= 2**53 + 1,
    "lang=de|en": lambda one: one["lang"] in ("de", "en"),
    "lang=de|en score>=5": lambda one: one["lang"] in ("de", "en") and one["score"] >= 5,
    "tags=a|zz": lambda one: "a" in one["tags"],
    "flag=false|null": lambda one: one["flag"] in (False, None),
    "flag=true": lambda one: one["flag"] in (True, "true"),
    "date>=2024-06": lambda one: any(day >= "2024-06" for day in days(one)),
    "date<2024-06": lambda one: any(day < "2024-06" for day in days(one)),
    "date>2024-06": lambda one: any(day > "2024-06-30" for day in days(one)),
    "date<=2024-06-15": lambda one: any(day <= "2024-06-15" for day in days(one)),
    "date>2029": lambda one: any(day > "2029-12-31" for day in days(one)),
    "date>=2024-03 date<2024-05 lang=fr|de": lambda one: (
        any(day >= "2024-03" for day in days(one)) and any(day < "2024-05" for day in days(one)) and one["lang"] != "en"
    ),
}


def test_filters_find_what_python_finds_in_the_chunks(out: Path, cli: Any) -> None:
    chunks = open_run(out).chunks
    metadata = [json.loads(one) for one in chunks.column("metadata").to_pylist()]
    ids = chunks.column("id").to_pylist()
    lines = "".join(f":filter {filters}\nchunk\n" for filters in CASES).encode()
    done = cli("search", out, "--signals", "dense", "--top-k", "100", "--json", stdin=lines)
    assert done.err == ""
    answers = [{hit["id"] for hit in json.loads(line)} for line in done.out.splitlines()]
    expected = [{name for name, one in zip(ids, metadata, strict=True) if holds(one)} for holds in CASES.values()]
    assert dict(zip(CASES, answers, strict=True)) == dict(zip(CASES, expected, strict=True))
    assert all(0 < len(found) < ROWS for found in answers)


def test_the_command_and_python_take_the_same_filters(out: Path, cli: Any) -> None:
    texts = ["lang=de|en", "words>=100", "date<2024-09"]
    flags = [flag for text in texts for flag in ("--filter", text)]
    command = cli("search", out, "chunk", "--signals", "dense", *flags, "--json").json
    assert len(command) > 2
    for filters in (texts, [("lang", ["de", "en"]), *texts[1:]]):
        hits = search(out, "chunk", signals=["dense"], filters=filters)
        assert [hit.id for hit in hits] == [hit["id"] for hit in command]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("words>many", "--filter 'words>many': give a number or a date after >"),
        ("words", "--filter 'words': give KEY=VALUE, as in --filter module=json; or a range, in quotes"),
        ("lang>5", "--filter lang>…: metadata.lang is not a number in any chunk"),
        (
            "size>5",
            "--filter size>…: no chunk has metadata.size; keys: big, date, flag, lang, score, sizes, tags, words",
        ),
    ],
)
def test_a_wrong_filter_is_named_with_the_remedy(out: Path, cli: Any, text: str, why: str) -> None:
    assert why in cli("search", out, "chunk", "--signals", "bm25", "--filter", text, code=2).error


def test_piped_hits_have_80_columns_and_no_colours(out: Path, cli: Any) -> None:
    shown = cli("search", out, QUERY, "--signals", "bm25", "--top-k", "3").out.decode()
    assert "\x1b" not in shown
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80
    heads = [number for number, line in enumerate(lines) if re.match(r"  [123]\. c\d+  sparse-bm25 ", line)]
    assert len(heads) == 3
    for head in heads:
        assert re.search(r"  lang=(de|en|fr)  tags=", lines[head + 1])
        assert re.search("worker|lease", "".join(lines[head + 2 : head + 6]))
    whole = cli("search", out, QUERY, "--top-k", "1", "--full").out.decode()
    (hit,) = cli("search", out, QUERY, "--top-k", "1", "--json").json
    assert f"     {hit['text']}\n" in whole


def test_query_vectors_and_their_request_search_a_loaded_server_alike(out: Path, cli: Any) -> None:
    client_of: Any = pytest.importorskip("qdrant_client")
    from embedfleet.client.upload.uploader import upload_run

    hits = cli("search", out, QUERY, "--top-k", "50", "--json").json
    found = cli("query-vectors", out, QUERY, "--top-k", "50", "--json").json
    assert (found["query"], found["left_out"]) == (QUERY, {})
    assert len(found["vectors"]["dense-fake-32"]) == 32
    assert set(found["vectors"]["sparse-bm25"]["values"]) == {1.0}
    assert (found["request"]["method"], found["request"]["path"]) == ("POST", "/collections/run/points/query")
    client = client_of.QdrantClient(":memory:")
    upload_run(out, client)
    body = client_of.models.QueryRequest.model_validate(found["request"]["body"])
    fields = {name: getattr(body, name) for name in body.model_fields_set}
    answer = client.query_points("run", **fields).points
    assert len(hits) == len(answer) == 50
    ours = {hit["id"]: hit["score"] for hit in hits}
    assert {one.payload["id"]: one.score for one in answer} == pytest.approx(ours, rel=1e-6)
    assert [one.payload["metadata"] for one in answer[:3]] == [hit["metadata"] for hit in hits[:3]]
    lone = cli("query-vectors", out, QUERY, "--signals", "bm25", "--json").json["request"]["body"]
    assert lone["using"] == "sparse-bm25"
    client.close()


def test_query_vectors_for_people_and_what_it_refuses(out: Path, cli: Any) -> None:
    lines = cli("query-vectors", out, QUERY).out.decode().splitlines()
    assert lines[0] == "dense-fake-32  32 numbers"
    assert re.fullmatch(r"sparse-bm25 {4}\d terms", lines[1])
    assert lines[2] == "POST /collections/run/points/query"
    assert "--signals nope" in cli("query-vectors", out, QUERY, "--signals", "nope", code=2).error
    assert "the query is empty" in cli("query-vectors", out, " ", code=2).error
    assert "not a run directory" in cli("query-vectors", out.parent, QUERY, code=2).error


def test_the_exported_collection_says_how_queries_are_encoded(out: Path, cli: Any) -> None:
    cli("export", out, "--format", "metadata")
    told = json.loads((out / "export" / "collection.json").read_text())["encoding"]
    assert (told["dense-fake-32"]["query_prompt"], told["dense-fake-32"]["normalized"]) == ("", True)
    options = told["sparse-bm25"]["options"]
    settings = json.loads((out / "passes" / "sparse-bm25.json").read_text())["settings"]
    assert {"k": options["k"], "b": options["b"], "average_length": options["avg_len"]} == settings
    assert (options["tokenizer"], options["language"], options["stopwords"]) == ("word", "english", "english")
