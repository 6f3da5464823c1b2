"""The recommended signals and `--signals`, through the command line, on corpora where the truth is known."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from embedfleet import Embedder
from embedfleet.protocol.index.rank_fusion import fuse

pytest.importorskip("qdrant_edge")

QUERIES = 40
SMALL = ("the", "of", "and", "to", "in", "is", "it", "for", "on", "with", "as", "at")
"""Words without weight in BM25: only a fake model, which knows whole texts, finds what is made of them."""


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return path


def weights(**terms: float) -> dict[str, Any]:
    found = [{"term": term, "tf": 1, "weight": weight} for term, weight in terms.items()]
    return {"sparse_features": {"term_weights": found}}


def make(folder: Path, chunks: list[dict[str, Any]], queries: list[str]) -> tuple[Path, ...]:
    """Query n is answered by chunk n."""
    corpus = write(folder / "corpus.jsonl", chunks)
    asked = write(folder / "queries.jsonl", [{"_id": f"q{n}", "text": text} for n, text in enumerate(queries)])
    (folder / "qrels.tsv").write_text("".join(f"q{n}\tc{n}\t1\n" for n in range(len(queries))))
    return corpus, asked, folder / "qrels.tsv"


@pytest.fixture(scope="module")
def one_useful(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """BM25 finds the words, the metadata has nearly the same weights, and fake vectors know no text of the queries."""
    chance = random.Random(1)
    words = [f"word{n}" for n in range(60)]
    texts = [" ".join([f"topic{n}", *chance.sample(words, 6)]) for n in range(120)]
    chunks = [
        {"id": f"c{n}", "text": text, "metadata": weights(**{word: 1 + chance.random() / 10 for word in text.split()})}
        for n, text in enumerate(texts)
    ]
    asked = [" ".join([f"about topic{n}", *chance.sample(words, 3)]) for n in range(QUERIES)]
    return make(tmp_path_factory.mktemp("useful"), chunks, asked)


@pytest.fixture(scope="module")
def two_useful(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Of the queries, BM25 finds one half and fake vectors the other; the metadata leads every query to wrong chunks."""
    chance = random.Random(2)
    texts = [f"topic{n} here" if n % 2 else " ".join(chance.sample(SMALL, 9)) for n in range(120)]
    asked = [f"about topic{n}" if n % 2 else texts[n] for n in range(QUERIES)]
    wrong = [word for n in range(QUERIES) for word in asked[n].split()]
    chunks = [
        {"id": f"c{n}", "text": text, "metadata": weights(**dict.fromkeys(wrong, 1 + chance.random()))}
        for n, text in enumerate(texts)
    ]
    for n in range(QUERIES):
        chunks[n]["metadata"] = {"n": n}
    return make(tmp_path_factory.mktemp("two"), chunks, asked)


MODELS = ("--dense", "fake:32", "--sparse", "bm25", "--sparse", "metadata", "--devices", "cpu")


def command(files: tuple[Path, ...], out: Path, *more: str) -> tuple[str | Path, ...]:
    corpus, queries, qrels = files
    return ("run", corpus, "--out", out, *MODELS, "--queries", queries, "--qrels", qrels, "--candidates", "30", *more)


@pytest.fixture(scope="module")
def ranked(one_useful: tuple[Path, ...], tmp_path_factory: pytest.TempPathFactory, cli: Any) -> tuple[Path, Any]:
    pytest.importorskip("ir_measures")
    out = tmp_path_factory.mktemp("ranked") / "run"
    return out, cli(*command(one_useful, out, "--json"))


def test_of_a_useful_a_redundant_and_a_useless_signal_one_is_recommended(ranked: tuple[Path, Any]) -> None:
    out, done = ranked
    found = done.json["evaluation"]
    (chosen,) = found["recommendation"]["chosen"]["signals"]
    assert chosen in ("sparse-bm25", "sparse-metadata")
    assert found["recommendation"]["sets"] == 7
    assert found["verdict"].startswith(f"Recommended: {chosen} alone ")
    assert found["verdict"].endswith(f" --signals {chosen}")
    assert found["verdict"] in done.err
    assert "chance may explain" not in done.err
    assert json.loads((out / "export" / "evaluation.json").read_bytes()) == found
    page = (out / "export" / "report.html").read_text()
    assert found["verdict"] in page
    by_name = {one["name"]: one for one in found["signals"]}
    useless = by_name["dense-fake-32"]
    assert useless["alone"] < 0.2
    assert useless["adds"]["mean"] == pytest.approx(found["fusion"]["ndcg"] - useless["without"], abs=1e-4)
    for one in found["signals"]:
        for text in (one["name"], f"{one['alone']:.4f}", f"{one['without']:.4f}", f"{one['adds']['mean']:+.4f}"):
            assert text in page
            assert text in done.err


