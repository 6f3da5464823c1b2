"""`serve`, agents that attach with `worker --connect`, and a Client that drives them."""

from __future__ import annotations

import json
import random
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedfleet import Client, EmbedfleetError, PassSpec, RunSpec, open_run
from embedfleet.protocol.errors import UsageError
from embedfleet.protocol.wire.control import Progress, RunEnded


def free_address() -> str:
    """A loopback address whose port is free, and the two after it."""
    while True:
        first = random.randint(20_000, 30_000)
        with ExitStack() as held:
            try:
                for port in range(first, first + 3):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return f"tcp://127.0.0.1:{first}"


def spec(source: Path, model: str) -> RunSpec:
    return RunSpec(source=str(source), passes=(PassSpec(vector="dense-a", kind="dense", model=model),), index="none")


@pytest.fixture(params=["ipc", "tcp"])
def address(request: pytest.FixtureRequest, folder: Path) -> str:
    return f"ipc://{folder}" if request.param == "ipc" else free_address()


def test_an_agent_joins_mid_run_and_takes_part(
    address: str,
    start: Callable[..., Any],
    many: Path,
    many_texts: list[str],
    fake_vectors: Any,
    tmp_path: Path,
    read_events: Any,
    waiting: Any,
) -> None:
    serving = start("serve", "--bind", address, "--devices", "cpu")
    out = tmp_path / "run"
    with Client(address, timeout=30) as client:
        run = client.submit(spec(many, "fake:16,delay_ms=1000"), out)
        watched = client.watch(run)
        for message in watched:
            assert isinstance(message, Progress), message
            if message.passes[0].rows_done:
                break
        agent = start("worker", "--connect", address, "--devices", "cpu")
        waiting.eventually(lambda: len(client.status().devices) == 2, what="the agent's device")
        status = client.status()
        assert [(one.run, one.out) for one in status.runs] == [(run, str(out))]
        *_, end = watched
        assert isinstance(end, RunEnded)
        assert (end.status, end.committed) == ("done", 40_000)
        assert client.status().runs == ()
    by_device = json.loads((out / "stats.json").read_bytes())["passes"][0]["rows_by_device"]
    assert sum(by_device.values()) == 40_000
    own, joined = status.devices
    assert by_device[own.name] > 0
    assert by_device[joined.name] > 0
    assert own.host != joined.host
    assert any(one["event"] == "host_joined" for one in read_events(out))
    np.testing.assert_array_equal(open_run(out).vectors(), fake_vectors(many_texts, 16))
    serving.signal(signal.SIGTERM)
    serving.wait(143, 15)
    agent.wait(0, 15)
    assert "the coordinator has ended" in agent.err
    serving.all_gone(2.0)
    agent.all_gone(2.0)


def test_a_coordinator_without_devices_waits_for_an_agent_and_outlives_it(
    folder: Path,
    start: Callable[..., Any],
    many: Path,
    tmp_path: Path,
    waiting: Any,
    many_texts: list[str],
    fake_vectors: Any,
) -> None:
    address = f"ipc://{folder}"
    start("serve", "--bind", address, "--no-devices")
    out = tmp_path / "run"
    with Client(address, timeout=30) as client:
        run = client.submit(spec(many, "fake:16,delay_ms=200"), out)
        assert client.status().devices == ()
        first = start("worker", "--connect", address, "--devices", "cpu")
        watched = client.watch(run)
        for message in watched:
            assert isinstance(message, Progress), message
            if message.passes[0].rows_done:
                break
        first.signal(signal.SIGTERM)
        first.wait(143, 10)
        first.all_gone(2.0)
        waiting.eventually(lambda: client.status().devices == (), 3.0, "the first agent's leaving")
        start("worker", "--connect", address, "--devices", "cpu")
        *_, end = watched
        assert isinstance(end, RunEnded)
        assert (end.status, end.committed) == ("done", 40_000)
    np.testing.assert_array_equal(open_run(out).vectors(), fake_vectors(many_texts, 16))


def test_an_agent_serves_the_coordinator_that_comes_after_a_killed_one(
    folder: Path, start: Callable[..., Any], tmp_path: Path, corpus_of: Any, waiting: Any
) -> None:
    address = f"ipc://{folder}"
    first = start("serve", "--bind", address, "--no-devices")
    agent = start("worker", "--connect", address, "--devices", "cpu")
    waiting.eventually(lambda: "attached to" in agent.err, what="the agent's welcome")
    first.signal(signal.SIGKILL)
    first.wait(-signal.SIGKILL)
    start("serve", "--bind", address, "--no-devices")
    source = corpus_of(tmp_path / "corpus.jsonl", ["one", "two"])
    with Client(address, timeout=30) as client:
        *_, end = client.watch(client.submit(spec(source, "fake:8"), tmp_path / "run"))
    assert isinstance(end, RunEnded)
    assert (end.status, end.committed) == ("done", 2)


def test_cancel_and_resume_through_a_client(
    folder: Path, start: Callable[..., Any], many: Path, tmp_path: Path, many_texts: list[str], fake_vectors: Any
) -> None:
    address = f"ipc://{folder}"
    start("serve", "--bind", address, "--devices", "cpu")
    out = tmp_path / "run"
    with Client(address, timeout=30) as client:
        wanted = spec(many, "fake:16,delay_ms=300")
        run = client.submit(wanted, out)
        for message in client.watch(run):
            if isinstance(message, Progress) and message.passes[0].rows_committed:
                client.cancel(run)
                break
        *_, end = client.watch(run)
        assert isinstance(end, RunEnded)
        assert end.status == "interrupted"
        assert 0 < end.committed < 40_000
        with pytest.raises(UsageError, match="not running here"):
            client.cancel(run)
        *_, end = client.watch(client.submit(wanted, out))
        assert (end.status, end.committed) == ("done", 40_000)
        with pytest.raises(UsageError, match="nothing to compute"):
            client.submit(RunSpec(source=str(many), passes=()), out)
        with pytest.raises(UsageError, match="cannot read your standard input; give a file or a folder on its host"):
            client.submit(RunSpec(source="-", passes=wanted.passes), tmp_path / "other")
        assert not (tmp_path / "other").exists()
    np.testing.assert_array_equal(open_run(out).vectors(), fake_vectors(many_texts, 16))


def test_nobody_listens(folder: Path) -> None:
    with pytest.raises(EmbedfleetError, match="embedfleet serve"):
        Client(f"ipc://{folder}", timeout=0.3)
    with pytest.raises(EmbedfleetError, match="this machine only"):
        Client("tcp://192.0.2.1:5555")
