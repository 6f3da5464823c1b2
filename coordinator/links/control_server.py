"""The coordinator's side of the control link: requests, answers, and messages to watchers."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import zmq

from ...protocol.errors import ProtocolError
from ...protocol.wire import channels
from ...protocol.wire.codec import Decoder, encode
from ...protocol.wire.control import Progress, RunEnded, ToCoordinator

KEPT_ENDINGS = 64
"""Ended runs whose end is kept for later requests."""


class ControlServer:
    """A ROUTER socket and the watchers of each run."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
        self.socket = channels.bind(context, zmq.ROUTER, endpoint)
        self._decoder: Decoder[ToCoordinator] = Decoder(ToCoordinator)
        self._watchers: dict[str, set[bytes]] = {}
        self.endings: dict[str, RunEnded] = {}

    def receive(self) -> Iterator[tuple[bytes, ToCoordinator | ProtocolError]]:
        """Yield the waiting requests, each with its client."""
        while self.socket.poll(0):
            client, *frames = self.socket.recv_multipart()
            try:
                if len(frames) != 1:
                    raise ProtocolError(f"a request of {len(frames)} frames; one is due")
                yield client, self._decoder.decode(frames[0])
            except ProtocolError as error:
                yield client, error

    def answer(self, client: bytes, message: msgspec.Struct) -> bool:
        """Send to one client; False if it is gone. One that does not read misses this message and may ask again."""
        try:
            self.socket.send_multipart([client, encode(message)], zmq.DONTWAIT)
        except zmq.ZMQError as error:
            return error.errno != zmq.EHOSTUNREACH
        return True

    def watch(self, client: bytes, run: str) -> None:
        """Send the client the run's messages from now on; its end at once, if it has ended."""
        if run in self.endings:
            self.answer(client, self.endings[run])
        else:
            self._watchers.setdefault(run, set()).add(client)

    def tell(self, progress: Progress) -> None:
        """Send a run's progress to its watchers; forget those that are gone."""
        for client in list(self._watchers.get(progress.run, ())):
            if not self.answer(client, progress):
                self._watchers[progress.run].discard(client)

    def tell_end(self, ending: RunEnded) -> None:
        """Send a run's end to its watchers, and keep it for later requests."""
        self.endings[ending.run] = ending
        while len(self.endings) > KEPT_ENDINGS:
            del self.endings[next(iter(self.endings))]
        for client in self._watchers.pop(ending.run, ()):
            self.answer(client, ending)

    def close(self) -> None:
        """Hand the last answers to the system, then free the socket."""
        self.socket.close(linger=1_000)
