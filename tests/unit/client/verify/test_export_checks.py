from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
from embedfleet.client.evaluation.evaluation import Evaluation
from embedfleet.client.evaluation.report import write_report
from embedfleet.client.verify.recount import verify_run
from embedfleet.client.verify.rerank_checks import rerank_problems
from embedfleet.exporter.export_runtime import ExportRuntime
from embedfleet.exporter.ranking.candidates import find_candidates
from embedfleet.exporter.ranking.ranking import rank_candidates
from embedfleet.protocol.run_directory.layout import RunLayout

pytest.importorskip("qdrant_edge")


@pytest.fixture(scope="module")
def made(run_files: Any, tmp_path_factory: pytest.TempPathFactory) -> RunLayout:
    """A run that is exported and ranked."""
    files = run_files.RunFiles(tmp_path_factory.mktemp("made") / "run", sizes=(3, 4)).write()
    files.publish()
    run_files.RunFiles(files.layout.queries, sizes=(2,), index="none").write()
    find_candidates(files.root, 5)
    rank_candidates(files.root, 3, None)
    write_report(files.layout, Evaluation(queries=0, candidates=5, rankings=(), verdict="nothing", notes=()))
    ExportRuntime.export_for_local_qdrant(files.root, ["jsonl"], None, lambda _file: None)
    return files.layout


@pytest.fixture
def layout(made: RunLayout, tmp_path: Path) -> Iterator[RunLayout]:
    """The same, which gets back after each test what that damaged."""
    folders = (made.export, made.rerank, made.queries)
    for folder in folders:
        shutil.copytree(folder, tmp_path / folder.name)
    yield made
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / folder.name, folder)


def found(layout: RunLayout) -> str:
    """What `verify` says."""
    return "\n".join(verify_run(layout.root).problems)


def flip(path: Path) -> None:
    """Change a bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


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
        ("rerank/pairs.jsonl", flip, "delete it and run the same command again"),
        (
            "rerank/pairs.jsonl",
            lambda path: path.write_bytes(path.read_bytes().replace(b"text ", b"test ", 1)),
            "digest",
        ),
        ("rerank/pairs.jsonl", lambda path: path.write_bytes(b""), "has 0 pairs, and candidates.json says"),
        ("rerank/candidates.json", lambda path: path.write_text("{}"), "missing required field"),
        ("rerank/candidates.json", Path.unlink, "is gone; run the same command again"),
        ("rerank/rerank_run.json", lambda path: path.write_text("{}"), "missing required field"),
        ("export/export.json", Path.unlink, "is gone, and nobody knows whose collection.json, "),
        ("export/export.json", lambda path: path.write_bytes(b'{"files": "\xff"}'), "not a record of files"),
        ("queries/vectors/dense-fake", shutil.rmtree, "lacks segments 0 of 1; run the same command again"),
        ("queries/spec.json", lambda path: path.write_text("{"), "not a spec that this version reads"),
        ("queries", shutil.rmtree, "has no spec.json; delete the folder and run the same command again"),
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


@pytest.mark.parametrize("name", ["candidates.parquet", "ranking.parquet"])
def test_a_changed_byte_of_a_table_is_found(layout: RunLayout, name: str) -> None:
    path = layout.rerank / name
    with pq.ParquetFile(path) as file:
        group = file.metadata.row_group(0)
    for number in range(group.num_columns):
        whole, column = path.read_bytes(), group.column(number)
        data = bytearray(whole)
        start = column.dictionary_page_offset or column.data_page_offset
        data[start + column.total_compressed_size - 2] ^= 0x10
        path.write_bytes(data)
        assert f"{path}: torn or unreadable" in "\n".join(rerank_problems(layout)), column.path_in_schema
        path.write_bytes(whole)


def test_the_run_of_the_pairs_is_recounted_too(layout: RunLayout, run_files: Any) -> None:
    layout.rerank_record.write_bytes(msgspec.json.encode(run_files.rerank_run(3)))
    assert f"{layout.scores}: has no spec.json" in found(layout)
    pairs = run_files.RunFiles(layout.scores, sizes=(3,), index="none").write()
    assert found(layout) == ""
    pairs.layout.vector_segment(run_files.DENSE, 0).unlink()
    assert f"{pairs.layout.vector_folder(run_files.DENSE)}: lacks segments 0" in found(layout)
