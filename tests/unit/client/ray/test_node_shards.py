"""The shards of the process on a node: what it reports of them, and what it keeps."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from embedfleet.client.ray.node.job import NodeJob, ShardOrder
from embedfleet.client.ray.node.process import NodeShards
from embedfleet.client.steps import remote_out
from embedfleet.client.steps.session import SubmittedRun
from embedfleet.protocol.errors import RunFailed
from embedfleet.protocol.object_storage import address
from embedfleet.protocol.run_directory.records.shards import ShardsRecord
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec
from embedfleet.protocol.wire.run_options import DEFAULTS

RECORD = ShardsRecord(
    shards=9, spec=RunSpec(source="s", passes=(PassSpec(vector="v", kind="dense", model="fake:8"),)), files=()
)


class Session:
    """Its runs fail, each with an error that names its folder."""

    has_coordinator = True

    def __init__(self) -> None:
        self.received: list[int] = []

    def submit(self, spec: RunSpec, out: Path, **_: Any) -> SubmittedRun:
        return SubmittedRun(out.name, spec, out, "the same command")

    def watch(self, run: SubmittedRun, **_: Any) -> RunFailed:
        return RunFailed(f"{run.out}: no vectors")


class Orders:
    """All shards of the record, at once."""

    def __init__(self) -> None:
        self._left = [ShardOrder(shard=shard) for shard in range(RECORD.shards)]

    @property
    def is_ended(self) -> bool:
        return not self._left

    def take(self) -> ShardOrder | None:
        return self._left.pop(0) if self._left else None

    def wait(self, seconds: float) -> None: ...


def test_errors_name_the_address_and_few_folders_are_kept_in_mind(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    @contextmanager
    def held(_address: Any, _spool: Any, *, part: str, **_: Any) -> Generator[Any]:
        folder = tmp_path / part.replace("/", "-") / "run"
        yield SimpleNamespace(root=folder, fetch=lambda _check: folder)

    monkeypatch.setattr(remote_out, "held_out", held)
    monkeypatch.setattr(address, "_aliases", aliases := dict[str, str]())
    monkeypatch.setattr(address, "MOST_ALIASES", 3)
    job = NodeJob(record=RECORD, out="s3://b/run", options=DEFAULTS, devices=None, grace=1.0, otlp=None)
    orders: Any = Orders()
    session: Any = Session()
    NodeShards(job, orders).run(session)
    ended = [one for one in map(json.loads, capsys.readouterr().err.splitlines()) if "code" in one]
    errors = {one["shard"]: one["error"] for one in ended}
    assert errors == {shard: f"s3://b/run/shards/{shard:05}: no vectors" for shard in range(RECORD.shards)}
    assert len(aliases) == 3
