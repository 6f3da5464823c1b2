"""Shards computed by the real service and merged by the command: every later command takes the result as one run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import embedfleet
import numpy as np
import pytest
from embedfleet import Client, PassSpec, RunEnded, RunSpec, UsageError, open_run
from embedfleet.client.shards.agreement import shard_spec
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.spec.run_spec import PREPROCESSING

from ..run_copies import copied
from ..shard_runs import begin_shards, put, write_files

PASSES = (
    PassSpec(vector="dense-fake-8", kind="dense", model="fake:8"),
    PassSpec(vector="sparse-bm25", kind="bm25", model="bm25", average_length=5.0),
)
FLAGS = ("--dense", "fake:8", "--sparse", "bm25", "--devices", "cpu")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, forked: Any, waiting: Any) -> Path:
    """Three shards in `run`, not merged, and the same corpus in one run, `whole`."""
    from .conftest import Started

    folder = tmp_path_factory.mktemp("shards")
    spec = RunSpec(source=str(write_files(folder / "files", 5, 8)), passes=PASSES, preprocessing=PREPROCESSING)
    record = begin_shards(spec, folder / "run", 3)
    layout = RunLayout(folder / "run")
    layout.shards.mkdir()
    address = f"ipc://{tmp_path_factory.mktemp('s')}"
    serving = Started(forked, ("serve", "--bind", address, "--devices", "cpu"), waiting)
    try:
        with Client(address, timeout=60) as client:
            runs = [(shard_spec(record, index), layout.shard(index).root) for index in range(3)]
            for one, out in [*runs, (spec, folder / "whole")]:
                *_, end = client.watch(client.submit(one, out))
                assert isinstance(end, RunEnded)
                assert end.status == "done", end.error
    finally:
        serving.close()
    return folder


@pytest.fixture(scope="module")
def merged(made: Path, cli: Callable[..., Any]) -> Path:
    root = copied(made / "run", made / "merged")
    done = cli("merge", root, "--json", code=3)  # some records are in quarantine
    assert done.json == {
        "root": str(root),
        "shards": 3,
        "rows": 40,
        "segments": 1,
        "rejected": 4,
        "quarantined": 4,
        "duplicates": 0,
        "points": 40,
        "copied": 1,
        "changed": True,
    }
    assert "3 shards merged: 40 chunks in 1 segment; 4 in quarantine" in done.err
    return root


def test_before_they_are_merged(made: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    root = copied(made / "run", tmp_path / "run")
    shutil.rmtree(root / "shards" / "00001")
    (root / "shards" / "00002" / "manifest.json").unlink()
    command = f"embedfleet run {made / 'files'} --out {root} --shard"
    shown = cli("info", root).out.decode()
    assert "1 of 3 shards done" in shown
    assert "unfinished: 2" in shown
    assert "not begun: 1" in shown
    assert f"next: {command} 1/3, with the flags of the other shards" in shown
    found = cli("info", root, "--json").json
    assert (found["status"], found["shards"], found["done"], found["missing"]) == ("unmerged", 3, 1, [1])
    error = cli("merge", root, code=2).error
    assert f"shard 1 was not begun ({command} 1/3)" in error
    assert f"shard 2 was not finished ({command} 2/3)" in error
    for words in (
        ["verify", root],
        ["search", root, "text"],
        ["export", root],
        ["upload", root, "--url", "http://localhost:1"],
    ):
        assert f"`embedfleet merge {root}` m" in cli(*words, code=2).error
    with pytest.raises(UsageError, match="made of 3 shards that are not merged"):
        open_run(root)
    assert "is made of shards" in cli("run", made / "files", "--out", root, *FLAGS, code=2).error
    assert "is made of shards" in cli("run", made / "files", "--out", root, "--restart", *FLAGS, code=2).error


def test_all_done_and_not_merged(made: Path, cli: Callable[..., Any]) -> None:
    shown = cli("info", made / "run").out.decode()
    assert "3 of 3 shards done" in shown
    assert f"next: embedfleet merge {made / 'run'}\n" in shown


def test_a_folder_without_shards(made: Path, cli: Callable[..., Any]) -> None:
    assert "is not made of shards" in cli("merge", made / "whole", code=2).error
    assert "there is no such folder" in cli("merge", made / "nowhere", code=2).error
    assert not (made / "nowhere").exists()


def test_it_is_one_run(made: Path, merged: Path, cli: Callable[..., Any]) -> None:
    assert cli("verify", merged, "--json").json["problems"] == []
    ours, theirs = open_run(merged), open_run(made / "whole")
    assert ours.chunks.equals(theirs.chunks)
    np.testing.assert_array_equal(ours.vectors(), theirs.vectors())
    sparse, expected = ours.vectors("sparse-bm25"), theirs.vectors("sparse-bm25")
    assert isinstance(sparse, embedfleet.SparseVectors)
    assert isinstance(expected, embedfleet.SparseVectors)
    np.testing.assert_array_equal(sparse.values, expected.values)
    assert (merged / "quarantine.jsonl").read_bytes() == (made / "whole" / "quarantine.jsonl").read_bytes()
    hits = [cli("search", one, "text 3 of file 2", "--json").json for one in (merged, made / "whole")]
    assert hits[0] == hits[1]
    assert "done" in cli("info", merged).out.decode()
    stats = json.loads((merged / "stats.json").read_bytes())
    assert [one["chunks"] for one in stats["passes"]] == [40, 40]
    assert [one["sessions"] for one in stats["passes"]] == [3, 3]


def test_merged_again_nothing_changes(merged: Path, cli: Callable[..., Any]) -> None:
    assert "none has changed since: nothing to do" in cli("merge", merged, code=3).err
    assert embedfleet.merge(merged).rows == 40


def test_a_lost_file_is_told_with_the_command_that_copies_it(
    merged: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    root = copied(merged, tmp_path / "run")
    (root / "vectors" / "dense-fake-8" / "00000.parquet").unlink()
    assert (
        f"the command to run again is `embedfleet merge {root}`"
        in cli("verify", root, "--json", code=1).json["notes"][-1]
    )
    assert "1 of these written now" not in cli("merge", root, code=3).err
    assert cli("verify", root, "--json").json["ok"]


def test_info_says_which_shards_are_newer(merged: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    root = copied(merged, tmp_path / "run")
    manifest = RunLayout(root).shard(1).manifest
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    assert "shards that were run again since the merge: 1" in cli("info", root).out.decode()
    shutil.rmtree(root / "shards")
    assert "run again" not in cli("info", root).out.decode()
    assert "3 of 3 shards cannot be merged" in cli("merge", root, code=2).error
    assert cli("verify", root, "--json").json["ok"]


def test_queries_and_exports_work_on_it(made: Path, merged: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    root = copied(merged, tmp_path / "run")
    put(tmp_path / "queries.jsonl", [{"_id": "q", "text": "text 3 of file 2"}])
    words = ["run", made / "files", *FLAGS, "--queries", tmp_path / "queries.jsonl", "--export", "parquet", "--json"]
    ours = cli(*words, "--out", root, code=3).json
    assert (ours["status"], ours["committed"], ours["rerank"]["queries"]["encoded"]) == ("done", 40, 1)
    first = json.loads((root / "export" / "rerank.jsonl").read_text().splitlines()[0])
    assert (first["query"], first["id"], first["rank"]) == ("q", "f2c3", 1)
    assert cli("verify", root, "--json").json["ok"]
    assert "nothing is left to embed" in cli("run", made / "files", "--out", root, *FLAGS, code=2).error
    other = ["run", made / "files", "--dense", "fake:16", "--queries", tmp_path / "queries.jsonl", "--out", root]
    assert "merged from shards of another spec" in cli(*other, code=2).error


def test_two_merges_at_once_and_a_file_that_is_in_the_way(made: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    from embedfleet.protocol.run_directory.directory_lock import drop_lock, take_lock

    root = copied(made / "run", tmp_path / "run")
    lock = take_lock(RunLayout(root), "here")
    try:
        assert "another run is writing there" in cli("merge", root, code=2).error
        assert cli("info", root, "--json").json["status"] == "merging"
    finally:
        drop_lock(lock)
    (root / "chunks").write_text("")
    assert "is a file, and a run has something else of that name" in cli("merge", root, code=2).error
