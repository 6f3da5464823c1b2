"""Folders that hold more than a run: what no run wrote is never removed, and nothing through a symbolic link."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from embedfleet.protocol.run_directory.layout import RunLayout

from ..run_copies import copied

pytest.importorskip("qdrant_edge")

NOTES = (
    "notes.txt", "chunks/notes.txt", "chunks/7.parquet", "chunks/.notes.tmp", "vectors/mine/00000.parquet",
    "vectors/dense-fake-8/notes.txt", "qdrant/notes.txt", "queries/notes.txt", "rerank/notes.txt", "export/mine.npy",
    "export/report.html", "export/table/notes.txt", "intake/notes.txt", "passes/other.json", "latest/spec.json",
)  # fmt: skip


def arguments(source: Path, out: Path, *more: str) -> tuple[str, ...]:
    return ("run", str(source), "--out", str(out), "--dense", "fake:8", "--devices", "cpu", *more)


def ask(queries: Path, text: str) -> None:
    queries.write_text(json.dumps({"_id": "q1", "text": text}) + "\n")


@pytest.fixture(scope="module")
def source(corpus_of: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus_of(tmp_path_factory.mktemp("folders") / "corpus.jsonl", [f"row {row}" for row in range(50)])


@pytest.fixture(scope="module")
def made(cli: Any, source: Path) -> tuple[Path, Path]:
    """A run with queries and every export; and its queries, of "row 7"."""
    out, queries = source.with_name("run"), source.with_name("queries.jsonl")
    ask(queries, "row 7")
    cli(*arguments(source, out, "--queries", str(queries), "--export", "all"))
    return out, queries


@pytest.fixture
def out(made: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of that run."""
    return copied(made[0], tmp_path / "run")


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("files", "restart"),
    [
        ({"spec.json": '{"source": "/x", "pas', "vectors/dense-fake-8/00000.parquet": "mine"}, ()),
        ({".lock": "", "export/points.jsonl": "mine"}, ("--restart",)),
    ],
)
def test_a_folder_of_somebody_else_stays_as_it_is(
    cli: Any, source: Path, tmp_path: Path, files: dict[str, str], restart: tuple[str, ...]
) -> None:
    """More of them are in `unit/exporter/run_directory/test_run_directory.py`."""
    out = tmp_path / "mine"
    for name, content in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(content)
    before = contents(out)
    error = cli(*arguments(source, out, *restart), code=2).error
    assert "holds no run" in error or "is not the spec of a run" in error
    assert contents(out) == before


def test_restart_keeps_what_no_run_wrote(cli: Any, source: Path, out: Path) -> None:
    """Beside a run with queries and exports: they stand after a restart, and the run is whole."""
    for name in NOTES:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(f"mine: {name}")
    cli(*arguments(source, out, "--restart"))
    for name in NOTES:
        assert (out / name).read_text() == f"mine: {name}"
    standing = {
        name for name, content in contents(out).items() if content is not None and not name.startswith("qdrant/")
    }
    ours = {"spec.json", "manifest.json", "stats.json", "events.jsonl", "quarantine.jsonl", "published.json", ".lock"}
    ours |= {"chunks/00000.parquet", "vectors/dense-fake-8/00000.parquet", "passes/dense-fake-8.json"}
    ours |= {f"intake/{name}" for name in ("counts.json", "limits.json", "source.json")}
    ours |= {"queries/.lock", "queries/spec.json"}  # it keeps notes, and has to be known as a run's the next time
    assert standing == ours | {name for name in NOTES if name != "qdrant/notes.txt"}
    assert cli("verify", out, "--json").json["problems"] == []
    assert cli("search", out, "row 7", "--top-k", "1", "--json").json[0]["id"] == "c7"


@pytest.mark.parametrize("name", ["vectors/dense-fake-8", "export", "chunks/00000.parquet"])
def test_nothing_is_removed_or_written_through_a_link(
    cli: Any, source: Path, tmp_path: Path, out: Path, name: str
) -> None:
    """More of them are in `unit/exporter/run_directory/test_run_directory.py`."""
    there = tmp_path / "elsewhere"
    (out / name).rename(there)
    (out / name).symlink_to(there)
    before = contents(tmp_path)
    for restart in ((), ("--restart",)) if name == "export" else ((),):
        assert f"{out / name} is a symbolic link" in cli(*arguments(source, out, *restart), code=2).error
    if name == "export":
        assert f"{out / name} is a symbolic link" in cli("export", out, "--format", "npy", code=2).error
    assert contents(tmp_path) == before


def test_the_directory_may_be_a_link_itself(cli: Any, source: Path, tmp_path: Path) -> None:
    there, link = tmp_path / "there", tmp_path / "link"
    there.mkdir()
    link.symlink_to(there)
    cli(*arguments(source, link))
    cli(*arguments(source, link, "--restart"))
    assert link.is_symlink()
    assert RunLayout(there).manifest.exists()


def test_queries_that_are_made_anew_take_nobodys_files_with_them(
    cli: Any, source: Path, out: Path, made: tuple[Path, Path]
) -> None:
    queries, mine = made[1], out / "queries" / "notes.txt"
    mine.write_text("mine")
    ask(queries, "row 8")
    try:
        done = cli(*arguments(source, out, "--queries", str(queries)), code=2)
        assert f"{mine} was not written by a run" in done.err
        assert mine.read_text() == "mine"
        mine.unlink()
        cli(*arguments(source, out, "--queries", str(queries)))
    finally:
        ask(queries, "row 7")


def test_a_run_inside_its_source_folder_and_one_that_has_its_source(cli: Any, source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copyfile(source, folder / "corpus.jsonl")
    out = folder / "run"
    cli(*arguments(folder, out))
    cli(*arguments(folder, out, "--restart"))
    inside = out / "corpus.jsonl"
    (folder / "corpus.jsonl").rename(inside)
    cli(*arguments(inside, out, "--restart"))
    assert inside.exists()
    moved = out / "chunks" / "corpus.jsonl"
    inside.rename(moved)
    assert "lies among the files that --restart removes" in cli(*arguments(moved, out, "--restart"), code=2).error
    assert moved.exists()
