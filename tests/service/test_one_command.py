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
def command(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
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
    return ("run", folder / "corpus.jsonl", "--out", out, "--devices", "cpu", *models, *weights, *after, "--json")


@pytest.fixture(scope="module")
def made(command: tuple[Any, ...], cli: Any) -> tuple[Path, Any]:
    return command[3], cli(*command)


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
    files = (path for path in folder.rglob("*") if path.is_file())
    assert recorded.keys() == {path.relative_to(folder).as_posix() for path in files} - {"export.json"}
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


def test_a_pass_that_no_model_computed_tells_its_committed_rows(made: tuple[Path, Any]) -> None:
    done = made[1]
    assert {one["vector"]: one["chunks"] for one in done.json["passes"]} == dict.fromkeys(NAMES, ROWS)
    assert f"sparse-metadata: {ROWS} rows, coverage 100.00%" in done.err


def test_a_resume_that_computes_little_keeps_the_figures(
    made: tuple[Path, Any], command: tuple[Any, ...], cli: Any
) -> None:
    out = made[0]
    stats, sections = (json.loads((out / name).read_bytes()) for name in ("stats.json", "manifest.json"))
    (out / "vectors" / "dense-fake-24" / "00000.parquet").unlink()
    again = cli(*command)
    after = json.loads((out / "stats.json").read_bytes())
    before = {one["vector"]: one for one in stats["passes"]}
    for one in after["passes"]:
        if one["vector"] == "dense-fake-24":
            assert (one["computed"], one["sessions"], one["chunks"]) == (2 * ROWS, 2, ROWS)
            assert one["batch_seconds"]["p50"] > 0
        else:
            assert one == before[one["vector"]]
    assert json.loads((out / "manifest.json").read_bytes())["sparse_run"] == sections["sparse_run"]
    assert {one["vector"]: one["chunks"] for one in again.json["passes"]} == dict.fromkeys(NAMES, ROWS)
    assert f"sparse-metadata: 0 rows, {ROWS} rows committed in all, coverage 100.00%" in again.err


def test_formats_are_checked_before_anything_is_done(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text('{"id": "a", "text": "b"}\n')
    base = ("run", tmp_path / "corpus.jsonl", "--out", tmp_path / "run", "--dense", "fake:8", "--export")
    assert "--export csv: not known; give one or more of jsonl, npy" in cli(*base, "csv", code=2).error
    assert "--export sparse-jsonl: this run has no sparse vectors" in cli(*base, "sparse-jsonl", code=2).error
    assert not (tmp_path / "run").exists()
