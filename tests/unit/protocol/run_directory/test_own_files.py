"""What is a run's own: every file that the layout names, so that no part of it is taken for somebody else's."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
from embedfleet.protocol.run_directory.layout import RunLayout, being_removed, set_aside
from embedfleet.protocol.run_directory.own_files import SHARDS, foreign_files, is_partial
from embedfleet.protocol.run_directory.removal import clear_run, remove_run
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec

SPEC = RunSpec(source="/corpus.jsonl", passes=(PassSpec(vector="dense-a", kind="dense", model="fake:8"),))


def fill(root: Path, *, derived: bool = True) -> RunLayout:
    """Every file that a layout names, and a segment of each kind."""
    layout = RunLayout(root)
    named = [getattr(layout, name) for name, kind in vars(RunLayout).items() if isinstance(kind, property)]
    named = [path for path in named if path.name not in SHARDS]  # of a directory of shards, in which no run writes
    files = [path for path in named if path.suffix or path.name.startswith(".")]
    files += [layout.chunk_segment(0), layout.rejected_segment(0), layout.pass_file("dense-a")]
    files.append(layout.vector_segment("dense-a", 0))
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    assert len(files) > 20
    layout.spec.write_bytes(msgspec.json.encode(SPEC))
    layout.export_record.write_text('{"files": [{"name": "collection.json"}, {"name": "rerank.jsonl"}]}')
    layout.report_record.write_text('{"files": [{"name": "report.html"}, {"name": "evaluation.json"}]}')
    if derived:
        for folder in (layout.queries, set_aside(layout.queries), layout.scores, set_aside(layout.scores)):
            fill(folder, derived=False)
    return layout


def test_every_file_of_derived_runs_is_their_own(tmp_path: Path) -> None:
    layout = fill(tmp_path)
    for folder in (layout.queries, layout.scores):
        mine = [folder / "notes.txt", folder / "vectors" / "dense-a" / "old.npy", folder / "chunks" / "corpus.jsonl"]
        for path in mine:
            path.write_text("mine")
        for name in ("qdrant", "queries", "rerank", "export"):  # of those that are derived from nothing
            shutil.rmtree(folder / name, ignore_errors=True)
        assert foreign_files(folder) == sorted(mine)
    assert not any(is_partial(path) for path in tmp_path.rglob("*.json"))


def test_nothing_of_a_run_is_left_behind(tmp_path: Path) -> None:
    layout = fill(tmp_path)
    clear_run(layout, SPEC)
    assert sorted(path.name for path in tmp_path.rglob("*")) == [".lock", "spec.json"]
    fill(tmp_path / "derived", derived=False)
    remove_run(tmp_path / "derived")
    assert not (tmp_path / "derived").exists()


def test_shards_and_what_was_merged_of_them_stay(tmp_path: Path) -> None:
    layout = fill(tmp_path)
    shard = fill(layout.shard(0).root)
    for path in (layout.shards_record, layout.merge_record, layout.fit):
        path.write_text("{}")
    before = sorted(shard.root.rglob("*"))
    clear_run(layout, SPEC)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".lock",
        "fit.json",
        "merge.json",
        "shards",
        "shards.json",
        "spec.json",
    ]
    assert sorted(shard.root.rglob("*")) == before


def test_what_a_crash_left_of_a_derived_run_goes_too(tmp_path: Path) -> None:
    """While it is removed it has no spec any more; somebody's own file in it keeps it."""
    layout = fill(tmp_path)
    for rest in (being_removed(layout.queries), being_removed(layout.scores)):
        fill(rest, derived=False).spec.unlink()
        for name in ("qdrant", "queries", "rerank", "export"):
            shutil.rmtree(rest / name, ignore_errors=True)
    (being_removed(layout.scores) / "notes.txt").write_text("mine")
    clear_run(layout, SPEC)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "rerank", "spec.json"]
    assert (being_removed(layout.scores) / "notes.txt").read_text() == "mine"
    (being_removed(layout.scores) / "notes.txt").unlink()
    clear_run(layout, SPEC)
    assert sorted(path.name for path in tmp_path.rglob("*")) == [".lock", "spec.json"]
