"""Read-only view of a finished run, for exporters and uploads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import RunDirectoryError
from ..run_directory.layout import RunLayout, segments_in
from ..run_directory.records.manifest import read_manifest
from ..run_directory.run_json import read_spec
from ..run_directory.segment_info import ChunkSegmentInfo, VectorSegmentInfo
from ..run_directory.segment_stream import stream_batches
from ..run_directory.tables import read_info
from ..run_directory.vector_rows import VectorRow, VectorShape, read_shape, read_vectors
from ..spec.run_spec import RunSpec
from .points import Point, read_points
from .published import run_digest


@dataclass(frozen=True, slots=True)
class DoneRun:
    """Reads on demand, a few megabytes at a time, and keeps nothing in memory."""

    layout: RunLayout
    spec: RunSpec
    segments: tuple[int, ...]
    rows: int
    """Rows of all segments, by their footers."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the vectors, in the order of the passes."""
        return tuple(one.vector for one in self.spec.outputs)

    def points(self) -> Iterator[Point]:
        """All points, in row order."""
        for segment in self.segments:
            yield from read_points(self.layout, self.names, segment)

    def ids(self) -> Iterator[str]:
        """The chunks' ids, in row order."""
        for segment in self.segments:
            for batch in stream_batches(self.layout.chunk_segment(segment), ("id",)):
                yield from batch.column("id").to_pylist()

    def vectors(self, name: str) -> Iterator[VectorRow]:
        """One vector of every row, in row order."""
        for segment in self.segments:
            yield from read_vectors(self.layout.vector_segment(name, segment))

    def shapes(self) -> dict[str, VectorShape]:
        """Form and dimensions of each vector; empty for an empty corpus."""
        return {name: read_shape(self.layout.vector_segment(name, self.segments[0])) for name in self._standing}

    def digest(self) -> str:
        """A digest of all vectors, from the footers of their segments."""
        return run_digest(self.layout, self.names, self.segments)

    def fingerprints(self) -> dict[str, str]:
        """The fingerprint digest of each vector's pass; empty for an empty corpus."""
        infos = {
            name: read_info(self.layout.vector_segment(name, self.segments[0]), VectorSegmentInfo)
            for name in self._standing
        }
        return {name: info.fingerprint for name, info in infos.items()}

    @property
    def _standing(self) -> tuple[str, ...]:
        return self.names if self.segments else ()


def open_done_run(root: Path) -> DoneRun:
    """The run in `root`. RunDirectoryError if there is none, it is not done, or segments are missing."""
    layout = RunLayout(root)
    spec = read_spec(layout)
    manifest = read_manifest(layout)
    if manifest is None or not manifest.done:
        raise RunDirectoryError(f"{root}: the run is not done; run the same command again and let it finish")
    segments = segments_in(layout.chunks)
    for one in spec.outputs:
        missing = sorted(set(segments) ^ set(segments_in(layout.vector_folder(one.vector))))
        if missing:
            raise RunDirectoryError(
                f"{root}: chunks and {one.vector} differ in segment {missing[0]}; `embedfleet verify` says what is missing"
            )
    rows = sum(read_info(layout.chunk_segment(segment), ChunkSegmentInfo).rows for segment in segments)
    return DoneRun(layout, spec, tuple(segments), rows)
