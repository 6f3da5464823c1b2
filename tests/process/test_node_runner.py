"""What an actor does on its node, without Ray: `embedfleet run` on a shard, its reports, and its end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from embedfleet.client.options.spec_builder import build_spec
from embedfleet.client.ray.node_runner import NodeRunner, ShardReport
from embedfleet.client.ray.shard_config import shard_config
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.wire.run_options import DEFAULTS


@pytest.fixture
def runner() -> Iterator[NodeRunner]:
    made = NodeRunner()
    yield made
    made.stop(terminate=True)
    until(made, lambda report: report.shard is None or report.code is not None)


@pytest.fixture
def config_of(tmp_path: Path) -> Callable[..., str]:
    """The flags of a run of 200 texts by a model."""
    lines = [f'{{"id": "c{row}", "text": "text {row}"}}\n' for row in range(200)]
    (tmp_path / "c.jsonl").write_text("".join(lines))

    def make(model: str, devices: str = "cpu") -> str:
        spec = build_spec(str(tmp_path / "c.jsonl"), dense=[model], sparse=[], multivector=[], heads=[], index="none")
        return shard_config(spec, tmp_path / "out", DEFAULTS, devices=devices, grace=5.0, otlp=None)

    return make


def until(runner: NodeRunner, found: Callable[[ShardReport], Any], seconds: float = 60.0) -> ShardReport:
    """Ask until a report is as wanted; `messages` are those of all reports."""
    end, messages = time.monotonic() + seconds, list[str]()
    while time.monotonic() < end:
        report = runner.poll()
        messages += report.messages
        if found(report):
            return ShardReport(report.shard, report.progress, tuple(messages), report.error, report.code)
        time.sleep(0.05)
    pytest.fail(f"no such report; messages: {messages}")


def test_a_shard_from_its_flags_to_its_end(
    runner: NodeRunner, config_of: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDFLEET_RUN_MAX_TOKENS", "0")  # of the node: it must change nothing
    assert runner.poll() == ShardReport(None)
    runner.start(1, 2, config_of("fake:8"), restart=False)
    report = until(runner, lambda report: report.code is not None)
    assert (report.shard, report.code, report.error) == (1, 0, "")
    assert any("read =" in line for line in report.messages)
    assert RunLayout(tmp_path / "out").shard(1).manifest.exists()
    assert runner.poll() == ShardReport(None)


def test_the_error_of_a_shard(runner: NodeRunner, config_of: Callable[..., str]) -> None:
    runner.start(0, 2, config_of("fake:8", devices="cuda:7"), restart=False)
    report = until(runner, lambda report: report.code is not None)
    assert report.code == 2
    assert report.error.startswith("--devices cuda:7: no such GPU")


@pytest.mark.parametrize(("terminate", "code"), [(False, 130), (True, 143)])
def test_a_shard_is_stopped_in_order(
    runner: NodeRunner, config_of: Callable[..., str], terminate: bool, code: int
) -> None:
    runner.start(0, 1, config_of("fake:8,delay_ms=3000"), restart=False)
    until(runner, lambda report: report.progress is not None)
    runner.stop(terminate=terminate)
    assert until(runner, lambda report: report.code is not None).code == code


def test_a_shard_that_is_killed_takes_its_processes_along(
    runner: NodeRunner, config_of: Callable[..., str], waiting: Any
) -> None:
    runner.start(0, 1, config_of("fake:8,delay_ms=3000"), restart=False)
    until(runner, lambda report: report.progress is not None)
    (child,) = waiting.children_with("--shard")
    below = [child, *child.children(recursive=True)]
    assert len(below) > 2
    os.kill(child.pid, signal.SIGKILL)
    assert until(runner, lambda report: report.code is not None).code == -signal.SIGKILL
    waiting.all_gone(below, 10.0)
