"""Reading again what earlier sessions committed: a byte that has changed since is found before anything is made of it."""

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
"""Files up to this size are read whole and their digest is compared; of larger ones the page checksums are."""


@dataclass(frozen=True, slots=True)
class ScrubbedSegment:
    """What was found in one segment: of its chunks, what is wrong; of each pass or ensemble that is damaged, its number, the
    vector and what is wrong with that."""

    segment: int
    chunks: str
    damaged: tuple[tuple[int, str, str], ...]


def scrub(
    layout: RunLayout, spec: RunSpec, committed: Sequence[Collection[int]], stopped: Callable[[], bool]
) -> Iterator[ScrubbedSegment]:
    """Read every segment that stands, one after the other, until `stopped`.

    `committed` is as it was found: by pass, then by ensemble.
    """
    chunks = set(segments_in(layout.chunks))
    standing = [set(segments) for segments in committed]
    vectors = [[output.vector for output in one.outputs] for one in spec.passes]
    vectors += [[one.vector] for one in spec.ensembles]
    for segment in sorted(chunks.union(*standing)):
        if stopped():
            return
        reason = chunk_damage(layout, segment) if segment in chunks else ""
        numbers = [number for number, segments in enumerate(standing) if segment in segments]
        damaged = tuple(found for number in numbers if (found := _damage(layout, number, vectors[number], segment)))
        yield ScrubbedSegment(segment, reason, damaged)


def _damage(layout: RunLayout, number: int, vectors: Sequence[str], segment: int) -> tuple[int, str, str] | None:
    for vector in vectors:
        if reason := vector_damage(layout, vector, segment):
            return number, vector, reason
    return None


def vector_damage(layout: RunLayout, vector: str, segment: int) -> str:
    """What is wrong with a vector segment that stands; empty where nothing is."""
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
        return _told(path, error)


def _misfit(layout: RunLayout, info: VectorSegmentInfo) -> str:
    """Why a vector segment is not of the chunk segment that stands, if one does."""
    path = layout.chunk_segment(info.segment)
    if not path.exists():
        return ""
    chunks = read_info(path, ChunkSegmentInfo)
    ours, theirs = (info.first_row, info.rows), (chunks.first_row, chunks.rows)
    return "" if ours == theirs else f"its first row and rows are {ours}, those of its chunks {theirs}"


def chunk_damage(layout: RunLayout, segment: int) -> str:
    """What is wrong with a chunk segment that stands; empty where nothing is."""
    path = layout.chunk_segment(segment)
    before = _stamp(path)
    try:
        info = _read_through(path, ChunkSegmentInfo)
        reason = "" if info.segment == segment else f"it says that it is segment {info.segment}"
    except Exception as error:  # noqa: BLE001 - a changed byte of a footer may make the reader raise anything
        reason = _told(path, error)
    # The intake may remove it at any moment, having no use for what stood behind a gap, and write another one in its place:
    # what was read is damage only if it still stands.
    return reason if before is not None and _stamp(path) == before else ""


def _stamp(path: Path) -> tuple[int, int] | None:
    """Which file stands there; None where none does. An inode alone may be given to the next file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def _read_through(path: Path, kind: type[Info]) -> Info:
    """The info of a file of which every page was read."""
    info, rows = read_info(path, kind), 0
    for batch in stream_batches(path, pq.read_schema(path).names):
        rows += batch.num_rows
    if rows != info.rows:
        raise RunDirectoryError(f"{path}: has {rows} rows and says {info.rows}")
    return info


def _told(path: Path, error: Exception) -> str:
    """The damage in words. What is the host's trouble and not the file's is raised: it may be read the next time."""
    if is_host_failure(error):
        raise error
    return str(error).removeprefix(f"{path}: ").partition("; delete it")[0]
