"""The coordinator's side of an exporter: a child process with its own socket, so that no stale message can arrive."""

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
"""Longest silence of a process that the system reports as stopped."""
SILENCE_SECONDS = 90.0
"""Longest silence otherwise. The index holds the interpreter's lock while it flushes and loads, which takes long on a slow
disk: the exporter cannot send a heartbeat meanwhile."""
RETRY_MS = 10
"""Between two attempts to connect to the exporter."""


class ExporterProcess:
    """One exporter process. `endpoint` is an ipc address that no other socket uses."""

    stopped_seconds, silence_seconds = STOPPED_SECONDS, SILENCE_SECONDS

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
        # No high-water mark: a full queue would block the loop, and the pool's cap on uncommitted bytes bounds it anyway.
        # This end connects: a binding end has no queue before its peer is there, so its sends would block.
        self.socket = channels.tune(context.socket(zmq.PAIR), high_water=0)
        self.socket.setsockopt(zmq.RECONNECT_IVL, RETRY_MS)
        self.socket.connect(endpoint)
        self.endpoint = endpoint
        self._heard = time.monotonic()
        self._decoder: Decoder[ToCoordinator] = Decoder(ToCoordinator)
        self.process = ChildProcess("embedfleet.exporter", [endpoint], environment=STEADY_MEMORY)

    def send(self, message: msgspec.Struct, frames: list[Any] | None = None) -> None:
        """Queue a message; never blocks, even before the exporter listens and after its end."""
        self.socket.send_multipart([encode(message), *(frames or [])], copy=False)

    def silent(self) -> bool:
        """Whether no message came for too long: the exporter is stopped, or hangs on a disk that does not answer.

        Call after `receive`: if this process was held up, heartbeats are still queued.
        """
        silence = time.monotonic() - self._heard
        return silence > self.silence_seconds or (silence > self.stopped_seconds and _is_stopped(self.process.pid))

    def receive(self) -> Iterator[ToCoordinator]:
        """Yield the waiting messages."""
        while self.socket.poll(0):
            self._heard = time.monotonic()
            yield self._decoder.decode(self.socket.recv())

    def end(self) -> None:
        """Kill the process and free the socket. Call `wait` after it."""
        self.socket.close(linger=0)
        self.process.kill()

    def wait(self) -> None:
        """Wait for the end of the process, which may take long if a disk does not answer; callable from any thread."""
        self.process.close()
        channels.unlink_socket(self.endpoint)


def _is_stopped(pid: int) -> bool:
    """Whether a signal has stopped the process."""
    try:
        return psutil.Process(pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    except (psutil.Error, OSError):  # it has just ended, or no file can be opened
        return False