def test_two_that_complement_each_other_are_recommended_without_the_one_that_spoils(
    two_useful: tuple[Path, ...], tmp_path: Path, cli: Any
) -> None:
    pytest.importorskip("ir_measures")
    found = cli(*command(two_useful, tmp_path / "run", "--json")).json["evaluation"]
    advice = found["recommendation"]
    assert advice["chosen"]["signals"] == ["dense-fake-32", "sparse-bm25"]
    assert advice["flag"] == "--signals dense-fake-32,sparse-bm25"
    assert advice["single"]["difference"]["low"] > 0
    assert advice["larger"]["difference"]["mean"] > 0
    alone = {one["name"]: one for one in found["signals"]}
    for name, parity in (("dense-fake-32", 0), ("sparse-bm25", 1)):
        only = alone[name]["first_ten"]
        assert {int(query[1:]) % 2 for query in only["queries"]} == {parity}
        assert 15 <= only["chunks"] == len(only["queries"]) <= QUERIES // 2, "but for what the other has by chance"
    assert alone["sparse-metadata"]["first_ten"] == {"chunks": 0, "queries": []}
    fused = {one["name"]: one["scores"]["nDCG@10"] for one in found["rankings"]}["fused"]
    assert advice["chosen"]["ndcg"] > fused, "the third one spoils the fusion of all"


def rows_of(out: Path) -> list[dict[str, Any]]:
    return pq.read_table(out / "rerank" / "ranking.parquet").to_pylist()


def fused_of(out: Path, names: tuple[str, ...]) -> None:
    """Assert that the fused order is that of these signals alone, by their ranks on file; and that all are still ranked."""
    by_query: dict[str, list[dict[str, Any]]] = {}
    for row in rows_of(out):
        by_query.setdefault(row["query"], []).append(row)
    for rows in by_query.values():
        lists = [
            [row["row"] for row in sorted(rows, key=lambda row: row[f"{name}.rank"] or 0) if row[f"{name}.rank"]]
            for name in names
        ]
        got = {row["row"]: row["fused.rank"] for row in rows if row["fused.rank"] is not None}
        first = fuse(lists)[:30]
        assert sorted(got, key=lambda row: got[row]) == [row for row, _ in first]
    assert all(any(row[f"{name}.rank"] for row in rows_of(out)) for name in ("dense-fake-32", "sparse-metadata"))


def test_signals_are_what_is_fused_and_the_rest_is_evaluated_all_the_same(
    ranked: tuple[Path, Any], one_useful: tuple[Path, ...], cli: Any
) -> None:
    out, before = ranked
    chosen = ("dense-fake-32", "sparse-bm25")
    done = cli(*command(one_useful, out, "--json", "--signals", "fake-32,bm25"))
    record = json.loads((out / "rerank" / "candidates.json").read_bytes())
    assert tuple(record["fused"]) == chosen
    assert record["signals"] == ["dense-fake-32", "sparse-bm25", "sparse-metadata"]
    fused_of(out, chosen)
    assert f"of {' + '.join(chosen)}" in done.err
    found = done.json["evaluation"]
    assert found["signals"] == before.json["evaluation"]["signals"], "what each adds does not depend on what is fused"
    assert found["recommendation"] == before.json["evaluation"]["recommendation"]
    assert f"This run fused {' + '.join(chosen)} (" in found["verdict"]
    stamp = (out / "rerank" / "candidates.parquet").stat().st_mtime_ns
    cli(*command(one_useful, out, "--signals", "bm25,dense"))
    again = json.loads((out / "rerank" / "candidates.json").read_bytes())
    assert tuple(again["fused"]) == chosen
    cli(*command(one_useful, out, "--signals", "sparse"))
    assert json.loads((out / "rerank" / "candidates.json").read_bytes())["fused"] == ["sparse-bm25", "sparse-metadata"]
    cli(*command(one_useful, out))
    assert tuple(json.loads((out / "rerank" / "candidates.json").read_bytes())["fused"]) == tuple(record["signals"])
    assert (out / "rerank" / "candidates.parquet").stat().st_mtime_ns != stamp
    assert cli("verify", out, "--json").json["ok"] is True


def test_a_lone_signal_is_its_own_order(one_useful: tuple[Path, ...], tmp_path: Path) -> None:
    corpus, queries, qrels = one_useful
    embedder = Embedder(tmp_path / "run", dense="fake:32", sparse=["bm25", "metadata"], devices="cpu")
    embedder.load_chunks(corpus)
    embedder.generate_embeddings()
    found = embedder.rank(queries, qrels, candidates=30, signals="sparse-bm25")
    assert all(one.ranks["fused"] == one.ranks["sparse-bm25"] for one in found)
    assert found.evaluation is not None
    scores = {one.name: one.scores for one in found.evaluation.rankings}
    assert scores["fused"] == scores["sparse-bm25"]
    both = embedder.rank(queries, candidates=30, signals=["dense", "bm25"])
    assert both.evaluation is None
    fused_of(tmp_path / "run", ("dense-fake-32", "sparse-bm25"))


def test_a_name_that_is_none_is_refused_before_any_work(one_useful: tuple[Path, ...], tmp_path: Path, cli: Any) -> None:
    out = tmp_path / "run"
    error = cli(*command(one_useful, out, "--signals", "dense,nonsense"), code=2).error
    assert "--signals nonsense: the run has no such vector; it has dense-fake-32, sparse-bm25, sparse-metadata" in error
    assert "names nothing" in cli(*command(one_useful, out, "--signals", ","), code=2).error
    without = cli("run", one_useful[0], "--out", out, *MODELS, "--signals", "dense", code=2).error
    assert "--signals dense: give --queries Q.jsonl too" in without
    assert not out.exists()
