"""One command for every signal and everything after it: queries, reranking, exports; each vector is in all that is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedfleet import open_run

pytest.importorskip("qdrant_edge")

ROWS = 40
WORDS = ("lease", "batch", "segment", "vector")
NAMES = [
    "dense-fake-24",
    "dense-fake-16",
    "multivector-fake-8",
    "sparse-fake-500",
    "sparse-metadata",
    "sparse-missing",
]
SCORES = {*NAMES, "fused", "rerank"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, cli: Any) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("one")
    with (folder / "corpus.jsonl").open("w") as corpus:
        for row in range(ROWS):
            word = WORDS[row % len(WORDS)]
            weights = {"term_weights": [{"term": word, "tf": 1, "weight": 1.5}]}
            record = {"id": f"c{row}", "text": f"chunk {row} of a {word}", "metadata": {"sparse_features": weights}}
            corpus.write(json.dumps(record) + "\n")
    (folder / "queries.jsonl").write_text(json.dumps({"id": "q", "text": "chunk 6 of a segment"}) + "\n")
    out = folder / "run"
    models = ("--dense", "fake:24", "--dense", "fake:16", "--multivector", "fake:8", "--sparse", "fake:500")
    weights = ("--sparse", "metadata", "--sparse", str(folder / "missing"))
    after = ("--queries", folder / "queries.jsonl", "--rerank", "fake:8", "--candidates", "20", "--export", "all")
    done = cli("run", folder / "corpus.jsonl", "--out", out, "--devices", "cpu", *models, *weights, *after, "--json")
    return out, done


def test_verify_and_the_shard_hold_every_vector(made: tuple[Path, Any], cli: Any) -> None:
    report = cli("verify", made[0], "--json").json
    assert (report["problems"], report["points"], list(report["vectors"])) == ([], ROWS, NAMES)
    hits = cli("search", made[0], "chunk 6 of a segment", "--top-k", "1", "--json").json
    assert (hits[0]["id"], set(hits[0]["scores"])) == ("c6", set(NAMES))


def test_every_export_holds_every_vector(made: tuple[Path, Any]) -> None:
    out, done = made
    run, folder = open_run(out), made[0] / "export"
    recorded = {one["name"]: one for one in json.loads((folder / "export.json").read_bytes())["files"]}
    assert list(recorded.values()) == done.json["export"]
    assert recorded.keys() == {path.name for path in folder.iterdir()} - {"export.json"}
    assert {one["format"] for one in recorded.values()} >= {"jsonl", "npy", "metadata", "rerank"}
    points = [json.loads(line) for line in (folder / "points.jsonl").read_text().splitlines()]
    assert [set(point["vector"]) for point in points] == [set(NAMES)] * ROWS
    for name in NAMES[:2]:
        np.testing.assert_array_equal(np.load(folder / f"{name}.npy"), run.vectors(name))
    assert (folder / "multivector-fake-8.multivector.jsonl").read_text().count("\n") == ROWS
    for name in NAMES[3:]:
        assert (folder / f"{name}.sparse.jsonl").read_text().count("\n") == ROWS
    ranked = [json.loads(line) for line in (folder / "rerank.jsonl").read_text().splitlines()]
    assert recorded["rerank.jsonl"]["rows"] == len(ranked) == 10
    assert (ranked[0]["id"], set(ranked[0]["scores"])) == ("c6", SCORES)


def test_both_sections_are_in_the_manifest(made: tuple[Path, Any]) -> None:
    manifest = json.loads((made[0] / "manifest.json").read_bytes())
    sparse = {one["vector"]: (one["live"], one["from_metadata"], one["without"]) for one in manifest["sparse_run"]}
    assert sparse == {
        "sparse-fake-500": (ROWS, 0, 0),
        "sparse-metadata": (0, ROWS, 0),
        "sparse-missing": (0, ROWS, 0),
    }
    assert (manifest["rerank_run"]["pairs"], manifest["rerank_run"]["coverage"]) == (20, 1.0)


def test_formats_are_checked_before_anything_is_done(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text('{"id": "a", "text": "b"}\n')
    base = ("run", tmp_path / "corpus.jsonl", "--out", tmp_path / "run", "--dense", "fake:8", "--export")
    assert "--export csv: not known; give one or more of jsonl, npy" in cli(*base, "csv", code=2).error
    assert "--export sparse-jsonl: this run has no sparse vectors" in cli(*base, "sparse-jsonl", code=2).error
    assert not (tmp_path / "run").exists()
