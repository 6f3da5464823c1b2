"""All host agents, the coordinator's own and the attached ones: starts and kills their workers, notices silent agents."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import zmq

from ...protocol.errors import ProtocolError
from ...protocol.version import PROTOCOL, __version__
from ...protocol.wire import channels
from ...protocol.wire.codec import Decoder, check_version, encode
from ...protocol.wire.hosts import (
    Goodbye,
    HostAlive,
    HostHello,
    HostLeaving,
    HostRefused,
    HostWelcome,
    Kill,
    Spawn,
    SpawnRefusedMessage,
    ToCoordinator,
    WorkerDiedMessage,
    WorkerGone,
    WorkerSpawned,
)
from ..core.events import HostJoined, HostLeft
from .agent import HostAgent

SILENCE_SECONDS = 10.0
HostEvent = HostJoined | HostLeft | WorkerSpawned | WorkerDiedMessage | WorkerGone | SpawnRefusedMessage


@dataclass(slots=True)
class _Remote:
    identity: bytes
    seen: float


class Hosts:
    """Host agents by name. The local one is called directly, the others through the hosts link."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        local: HostAgent | None,
        silence: float = SILENCE_SECONDS,
    ) -> None:
        """An agent that sends nothing for `silence` seconds has left."""
        self._silence = silence
        self.socket = channels.bind(context, zmq.ROUTER, endpoint)
        self.local = local
        self._remotes: dict[str, _Remote] = {}
        self._decoder: Decoder[ToCoordinator] = Decoder(ToCoordinator)

    def receive(self, now: float) -> Iterator[HostEvent]:
        """Yield the reports of remote agents."""
        while self.socket.poll(0):
            identity, *frames = self.socket.recv_multipart()
            with contextlib.suppress(ProtocolError):  # a stranger's frames: nobody to answer
                message = self._decoder.decode(frames[0] if frames else b"")
                yield from self._heard(identity, message, now)

    def spawn(self, worker: str, host: str, device: str, epoch: int) -> Iterator[HostEvent]:
        """Start a worker on a host. Yields the local agent's report; a remote one comes through `receive`."""
        if self.local is not None and host == self.local.host:
            yield self.local.spawn(worker, device, epoch)
        else:
            self._send(host, Spawn(worker, device, epoch))

    def kill(self, worker: str, host: str) -> None:
        """Kill a worker on a host."""
        if self.local is not None and host == self.local.host:
            self.local.kill(worker)
        else:
            self._send(host, Kill(worker))

    def silent(self, now: float) -> Iterator[HostLeft]:
        """Drop remote agents that were silent for too long; yield an event for each."""
        for host, remote in list(self._remotes.items()):
            if now - remote.seen > self._silence:
                yield self._left(host, f"silent for {self._silence:.0f} s")

    def close(self) -> None:
        """Send remote agents a goodbye, end the local workers."""
        for host in self._remotes:
            self._send(host, Goodbye())
        if self.local is not None:
            self.local.close()
        self.socket.close(linger=1_000)

    def _heard(self, identity: bytes, message: ToCoordinator, now: float) -> Iterator[HostEvent]:
        match message:
            case HostHello():
                try:
                    check_version(f"host {message.host}", message.protocol, message.build, PROTOCOL, __version__)
                except ProtocolError as error:
                    self._reply(identity, HostRefused(str(error)))
                    return
                if message.host in self._remotes:
                    yield self._left(message.host, "came back")
                self._remotes[message.host] = _Remote(identity, now)
                self._reply(identity, HostWelcome(PROTOCOL, __version__))
                # Devices of two hosts may have the same name, and figures are kept by name.
                named = (msgspec.structs.replace(one, name=f"{one.name} on {message.host}") for one in message.devices)
                yield HostJoined(message.host, tuple(named))
            case HostLeaving():
                if message.host in self._remotes:
                    yield self._left(message.host, "it was told to stop")
            case HostAlive():
                remote = self._remotes.get(message.host)
                if remote is None:
                    self._reply(identity, HostRefused("unknown"))
                    return
                remote.seen, remote.identity = now, identity  # a connection made anew has another identity
                self._reply(identity, HostWelcome(PROTOCOL, __version__))
            case _ if any(remote.identity == identity for remote in self._remotes.values()):
                yield message
            case _:
                # Another coordinator's workers have the same names as ours: reports on them must not count.
                self._reply(identity, HostRefused("unknown"))

    def _left(self, host: str, reason: str) -> HostLeft:
        del self._remotes[host]
        return HostLeft(host, reason)

    def _send(self, host: str, message: msgspec.Struct) -> None:
        remote = self._remotes.get(host)
        if remote is not None:
            self._reply(remote.identity, message)

    def _reply(self, identity: bytes, message: msgspec.Struct) -> None:
        with contextlib.suppress(zmq.ZMQError):  # gone: its silence will be noticed
            self.socket.send_multipart([identity, encode(message)], zmq.DONTWAIT)
