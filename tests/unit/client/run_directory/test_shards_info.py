"""What `embedfleet info` says of shards: done is what a merge and a run of all shards count as done."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from embedfleet.client.run_directory.info import describe_run, describe_state
from embedfleet.client.run_directory.shards_info import describe_shards, shard_lines, stale_line
from embedfleet.protocol.finished_run.shard_states import is_done, manifest_digest
from embedfleet.protocol.run_directory.directory_lock import drop_lock, take_lock
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.run_directory.records.manifest import Counts, Manifest
from embedfleet.protocol.run_directory.records.merge import MergeRecord
from embedfleet.protocol.run_directory.records.shards import ShardsRecord
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec
from embedfleet.protocol.spec.shard import Shard

DENSE = PassSpec(vector="dense-fake-8", kind="dense", model="fake:8")
MORE = PassSpec(vector="dense-more", kind="dense", model="fake:4")
NONE = Counts(chunks=0, committed=0, quarantined=0, rejected=0, skipped_duplicates=0)


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    """Three shards that were run to their end with one model, which is all that the record names."""
    layout = RunLayout(tmp_path / "run")
    layout.root.mkdir()
    record(layout, DENSE)
    for index in range(3):
        finish(layout, index, DENSE)
    return layout


def record(layout: RunLayout, *passes: PassSpec) -> ShardsRecord:
    made = ShardsRecord(shards=3, spec=RunSpec(source="/s/c.jsonl", passes=passes), files=())
    layout.shards_record.write_bytes(msgspec.json.encode(made))
    return made


def finish(layout: RunLayout, index: int, *passes: PassSpec, source: str = "/s/c.jsonl") -> None:
    shard = layout.shard(index)
    shard.root.mkdir(parents=True, exist_ok=True)
    spec = RunSpec(source=source, passes=passes, shard=Shard(index, 3), index="none")
    shard.spec.write_bytes(msgspec.json.encode(spec))
    made = Manifest(run=f"r{len(passes)}", status="done", counts=NONE, passes=())
    shard.manifest.write_bytes(msgspec.json.encode(made))


@contextmanager
def held(layout: RunLayout) -> Generator[None]:
    lock = take_lock(layout, "here")
    try:
        yield
    finally:
        drop_lock(lock)


def test_a_shard_without_a_model_that_was_added_later_is_not_done(layout: RunLayout) -> None:
    found = describe_shards(layout.root)
    assert found is not None
    assert (found["done"], found["unfinished"], found["next"]) == (3, [], f"embedfleet merge {layout.root}")
    record(layout, DENSE, MORE)
    finish(layout, 1, DENSE, MORE)
    found = describe_shards(layout.root)
    assert found is not None
    assert (found["done"], found["unfinished"], found["missing"]) == (1, [0, 2], [])
    command = f"embedfleet run /s/c.jsonl --out {layout.root} --shard 0/3"
    assert found["next"] == command
    assert shard_lines(found)[1:] == ["unfinished: 0, 2", f"next: {command}, with the flags of the other shards"]


def test_a_command_that_runs_all_shards_is_seen(layout: RunLayout) -> None:
    layout.shard(2).manifest.unlink()
    with held(RunLayout(layout.shards)):
        found = describe_shards(layout.root)
    assert found is not None
    assert (found["status"], found["running"], found["unfinished"]) == ("running", [], [2])
    assert shard_lines(found)[-1] == "a process runs them now"


def test_a_merged_directory_names_the_shards_that_lack_the_model(layout: RunLayout) -> None:
    digests = tuple(manifest_digest(layout.shard(index)) for index in range(3))
    merged = MergeRecord(
        embedfleet="1", on_duplicate="fail", duplicates=0, manifests=digests, vectors=("dense-fake-8",), segments=()
    )
    layout.merge_record.write_bytes(msgspec.json.encode(merged))
    assert stale_line(layout) == ""
    record(layout, DENSE, MORE)
    finish(layout, 1, DENSE, MORE)
    command = f"embedfleet run /s/c.jsonl --out {layout.root} --shard 0/3, with the flags of the other shards"
    assert stale_line(layout) == f"shards that were run again since the merge: 1; not done: 0, 2; {command}"
    layout.shard(2).manifest.unlink()
    with held(layout.shard(2)):
        assert stale_line(layout) == (
            "shards that were run again since the merge: 1; shards that are running: 2; not done: 0; " + command
        )
        finish(layout, 0, DENSE, MORE)
        assert stale_line(layout) == "shards that were run again since the merge: 0-1; shards that are running: 2"
    finish(layout, 2, DENSE, MORE)
    assert stale_line(layout).endswith(f"the merge: 0-2; embedfleet merge {layout.root} takes them in")


def test_a_command_that_runs_the_shards_of_a_merged_directory_is_seen(layout: RunLayout) -> None:
    layout.spec.write_bytes(layout.shard(0).spec.read_bytes())
    layout.manifest.write_bytes(layout.shard(0).manifest.read_bytes())
    record(layout, DENSE, MORE)
    assert describe_run(layout.root)["status"] == "done"
    with held(RunLayout(layout.shards)):
        described = describe_run(layout.root)
        assert (described["status"], (described["running"] or {})["step"]) == ("running", "shards")
        line = describe_state(layout.root)
    assert line.startswith(f"running: process {os.getpid()} on ")
    assert line.endswith(" runs the shards that are not done")
    assert describe_state(layout.root) == ""


def test_what_a_merge_takes_is_done(layout: RunLayout) -> None:
    """The path of the source may be that of another host; the number of the shard may not be another one."""
    here = record(layout, DENSE)
    finish(layout, 0, DENSE, source="/mnt/c.jsonl")
    assert is_done(layout, here, 0)
    layout.shard(1).spec.write_bytes(layout.shard(2).spec.read_bytes())
    assert not is_done(layout, here, 1)
    layout.shard(2).spec.write_bytes(b"{}")
    assert not is_done(layout, here, 2)
