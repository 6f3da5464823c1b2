"""The thread that puts segments into the collection, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ...protocol.run_directory.layout import RunLayout, segments_in
from ...protocol.spec.run_spec import RunSpec
from .edge_index import EdgeIndex

Guard = Callable[[Callable[[], object]], None]
"""Does the work, unless the run has failed; its error fails the run."""


class Publisher:
    """The publishing thread of a run with a collection."""

    def __init__(self, layout: RunLayout, spec: RunSpec, guard: Guard) -> None:
        self._layout, self._guard = layout, guard
        self.index = EdgeIndex(layout, spec)
        self._thread = ThreadPoolExecutor(1, "publish")
        self.seconds = 0.0

    def publish(self, segment: int, dims: dict[str, int]) -> None:
        """Queue a segment for publishing."""
        self._thread.submit(self._guard, lambda: self._publish(segment, dims))

    def stop(self, *, now: bool) -> None:
        """End the thread after all queued segments, or with `now` after the current one."""
        self._thread.shutdown(wait=True, cancel_futures=now)

    def publish_rest(self, dims: Callable[[], dict[str, int]]) -> None:
        """A run that is done has all its segments in the shard, also where that was made anew."""

        def complete() -> None:
            segments = segments_in(self._layout.chunks)
            self.index.complete(segments, dims() if segments else {})

        self._guard(complete)

    def close(self) -> int:
        """Close the shard and return its points; 0 if the engine can no longer read it."""
        counted = [0]

        def close() -> None:
            counted[0] = self.index.count()
            self.index.close()

        self._guard(close)
        return counted[0]

    def _publish(self, segment: int, dims: dict[str, int]) -> None:
        start = time.monotonic()
        self.index.publish(segment, dims)
        self.seconds += time.monotonic() - start
