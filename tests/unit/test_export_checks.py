from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from embedfleet.client.evaluation import Evaluation
from embedfleet.client.report import write_report
from embedfleet.client.verify import verify_run
from embedfleet.exporter.candidates import find_candidates
from embedfleet.exporter.export_runtime import ExportRuntime
from embedfleet.exporter.ranking import rank_candidates
from embedfleet.protocol.layout import RunLayout

pytest.importorskip("qdrant_edge")


@pytest.fixture
def layout(run_files: Any, tmp_path: Path) -> RunLayout:
    """A run that is exported and ranked."""
    files = run_files.RunFiles(tmp_path / "run", sizes=(3, 4)).write()
    files.publish()
    run_files.RunFiles(files.layout.queries, sizes=(2,), index="none").write()
    find_candidates(files.root, 5)
    rank_candidates(files.root, 3, None)
    write_report(files.layout, Evaluation(queries=0, candidates=5, rankings=(), verdict="nothing", notes=()))
    ExportRuntime.export_for_local_qdrant(files.root, ["jsonl"], None, lambda _file: None)
    return files.layout


def found(layout: RunLayout) -> str:
    """What `verify` says of exports and rankings."""
    return "\n".join(one for one in verify_run(layout.root).problems if "/export/" in one or "/rerank/" in one)


def test_what_is_on_record_stands(layout: RunLayout) -> None:
    assert found(layout) == ""


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("export/points.jsonl", lambda path: path.write_bytes(path.read_bytes()[:-9]), "bytes, and export.json says"),
        ("export/points.jsonl", lambda path: path.write_bytes(path.read_bytes()[::-1]), "digest differs"),
        ("export/rerank.jsonl", Path.unlink, "is gone, and export.json names it; run the same command again"),
        ("export/report.html", lambda path: path.write_bytes(path.read_bytes()[::-1]), "digest differs"),
        ("export/evaluation.json", Path.unlink, "is gone, and report.json names it; run the same command again"),
        ("rerank/report.json", lambda path: path.write_text("{"), "not a record of files"),
        ("export/export.json", lambda path: path.write_text("{"), "not a record of files"),
        ("rerank/ranking.parquet", Path.unlink, "is gone; run the same command again"),
        ("rerank/ranking.parquet", lambda path: path.write_bytes(b"PAR1"), "torn or unreadable"),
        ("rerank/pairs.jsonl", Path.unlink, "is gone"),
    ],
)
def test_what_does_not_is_a_problem(layout: RunLayout, name: str, damage: Callable[[Path], Any], said: str) -> None:
    damage(layout.root / name)
    problem = found(layout)
    assert f"{layout.root / name}: " in problem
    assert said in problem


def test_an_evaluation_goes_with_its_record_where_the_order_is_another_one(layout: RunLayout) -> None:
    layout.ranking.write_bytes(b"another one")
    rank_candidates(layout.root, 3, None)
    assert not any(path.exists() for path in (layout.report, layout.evaluation, layout.report_record))
    assert found(layout) == ""
