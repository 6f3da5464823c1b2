"""Read again what earlier sessions committed, so that a changed byte is found before anything is derived from it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from ...protocol.errors import RunDirectoryError, is_host_failure
from ...protocol.run_directory.layout import RunLayout, segments_in
from ...protocol.run_directory.segment_info import ChunkSegmentInfo, VectorSegmentInfo
from ...protocol.run_directory.segment_stream import stream_batches
from ...protocol.run_directory.tables import Info, digest, read_info
from ...protocol.spec.run_spec import RunSpec

WHOLE_BYTES = 64 << 20
"""Files up to this size are read whole, and their digest is compared; larger files are checked by their page checksums."""


@dataclass(frozen=True, slots=True)
class ScrubbedSegment:
    """The result for one segment: the damage of its chunks (empty: none), and (part, vector, damage) of each damaged part.

    A part is a pass, or an ensemble after the passes.
    """

    segment: int
    chunks: str
    damaged: tuple[tuple[int, str, str], ...]


def scrub(
    layout: RunLayout, spec: RunSpec, committed: Sequence[Collection[int]], stopped: Callable[[], bool]
) -> Iterator[ScrubbedSegment]:
    """Check every segment on disk, one after the other, until `stopped`.

    `committed` lists the segments at the session's start: by pass, then by ensemble.
    """
    chunks = set(segments_in(layout.chunks))
    standing = [set(segments) for segments in committed]
    vectors = [[output.vector for output in one.outputs] for one in spec.passes]
    vectors += [[one.vector] for one in spec.ensembles]
    for segment in sorted(chunks.union(*standing)):
        if stopped():
            return
        reason = chunk_damage(layout, segment) if segment in chunks else ""
        parts = [part for part, segments in enumerate(standing) if segment in segments]
        damaged = tuple(found for part in parts if (found := _damage(layout, part, vectors[part], segment)))
        yield ScrubbedSegment(segment, reason, damaged)


def _damage(layout: RunLayout, part: int, vectors: Sequence[str], segment: int) -> tuple[int, str, str] | None:
    for vector in vectors:
        if reason := vector_damage(layout, vector, segment):
            return part, vector, reason
    return None


def vector_damage(layout: RunLayout, vector: str, segment: int) -> str:
    """The damage of a vector segment on disk; empty: it is whole."""
    path = layout.vector_segment(vector, segment)
    try:
        info = _read_through(path, VectorSegmentInfo)
        if (info.vector, info.segment) != (vector, segment):
            return f"it says that it is segment {info.segment} of {info.vector}"
        if path.stat().st_size <= WHOLE_BYTES:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                if digest(file.read()) != info.digest:
                    return "its content is not what its digest says"
        return _misfit(layout, info)
    except Exception as error:  # noqa: BLE001 - a changed byte of a footer may make the reader raise anything
        return _describe(path, error)


def _misfit(layout: RunLayout, info: VectorSegmentInfo) -> str:
    """Why a vector segment does not fit its chunk segment, if that is on disk."""
    path = layout.chunk_segment(info.segment)
    if not path.exists():
        return ""
    chunks = read_info(path, ChunkSegmentInfo)
    ours, theirs = (info.first_row, info.rows), (chunks.first_row, chunks.rows)
    return "" if ours == theirs else f"its first row and rows are {ours}, those of its chunks {theirs}"


def chunk_damage(layout: RunLayout, segment: int) -> str:
    """The damage of a chunk segment on disk; empty: it is whole."""
    path = layout.chunk_segment(segment)
    before = _stamp(path)
    try:
        info = _read_through(path, ChunkSegmentInfo)
        reason = "" if info.segment == segment else f"it says that it is segment {info.segment}"
    except Exception as error:  # noqa: BLE001 - a changed byte of a footer may make the reader raise anything
        reason = _describe(path, error)
    # The intake may remove a file after a gap at any moment and write another one in its place: it is damage only if the
    # same file is still there.
    return reason if before is not None and _stamp(path) == before else ""


def _stamp(path: Path) -> tuple[int, int] | None:
    """Identity of the file; None if there is none. An inode alone may be reused by the next file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def _read_through(path: Path, kind: type[Info]) -> Info:
    """Read every page of a file and return its info."""
    info, rows = read_info(path, kind), 0
    for batch in stream_batches(path, pq.read_schema(path).names):
        rows += batch.num_rows
    if rows != info.rows:
        raise RunDirectoryError(f"{path}: has {rows} rows and says {info.rows}")
    return info


def _describe(path: Path, error: Exception) -> str:
    """The damage in words. An error of the host, not of the file, is raised: the file may be readable the next time."""
    if is_host_failure(error):
        raise error
    return str(error).removeprefix(f"{path}: ").partition("; delete it")[0]
