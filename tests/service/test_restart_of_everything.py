"""`--restart` over a run that has everything: nothing of the run's own is taken for somebody else's, wherever it lies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.run_directory.own_files import foreign_files, read_owner
from embedfleet.protocol.run_directory.removal import clear_run

pytest.importorskip("qdrant_edge")


@pytest.fixture
def command(tmp_path: Path, corpus_of: Any) -> tuple[Any, ...]:
    source = corpus_of(tmp_path / "corpus.jsonl", [f"chunk {row} of several" for row in range(40)])
    write_queries(tmp_path, "chunk 7")
    (tmp_path / "qrels.tsv").write_text("q 0 c7 1\n")
    models = ("--dense", "fake:8", "--dense", "fake:4", "--sparse", "bm25", "--ensemble", "concat", "--store", "int8")
    after = ("--queries", tmp_path / "queries.jsonl", "--qrels", tmp_path / "qrels.tsv", "--rerank", "fake:1")
    return ("run", source, "--out", tmp_path / "run", "--devices", "cpu", *models, *after, "--export", "all")


def write_queries(folder: Path, text: str) -> None:
    (folder / "queries.jsonl").write_text(json.dumps({"id": "q", "text": text}) + "\n")


def test_everything_is_the_runs_own_and_goes_with_a_restart(command: tuple[Any, ...], cli: Any, tmp_path: Path) -> None:
    cli(*command)
    layout = RunLayout(tmp_path / "run")
    for root in (layout.queries, layout.scores):
        assert foreign_files(root) == []

    cli(*command, "--restart")
    assert cli("verify", layout.root, "--json").json["problems"] == []

    # Notes among the queries are kept.
    notes = [layout.queries / place / "notes.txt" for place in ("chunks", "vectors/dense-fake-8")]
    for one in notes:
        one.write_text(f"mine: {one}")
    cli(*command, "--restart")
    for one in notes:
        assert one.read_text() == f"mine: {one}"
        one.unlink()
    assert cli("verify", layout.root, "--json").json["problems"] == []

    write_queries(tmp_path, "chunk 8")
    cli(*command)
    assert cli("verify", layout.root, "--json").json["problems"] == []

    spec = read_owner(layout)
    assert spec is not None
    clear_run(layout, spec)
    assert sorted(path.name for path in layout.root.rglob("*")) == [".lock", "spec.json"]
