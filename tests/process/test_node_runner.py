"""What an actor does on its node, without Ray: one process for all its shards, its reports, and its end."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from embedfleet.client.options.spec_builder import build_spec
from embedfleet.client.ray.node.job import NodeJob
from embedfleet.client.ray.node_runner import ShardReport
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.run_directory.records.shards import ShardsRecord
from embedfleet.protocol.wire.run_options import DEFAULTS

from ..ray_node import Node

SLOW = "fake:8,delay_ms=1500"


@pytest.fixture
def node_of(tmp_path: Path) -> Iterator[Callable[..., Node]]:
    """A node for shards of 200 texts by a model."""
    lines = [f'{{"id": "c{row}", "text": "text {row}"}}\n' for row in range(200)]
    (tmp_path / "c.jsonl").write_text("".join(lines))
    made: list[Node] = []

    def make(model: str, *, count: int = 4, devices: str = "cpu", out: Path = tmp_path / "out") -> Node:
        spec = build_spec(str(tmp_path / "c.jsonl"), dense=[model], sparse=[], multivector=[], heads=[], index="none")
        record = ShardsRecord(shards=count, spec=spec, files=())
        job = NodeJob(record=record, out=str(out), options=DEFAULTS, devices=devices, grace=5.0, otlp=None)
        made.append(Node(job))
        return made[-1]

    yield make
    for node in made:
        node.close()


def test_all_shards_of_a_node_are_embedded_by_one_process_and_one_coordinator(
    node_of: Callable[..., Node], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDFLEET_RUN_MAX_TOKENS", "0")  # of the node: it must change nothing
    node = node_of("fake:8")
    assert node.runner.poll() == ()
    node.hand(1)
    node.hand(3)
    node.until(lambda: len(node.ended) == 2)
    process = node.process
    below = {one.pid for one in process.children()}
    node.hand(0)
    node.until(lambda: len(node.ended) == 3)
    assert node.codes() == {1: 0, 3: 0, 0: 0}
    assert {shard for shard, line in node.messages if " read = " in line} == {0, 1, 3}
    assert node.process == process
    assert {one.pid for one in process.children()} == below, "the coordinator is the same"
    assert all(RunLayout(tmp_path / "out").shard(shard).manifest.exists() for shard in (0, 1, 3))
    assert not RunLayout(tmp_path / "out").shard(2).root.exists()
    node.runner.finish()
    assert not process.is_running()


def test_a_shard_that_is_handed_ahead_keeps_the_workers(node_of: Callable[..., Node], tmp_path: Path) -> None:
    node = node_of("fake:8,delay_ms=300")
    node.hand(0)
    node.hand(1)
    node.until(lambda: len(node.ended) == 2)
    layout = RunLayout(tmp_path / "out").shard(1)
    leases = [json.loads(line) for line in layout.events.read_bytes().splitlines() if b'"lease"' in line]
    assert "kept" in {one["phase"] for one in leases}


def test_a_shard_that_fails_has_its_own_error_and_the_next_one_goes_on(
    node_of: Callable[..., Node], tmp_path: Path
) -> None:
    node = node_of("fake:8")
    RunLayout(tmp_path / "out").shard(0).root.mkdir(parents=True)
    (RunLayout(tmp_path / "out").shard(0).root / "of-someone-else").write_text("x")
    node.hand(0)
    node.hand(1)
    node.until(lambda: len(node.ended) == 2)
    assert node.codes() == {0: 2, 1: 0}
    assert "is not empty" in node.ended[0].error
    assert str(tmp_path / "out" / "shards" / "00000") in node.ended[0].error


def test_an_error_of_the_node_is_that_of_the_first_shard_and_the_second_is_back(node_of: Callable[..., Node]) -> None:
    node = node_of("fake:8", devices="cuda:7")
    node.hand(0)
    node.hand(2)
    node.until(lambda: len(node.ended) == 2)
    assert node.ended[0].error.startswith("--devices cuda:7: no such GPU")
    assert node.codes() == {0: 2, 2: None}
    assert node.ended[2].is_back


@pytest.mark.parametrize(("terminate", "code"), [(False, 130), (True, 143)])
def test_the_shard_at_work_is_stopped_in_order_and_the_next_one_is_back(
    node_of: Callable[..., Node], terminate: bool, code: int
) -> None:
    node = node_of(SLOW)
    node.hand(0)
    node.hand(1)
    node.until(lambda: 0 in node.at_work)
    node.runner.stop(terminate=terminate)
    node.until(lambda: len(node.ended) == 2)
    assert node.codes() == {0: code, 1: None}
    assert node.ended[1].is_back
    assert any(shard == 0 and line.startswith("finishing ") for shard, line in node.messages)
    node.hand(1)
    node.until(lambda: 1 in node.at_work)


def test_a_process_that_is_killed_takes_its_processes_along_and_counts_for_the_shard_at_work(
    node_of: Callable[..., Node], waiting: Any
) -> None:
    node = node_of(SLOW)
    node.hand(0)
    node.hand(1)
    node.until(lambda: 0 in node.at_work)
    child = node.process
    below = [child, *child.children(recursive=True)]
    assert len(below) > 2
    os.kill(child.pid, signal.SIGKILL)
    node.until(lambda: len(node.ended) == 2)
    assert node.codes() == {0: -signal.SIGKILL, 1: None}
    assert node.ended[1].is_back
    waiting.all_gone(below, 10.0)


def test_without_its_coordinator_the_process_ends_and_the_next_shard_begins_another_one(
    node_of: Callable[..., Node],
) -> None:
    node = node_of(SLOW)
    node.hand(0)
    node.hand(1)
    node.until(lambda: 0 in node.at_work)
    first = node.process
    (coordinator,) = first.children()
    coordinator.kill()
    node.until(lambda: len(node.ended) == 2)
    assert node.codes() == {0: 1, 1: None}
    assert node.ended[0].error.startswith("the coordinator ended")
    assert node.ended[1].is_back
    node.hand(1)
    node.until(lambda: 1 in node.at_work)
    assert node.process != first


def test_a_process_that_cannot_be_started_is_the_error_of_its_shard(
    node_of: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(12, "Cannot allocate memory")

    node = node_of("fake:8")
    with monkeypatch.context() as broken:
        broken.setattr("embedfleet.client.ray.node_runner.ChildProcess", fail)
        node.hand(0)
        (report,) = node.runner.poll()
    assert report == ShardReport(0, error="no process can be started there (Cannot allocate memory)", code=1)
    node.hand(0)
    node.until(lambda: node.codes() == {0: 0})


def test_what_a_node_is_told_holds_no_key(monkeypatch: pytest.MonkeyPatch, node_of: Callable[..., Node]) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret-key")
    node = node_of(SLOW, out=Path("s3://bucket/run"))
    node.hand(0)
    assert b"very-secret-key" not in node.runner._job
    assert not any("very-secret-key" in word for word in node.process.cmdline())
