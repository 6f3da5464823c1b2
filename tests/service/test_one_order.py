"""One order everywhere: `search`, candidates and ranking agree, ties and all; and a signal that cannot answer is left out."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

pytest.importorskip("qdrant_edge")

TEXTS = [f"page {row % 9} of the manual" + " more" * (row % 4) for row in range(300)]
QUERIES = {"a": "page 3 of the manual", "b": "manual more more", "c": "page 7", "d": "more page 1 page 2 of"}
PASSES = (
    "--dense",
    "fake:16",
    "--sparse",
    "bm25",
    "--sparse",
    "fake:64",
    "--multivector",
    "fake:8",
    "--devices",
    "cpu",
)
NAMES = ("dense-fake-16", "sparse-bm25", "sparse-fake-64", "multivector-fake-8")


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    write(folder / "corpus.jsonl", [{"id": f"c{row}", "text": text} for row, text in enumerate(TEXTS)])
    write(folder / "queries.jsonl", [{"_id": name, "text": text} for name, text in QUERIES.items()])
    return folder


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, cli: Any, files: Path) -> Path:
    out = tmp_path_factory.mktemp("one") / "run"
    asked = ("--queries", files / "queries.jsonl", "--top-k", "20")
    cli("run", files / "corpus.jsonl", "--out", out, *PASSES, *asked)
    return out


def test_every_row_follows_from_its_ranks_and_every_rank_from_its_scores(out: Path) -> None:
    rows = pq.read_table(out / "rerank" / "ranking.parquet").to_pylist()
    assert len(rows) >= len(QUERIES) * 100
    for query in QUERIES:
        some = [row for row in rows if row["query"] == query]
        for name in NAMES:
            ranked = sorted((row for row in some if row[f"{name}.rank"]), key=lambda row: row[f"{name}.rank"])
            assert [row[f"{name}.rank"] for row in ranked] == list(range(1, len(ranked) + 1))
            assert ranked == sorted(ranked, key=lambda row: (-row[f"{name}.score"], row["row"]))
            beyond = [row for row in some if row[f"{name}.score"] is not None and not row[f"{name}.rank"]]
            last = (ranked[-1][f"{name}.score"], -ranked[-1]["row"])
            assert all((row[f"{name}.score"], -row["row"]) < last for row in beyond)
        fused = [row for row in some if row["fused.rank"] is not None]
        for row in fused:
            ranks = [row[f"{name}.rank"] for name in NAMES if row[f"{name}.rank"] is not None]
            assert abs(row["fused.score"] - float(sum(Fraction(1, 1 + rank) for rank in ranks))) < 1e-12
        assert fused == sorted(fused, key=lambda row: (-row["fused.score"], row["row"]))
        assert [row["rank"] for row in fused] == [row["fused.rank"] for row in fused] == list(range(1, 101))


def test_the_lines_and_a_search_say_the_same(out: Path, cli: Any) -> None:
    table = pq.read_table(out / "rerank" / "ranking.parquet").to_pylist()
    lines = [json.loads(line) for line in (out / "export" / "rerank.jsonl").read_text().splitlines()]
    for query, text in QUERIES.items():
        rows = [row for row in table if row["query"] == query][:20]
        some = [line for line in lines if line["query"] == query]
        hits = cli("search", out, text, "--top-k", "20", "--json").json
        assert [row["id"] for row in rows] == [line["id"] for line in some] == [hit["id"] for hit in hits]
        for row, line, hit in zip(rows, some, hits, strict=True):
            assert row["fused.score"] == line["scores"]["fused"] == hit["score"]
            for name in NAMES:
                score, rank = row[f"{name}.score"], row[f"{name}.rank"]
                assert hit["scores"].get(name) == score
                assert hit["ranks"].get(name) == line["ranks"][name] == rank
            assert hit["left_out"] == {}


def test_a_search_is_a_run_of_one_query_where_models_fail_too(cli: Any, tmp_path: Path) -> None:
    """A model that fails on a query: the words of the query stand in where the metadata's weights do, and a text that one
    head cannot encode has none of the others either. Token vectors are those that a run keeps, in half precision."""
    words = [f"w{number}" for number in range(40)]
    random = np.random.default_rng(3)
    records = []
    for row in range(60):
        some = random.choice(words, 12).tolist() + (["poison"] if row % 5 == 0 else [])
        weights = [{"term": word, "weight": float(random.random())} for word in random.choice(words, 6, replace=False)]
        features = {"sparse_features": {"term_weights": weights}}
        records.append({"id": f"c{row}", "text": " ".join(some), "metadata": features})
    asked = {"a": "w1 w7 w9 w30", "b": "poison w1 w2 w3 w4", "c": "oddly w5 w6 w7 w8"}
    source = write(tmp_path / "c.jsonl", records)
    queries = write(tmp_path / "q.jsonl", [{"id": name, "text": text} for name, text in asked.items()])
    out, models = tmp_path / "run", ("--heads", "fake:16,nan_on=oddly", "--sparse", "fake:64,nan_on=poison")
    more = ("--multivector", "fake:8", "--devices", "cpu", "--queries", queries, "--candidates", "30", "--json")
    cli("run", source, "--out", out, *models, *more, code=3)
    table = pq.read_table(out / "rerank" / "ranking.parquet").to_pylist()
    names = [name.removesuffix(".rank") for name in table[0] if name.endswith(".rank") and not name.startswith("fused")]
    for name, text in asked.items():
        rows = [row for row in table if row["query"] == name and row["rank"] is not None]
        done = cli("search", out, text, "--top-k", "30", "--candidates", "30", "--json")
        assert [(hit["id"], hit["score"]) for hit in done.json] == [(row["id"], row["fused.score"]) for row in rows]
        for row, hit in zip(rows, done.json, strict=True):
            for signal in names:
                assert hit["ranks"].get(signal) == row[f"{signal}.rank"]
                assert hit["scores"].get(signal) == row[f"{signal}.score"]
        said = (
            "sparse-fake-64: NaN or infinity in the query vector; try another --dtype for this model; the query's words"
        )
        assert (said in done.err) == (name == "b")
        left_out = ["dense-fake-16", "multivector-fake-16", "sparse-fake-16"] if name == "c" else []
        assert sorted(done.json[0]["left_out"]) == left_out
    assert any(row["sparse-fake-64.rank"] for row in table if row["query"] == "b")


def test_another_build_gives_the_same_bytes(out: Path, cli: Any, files: Path, tmp_path: Path) -> None:
    asked = ("--queries", files / "queries.jsonl", "--top-k", "20")
    cli("run", files / "corpus.jsonl", "--out", tmp_path / "run", *PASSES, *asked)
    for name in ("rerank/ranking.parquet", "rerank/pairs.jsonl", "export/rerank.jsonl"):
        assert (tmp_path / "run" / name).read_bytes() == (out / name).read_bytes()


def test_a_lone_signal_has_fused_scores_of_its_ranks(cli: Any, files: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    asked = ("--queries", files / "queries.jsonl", "--candidates", "7", "--top-k", "7")
    cli("run", files / "corpus.jsonl", "--out", out, "--sparse", "bm25", "--devices", "cpu", *asked)
    for line in (out / "export" / "rerank.jsonl").read_text().splitlines():
        found = json.loads(line)
        assert found["ranks"]["fused"] == found["ranks"]["sparse-bm25"] == found["rank"]
        assert found["scores"]["fused"] == 1 / (1 + found["rank"])
    hits = cli("search", out, QUERIES["a"], "--top-k", "7", "--json").json
    assert [hit["ranks"]["sparse-bm25"] for hit in hits] == list(range(1, 8))
    assert [hit["score"] for hit in hits] == [hit["scores"]["sparse-bm25"] for hit in hits]


FAULTY = "fake:8,nan_on=nonsense,shape_on=crooked,raise_on=broken,kill_on=deadly,hang_on=endless"


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory, cli: Any, files: Path) -> Path:
    out = tmp_path_factory.mktemp("faulty") / "run"
    models = ("--dense", f"odd={FAULTY}", "--dense", "fake:16", "--sparse", "bm25", "--ensemble", "concat")
    cli("run", files / "corpus.jsonl", "--out", out, *models, "--devices", "cpu")
    return out


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("nonsense", "NaN or infinity in the query vector"),
        ("crooked", "the query vector has another shape than the run's vectors"),
        ("broken", "failed: RuntimeError: CUDA error"),
        ("deadly", "the query encoder ended with status -9"),
        ("endless", "no answer after 8 s; where the model needs longer, give --timeout SECONDS"),
    ],
)
def test_a_signal_that_cannot_answer_is_left_out(faulty: Path, cli: Any, word: str, reason: str) -> None:
    seconds = "8" if word == "endless" else "60"
    done = cli("search", faulty, f"{word} page 3", "--top-k", "3", "--timeout", seconds, "--json")
    assert len(done.json) == 3
    for hit in done.json:
        assert set(hit["left_out"]) == {"dense-odd", "ensemble-concat"}
        assert reason in hit["left_out"]["dense-odd"]
        assert set(hit["scores"]) <= {"dense-fake-16", "sparse-bm25"}
        assert hit["score"] == pytest.approx(sum(1 / (1 + rank) for rank in hit["ranks"].values()), abs=1e-12)
    lines = [line for line in done.err.splitlines() if "left out" in line]
    assert [line.split(" is left out: ")[0] for line in lines] == [
        "embedfleet: dense-odd",
        "embedfleet: ensemble-concat",
    ]
    assert reason in lines[0]


def test_no_signal_left_is_one_error(faulty: Path, cli: Any) -> None:
    done = cli("search", faulty, "nonsense", "--signals", "odd", code=1)
    assert (
        done.err
        == "embedfleet: error: dense-odd: NaN or infinity in the query vector; try another --dtype for this model\n"
    )
    done = cli("search", faulty, "of the and", "--signals", "bm25", code=2)
    assert "no signal can answer this query; sparse-bm25 is left out: the query vector has no term" in done.err
    done = cli("search", faulty, "of the and", "--json")
    assert set(done.json[0]["left_out"]) == {"sparse-bm25"}
