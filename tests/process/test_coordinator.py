"""A real coordinator process; the test is a client that knows pyzmq and MessagePack only."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import zmq
from embedfleet.protocol.process.child import ChildProcess
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.version import PROTOCOL

from .conftest import ControlClient


def spec(source: Path, model: str = "fake:8", **more: Any) -> dict[str, Any]:
    return {
        "source": str(source),
        "passes": [{"vector": "dense-a", "kind": "dense", "model": model}],
        "index": "none",
        **more,
    }


def hello(client: Any) -> Any:
    welcome = client.ask("hello", protocol=PROTOCOL, build="a test")
    assert welcome["type"] == "welcome", welcome
    return client


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"id": f"c{row}", "text": f"text {row}"}) + "\n" for row in range(300)))
    return path


@pytest.fixture
def slow_corpus(tmp_path: Path) -> Path:
    """Three segments, ten batches."""
    path = tmp_path / "slow.jsonl"
    path.write_text("".join(f'{{"id":"c{row}","text":"text {row}"}}\n' for row in range(40_000)))
    return path


@pytest.fixture
def coordinator(folder: Path, start: Callable[..., ChildProcess]) -> ChildProcess:
    return start("embedfleet.coordinator", f"--bind=ipc://{folder}", "--devices=cpu")


@pytest.fixture
def client(coordinator: ChildProcess, connect: Callable[[], Any]) -> Any:
    """A client that was welcomed."""
    assert coordinator.pid
    return hello(connect())


@pytest.fixture(scope="module")
def standing() -> Iterator[Path]:
    """The folder of a coordinator that all tests share of what it refuses: it lives through every one of them."""
    made = Path(tempfile.mkdtemp(prefix="ef-", dir="/tmp"))
    process = ChildProcess("embedfleet.coordinator", [f"--bind=ipc://{made}", "--devices=cpu"])
    yield made
    assert process.exit_code() is None, process.tail()
    process.close()
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def stranger(standing: Path, context: zmq.Context[Any]) -> ControlClient:
    """A client of that coordinator, which has not said hello."""
    return ControlClient(context, f"ipc://{standing}/control")


@pytest.fixture
def asking(stranger: ControlClient) -> ControlClient:
    """A client of that coordinator, which was welcomed."""
    return hello(stranger)


def working(client: Any) -> Callable[[], bool]:
    """Whether a progress message says that rows have been computed."""
    return lambda: any(one["rows_done"] for one in client.next().get("passes", ()))


def test_another_protocol_version_is_refused_by_name(stranger: ControlClient) -> None:
    refused = stranger.ask("hello", protocol=99, build="9.9")
    assert (refused["type"], refused["kind"]) == ("refused", "ProtocolError")
    assert "speaks protocol 99 (embedfleet 9.9)" in refused["message"]


@pytest.mark.parametrize(
    "frames",
    [
        [b"\xc1\xc1"],
        [b""],
        [b"", b""],
        [b"\x91" * 200_000],
        [b"\xdf\xff\xff\xff\xff"],
        [b"\x80" + b"x" * (5 << 20)],
        [b"\x81\xa4type\xa8get_time"],
    ],
    ids=["no MessagePack", "empty", "two frames", "nested", "announces 4G pairs", "too long", "unknown type"],
)
def test_garbage_is_refused_and_the_coordinator_lives(asking: ControlClient, frames: list[bytes]) -> None:
    asking.socket.send_multipart(frames)
    refused = asking.next()
    assert (refused["type"], refused["request"], refused["kind"]) == ("refused", 0, "ProtocolError")
    assert asking.ask("get_status")["type"] == "status"


@pytest.mark.parametrize(
    ("changed", "kind", "words"),
    [
        ({"passes": []}, "UsageError", "--dense"),
        ({"limit": 0}, "UsageError", "--limit 0"),
        ({"preprocessing": "other"}, "UsageError", "preprocessing"),
        ({"index": "faiss"}, "ProtocolError", "faiss"),
        ({"source": 7}, "ProtocolError", "source"),
    ],
)
def test_an_impossible_spec_is_refused(
    asking: ControlClient, corpus: Path, tmp_path: Path, changed: dict[str, Any], kind: str, words: str
) -> None:
    number = asking.send("submit", spec={**spec(corpus), **changed}, out=str(tmp_path / "out"))
    refused = asking.next()
    assert (refused["type"], refused["kind"]) == ("refused", kind)
    assert words in refused["message"]
    assert refused["request"] in (number, 0)  # 0 where the request could not be read at all
    assert not (tmp_path / "out").exists()


def test_a_run_from_submission_to_its_end(client: Any, connect: Any, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    accepted = client.ask("submit", spec=spec(corpus), out=str(out))
    assert accepted["type"] == "accepted"
    assert client.ask("watch", run=accepted["run"])["type"] == "accepted"
    *progress, end = client.follow(accepted["run"])
    assert progress
    assert all(one["type"] == "progress" and one["passes"][0]["vector"] == "dense-a" for one in progress)
    assert progress[-1]["passes"][0]["rows_committed"] == 300
    assert {name: end[name] for name in ("status", "chunks", "committed", "quarantined", "skipped_duplicates")} == {
        "status": "done",
        "chunks": 300,
        "committed": 300,
        "quarantined": 0,
        "skipped_duplicates": 0,
    }
    assert json.loads((out / "manifest.json").read_bytes())["counts"]["committed"] == 300
    late = hello(connect())
    late.ask("watch", run=accepted["run"])
    assert late.follow(accepted["run"]) == [end]  # told to those who ask later, too


def test_runs_queue_and_a_failing_one_stops_nobody(client: Any, corpus: Path, tmp_path: Path) -> None:
    wrong = client.ask("submit", spec=spec(corpus, "no-such-model"), out=str(tmp_path / "wrong"))["run"]
    right = client.ask("submit", spec=spec(corpus), out=str(tmp_path / "right"))["run"]
    gone = client.ask("submit", spec=spec(tmp_path / "nowhere.jsonl"), out=str(tmp_path / "gone"))["run"]
    for run in (wrong, right, gone):
        client.ask("watch", run=run)
    ends: dict[str, Any] = {}
    while len(ends) < 3:
        message = client.told.pop(0) if client.told else client.next(40)
        if message["type"] == "run_ended":
            ends[message["run"]] = message
    assert (ends[wrong]["status"], ends[wrong]["kind"]) == ("failed", "ModelError")
    assert ends[right]["status"] == "done"
    assert (ends[gone]["status"], ends[gone]["kind"]) == ("failed", "SourceError")
    assert "nowhere.jsonl" in ends[gone]["error"]


def test_status_and_cancel(client: Any, slow_corpus: Path, tmp_path: Path, waiting: Any) -> None:
    out = tmp_path / "out"
    slow = spec(slow_corpus, "fake:8,delay_ms=300")
    run = client.ask("submit", spec=slow, out=str(out))["run"]
    second = client.ask("submit", spec=spec(slow_corpus), out=str(tmp_path / "second"))["run"]
    refused = client.ask("submit", spec=slow, out=str(out))
    assert "is writing there" in refused["message"]
    client.ask("watch", run=run)
    waiting.eventually(working(client))
    status = client.ask("get_status")
    assert [(one["run"], one["status"]) for one in status["runs"]] == [(run, "running"), (second, "queued")]
    assert [one["working"] for one in status["devices"]] == ["dense-a"]
    assert client.ask("cancel", run=second)["type"] == "accepted"
    assert client.ask("cancel", run=run)["type"] == "accepted"
    assert client.follow(run)[-1]["status"] == "interrupted"
    assert not (out / "manifest.json").exists()
    waiting.eventually(lambda: client.ask("get_status")["runs"] == [], what="an empty queue")


@pytest.mark.parametrize("request_type", ["watch", "cancel"])
def test_an_unknown_run_is_refused(asking: ControlClient, request_type: str) -> None:
    refused = asking.ask(request_type, run="20200101-000000-abcdef")
    assert (refused["type"], refused["kind"]) == ("refused", "UsageError")
    assert "20200101-000000-abcdef" in refused["message"]


def test_an_out_that_is_not_absolute_is_refused(asking: ControlClient, corpus: Path) -> None:
    assert "absolute" in asking.ask("submit", spec=spec(corpus), out="somewhere")["message"]


def test_a_submission_that_is_refused_leaves_nothing(asking: ControlClient, tmp_path: Path) -> None:
    """Nor is its directory taken: the same is said again, and not that a run is writing there."""
    asked = spec(tmp_path / "c.jsonl", model="intfloat/e5-small")
    for _ in range(2):
        refused = asking.ask("submit", spec=asked, out=str(tmp_path / "nul\0byte"))
        assert refused["type"] == "refused"
        assert "holds a NUL character" in refused["message"]
    assert asking.ask("get_status")["runs"] == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_drains_and_ends_every_child(
    coordinator: ChildProcess,
    client: Any,
    slow_corpus: Path,
    tmp_path: Path,
    waiting: Any,
    number: signal.Signals,
    code: int,
) -> None:
    run = client.ask("submit", spec=spec(slow_corpus, "fake:8,delay_ms=200"), out=str(tmp_path / "out"))["run"]
    client.ask("watch", run=run)
    waiting.eventually(working(client))
    children = psutil.Process(coordinator.pid).children(recursive=True)
    names = [" ".join(one.cmdline()) for one in children]
    assert any("embedfleet.worker" in name for name in names)
    assert any("embedfleet.exporter" in name for name in names)
    os.kill(coordinator.pid, number)
    assert client.follow(run)[-1]["status"] == "interrupted"
    assert coordinator.wait(20) == code
    waiting.all_gone(children, 5.0)


def test_the_drain_lasts_no_longer_than_the_grace(
    folder: Path, start: Callable[..., ChildProcess], connect: Any, corpus: Path, tmp_path: Path, waiting: Any
) -> None:
    """A batch that takes two minutes is left to the next session."""
    coordinator = start("embedfleet.coordinator", f"--bind=ipc://{folder}", "--devices=cpu", "--grace=0.5")
    client = hello(connect())
    run = client.ask("submit", spec=spec(corpus, "fake:8,delay_ms=120000"), out=str(tmp_path / "out"))["run"]
    client.ask("watch", run=run)
    waiting.eventually(lambda: client.next()["passes"][0]["in_flight"], what="a batch in flight")
    children = psutil.Process(coordinator.pid).children(recursive=True)
    coordinator.terminate()
    assert coordinator.wait(15) == 143
    waiting.all_gone(children, 5.0)


def test_sigterm_while_the_intake_waits_on_standard_input(
    folder: Path, start: Callable[..., ChildProcess], connect: Any, tmp_path: Path
) -> None:
    reader, writer = os.pipe()
    ready, announce = (
        os.pipe()
    )  # a coordinator that announces itself is the command's own, and reads its standard input
    try:
        flags = (f"--bind=ipc://{folder}", "--devices=cpu", f"--ready-fd={announce}")
        coordinator = start("embedfleet.coordinator", *flags, stdin=reader, keep_fds=[announce])
        assert os.read(ready, 5) == b"ready"
        client = hello(connect())
        run = client.ask("submit", spec={**spec(tmp_path), "source": "-", "limit": 9}, out=str(tmp_path / "out"))["run"]
        client.ask("watch", run=run)
        os.write(writer, b'{"text": "one row, and then nothing"}\n')
        while client.next()["passes"][0]["state"] != "working":
            pass
        coordinator.terminate()
        assert client.follow(run)[-1]["status"] == "interrupted"
        assert coordinator.wait(10) == 143
    finally:
        for one in (reader, writer, ready, announce):
            os.close(one)


def test_an_idle_coordinator_ends_at_once_on_sigterm(coordinator: ChildProcess, client: Any) -> None:
    assert client.ask("get_status")["runs"] == []
    coordinator.terminate()
    assert coordinator.wait(10) == 143


def test_sigkill_takes_every_child_along(
    coordinator: ChildProcess, client: Any, slow_corpus: Path, tmp_path: Path, waiting: Any
) -> None:
    run = client.ask("submit", spec=spec(slow_corpus, "fake:8,delay_ms=500"), out=str(tmp_path / "out"))["run"]
    client.ask("watch", run=run)
    waiting.eventually(working(client))
    children = psutil.Process(coordinator.pid).children(recursive=True)
    assert len(children) >= 2
    coordinator.kill()
    waiting.all_gone(children, 1.0)


def test_a_taken_address_is_refused(
    client: Any, folder: Path, coordinator: ChildProcess, start: Callable[..., ChildProcess]
) -> None:
    second = start("embedfleet.coordinator", f"--bind=ipc://{folder}", "--devices=cpu")
    assert second.wait(20) == 2
    assert "a coordinator is running there" in second.tail()
    assert client.ask("get_status")["type"] == "status"
    assert coordinator.exit_code() is None


@pytest.fixture
def stuck(tmp_path: Path) -> dict[str, Any]:
    """A submission that nobody can look at to the end: the directory of its run holds a pipe that nobody writes into."""
    out = tmp_path / "stuck"
    intake = RunLayout(out).intake
    intake.parent.mkdir(parents=True)
    os.mkfifo(intake)
    return {"spec": spec(tmp_path / "corpus.jsonl", "no-such-model"), "out": str(out)}


def test_a_disk_that_does_not_answer_holds_up_its_own_submission_only(
    client: Any, connect: Callable[[], Any], corpus: Path, stuck: dict[str, Any], tmp_path: Path
) -> None:
    number = client.send("submit", **stuck)
    other = hello(connect())
    run = other.ask("submit", spec=spec(corpus), out=str(tmp_path / "out"))["run"]
    other.ask("watch", run=run)
    assert other.follow(run)[-1]["status"] == "done"
    busy = other.ask("submit", **stuck)
    assert "is writing there" in busy["message"]
    RunLayout(Path(stuck["out"])).intake.write_bytes(b"{}")  # which its reader was waiting for
    accepted = client.next()
    assert (accepted["type"], accepted["request"]) == ("accepted", number)


def test_a_stop_refuses_a_submission_that_is_stuck(
    client: Any, coordinator: ChildProcess, stuck: dict[str, Any]
) -> None:
    number = client.send("submit", **stuck)
    client.ask("get_status")
    assert not client.told
    coordinator.terminate()
    refused = client.next()
    assert (refused["type"], refused["request"]) == ("refused", number)
    assert "shutting down" in refused["message"]
    assert coordinator.wait(10) == 143


def test_an_address_is_free_again_after_sigkill(
    client: Any, folder: Path, coordinator: ChildProcess, start: Callable[..., ChildProcess], connect: Any
) -> None:
    assert client.ask("get_status")
    coordinator.kill()
    coordinator.wait(5)
    start("embedfleet.coordinator", f"--bind=ipc://{folder}", "--devices=cpu")
    hello(connect())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--bind=tcp://10.1.2.3:5000", "--devices=cpu"], "this machine only"),
        (["--bind=ipc://relative", "--devices=cpu"], "absolute"),
        (["--bind=ipc:///tmp/" + "x" * 120, "--devices=cpu"], "107"),
        (["--bind=ipc:///tmp/ef-never", "--devices=tpu"], "not a device"),
        (["--bind=ipc:///tmp/ef-never", "--devices=cuda:7"], "no such GPU"),
        (["--bind=ipc:///tmp/ef-never", "--devices=cpu:9999"], "processors"),
        (["--bind=ipc:///tmp/ef-never", "--devices=cpu,cpu"], "named twice"),
    ],
)
def test_what_it_cannot_bind_or_offer_is_refused(
    start: Callable[..., ChildProcess], arguments: list[str], words: str
) -> None:
    process = start("embedfleet.coordinator", *arguments)
    assert process.wait(20) == 2
    assert words in process.tail()
    assert "Traceback" not in process.tail()


@pytest.fixture
def open_folder(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "open"
    path.mkdir(mode=0o755)
    return path


def test_a_folder_that_others_may_enter_is_refused(start: Callable[..., ChildProcess], open_folder: Path) -> None:
    process = start("embedfleet.coordinator", f"--bind=ipc://{open_folder}", "--devices=cpu")
    assert process.wait(20) == 2
    assert "chmod 700" in process.tail()
