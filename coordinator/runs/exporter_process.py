"""The exporter as the coordinator sees it: a child process and a socket of its own, so that nothing stale can arrive."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import msgspec
import psutil
import zmq

from ...protocol.process.child import STEADY_MEMORY, ChildProcess
from ...protocol.wire import channels
from ...protocol.wire.codec import Decoder, encode
from ...protocol.wire.export import ToCoordinator

STOPPED_SECONDS = 20.0
"""Of silence, where the system says that the process is stopped."""
SILENCE_SECONDS = 90.0
"""Of silence otherwise. The index holds the interpreter's lock while it flushes and loads, on a slow disk for long: no loop of
the exporter can say a word meanwhile."""
RETRY_MS = 10
"""Between two looks whether the exporter listens yet."""


class ExporterProcess:
    """One exporter process. `endpoint` is an ipc address that no other socket uses."""

    stopped_seconds, silence_seconds = STOPPED_SECONDS, SILENCE_SECONDS

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
        # No high-water mark: the pool's cap on uncommitted bytes bounds the queue, and a full one would block the loop.
        # And this end connects: the end that binds has no queue while its peer is not there, so its sends would wait.
        self.socket = channels.tune(context.socket(zmq.PAIR), high_water=0)
        self.socket.setsockopt(zmq.RECONNECT_IVL, RETRY_MS)
        self.socket.connect(endpoint)
        self.endpoint = endpoint
        self._heard = time.monotonic()
        self._decoder: Decoder[ToCoordinator] = Decoder(ToCoordinator)
        self.process = ChildProcess("embedfleet.exporter", [endpoint], environment=STEADY_MEMORY)

    def send(self, message: msgspec.Struct, frames: list[Any] | None = None) -> None:
        """Queue a message; never blocks, also when the exporter is not there yet or no more."""
        self.socket.send_multipart([encode(message), *(frames or [])], copy=False)

    def silent(self) -> bool:
        """Whether nothing was heard for too long: it is stopped, or hangs on a disk that does not answer.

        Ask after `receive`: it may be this process that was held up.
        """
        silence = time.monotonic() - self._heard
        return silence > self.silence_seconds or (silence > self.stopped_seconds and _is_stopped(self.process.pid))

    def receive(self) -> Iterator[ToCoordinator]:
        """The messages that are here."""
        while self.socket.poll(0):
            self._heard = time.monotonic()
            yield self._decoder.decode(self.socket.recv())

    def end(self) -> None:
        """End the process if it has not ended, and free the socket. `wait` is still due."""
        self.socket.close(linger=0)
        self.process.kill()

    def wait(self) -> None:
        """Wait for the end of the process, which on a disk that does not answer may take a while; from any thread."""
        self.process.close()
        channels.unlink_socket(self.endpoint)


def _is_stopped(pid: int) -> bool:
    """Whether a signal has stopped the process."""
    try:
        return psutil.Process(pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    except (psutil.Error, OSError):  # it has just ended, or no file can be opened
        return False
