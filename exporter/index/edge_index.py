"""The embedded Qdrant Edge shard: searchable once the run is published, and derived from the committed files alone.

A segment is published when every pass has committed it. Its points have ids that derive from the chunks' ids, all named
vectors and the payload; publishing twice writes the same points. `published.json` records which segments are in the shard,
and with which vectors: a segment that was deleted and computed again is published again.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from ...protocol.errors import RunDirectoryError
from ...protocol.finished_run.point_batches import BatchLimits, cut
from ...protocol.finished_run.points import Point, as_lists, read_points
from ...protocol.finished_run.published import decode_published, encode_published, segment_digest
from ...protocol.run_directory.atomic_files import commit_bytes, sync_folder
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.removal import remove_shard
from ...protocol.spec.run_spec import RunSpec
from ...protocol.wire.export import Publishing
from .shard import DamagedShard, create_shard, open_shard

AT_ONCE = BatchLimits(points=512, bytes=64 << 20, number_bytes=40)
"""Points per call of the engine. It takes lists: a number is an object of 24 bytes, a pointer to it, and the engine's own
copy. The largest multivector that it accepts takes 40 MiB in this form."""


class EdgeIndex:
    """The shard of one run. It is opened at the first segment, since its dimensions must be known."""

    def __init__(self, layout: RunLayout, spec: RunSpec) -> None:
        self._layout, self._spec = layout, spec
        self._names = [one.vector for one in spec.outputs]
        self._shard: Any = None
        standing = (layout.edge / "edge_config.json").exists()
        self._published = _read_published(layout.published) if standing else dict[int, str]()
        self._rows, self._begin, self._end = 0, 0.0, 0.0

    def publish(self, segment: int, dims: dict[str, int]) -> int:
        """Put the segment's rows into the shard and record it. Return the number of points; 0 if they are in already.

        RunDirectoryError if a footer is torn.
        """
        import qdrant_edge

        digest = segment_digest(self._layout, self._names, segment)
        if self._published.get(segment) == digest:
            return 0
        self._begin = self._begin or time.time()
        if self._shard is None:
            self._shard = self._open(dims)
        written = 0
        for points in self._points(segment):
            self._shard.update(qdrant_edge.UpdateOperation.upsert_points(points))
            written += len(points)
        self._shard.flush()
        self._published[segment] = digest
        commit_bytes(self._layout.published, encode_published(self._published))
        self._rows, self._end = self._rows + written, time.time()
        return written

    @property
    def figures(self) -> Publishing | None:
        """What this session has published; None: nothing."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return Publishing(self._rows, self._begin, self._end, peak) if self._rows else None

    def complete(self, segments: Iterable[int], dims: dict[str, int]) -> None:
        """Open the shard, or make it anew if it is damaged, and publish those of `segments` that it lacks.

        RunDirectoryError if another process holds it, or if a segment is not whole.
        """
        if self._shard is None and self._published:
            self._shard = self._open(dims)
        for segment in segments:
            if segment not in self._published:
                self.publish(segment, dims)
        if self._shard is None:
            return
        if self.is_gone:
            raise RunDirectoryError(f"{self._layout.edge} is gone; run the same command again, which makes it anew")
        if _read_published(self._layout.published) != self._published:  # removed or changed from outside
            commit_bytes(self._layout.published, encode_published(self._published))

    @property
    def is_gone(self) -> bool:
        """Whether the open shard was removed from outside."""
        return self._shard is not None and not (self._layout.edge / "edge_config.json").exists()

    def count(self) -> int:
        """Points in the shard, including those of earlier sessions; 0 if it was not opened."""
        return int(self._shard.info().points_count) if self._shard is not None else 0

    def close(self) -> None:
        """Flush and unlock the shard."""
        if self._shard is not None:
            self._shard.flush()
            self._shard.close()
            self._shard = None

    def _open(self, dims: dict[str, int]) -> Any:
        if self._published:
            try:
                return open_shard(self._layout)
            except DamagedShard:
                self._published.clear()  # derived: publish all segments again
        self._layout.published.unlink(missing_ok=True)
        sync_folder(self._layout.root)  # first: no record may list segments of a new, empty shard
        remove_shard(self._layout)
        return create_shard(self._layout, self._spec, dims)

    def _points(self, segment: int) -> Iterator[list[Any]]:
        for batch in cut(read_points(self._layout, self._names, segment), AT_ONCE):
            yield [_edge_point(point) for point in batch]


def _edge_point(point: Point) -> Any:
    import qdrant_edge as edge

    return edge.Point(point.id, as_lists(point.vectors, edge.SparseVector), dict(point.payload))


def _read_published(path: Path) -> dict[int, str]:
    try:
        return decode_published(path.read_bytes())
    except (OSError, msgspec.MsgspecError):
        return {}  # derived: publishing again writes the same points
