"""Folders that nodes share: what another one wrote is seen late, and --out cannot always be written to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from embedfleet.client.ray import driver, finished_shards, node_watch
from embedfleet.client.ray.driver import RayDriver, ShardsRun
from embedfleet.client.ray.finished_shards import FolderShards
from embedfleet.client.ray.marks import look_until
from embedfleet.client.ray.node.job import NodeJob
from embedfleet.client.ray.node_watch import NodeWatch
from embedfleet.client.ray.nodes import Needs, Node, NodeFacts
from embedfleet.protocol.errors import RunDirectoryError
from embedfleet.protocol.run_directory.records.shards import ShardsRecord
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec
from embedfleet.protocol.wire.run_options import DEFAULTS

NEEDS = Needs("s", "o", gpus=False, real=False)


def test_a_file_that_is_seen_late(tmp_path: Path) -> None:
    late = tmp_path / "shards" / "00000" / "manifest.json"
    folders = (tmp_path / "shards", late.parent)
    assert not look_until(late.exists, folders, time.monotonic())

    def write() -> None:
        late.parent.mkdir(parents=True)
        late.touch()

    timer = threading.Timer(0.3, write)
    timer.start()
    assert look_until(late.exists, folders, time.monotonic() + 20)
    timer.join()


class Slots:
    """Stands for the actors: one of them finishes shards at once."""

    busy = coming = 0
    up = 1

    def __init__(self, *_: Any) -> None:
        self._shards: list[int] = []

    def idle(self) -> list[str]:
        return ["n"]

    def with_one(self) -> list[str]:
        return []

    def hand(self, _node: str, shard: int, **_: Any) -> None:
        self._shards.append(shard)

    def events(self, _: float) -> list[Any]:
        found = [driver.Reported("n", driver.ShardReport(shard, code=0)) for shard in self._shards]
        self._shards.clear()
        return found

    def nothing(self, *_: Any) -> None: ...

    drop_others = cover = request_nodes = close = finish = nothing


def test_the_run_ends_once_the_manifests_are_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: dict[int, int] = {}

    def is_done(_: Any, __: Any, shard: int) -> bool:
        seen[shard] = seen.get(shard, 0) + 1
        return seen[shard] > 3

    monkeypatch.setattr(driver, "NodeSlots", Slots)
    monkeypatch.setattr(finished_shards, "is_done", is_done)
    watch: Any = SimpleNamespace(needs=NEEDS, look=list, name=str, close=lambda: None)
    spec = RunSpec(source="s", passes=(PassSpec(vector="v", kind="dense", model="fake:8"),))
    record = ShardsRecord(shards=3, spec=spec, files=())
    job = NodeJob(record=record, out=str(tmp_path), options=DEFAULTS, devices=None, grace=1.0, otlp=None)
    run = ShardsRun(job=job, finished=FolderShards(tmp_path, record), lost_last=False, restart=True)
    RayDriver(None, run, watch, [], lambda: False).run()
    assert seen == {0: 4, 1: 4, 2: 4}


def test_nodes_are_looked_at_again_where_out_could_not_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node, answers = Node("n", "n", 0.0, 4.0), list[Callable[[], Any]]()

    def fail() -> Any:
        raise RunDirectoryError("--out o: disk quota exceeded")

    answers += [fail, partial(list, [(node, NodeFacts())])]
    monkeypatch.setattr(node_watch, "probe", lambda *_: answers.pop(0)())
    monkeypatch.setattr(node_watch, "alive_nodes", lambda _: [node])
    monkeypatch.setattr(node_watch, "problem_of", lambda *_: "")
    monkeypatch.setattr(node_watch, "PAUSE_SECONDS", 0.1)
    watch = NodeWatch(None, NEEDS, [])
    try:
        assert watch.look() == []
        deadline = time.monotonic() + 20
        while watch.look() != [node]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        watch.close()
    assert not answers
