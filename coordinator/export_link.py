"""The exporter as the coordinator sees it: a child process and a socket of its own, so that nothing stale can arrive."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import zmq

from ..protocol import channels
from ..protocol.codec import Decoder, encode
from ..protocol.export_messages import ToCoordinator
from ..protocol.process import STEADY_MEMORY, ChildProcess


class ExportLink:
    """One exporter process. `endpoint` is an ipc address that nobody used before."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
        # No high-water mark: the pool's cap on uncommitted bytes bounds the queue, and a full one would block the loop.
        self.socket = channels.bind(context, zmq.PAIR, endpoint, high_water=0)
        self._decoder: Decoder[ToCoordinator] = Decoder(ToCoordinator)
        self.process = ChildProcess("embedfleet.exporter", [endpoint], environment=STEADY_MEMORY)

    def send(self, message: msgspec.Struct, frames: list[Any] | None = None) -> None:
        """Queue a message; never blocks."""
        self.socket.send_multipart([encode(message), *(frames or [])], copy=False)

    def receive(self) -> Iterator[ToCoordinator]:
        """The messages that are here."""
        while self.socket.poll(0):
            yield self._decoder.decode(self.socket.recv())

    def close(self) -> None:
        """End the process if it has not ended, and free the socket."""
        self.socket.close(linger=0)
        self.process.close()
