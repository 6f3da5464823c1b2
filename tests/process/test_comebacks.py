"""Workers that come back after their lease ended, to a real coordinator: what they say counts for nothing."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import zmq
from embedfleet.client.run_directory.reader import open_run
from embedfleet.protocol.process.child import ChildProcess
from embedfleet.protocol.spec.run_spec import PassSpec
from embedfleet.protocol.version import PROTOCOL, __version__
from embedfleet.protocol.wire import arrays
from embedfleet.protocol.wire.codec import Decoder, encode
from embedfleet.protocol.wire.devices import Device, MemorySample
from embedfleet.protocol.wire.hosts import HostHello, HostWelcome, Spawn, ToHost, WorkerEnd, WorkerGone, WorkerSpawned
from embedfleet.protocol.wire.work import (
    BatchMessage,
    Hydrate,
    Ready,
    Release,
    Result,
    Staged,
    StageMessage,
    Timings,
    ToWorker,
    WorkerHelloMessage,
    worker_identity,
)
from embedfleet.worker.encoders.fake import FakeEncoder

DIM = 8
DEVICE = Device(uuid="cpu-played-0", kind="cpu", name="cpu:0", memory=1 << 30, threads=1)
SOME_MEMORY = MemorySample(phase="hydrated", used=1, total=1 << 30, source="rss")


def corpus_of(path: Path, rows: int) -> list[str]:
    texts = [f"text {row}" for row in range(rows)]
    path.write_text("".join(f'{{"id":"c{row}","text":"{text}"}}\n' for row, text in enumerate(texts)))
    return texts


def encoder(model: str = f"fake:{DIM}") -> FakeEncoder:
    return FakeEncoder(PassSpec(vector="dense-a", kind="dense", model=model))


def expected(texts: list[str]) -> np.ndarray:
    """float32 (rows, DIM): what the fake model has for the texts."""
    one = encoder()
    return one.compute(one.prepare(texts), np.arange(len(texts), dtype=np.int32))


class Played:
    """The test's end of a link of the coordinator."""

    def __init__(self, context: zmq.Context[Any], endpoint: str, union: Any, identity: bytes = b"") -> None:
        self.socket = context.socket(zmq.DEALER)
        if identity:
            self.socket.identity = identity
        self.socket.connect(endpoint)
        self._decoder: Decoder[Any] = Decoder(union)

    def send(self, message: Any, frames: Any = ()) -> None:
        self.socket.send_multipart([encode(message), *frames])

    def hear(self, kind: type[Any], seconds: float = 20.0) -> Any:
        """The next message, which has to be of this kind; welcomes are passed over."""
        while True:
            assert self.socket.poll(int(seconds * 1000)), f"no {kind.__name__} within {seconds} s"
            message = self._decoder.decode(self.socket.recv_multipart()[0])
            if isinstance(message, kind):
                return message
            assert isinstance(message, HostWelcome), message


@pytest.fixture
def play(context: zmq.Context[Any]) -> Iterator[Callable[..., Played]]:
    made: list[Played] = []

    def begin(*about: Any) -> Played:
        made.append(Played(context, *about))
        return made[-1]

    yield begin
    for one in made:
        one.socket.close(linger=0)


@pytest.fixture
def submit(connect: Callable[[], Any]) -> Callable[[Path, Path, str], tuple[Any, str]]:
    """Submits a run of one pass; the client and the run's name."""

    def begin(source: Path, out: Path, model: str) -> tuple[Any, str]:
        client = connect()
        assert client.ask("hello", protocol=PROTOCOL, build="a test")["type"] == "welcome"
        passes = [{"vector": "dense-a", "kind": "dense", "model": model}]
        spec = {"source": str(source), "passes": passes, "index": "none"}
        run = client.ask("submit", spec=spec, out=str(out))["run"]
        client.ask("watch", run=run)
        return client, run

    return begin


def lies(batch: BatchMessage) -> tuple[Result, list[Any]]:
    """A result that would be taken for a good one: unit vectors, but others than the model's."""
    vectors = np.zeros((batch.rows, DIM), np.float32)
    vectors[:, 0] = 1.0
    found = {
        "vector": vectors,
        "n_tokens": np.full(batch.rows, 2, np.int32),
        "truncated": np.zeros(batch.rows, np.uint8),
    }
    headers, frames = arrays.pack(found)
    return Result(batch.batch, batch.epoch, 2, 2, Timings(0.0, 0.0, 0.0), headers), list(frames)


