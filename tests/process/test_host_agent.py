"""A real host agent; the test is the coordinator on the hosts link, and on the work link for the agent's workers."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import zmq
from embedfleet.coordinator.hosts.agent import HostAgent
from embedfleet.coordinator.hosts.attached_agent import AttachedHost
from embedfleet.protocol.process.child import ChildProcess
from embedfleet.protocol.version import PROTOCOL, __version__
from embedfleet.protocol.wire import channels
from embedfleet.protocol.wire.codec import Decoder, encode
from embedfleet.protocol.wire.hosts import (
    Goodbye,
    HostAlive,
    HostHello,
    HostLeaving,
    HostRefused,
    HostWelcome,
    Kill,
    Spawn,
    ToCoordinator,
    WorkerGone,
    WorkerSpawned,
)
from embedfleet.protocol.wire.work import ToCoordinator as FromWorker
from embedfleet.protocol.wire.work import WorkerHelloMessage, worker_identity


class HostPeer:
    """The coordinator's end of both links."""

    def __init__(self, context: zmq.Context[Any], folder: Path, start: Callable[..., ChildProcess]) -> None:
        self.hosts = channels.bind(context, zmq.ROUTER, f"ipc://{folder}/hosts")
        self.work = channels.bind(context, zmq.ROUTER, f"ipc://{folder}/work")
        self.process = start(
            "embedfleet.coordinator.hosts.attached_agent",
            f"--connect=ipc://{folder}",
            "--devices=cpu:2",
            "--patience=20",
        )
        self.identity = b""
        self.alives = 0
        self._decoder: Decoder[Any] = Decoder(ToCoordinator)
        self._work_decoder: Decoder[Any] = Decoder(FromWorker)

    def send(self, message: Any) -> None:
        self.hosts.send_multipart([self.identity, encode(message)])

    def hear(self, kind: type[Any], seconds: float = 20.0) -> Any:
        """The next message, which has to be of `kind`; signs of life are answered meanwhile."""
        while True:
            if not self.hosts.poll(int(seconds * 1000)):
                pytest.fail(f"no message within {seconds} s: {self.process.tail()}")
            self.identity, frame = self.hosts.recv_multipart()
            message = self._decoder.decode(frame)
            if isinstance(message, HostAlive) and kind is not HostAlive:
                self.alives += 1
                if kind is not HostHello:  # a host that we do not know yet is not welcome before its hello
                    self.send(HostWelcome(PROTOCOL, __version__))
                continue
            assert isinstance(message, kind), message
            return message

    def join(self) -> HostHello:
        """hello → welcome."""
        hello = self.hear(HostHello)
        self.send(HostWelcome(PROTOCOL, __version__))
        return hello

    def spawn(self, worker: str, device: str, epoch: int) -> psutil.Process:
        """Have a worker started and hear its hello."""
        self.send(Spawn(worker, device, epoch))
        spawned = self.hear(WorkerSpawned)
        assert spawned.worker == worker
        assert spawned.memory.phase == "before"
        name, message = b"", None
        while name != worker_identity(worker, epoch):  # a sign of life of the one before may still be in the queue
            assert self.work.poll(20_000)
            name, frame = self.work.recv_multipart()[:2]
            message = self._work_decoder.decode(frame)
        assert isinstance(message, WorkerHelloMessage), message
        assert (message.epoch, message.pid) == (epoch, spawned.pid)
        return psutil.Process(spawned.pid)


@pytest.fixture
def agent(context: zmq.Context[Any], folder: Path, start: Callable[..., ChildProcess]) -> HostPeer:
    return HostPeer(context, folder, start)


def test_hello_spawn_kill_goodbye(agent: HostPeer, waiting: Any) -> None:
    hello = agent.join()
    assert (hello.protocol, hello.build) == (PROTOCOL, __version__)
    assert [device.kind for device in hello.devices] == ["cpu", "cpu"]
    assert len({device.uuid for device in hello.devices}) == 2
    device = hello.devices[1]
    worker = agent.spawn("w3", device.uuid, 5)
    assert worker.ppid() == agent.process.pid
    assert worker.cpu_affinity() == list(device.cores)
    assert worker.environ()["CUDA_VISIBLE_DEVICES"] == ""
    assert worker.environ()["OMP_NUM_THREADS"] == str(device.threads)
    agent.send(Kill("w3"))
    gone = agent.hear(WorkerGone)
    assert (gone.worker, gone.end.code, gone.released) == ("w3", -signal.SIGKILL, True)
    waiting.all_gone([worker], 1.0)
    second = agent.spawn("w4", device.uuid, 6)
    agent.send(Goodbye())
    assert agent.process.wait(10) == 0
    waiting.all_gone([second], 1.0)


