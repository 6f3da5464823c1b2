"""`--heads`: three vectors of one pass, end to end, without torch; the metadata's weights where the model failed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedfleet import open_run
from embedfleet.protocol.vectors.metadata_terms import term_index

pytest.importorskip("qdrant_edge")

ROWS, BAD = 12, 5
"""The model gives nothing for row BAD."""
NAMES = ["dense-fake-64", "sparse-fake-64", "multivector-fake-64"]


def text_of(row: int) -> str:
    return f"chunk {row} of {'poison' if row == BAD else 'a corpus'}"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, cli: Any) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("heads")
    weights = {"sparse_features": {"term_weights": [{"term": "tapir", "weight": 2.0}]}}
    lines = [{"id": f"c{row}", "text": text_of(row), "metadata": weights} for row in range(ROWS)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = folder / "run"
    args = ("--heads", "fake:64,nan_on=poison", "--devices", "cpu", "--json", "--export")
    formats = "jsonl,npy,sparse-jsonl,multivector-jsonl"
    return out, cli("run", folder / "corpus.jsonl", "--out", out, *args, formats, code=3)


def test_three_vectors_stand_and_the_metadata_stands_in(made: tuple[Path, Any], fake_vectors: Any, cli: Any) -> None:
    out, done = made
    assert (done.json["committed"], done.json["quarantined"]) == (ROWS - 1, 1)
    assert f"weights {ROWS - 1} by the model, 1 from metadata" in done.err
    run = open_run(out)
    assert list(run.vector_names) == NAMES
    assert {(one["vector"], one["row"]) for one in run.quarantine} == {(NAMES[0], BAD), (NAMES[2], BAD)}
    good = [row for row in range(ROWS) if row != BAD]
    np.testing.assert_allclose(run.vectors(NAMES[0])[good], fake_vectors([text_of(row) for row in good], 64), atol=1e-6)
    words = [0 if row == BAD else len(text_of(row).split()) for row in range(ROWS)]
    assert np.diff(run.vectors(NAMES[2]).indptr).tolist() == words
    sparse = run.vectors(NAMES[1])
    assert sparse.indices[sparse.indptr[BAD] : sparse.indptr[BAD + 1]].tolist() == [term_index("tapir")]
    (section,) = json.loads((out / "manifest.json").read_bytes())["sparse_run"]
    assert (section["live"], section["from_metadata"], section["without"]) == (ROWS - 1, 1, 0)
    report = cli("verify", out, "--json").json
    assert (report["problems"], report["points"]) == ([], ROWS)


def test_a_search_finds_by_all_three_and_by_the_weights_that_stand_in(made: tuple[Path, Any], cli: Any) -> None:
    (hit,) = cli("search", made[0], text_of(7), "--top-k", "1", "--json").json
    assert (hit["id"], set(hit["scores"])) == ("c7", set(NAMES))
    hits = cli("search", made[0], "tapir", "--signals", NAMES[1], "--json").json
    assert f"c{BAD}" in [hit["id"] for hit in hits]


def test_every_export_has_the_three(made: tuple[Path, Any]) -> None:
    run, folder = open_run(made[0]), made[0] / "export"
    recorded = [one["name"] for one in json.loads((folder / "export.json").read_bytes())["files"]]
    dense = np.load(folder / next(name for name in recorded if name.endswith(".npy")))
    np.testing.assert_array_equal(dense, run.vectors(NAMES[0]))
    points = [json.loads(line) for line in (folder / "points.jsonl").read_text().splitlines()]
    held = [set(point["vector"]) for point in points]
    assert held == [{NAMES[1]} if row == BAD else set(NAMES) for row in range(ROWS)]
    late = run.vectors(NAMES[2])
    exported = np.array(points[7]["vector"][NAMES[2]], np.float16)
    np.testing.assert_array_equal(exported, late.tokens[late.indptr[7] : late.indptr[8]])