def test_a_worker_that_comes_back_after_its_lease_ended_is_told_to_go(
    folder: Path, start: Callable[..., ChildProcess], play: Any, submit: Any, tmp_path: Path
) -> None:
    """The test is the host, and the worker of the first lease; a real worker has the second."""
    start("embedfleet.coordinator", f"--bind=ipc://{folder}", "--no-devices", "--host-silence=120")
    texts = corpus_of(tmp_path / "corpus.jsonl", 300)
    client, run = submit(tmp_path / "corpus.jsonl", tmp_path / "out", f"fake:{DIM}")
    work = f"ipc://{folder}/work"
    host = play(f"ipc://{folder}/hosts", ToHost)
    host.send(HostHello(PROTOCOL, __version__, "played", (DEVICE,)))

    first = host.hear(Spawn)
    host.send(WorkerSpawned(first.worker, 1, None))
    stale = play(work, ToWorker, worker_identity(first.worker, first.epoch))
    stale.send(WorkerHelloMessage(PROTOCOL, __version__, first.epoch, 1))
    stale.hear(StageMessage)
    stale.send(Staged(encoder().fingerprint, 64_000, 4 * DIM, 0.0))
    stale.hear(Hydrate)
    stale.send(Ready("cpu float32", SOME_MEMORY, 0.0))
    batch = stale.hear(BatchMessage)
    host.send(WorkerGone(first.worker, WorkerEnd(-9, ""), None, released=True))

    second = host.hear(Spawn)
    assert second.epoch > first.epoch
    old_name = play(work, ToWorker, worker_identity(second.worker, first.epoch))
    for one in (stale, old_name):  # what it had in hand; and the same under the name that has the lease now
        one.send(*lies(batch))
        one.hear(Release)
    about = [f"--endpoint={work}", f"--worker={second.worker}", f"--epoch={second.epoch}"]
    worker = start("embedfleet.worker", *about, "--kind=cpu", f"--uuid={DEVICE.uuid}", "--threads=1")
    host.send(WorkerSpawned(second.worker, worker.pid, None))
    assert worker.wait(40) == 0
    stale.send(*lies(batch))
    stale.hear(Release)
    host.send(WorkerGone(second.worker, WorkerEnd(0, ""), None, released=True))

    assert client.follow(run)[-1]["committed"] == 300
    np.testing.assert_array_equal(open_run(tmp_path / "out").vectors(), expected(texts))


@pytest.fixture
def frozen() -> Iterator[Callable[[ChildProcess], Callable[[], None]]]:
    """Stops a process and all below it, as when a host is suspended; what it returns wakes them again."""
    stopped: list[psutil.Process] = []

    def wake() -> None:
        while stopped:
            one = stopped.pop()
            if one.is_running():
                one.send_signal(signal.SIGCONT)

    def freeze(process: ChildProcess) -> Callable[[], None]:
        agent = psutil.Process(process.pid)
        for one in (agent, *agent.children(recursive=True)):
            one.send_signal(signal.SIGSTOP)
            stopped.append(one)
        return wake

    yield freeze
    wake()


def test_a_host_that_was_suspended_comes_back_and_its_old_results_are_dropped(
    folder: Path, start: Callable[..., ChildProcess], submit: Any, tmp_path: Path, waiting: Any, frozen: Any
) -> None:
    address, out = f"ipc://{folder}", tmp_path / "out"
    start("embedfleet.coordinator", f"--bind={address}", "--no-devices", "--host-silence=2")
    agent = ("embedfleet.coordinator.hosts.attached_agent", f"--connect={address}", "--devices=cpu")
    texts = corpus_of(tmp_path / "corpus.jsonl", 40_000)
    client, run = submit(tmp_path / "corpus.jsonl", out, f"fake:{DIM},delay_ms=900")

    def told(event: str) -> list[dict[str, Any]]:
        path = out / "events.jsonl"
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        return [one for one in map(json.loads, lines) if one["event"] == event]

    first = start(*agent)
    waiting.eventually(lambda: any(one["rows_done"] for one in client.next().get("passes", ())), what="a first batch")
    wake = frozen(first)
    start(*agent)
    left = waiting.eventually(lambda: told("host_left"), what="the news that the host has left")
    assert left[0]["reason"] == "silent for 2 s"
    wake()
    waiting.eventually(lambda: len(told("host_joined")) == 3, what="its return")  # with new leases only

    assert client.follow(run)[-1]["committed"] == 40_000
    np.testing.assert_array_equal(open_run(out).vectors(), expected(texts))
    (figures,) = json.loads((out / "stats.json").read_bytes())["passes"]
    assert sum(figures["rows_by_device"].values()) == 40_000, "no row counts twice"
