"""Read a shard from its records and the footers of its segments, and check it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from ...protocol.errors import RunDirectoryError
from ...protocol.finished_run.shard_states import STATES, manifest_digest, shard_state, spec_differences
from ...protocol.run_directory.layout import RunLayout, segments_in
from ...protocol.run_directory.own_files import read_owner
from ...protocol.run_directory.records.intake import (
    FileStamp,
    IntakeRecord,
    SegmentLimits,
    read_intake,
    read_limits,
)
from ...protocol.run_directory.records.manifest import read_manifest
from ...protocol.run_directory.records.passes import PassRecord, read_pass
from ...protocol.run_directory.records.shards import ShardsRecord
from ...protocol.run_directory.segment_info import ChunkSegmentInfo, Cursor, VectorSegmentInfo
from ...protocol.run_directory.tables import read_info
from ...protocol.source.check import is_other_content, read_stamps
from ...protocol.spec.run_spec import RunSpec
from ...protocol.spec.shard import Shard
from .shard_run import InputSegment, ShardRun


class ShardRunning(RunDirectoryError):
    """A process computes the shard now."""


class OtherSettings(RunDirectoryError):
    """The shard is done, but not a part of this source by this spec: it has to be computed anew."""


def read_shard(root: RunLayout, record: ShardsRecord, index: int, first: int, places: Mapping[str, int]) -> ShardRun:
    """Shard `index` of the directory `root`. `places` are the numbers of the source's files by path.

    RunDirectoryError says, without the shard's name, why it cannot be merged; ShardRunning if it is not done yet;
    OtherSettings if it is one of another spec or source.
    """
    layout = root.shard(index)
    if (state := shard_state(layout)) != "done":
        raise (ShardRunning if state == "running" else RunDirectoryError)(STATES[state])
    manifest = manifest_digest(layout)  # before the files that it describes
    done = read_manifest(layout)
    if done is None or not done.done:
        raise RunDirectoryError(STATES["unfinished"])
    spec = _checked_spec(layout, record, index)
    stamps = _stamps(layout, record, places)
    files = tuple(places[one.path] for one in stamps)
    counts = read_intake(layout)
    if counts is None or not counts.complete:
        raise RunDirectoryError(f"has no {layout.intake.name}, so nobody knows whether its source was read to the end")
    passes = _passes(layout, spec, counts)
    inputs, digests = _inputs(layout, spec, counts, passes, index, first, files)
    return ShardRun(
        index=index,
        layout=layout,
        first=first,
        rows=counts.rows,
        inputs=inputs,
        files=files,
        parts=tuple((one.start, one.size if one.end is None else one.end) for one in stamps),
        digests=digests if len(digests) == len(files) else ("",) * len(files),
        passes=passes,
        limits=read_limits(layout) or SegmentLimits(),
        manifest=manifest,
    )


def _checked_spec(layout: RunLayout, record: ShardsRecord, index: int) -> RunSpec:
    spec = read_owner(layout)
    if spec is None:
        raise RunDirectoryError(f"has no {layout.spec.name}")
    if spec.shard != (wanted := Shard(index, record.shards)):
        raise OtherSettings(f"is shard {spec.shard} by its {layout.spec.name}, not {wanted}")
    found = spec_differences(spec, record, index)
    names = [one.vector for one in record.spec.passes]
    added = [name for name in names if name not in {one.vector for one in spec.passes}]
    if found and len(found) == len(added):
        raise RunDirectoryError(f"lacks {', '.join(added)}, which another shard has: run it with all models")
    if found:
        raise OtherSettings(f"is of another spec: {'; '.join(found)}")
    return spec


def _stamps(layout: RunLayout, record: ShardsRecord, places: Mapping[str, int]) -> list[FileStamp]:
    """The files that the shard read. OtherSettings if one is not that of the source."""
    stamps = read_stamps(layout)
    if stamps is None:
        raise RunDirectoryError(f"has no {layout.source.name} that can be read")
    for one in stamps:
        place = places.get(one.path)
        if place is None:
            raise OtherSettings(f"read {one.path}, which the source did not have when the first shard began")
        whole = record.files[place]
        if whole.size != one.size:
            raise OtherSettings(f"read {one.path} with {one.size:,} bytes, where the source had {whole.size:,}")
        if is_other_content(whole, one):
            raise OtherSettings(f"read {one.path} with other content than it had when the first shard began")
    return stamps


def _passes(layout: RunLayout, spec: RunSpec, counts: IntakeRecord) -> dict[str, PassRecord]:
    found: dict[str, PassRecord] = {}
    for one in spec.outputs:
        about = read_pass(layout, one.vector)
        if about is not None and about.fingerprint:
            found[one.vector] = about
        elif counts.segments:
            raise RunDirectoryError(f"has no {layout.pass_file(one.vector).name} that can be read")
    return found


def _inputs(
    layout: RunLayout,
    spec: RunSpec,
    counts: IntakeRecord,
    passes: Mapping[str, PassRecord],
    index: int,
    first: int,
    files: Sequence[int],
) -> tuple[tuple[InputSegment, ...], tuple[str, ...]]:
    """The segments, and the digests of the files that were read to their end."""
    _check_numbers(layout, spec, counts.segments)
    found: list[InputSegment] = []
    digests: list[str] = []
    rows = rejected = duplicates = 0
    notes: dict[str, int] = {}
    for segment in range(counts.segments):
        info = read_info(layout.chunk_segment(segment), ChunkSegmentInfo)
        if (info.segment, info.first_row) != (segment, rows) or not info.cursor.file < len(files):
            raise RunDirectoryError(f"has another file in the place of {layout.chunk_segment(segment).name}")
        content, shape, sizes = _vectors(layout, info, passes)
        passed = info.passed
        digests += passed.finished if passed is not None else ()
        found.append(
            InputSegment(
                shard=index,
                segment=segment,
                first=first + rows,
                rows=info.rows,
                rejected=info.rejected,
                duplicates=info.duplicates,
                notes=info.notes,
                n_bytes=info.n_bytes,
                cursor=Cursor(file=files[info.cursor.file], records=info.cursor.records),
                mark=(passed.n_bytes, passed.digest) if passed is not None else (0, ""),
                content=content,
                shape=shape,
                file_bytes=max(sizes[1:], default=0),
                all_bytes=sum(sizes),
            )
        )
        rows, rejected, duplicates = rows + info.rows, rejected + info.rejected, duplicates + info.duplicates
        notes = {name: notes.get(name, 0) + info.notes.get(name, 0) for name in notes.keys() | info.notes.keys()}
    if rows != counts.rows:
        raise RunDirectoryError(f"has {rows:,} chunks in its files, and {counts.rows:,} by its {layout.intake.name}")
    rest = {name: more for name, count in counts.notes.items() if (more := count - notes.get(name, 0))}
    left = (counts.rejected - rejected, counts.duplicates - duplicates)
    found.append(InputSegment(index, counts.segments, first + rows, 0, *left, notes=rest))
    return tuple(found), (*digests, *counts.finished)


def _check_numbers(layout: RunLayout, spec: RunSpec, segments: int) -> None:
    """RunDirectoryError unless each folder has exactly the segments that the intake counted."""
    for folder in (layout.chunks, *(layout.vector_folder(one.vector) for one in spec.outputs)):
        if segments_in(folder) != list(range(segments)):
            raise RunDirectoryError(f"lacks segments, or has too many, in {folder.relative_to(layout.root)}")


def _vectors(
    layout: RunLayout, chunks: ChunkSegmentInfo, passes: Mapping[str, PassRecord]
) -> tuple[bytes, bytes, list[int]]:
    """Digests of the content and of the columns of all files of a segment, and their sizes, that of the chunks first."""
    path = layout.chunk_segment(chunks.segment)
    sizes = [path.stat().st_size]
    content = hashlib.blake2b(msgspec.json.encode(chunks) + str(sizes[0]).encode(), digest_size=16)
    shape = hashlib.blake2b(digest_size=16)
    for vector, about in passes.items():
        path = layout.vector_segment(vector, chunks.segment)
        info = read_info(path, VectorSegmentInfo)
        if (info.segment, info.first_row, info.rows) != (chunks.segment, chunks.first_row, chunks.rows):
            raise RunDirectoryError(f"has another file in the place of {vector}/{path.name}")
        if info.fingerprint != about.fingerprint:
            raise RunDirectoryError(
                f"has vectors of another model than its {layout.pass_file(vector).name} in {path.name}"
            )
        content.update(f"{vector}\0{info.digest}\n".encode())
        shape.update(f"{vector}\0{_columns(path)}\n".encode())
        sizes.append(path.stat().st_size)
    return content.digest(), shape.digest(), sizes


def _columns(path: Path) -> str:
    """The columns of a segment, with the ranges of int8 vectors, in a form that can be compared."""
    try:
        schema: pa.Schema = pq.read_schema(path).remove_metadata()
    except (OSError, ValueError, pa.ArrowException) as error:
        raise RunDirectoryError(f"has a damaged {path.name}: {error}") from error
    return str([(one.name, str(one.type), sorted((one.metadata or {}).items())) for one in schema])
