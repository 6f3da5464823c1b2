"""What the command of `--on ray`, and one node, do in object storage: shared records, finished shards, marks, one shard."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec
import pytest
from embedfleet.client.ray.finished_shards import StoredShards
from embedfleet.client.ray.marks import StoredMark, find_stored_problem
from embedfleet.client.ray.node.job import NodeJob
from embedfleet.client.shards.agreement import agree, shard_spec
from embedfleet.client.steps.remote_out import RemoteDirectory, part_of
from embedfleet.protocol.errors import RunDirectoryError, SpecMismatch
from embedfleet.protocol.object_storage.address import parse_address
from embedfleet.protocol.object_storage.lock_record import this_process
from embedfleet.protocol.run_directory.directory_lock import STORE_LOCK, WRITING
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.run_directory.records.manifest import Counts, Manifest
from embedfleet.protocol.run_directory.records.shards import ShardsRecord
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec
from embedfleet.protocol.wire.run_options import DEFAULTS

from ..object_store.proxy import Fault
from ..object_store.server import Bucket
from ..ray_node import Node

SPEC = RunSpec(source="s", passes=(PassSpec(vector="v", kind="dense", model="fake:8"),), index="none")
RECORD = ShardsRecord(shards=5, spec=SPEC, files=())


@pytest.fixture
def node(bucket: Bucket, source: RunSpec, tmp_path: Path) -> Iterator[Node]:
    """A node that embeds shards into the store."""
    lines = [f'{{"id": "c{row}", "text": "text {row}"}}\n' for row in range(200)]
    (tmp_path / "c.jsonl").write_text("".join(lines))
    job = NodeJob(
        record=msgspec.structs.replace(RECORD, spec=source),
        out=bucket.url("run"),
        options=DEFAULTS,
        devices="cpu",
        grace=5.0,
        otlp=None,
        spool=str(tmp_path / "spools"),
    )
    made = Node(job)
    yield made
    made.close()


@pytest.fixture
def source(tmp_path: Path) -> RunSpec:
    """A spec whose source is there."""
    (tmp_path / "c.jsonl").write_text('{"id": "a", "text": "one"}\n')
    return msgspec.structs.replace(SPEC, source=str(tmp_path / "c.jsonl"))


def listings(bucket: Bucket) -> list[str]:
    return [path for _, path in bucket.proxy.requests if "list-type=2" in path]


def records(bucket: Bucket, tmp_path: Path, spool: str = "spool") -> AbstractContextManager[Path]:
    address = parse_address(bucket.url("run"), "--out")
    return RemoteDirectory(address, tmp_path / spool, keep_spool=False).opened(None, lambda _line: None)


def test_the_records_of_all_shards_are_agreed_on_without_a_listing(
    bucket: Bucket, source: RunSpec, tmp_path: Path
) -> None:
    with records(bucket, tmp_path) as folder:
        agree(RunLayout(folder), source, 3)
        assert bucket.get("run/shards.json") is not None
    for name in ("run/shards/00000/chunks/00000.parquet", "run/shards/00000/spec.json"):
        bucket.put(name, b"of a shard")
    with records(bucket, tmp_path) as folder:
        assert agree(RunLayout(folder), source, 3).shards == 3
        assert [path.name for path in folder.iterdir()] == ["shards.json"]
        assert not listings(bucket)
        with pytest.raises(SpecMismatch, match="3 shards and not 4"):  # which have begun is a question to the store
            agree(RunLayout(folder), source, 4)
    assert bucket.keys("run") == [
        *("run/shards.json", "run/shards/00000/chunks/00000.parquet", "run/shards/00000/spec.json")
    ]
    assert not (tmp_path / "spool" / "shards").exists()


def test_a_store_with_a_run_of_the_whole_source_takes_no_shards(
    bucket: Bucket, source: RunSpec, tmp_path: Path
) -> None:
    bucket.put("run/spec.json", msgspec.json.encode(source))
    with records(bucket, tmp_path) as folder, pytest.raises(RunDirectoryError, match="holds a run of the whole source"):
        agree(RunLayout(folder), source, 3)


def test_of_two_commands_one_has_the_records_and_shards_are_worked_on_meanwhile(bucket: Bucket, tmp_path: Path) -> None:
    address = parse_address(bucket.url("run"), "--out")

    def say(_line: str) -> None: ...

    with records(bucket, tmp_path):
        with pytest.raises(RunDirectoryError, match=r"run/shards: another run is writing there"):
            with records(bucket, tmp_path, "second"):
                pass
        with pytest.raises(RunDirectoryError, match=r"run/shards: another run is writing there"):
            with RemoteDirectory(address, tmp_path / "whole", keep_spool=False).opened("", say):
                pass
        with RemoteDirectory(address, tmp_path / "shard", keep_spool=False).opened(part_of(1), say) as folder:
            assert folder.name == "run"
    with RemoteDirectory(address, tmp_path / "whole", keep_spool=False).opened("", say):
        with pytest.raises(RunDirectoryError, match="run: another run is writing there"):
            with records(bucket, tmp_path):
                pass


def test_a_wait_for_a_lock_and_a_fetch_can_be_ended(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("run/chunks/00000.parquet", b"one")
    address = parse_address(bucket.url("run"), "--out")

    def stop() -> None:
        raise InterruptedError

    whole = RemoteDirectory(address, tmp_path / "w", keep_spool=False).opened("", lambda _line: None, stop)
    with pytest.raises(InterruptedError), whole:
        pass
    elsewhere = b'{"token": "t", "host": "node7", "pid": 1, "since": 1.0, "ttl": 180.0}'
    bucket.put("run/.embedfleet.lock", elsewhere)
    whole = RemoteDirectory(address, tmp_path / "x", keep_spool=False).opened("", lambda _line: None, stop)
    with pytest.raises(InterruptedError), whole:
        pass
    assert bucket.get("run/.embedfleet.lock") == elsewhere


def test_the_shards_that_are_done_are_known_by_two_objects_each(bucket: Bucket) -> None:
    def put(shard: int, *, status: str = "done", spec: RunSpec | None = None) -> None:
        counts = Counts(chunks=10 + shard, committed=10 + shard, quarantined=0, rejected=0, skipped_duplicates=0)
        manifest = Manifest(status=status, counts=counts, passes=())
        bucket.put(f"run/{part_of(shard)}/manifest.json", msgspec.json.encode(manifest))
        bucket.put(f"run/{part_of(shard)}/spec.json", msgspec.json.encode(spec or shard_spec(RECORD, shard)))

    put(0)
    put(1, status="interrupted")
    put(2, spec=msgspec.structs.replace(shard_spec(RECORD, 2), text_field="other"))
    bucket.put(f"run/{part_of(3)}/manifest.json", b"no manifest")
    shards = StoredShards(parse_address(bucket.url("run"), "--out"), RECORD)
    bucket.proxy.requests.clear()
    assert shards.among(range(5)) == {0: 10}
    assert shards.among([]) == {}
    assert {method for method, _ in bucket.proxy.requests} == {"GET"}
    assert not listings(bucket)
    bucket.fail(Fault("refuse", "GET", "manifest.json", times=99))
    with pytest.raises(RunDirectoryError, match="permission denied"):
        shards.among([0])


def test_a_node_that_reaches_another_store_is_found(bucket: Bucket) -> None:
    out = bucket.url("run")
    with StoredMark(out) as mark:
        assert find_stored_problem(out, mark.token) == ""
        assert f"--out {out} is another place there" in find_stored_problem(out, "0" * 32)
        bucket.fail(Fault("refuse", "PUT", "probe", times=99))
        assert "permission denied" in find_stored_problem(out, mark.token)
        with pytest.raises(RunDirectoryError, match="permission denied"), StoredMark(out):
            pass
        bucket.proxy.faults.clear()
    assert bucket.keys() == []


def test_a_node_embeds_its_shards_there_and_waits_for_none_that_another_run_has(
    bucket: Bucket, node: Node, tmp_path: Path
) -> None:
    bucket.put(f"run/{part_of(1)}/{STORE_LOCK}", msgspec.json.encode(this_process(180.0)))
    node.hand(0)
    node.hand(1)
    node.until(lambda: len(node.ended) == 2)
    assert node.codes() == {0: 0, 1: 2}
    assert f"--out {bucket.url('run')}/shards/00001: {WRITING}" in node.ended[1].error
    bucket.delete(f"run/{part_of(1)}/{STORE_LOCK}")
    node.hand(1)
    node.hand(2)
    node.until(lambda: len(node.ended) == 3)
    assert node.codes() == {0: 0, 1: 0, 2: 0}
    names = bucket.keys("run")
    assert {name.split("/")[2] for name in names if name.endswith("/manifest.json")} == {"00000", "00001", "00002"}
    assert not [name for name in names if "/.embedfleet" in name]
    assert not any("spools" in line for _, line in node.messages)
    assert not list((tmp_path / "spools").glob("*"))


def test_the_lock_of_a_process_that_was_killed_is_taken_over(bucket: Bucket, node: Node) -> None:
    node.hand(0)
    lock = f"run/{part_of(0)}/{STORE_LOCK}"
    node.until(lambda: bucket.get(lock) is not None)
    os.kill(node.process.pid, signal.SIGKILL)
    node.until(lambda: len(node.ended) == 1)
    assert node.codes() == {0: -signal.SIGKILL}
    assert bucket.get(lock) is not None
    node.hand(0)
    node.until(lambda: len(node.ended) == 1)
    assert node.codes() == {0: 0}
    assert bucket.get(lock) is None
