"""A coordinator whose messages nobody takes, and one that strangers connect to: runs go on, and their watchers hear of it."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from embedfleet.protocol.process.child import STEADY_MEMORY
from embedfleet.protocol.version import PROTOCOL

FILES = 256
"""Descriptors that the coordinator under attack may have, soft and hard."""


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"id": f"c{row}", "text": f"text {row}"}) + "\n" for row in range(300)))
    return path


@pytest.fixture
def serve() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a coordinator that says what happens, as `embedfleet serve` does."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(bind: str, **streams: Any) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-m", "embedfleet.coordinator", f"--bind={bind}", "--devices=cpu", "--grace=5"]
        started.append(subprocess.Popen(command, env={**os.environ, **STEADY_MEMORY}, **streams))
        return started[-1]

    yield begin
    for process in started:
        below = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.kill()
        process.wait()
        for one in below:
            if one.is_running():
                one.kill()


def submit(client: Any, corpus: Path, out: Path) -> str:
    """A run's name."""
    passes = [{"vector": "dense-a", "kind": "dense", "model": "fake:8"}]
    accepted = client.ask("submit", spec={"source": str(corpus), "passes": passes, "index": "none"}, out=str(out))
    assert accepted["type"] == "accepted", accepted
    assert client.ask("watch", run=accepted["run"])["type"] == "accepted"
    return accepted["run"]


def welcomed(client: Any) -> Any:
    assert client.ask("hello", protocol=PROTOCOL, build="a test")["type"] == "welcome"
    return client


def gone_pipe() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def full_pipe() -> int:
    """One whose reader is there and does not read."""
    _, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writer, b"x" * 4096):
            pass
    os.set_blocking(writer, True)
    return writer


@pytest.mark.parametrize("stderr", [gone_pipe, full_pipe, lambda: os.open("/dev/full", os.O_WRONLY)])
def test_a_message_that_cannot_be_written_ends_nothing(
    serve: Callable[..., Any],
    connect: Callable[[], Any],
    folder: Path,
    corpus: Path,
    tmp_path: Path,
    stderr: Callable[[], int],
) -> None:
    descriptor = stderr()
    coordinator = serve(f"ipc://{folder}", stderr=descriptor)
    client = welcomed(connect())
    for turn in range(2):
        end = client.follow(submit(client, corpus, tmp_path / str(turn)))[-1]
        assert (end["status"], end["committed"]) == ("done", 300)
    assert coordinator.poll() is None
    coordinator.terminate()
    assert coordinator.wait(20) == 128 + 15
    os.close(descriptor)


def test_a_closed_standard_error_is_no_socket_of_ours(
    serve: Callable[..., Any], connect: Callable[[], Any], folder: Path, corpus: Path, tmp_path: Path
) -> None:
    coordinator = serve(f"ipc://{folder}", preexec_fn=lambda: os.close(2))
    client = welcomed(connect())
    assert client.follow(submit(client, corpus, tmp_path / "out"))[-1]["status"] == "done"
    assert os.readlink(f"/proc/{coordinator.pid}/fd/2") == "/dev/null"


def test_a_run_leaves_no_socket_behind(
    serve: Callable[..., Any], connect: Callable[[], Any], folder: Path, corpus: Path, tmp_path: Path
) -> None:
    coordinator = serve(f"ipc://{folder}", stderr=subprocess.DEVNULL)
    client = welcomed(connect())
    for turn in range(3):
        client.follow(submit(client, corpus, tmp_path / str(turn)))
        assert not list(folder.glob("export-*"))
    coordinator.terminate()
    coordinator.wait(20)
    assert {path.name for path in folder.iterdir()} == {".lock"}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"source": "/tmp/a\0b"}, "source '/tmp/a\\x00b': holds a NUL character"),
        ({"source": "/tmp/" + "x" * 5_000}, "has 5,005 characters"),
        ({"passes": [{"vector": "dense-a", "kind": "dense", "model": "fake:8\0"}]}, "--dense 'fake:8\\x00'"),
    ],
)
def test_a_path_that_no_system_can_open_is_refused_at_once(
    serve: Callable[..., Any],
    connect: Callable[[], Any],
    folder: Path,
    corpus: Path,
    tmp_path: Path,
    changed: dict[str, Any],
    words: str,
) -> None:
    assert serve(f"ipc://{folder}", stderr=subprocess.DEVNULL).pid
    client = welcomed(connect())
    passes = [{"vector": "dense-a", "kind": "dense", "model": "fake:8"}]
    asked = {"source": str(corpus), "passes": passes, "index": "none", **changed}
    refused = client.ask("submit", spec=asked, out=str(tmp_path / "out"))
    assert (refused["type"], refused["kind"]) == ("refused", "UsageError")
    assert words in refused["message"]
    for out in ("/tmp/out\0", "/tmp/" + "y" * 5_000):
        refused = client.ask("submit", spec=asked | {"source": str(corpus), "passes": passes}, out=out)
        assert refused["type"] == "refused"
        assert refused["message"].startswith("out '/tmp/")


def limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES // 2, FILES))


def test_strangers_that_connect_and_say_nothing_end_nothing(
    serve: Callable[..., Any], connect: Callable[[], Any], folder: Path, corpus: Path, tmp_path: Path
) -> None:
    coordinator = serve(f"ipc://{folder}", stderr=subprocess.DEVNULL, preexec_fn=limit_files)
    client = welcomed(connect())
    process = psutil.Process(coordinator.pid)
    assert process.rlimit(psutil.RLIMIT_NOFILE) == (FILES, FILES)  # raised to what the system allows
    strangers: list[socket.socket] = []
    try:
        run = submit(client, corpus, tmp_path / "first")
        until = time.monotonic() + 4.0  # longer than the time for a handshake
        while time.monotonic() < until:
            for _ in range(50):
                stranger = socket.socket(socket.AF_UNIX)
                stranger.setblocking(False)
                strangers.append(stranger)
                if stranger.connect_ex(str(folder / "control")):
                    break
            time.sleep(0.05)
            while len(strangers) > 3 * FILES:
                strangers.pop(0).close()
        assert client.follow(run)[-1]["status"] == "done"
        assert client.follow(submit(client, corpus, tmp_path / "second"))[-1]["status"] == "done"
        assert process.num_fds() < FILES
    finally:
        for stranger in strangers:
            stranger.close()
    assert coordinator.poll() is None
