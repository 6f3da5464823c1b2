"""Reports of the exporter's threads to its loop."""

from __future__ import annotations

import os
from collections import deque

from ..protocol.wire.export import ChunksDamaged, Committed, ExportFailed, ScrubbedMessage, SegmentDamagedMessage

Report = Committed | SegmentDamagedMessage | ChunksDamaged | ScrubbedMessage | ExportFailed


class Reports:
    """Reports of all threads, in order. `wake_fd` is readable while reports are waiting."""

    def __init__(self) -> None:
        self._waiting: deque[Report] = deque()
        self.wake_fd, self._write_fd = os.pipe()
        os.set_blocking(self.wake_fd, False)

    def put(self, report: Report) -> None:
        self._waiting.append(report)
        os.write(self._write_fd, b".")

    def take(self) -> list[Report]:
        """The reports since the last call."""
        try:
            os.read(self.wake_fd, 4096)
        except BlockingIOError:
            return []
        taken: list[Report] = []
        while self._waiting:
            taken.append(self._waiting.popleft())
        return taken

    def close(self) -> None:
        os.close(self.wake_fd)
        os.close(self._write_fd)
