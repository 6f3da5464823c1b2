"""The loop's poll, the only place where it waits: sockets, ends of children, a pipe for other threads and signals."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from typing import Any

import zmq

from .hosts.connection_cap import ConnectionCap, connections_allowed


class Poll:
    """Polls the `listening` sockets, each with a cap on its connections, and the sources passed to `wait`."""

    def __init__(self, listening: Sequence[zmq.Socket[bytes]]) -> None:
        self._wake_read, self.wake_fd = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self.wake_fd, False)
        self._poller = zmq.Poller()
        self._caps = [ConnectionCap(one, connections_allowed()) for one in listening]
        for source in (*listening, *(cap.monitor for cap in self._caps), self._wake_read):
            self._poller.register(source, zmq.POLLIN)
        self._watched: set[Any] = set()

    def wake(self) -> None:
        """End the poll; callable from any thread."""
        with contextlib.suppress(BlockingIOError):  # the pipe is full of wakes already
            os.write(self.wake_fd, b".")

    def wait(self, seconds: float, others: Iterable[Any]) -> None:
        """Wait at most `seconds` for something to read. `others` are the sockets and descriptors to watch this time."""
        self._watch(set(others))
        ready = dict(self._poller.poll(max(1, int(seconds * 1000))))
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        for cap in self._caps:
            if cap.monitor in ready:
                cap.enforce()

    def close(self) -> None:
        """Stop watching the connections."""
        for cap in self._caps:
            cap.close()

    def _watch(self, wanted: set[Any]) -> None:
        for gone in self._watched - wanted:
            self._poller.unregister(gone)
        for new in wanted - self._watched:
            self._poller.register(new, zmq.POLLIN)
        self._watched = wanted
