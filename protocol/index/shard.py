"""Open the embedded Qdrant Edge shard of a run.

The engine has no read-only mode: opening locks the shard, and a second process is refused. So open late and close soon.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import is_host_failure

if TYPE_CHECKING:
    import qdrant_edge

POLL_SECONDS = 0.05

_LOCKED = "WouldBlock"
_READ_ONLY = ("Read-only file system", "Permission denied")
_NO_ROOM = (
    "No space left on device",
    "Disk quota exceeded",
    "Too many open files",
    "Cannot allocate memory",
    "Input/output error",
)

Reason = Literal["locked", "read-only", "host", "damaged"]
"""Another process has the shard; its files are read-only; the host lacks disk space or memory; or the files are damaged."""


class ShardRefused(Exception):
    """The engine did not open a shard. The text is the engine's message; the caller adds the remedy."""

    def __init__(self, reason: Reason, words: str) -> None:
        super().__init__(words)
        self.reason: Reason = reason


def load_shard(folder: Path, patience: float) -> qdrant_edge.EdgeShard:
    """Open the shard in `folder`, waiting up to `patience` seconds for another process to close it. Raises ShardRefused."""
    import qdrant_edge

    give_up = time.monotonic() + patience
    while True:
        try:
            return qdrant_edge.EdgeShard.load(str(folder))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # the engine has no error types, and its panics are not Exceptions
            reason = _reason(error)
            if reason != "locked" or time.monotonic() > give_up:
                raise ShardRefused(reason, str(error)) from error
        time.sleep(POLL_SECONDS)  # the engine offers no way to wait for its lock


def _reason(error: BaseException) -> Reason:
    words = str(error)
    if any(one in words for one in _READ_ONLY):
        return "read-only"
    if is_host_failure(error) or any(one in words for one in _NO_ROOM):
        return "host"
    return "locked" if _LOCKED in words else "damaged"
