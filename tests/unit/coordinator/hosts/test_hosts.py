"""Who is believed on the hosts link."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from embedfleet.coordinator.core.events import HostJoined
from embedfleet.coordinator.hosts.registry import Hosts
from embedfleet.protocol.version import PROTOCOL, __version__
from embedfleet.protocol.wire import channels
from embedfleet.protocol.wire.codec import Decoder, encode
from embedfleet.protocol.wire.hosts import (
    HostAlive,
    HostHello,
    HostRefused,
    HostWelcome,
    SpawnRefusedMessage,
    ToHost,
    WorkerDiedMessage,
    WorkerEnd,
    WorkerGone,
    WorkerSpawned,
)

REPORTS = [
    WorkerSpawned("w0", 1, None),
    WorkerDiedMessage("w0", WorkerEnd(1, "")),
    WorkerGone("w0", WorkerEnd(1, ""), None, True),
    SpawnRefusedMessage("w0", "busy"),
]
MILLISECONDS = 15_000


class Link:
    """The coordinator's end, and agents that connect to it."""

    def __init__(self, folder: Path) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._agents: list[zmq.Socket[bytes]] = []
        self._endpoint = f"inproc://{folder}"
        self.hosts = Hosts(self.context, self._endpoint, None)

    def agent(self) -> zmq.Socket[bytes]:
        self._agents.append(channels.connect(self.context, self._endpoint))
        return self._agents[-1]

    def close(self) -> None:
        for agent in self._agents:
            agent.close(linger=0)
        self.hosts.close()
        self.context.destroy(linger=0)

    def told(self, agent: zmq.Socket[bytes], message: Any) -> list[Any]:
        """What the coordinator makes of one message."""
        agent.send(encode(message))
        assert self.hosts.socket.poll(MILLISECONDS)
        return list(self.hosts.receive(0.0))


def answer(agent: zmq.Socket[bytes]) -> Any:
    assert agent.poll(MILLISECONDS)
    decoder: Decoder[ToHost] = Decoder(ToHost)
    return decoder.decode(agent.recv())


def hello(host: str) -> HostHello:
    return HostHello(PROTOCOL, __version__, host, ())


@pytest.fixture
def link(tmp_path: Path) -> Iterator[Link]:
    made = Link(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("report", REPORTS)
def test_a_host_is_believed_once_it_has_joined(link: Link, report: Any) -> None:
    ours, stranger = link.agent(), link.agent()
    assert link.told(ours, hello("a")) == [HostJoined("a", ())]
    assert isinstance(answer(ours), HostWelcome)
    assert link.told(ours, report) == [report]
    assert link.told(stranger, report) == [], "worker names begin anew with each coordinator"
    assert answer(stranger) == HostRefused("unknown")


def test_a_host_that_has_left_is_a_stranger(link: Link) -> None:
    agent = link.agent()
    link.told(agent, hello("a"))
    answer(agent)
    assert [left.host for left in link.hosts.silent(1_000.0)] == ["a"]
    assert link.told(agent, REPORTS[0]) == []
    assert answer(agent) == HostRefused("unknown")


def test_a_connection_made_anew_is_believed_after_its_sign_of_life(link: Link) -> None:
    agent, anew = link.agent(), link.agent()
    link.told(agent, hello("a"))
    assert link.told(anew, HostAlive("a")) == []
    assert isinstance(answer(anew), HostWelcome)
    assert link.told(anew, REPORTS[0]) == [REPORTS[0]]
