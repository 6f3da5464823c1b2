"""What reads a run directory in object storage, while a run writes there and afterwards."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from embedfleet.client.steps.remote_out import remote_out
from embedfleet.protocol.object_storage.address import parse_address
from embedfleet.protocol.run_directory.lock_holder import STORE_LOCK

from ..object_store.server import Bucket

RUN = ("--dense", "fake:8", "--devices", "cpu")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    path.write_text("".join(json.dumps({"id": f"c{n}", "text": f"text {n}"}) + "\n" for n in range(90)))
    return path


def work(bucket: Bucket, key: str, spool: Path, part: str = "") -> Any:
    address = parse_address(bucket.url(key), "--out")
    return remote_out(address, spool, keep=False, say=lambda _line: None, part=part)


class TestARunAtWork:
    @pytest.fixture
    def at_work(self, start: Any, bucket: Bucket, tmp_path: Path) -> Iterator[Any]:
        source = tmp_path / "many.jsonl"
        source.write_text("".join(json.dumps({"id": f"c{n}", "text": f"text {n}"}) + "\n" for n in range(40_000)))
        run = start("run", source, "--out", bucket.url("work"), "--dense", "fake:8,delay_ms=3000", "--devices", "cpu")
        end = time.monotonic() + 60
        while not [name for name in bucket.keys("work/vectors") if name.endswith(".parquet")]:
            assert time.monotonic() < end, run.err
            assert run.process.poll() is None, run.err
            time.sleep(0.05)  # the bucket itself is awaited
        return run

    def test_it_runs_until_it_is_killed(self, cli: Any, bucket: Bucket, at_work: Any) -> None:
        out = bucket.url("work")
        found = cli("info", out, "--json").json
        assert (found["status"], found["root"]) == ("running", out)
        running = found["running"]
        assert (running["pid"], running["host"], running["step"]) == (at_work.process.pid, socket.gethostname(), "run")
        assert running["vectors"]["dense-fake-8"]["rows"] >= 16_384
        shown = cli("info", out).out.decode()
        assert f"running: process {at_work.process.pid} on {socket.gethostname()} since " in shown
        assert " of 40,000" in shown
        assert cli("verify", out, "--json").json["running"]["pid"] == at_work.process.pid
        at_work.signal(signal.SIGKILL)
        at_work.wait()
        at_work.all_gone(20)
        assert f"work/{STORE_LOCK}" in bucket.keys("work")
        killed = cli("info", out, "--json").json
        assert (killed["status"], killed["running"]) == ("interrupted", None)
        assert "interrupted: dense-fake-8" in cli("verify", out, code=1).out.decode()


def test_a_run_that_has_written_nothing_yet_is_told(cli: Any, bucket: Bucket, tmp_path: Path) -> None:
    with work(bucket, "begun", tmp_path / "spool"):
        error = cli("info", bucket.url("begun"), code=2).error
    assert "/begun: a run has just begun there (process " in error
    assert "look again in a moment" in error
    assert "there is no run; check bucket and key" in cli("info", bucket.url("begun"), code=2).error


def test_shards_that_run_are_told(cli: Any, bucket: Bucket, corpus: Path, tmp_path: Path) -> None:
    out = bucket.url("sharded")
    cli("run", corpus, "--out", out, *RUN, "--shard", "0/3")

    def found() -> tuple[str, int, list[int], list[int]]:
        one = cli("info", out, "--json").json
        return one["status"], one["done"], one["running"], one["missing"]

    with work(bucket, "sharded", tmp_path / "one", "shards/00001"):
        assert found() == ("unmerged", 1, [1], [2])
    assert found() == ("unmerged", 1, [], [1, 2])
    with work(bucket, "sharded", tmp_path / "all"):
        assert found() == ("running", 1, [], [1, 2])
        assert "a process runs them now" in cli("info", out).out.decode()
