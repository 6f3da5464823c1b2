"""The shard of a run, open from one query to the next. Opening it takes longer than a query.

An open shard is locked. So it is closed again when a run wants to publish, and after a while without a query.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, NamedTuple

from ...protocol.errors import UsageError
from ...protocol.index.shard_ranking import ShardRanker
from ...protocol.run_directory.layout import RunLayout
from ...protocol.spec.run_spec import RunSpec
from ..run_directory.edge_shard import open_shard
from .timings import Timings

if TYPE_CHECKING:
    import qdrant_edge

LOOK_SECONDS = 5.0
"""How often it is checked whether a run holds the directory. A run waits 30 s for the shard."""
IDLE_SECONDS = 60.0
"""How long it stays open without a query."""


class Opened(NamedTuple):
    """An open shard and its ranker, which remembers how rare terms are."""

    shard: qdrant_edge.EdgeShard
    ranker: ShardRanker


class KeptShard:
    """With `keep`, the shard stays open after a query until `close`; otherwise it is opened for each query."""

    def __init__(self, layout: RunLayout, spec: RunSpec, *, keep: bool = False, timings: Timings | None = None) -> None:
        self._layout, self._spec, self._keep = layout, spec, keep
        self._timings = timings if timings is not None else Timings()
        self._lock = threading.Lock()
        self._opening: AbstractContextManager[qdrant_edge.EdgeShard] | None = None
        self._opened: Opened | None = None
        self._used = 0.0
        self._ended = threading.Event()

    @contextmanager
    def ranker(self) -> Generator[Opened]:
        """The open shard, until the block ends. RunDirectoryError if it cannot be opened."""
        with self._lock:
            try:
                yield self._opened or self._open()
            except UsageError:
                raise
            except BaseException:  # after an error of the engine, the next query opens it again
                self._release()
                raise
            self._used = time.monotonic()
            if not self._keep or self._is_wanted():
                self._release()

    def open(self) -> None:
        """Open it now if it is not. RunDirectoryError if it cannot be opened."""
        with self._lock:
            if self._opened is None:
                self._open()

    def close(self) -> None:
        """Close it, and keep it no longer."""
        self._ended.set()
        with self._lock:
            self._release()

    def _open(self) -> Opened:
        with self._timings.stage("open"):
            opening = open_shard(self._layout)
            shard = opening.__enter__()
        self._opening, self._opened = opening, Opened(shard, ShardRanker(shard, self._spec))
        if self._keep:
            threading.Thread(target=self._watch, name="kept-shard", daemon=True).start()
        return self._opened

    def _release(self) -> None:
        opening, self._opening, self._opened = self._opening, None, None
        if opening is not None:
            opening.__exit__(None, None, None)

    def _watch(self) -> None:
        """Close the shard when it is wanted, or idle."""
        while not self._ended.wait(LOOK_SECONDS):
            with self._lock:
                if self._opened is None:
                    return
                if self._is_wanted() or time.monotonic() - self._used > IDLE_SECONDS:
                    self._release()
                    return

    def _is_wanted(self) -> bool:
        """Whether a run holds the directory, or was killed there: its lock file names a process."""
        try:
            return self._layout.lock.stat().st_size > 0
        except OSError:
            return False
