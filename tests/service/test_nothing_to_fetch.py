"""Commands that have nothing to do in object storage read records there, and no segment."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from embedfleet.client.cli.run import shards_command
from embedfleet.client.cli.run.request import AfterRun, RunRequest
from embedfleet.client.steps.remote_out import RemoteDirectory
from embedfleet.protocol.object_storage.address import parse_address
from embedfleet.protocol.object_storage.lock_record import this_process
from embedfleet.protocol.run_directory.directory_lock import STORE_LOCK, WRITING
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.run_directory.records.shards import read_shards
from embedfleet.protocol.wire.run_options import DEFAULTS

from ..object_store.server import Bucket

FLAGS = "--dense", "fake:8", "--sparse", "bm25", "--devices", "cpu"


@pytest.fixture(scope="module")
def merged(cli: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three merged shards beside their source, one record of which is rejected."""
    place = tmp_path_factory.mktemp("merged")
    lines = [json.dumps({"id": f"c{row}", "text": f"text {row}"}) for row in range(60)]
    (place / "c.jsonl").write_text("\n".join(lines) + "\nno json\n")
    cli("run", place / "c.jsonl", "--out", place / "run", *FLAGS, "--index", "none", "--shards", "3", code=3)
    return place / "run"


@pytest.fixture
def out(bucket: Bucket, merged: Path) -> str:
    return bucket.put_folder("run", merged)


@contextmanager
def no_segment_read(bucket: Bucket) -> Iterator[None]:
    """No segment is read in this block. At its end, the objects are the same: no lock is left."""
    before = {name: bucket.get(name) for name in bucket.keys("run")}
    bucket.proxy.requests.clear()
    yield
    assert bucket.proxy.requests
    assert not [one for one in bucket.proxy.requests if ".parquet" in one[1]]
    assert {name: bucket.get(name) for name in bucket.keys("run")} == before


def test_a_merge_that_nothing_has_changed_is_not_fetched(cli: Any, bucket: Bucket, out: str) -> None:
    with no_segment_read(bucket):
        again = cli("merge", out, "--json", code=3)
    assert "embedfleet: " + out + ": its 3 shards are merged, and none has changed since: nothing to do" in again.err
    summary = {"root": out, "shards": 3, "rows": 60, "quarantined": 1, "copied": 0, "changed": False}
    assert summary.items() <= again.json.items()
    with no_segment_read(bucket):
        bucket.put(f"run/{STORE_LOCK}", msgspec.json.encode(this_process(180.0)))
        assert WRITING in cli("merge", out, code=2).error
        bucket.delete(f"run/{STORE_LOCK}")
    whole = bucket.keys("run")
    bucket.delete("run/vectors/sparse-bm25/00000.parquet")
    assert cli("merge", out, "--json", code=3).json["changed"]
    assert bucket.keys("run") == whole


def test_shards_that_are_done_and_merged_are_not_fetched(cli: Any, bucket: Bucket, out: str, merged: Path) -> None:
    command = "run", merged.parent / "c.jsonl", "--out", out, *FLAGS, "--shards"
    with no_segment_read(bucket):
        again = cli(*command, "3", "--json", code=3)
        refused = cli(*command, "4", code=2).error
    assert f"--out {out} holds 3 shards and not 4" in refused
    assert "3 of 3 shards done before" in again.err
    assert "61 read = 60 committed + 1 quarantined" in again.err
    assert f"in quarantine: 1, each with its reason in {out}/quarantine.jsonl" in again.err
    assert (again.json["status"], again.json["quarantined"]) == ("done", 1)


def test_a_cluster_that_had_nothing_to_do_fetches_nothing(
    bucket: Bucket, out: str, merged: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Cluster:
        usual_shards = 9

        def run(self, shards: Any, *_: Any) -> None:
            assert shards.finished.among(range(3)).keys() == {0, 1, 2}

    record = read_shards(RunLayout(merged))
    assert record is not None
    said: list[str] = []
    session = SimpleNamespace(received=(), is_terminated=False, say=said.append)
    monkeypatch.setattr(shards_command, "chosen_cluster", lambda _request: nullcontext(Cluster()))
    monkeypatch.setattr(shards_command, "open_session", lambda **_: nullcontext(session))
    remote = RemoteDirectory(parse_address(out, "--out"), tmp_path / "spools", keep_spool=False)
    request = RunRequest(
        spec=record.spec, out=tmp_path / "run", remote=remote, options=DEFAULTS, after=AfterRun(), grace=1.0, on="ray"
    )
    with no_segment_read(bucket):
        assert shards_command.run_shards(request) == 3
    assert not [line for line in said if "fetch" in line]
    assert not list((tmp_path / "spools").glob("*/*"))


def test_a_run_that_is_refused_on_shards_fetches_none(cli: Any, bucket: Bucket, out: str, merged: Path) -> None:
    command = "run", merged.parent / "c.jsonl", "--out", out, *FLAGS
    with no_segment_read(bucket):
        nothing_left = cli(*command, code=2).error
        not_removed = cli(*command, "--restart", code=2).error
    bucket.delete("run/manifest.json")
    with no_segment_read(bucket):
        unmerged = cli(*command, "--export", "jsonl", code=2).error
    assert f"--out {out} is made of shards, and they are merged: nothing is left to embed" in nothing_left
    assert f"--out {out} is made of shards, which --restart does not remove" in not_removed
    assert f"--out {out} is made of shards, and they are not merged" in unmerged


def test_what_was_fetched_before_an_interrupt_stays(out: str, tmp_path: Path) -> None:
    """A command that is interrupted ends in order. An earlier spool goes only if nothing is left to do."""
    remote = RemoteDirectory(parse_address(out, "--out"), tmp_path / "spool", keep_spool=False)
    calls: list[None] = []

    def stop() -> None:
        calls.append(None)
        if len(calls) > 3:
            raise KeyboardInterrupt

    with remote.held("", lambda _line: None) as held, pytest.raises(KeyboardInterrupt):
        held.fetch(stop)
    assert list((tmp_path / "spool" / "run").rglob("*.json*"))
    with remote.held("", lambda _line: None) as held:
        held.is_needless = True
    assert not (tmp_path / "spool").exists()
