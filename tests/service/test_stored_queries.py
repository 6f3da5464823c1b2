"""`--queries` and `--qrels` in object storage: the same rankings as of files here."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import embedfleet
import pytest
from embedfleet.client.options.retrieval_options import build_plan
from embedfleet.client.options.spec_builder import build_spec

from ..object_store.server import Bucket
from ..run_copies import copied

pytest.importorskip("qdrant_edge")
pytest.importorskip("ir_measures")

QUERIES = b"".join(json.dumps({"id": f"q{n}", "text": f"text {n}"}).encode() + b"\n" for n in (3, 7))
OTHERS = json.dumps({"id": "q3", "text": "text 40"}).encode()
QRELS = b"query-id\tcorpus-id\tscore\nq3\tc3\t1\nq7\tc7\t1\n"
RANKED = ("--candidates", "5", "--top-k", "2")


@pytest.fixture(scope="module")
def finished(cli: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus and, in `run`, the run that ranked chunks of it for local queries."""
    folder = tmp_path_factory.mktemp("finished")
    lines = (json.dumps({"id": f"c{n}", "text": f"text {n}"}) for n in range(60))
    (folder / "corpus.jsonl").write_text("\n".join(lines))
    (folder / "queries.jsonl").write_bytes(QUERIES)
    (folder / "qrels.tsv").write_bytes(QRELS)
    asked = ("--queries", folder / "queries.jsonl", "--qrels", folder / "qrels.tsv")
    cli(*command(folder, folder / "run"), *asked, *RANKED)
    return folder


def command(folder: Path, out: Path | str) -> tuple[str | Path, ...]:
    return ("run", folder / "corpus.jsonl", "--out", out, "--dense", "fake:8", "--devices", "cpu")


def test_rankings_and_figures_are_those_of_local_files(
    cli: Any, bucket: Bucket, finished: Path, tmp_path: Path
) -> None:
    out = copied(finished / "run", tmp_path / "run")
    queries, qrels = bucket.put("asked/queries.jsonl", QUERIES), bucket.put("asked/qrels", QRELS)
    asked = ("--queries", queries, "--qrels", qrels, *RANKED)
    cli(*command(finished, out), *asked)
    assert json.loads((out / "queries" / "spec.json").read_bytes())["source"] == queries
    ranking, local = (folder / "export" / "rerank.jsonl" for folder in (out, finished / "run"))
    assert ranking.read_bytes() == local.read_bytes()
    figures = json.loads((out / "export" / "evaluation.json").read_bytes())
    assert figures["queries"] == 2
    encoded = next((out / "queries" / "vectors").rglob("*.parquet")).stat().st_ino
    cli(*command(finished, out), *asked)
    assert next((out / "queries" / "vectors").rglob("*.parquet")).stat().st_ino == encoded, "computed once"
    bucket.put("asked/queries.jsonl", OTHERS)
    assert "made of other queries" in cli(*command(finished, out), "--queries", queries, *RANKED).err
    assert [json.loads(line)["query"] for line in ranking.read_bytes().splitlines()] == ["q3"] * 2


def test_of_a_run_that_is_there_too_and_from_python(cli: Any, bucket: Bucket, finished: Path, tmp_path: Path) -> None:
    queries = bucket.put("queries.jsonl", QUERIES)
    cli(*command(finished, bucket.url("runs/asked")), "--queries", queries, *RANKED, "--spool", tmp_path / "spool")
    local = (finished / "run" / "export" / "rerank.jsonl").read_bytes()
    assert bucket.get("runs/asked/export/rerank.jsonl") == local
    embedder = embedfleet.Embedder(copied(finished / "run", tmp_path / "run"), dense="fake:8", devices="cpu")
    embedder.load_chunks(finished / "corpus.jsonl")
    embedder.rank(Path(queries), candidates=5, top_k=2)
    assert (tmp_path / "run" / "export" / "rerank.jsonl").read_bytes() == local


@pytest.mark.parametrize(
    ("queries", "qrels", "message"),
    [
        ("q.txt", None, "s3://{bucket}/q.txt: .txt is not supported; give "),
        ("none.jsonl", None, "--queries s3://{bucket}/none.jsonl: there is no such file; check bucket and key"),
        ("folder", None, "--queries s3://{bucket}/folder: is a folder; give a file"),
        ("empty.jsonl", None, "s3://{bucket}/empty.jsonl: is an empty file"),
        ("q.jsonl", "none", "--qrels s3://{bucket}/none: there is no such file; check bucket and key"),
        ("q.jsonl", "folder", "--qrels s3://{bucket}/folder: is a folder; give a file"),
        ("q.jsonl", "empty.jsonl", "--qrels s3://{bucket}/empty.jsonl: there is no judgement in it"),
        ("q.jsonl", "q.txt", "--qrels s3://{bucket}/q.txt, line 1: 1 fields; give `query-id corpus-id score`"),
    ],
)
def test_what_cannot_be_read_gets_one_line(bucket: Bucket, queries: str, qrels: str | None, message: str) -> None:
    for key, content in (("q.txt", b"x"), ("folder/q.jsonl", QUERIES), ("empty.jsonl", b""), ("q.jsonl", QUERIES)):
        bucket.put(key, content)
    spec = build_spec("-", dense=["fake:8"], sparse=[], multivector=[], heads=[])
    judged = bucket.url(qrels) if qrels is not None else None
    with pytest.raises(embedfleet.SourceError) as error:
        build_plan(bucket.url(queries), qrels=judged, rerank=None, candidates=10, top_k=10, spec=spec)
    assert message.format(bucket=bucket.name) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_of_flags_keeps_the_addresses(cli: Any, bucket: Bucket, finished: Path, tmp_path: Path) -> None:
    queries, qrels = bucket.put("queries.jsonl", QUERIES), bucket.put("qrels.tsv", QRELS)
    asked = ("--queries", queries, "--qrels", qrels, "--write-config")
    written = cli(*command(finished, tmp_path / "run"), *asked).out
    table = tomllib.loads(written.decode())["queries"]
    assert (table["file"], table["qrels"]) == (queries, qrels)
    (tmp_path / "run.toml").write_bytes(written)
    again = cli("run", finished / "corpus.jsonl", "--config", tmp_path / "run.toml", "--write-config").out
    assert tomllib.loads(again.decode())["queries"] == table