def test_an_end_that_nobody_asked_for_is_reported_with_its_reason(agent: HostPeer) -> None:
    device = agent.join().devices[0]
    worker = agent.spawn("w1", device.uuid, 1)
    agent.work.send_multipart([worker_identity("w1", 1), b"\xc1 nonsense"])
    gone = agent.hear(WorkerGone)
    assert gone.worker == "w1"
    assert gone.end.code not in (0, -signal.SIGKILL)
    assert "not of this link's types" in gone.end.tail
    assert not worker.is_running()


def test_it_tells_that_it_is_alive(agent: HostPeer) -> None:
    host = agent.join().host
    for _ in range(2):
        assert agent.hear(HostAlive).host == host


def test_a_coordinator_that_does_not_know_it_gets_another_hello(agent: HostPeer, waiting: Any) -> None:
    hello = agent.join()
    worker = agent.spawn("w1", hello.devices[0].uuid, 1)
    agent.hear(HostAlive)
    agent.send(HostRefused("unknown"))  # another coordinator has taken the address
    assert agent.join() == hello
    waiting.all_gone([worker], 2.0)  # it belonged to the other one
    agent.spawn("w2", hello.devices[0].uuid, 2)


def test_a_refusal_ends_it_with_the_reason(agent: HostPeer) -> None:
    agent.hear(HostHello)
    agent.send(HostRefused("host x speaks protocol 0"))
    assert agent.process.wait(10) == 1
    assert "speaks protocol 0" in agent.process.tail()
    assert "Traceback" not in agent.process.tail()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_its_workers_end_with_it(agent: HostPeer, waiting: Any, number: signal.Signals, code: int) -> None:
    worker = agent.spawn("w1", agent.join().devices[0].uuid, 1)
    os.kill(agent.process.pid, number)
    if number != signal.SIGKILL:
        agent.hear(HostLeaving)
    assert agent.process.wait(10) == code
    waiting.all_gone([worker], 2.0)


def test_it_says_that_it_leaves_before_its_workers_have_ended(
    context: zmq.Context[Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker in the driver's hands may take long to end."""
    hosts = channels.bind(context, zmq.ROUTER, f"ipc://{folder}/hosts")
    heard: list[Any] = []

    def end_the_workers(_agent: HostAgent) -> None:
        assert hosts.poll(20_000)
        heard.append(Decoder[Any](ToCoordinator).decode(hosts.recv_multipart()[1]))

    monkeypatch.setattr(HostAgent, "close", end_the_workers)
    host = AttachedHost(channels.parse_address(f"ipc://{folder}", "--connect"), "cpu", 20.0, lambda _text: None)
    host._send(HostAlive("h"))  # so that the link stands
    assert hosts.poll(20_000)
    identity, _ = hosts.recv_multipart()
    hosts.send_multipart([identity, encode(HostWelcome(PROTOCOL, __version__))])
    while not host._welcome:
        host._receive()
    host.signals.append(signal.SIGTERM)
    host.close()
    (leaving,) = heard
    assert isinstance(leaving, HostLeaving)
    hosts.close(linger=0)


def test_nobody_answers(folder: Path, start: Callable[..., ChildProcess]) -> None:
    process = start(
        "embedfleet.coordinator.hosts.attached_agent", f"--connect=ipc://{folder}", "--devices=cpu", "--patience=0.5"
    )
    assert process.wait(15) == 1
    assert "no coordinator answers" in process.tail()
    assert "Traceback" not in process.tail()


def test_a_device_that_is_not_there(folder: Path, start: Callable[..., ChildProcess]) -> None:
    process = start("embedfleet.coordinator.hosts.attached_agent", f"--connect=ipc://{folder}", "--devices=cuda:9")
    assert process.wait(15) == 2
    assert "no such GPU" in process.tail()
