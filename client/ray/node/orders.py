"""Orders: the shards that a process is handed, as lines on a pipe."""

from __future__ import annotations

import contextlib
import os
import select

import msgspec

from .job import ShardOrder

READ_BYTES = 1 << 16


class Orders:
    """Reads the orders from a descriptor. No call waits, but for `wait`."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor, self._unread = descriptor, b""
        self._lines: list[bytes] = []
        self.is_ended = False
        """Whether no more orders will come after those that were read."""

    def take(self) -> ShardOrder | None:
        """The next order; None if there is none now."""
        self._read()
        return msgspec.json.decode(self._lines.pop(0), type=ShardOrder) if self._lines else None

    def wait(self, seconds: float) -> None:
        """Return when there may be an order, after some seconds at the latest."""
        if not self._lines and not self.is_ended:
            select.select([self._descriptor], [], [], seconds)

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while not self.is_ended:
                block = os.read(self._descriptor, READ_BYTES)
                self.is_ended = not block
                *lines, self._unread = (self._unread + block).split(b"\n")
                self._lines += lines
