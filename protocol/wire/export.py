"""The export link: coordinator ↔ exporter. One exporter serves one run."""

from __future__ import annotations

from typing import Any

import msgspec

from ..run_directory.truncation import Truncation
from ..spec.fingerprint import Fingerprint
from ..spec.run_spec import RunSpec
from .arrays import ArrayHeader
from .work import RowError


class OpenRun(msgspec.Struct, frozen=True, array_like=True, tag="open_run"):
    """Take the run directory: lock it, compare the spec, say what is committed."""

    protocol: int
    build: str
    run: str
    directory: str
    spec: RunSpec
    restart: bool


class BeginPass(msgspec.Struct, frozen=True, array_like=True, tag="begin_pass"):
    """The model of a pass is known: write or compare its `pass.json` before any of its results come."""

    number: int
    fingerprint: Fingerprint
    placement: str = ""
    """Where the parameters are, for audit: not compared."""


class SourceRead(msgspec.Struct, frozen=True, array_like=True, tag="source_read"):
    """The intake has ended: the run has so many segments and gets no more."""

    segments: int


class Rows(msgspec.Struct, frozen=True, array_like=True, tag="rows"):
    """Results of one batch. Frames: `positions` int32 (rows of the segment), then the arrays as the worker sent them."""

    number: int
    segment: int
    rows: int
    """Rows of the whole segment."""
    arrays: tuple[ArrayHeader, ...]
    errors: tuple[RowError, ...] = ()


class FailedRows(msgspec.Struct, frozen=True, array_like=True, tag="failed_rows"):
    """Rows given up without a result: quarantine them. `positions` are rows of the segment."""

    number: int
    segment: int
    rows: int
    positions: tuple[int, ...]
    reason: str


class Record(msgspec.Struct, frozen=True, array_like=True, tag="record"):
    """A line for events.jsonl."""

    event: str
    time: float
    """Unix time, seconds."""
    fields: dict[str, Any]


class CloseRun(msgspec.Struct, frozen=True, array_like=True, tag="close_run"):
    """Nothing more comes. Commit what is whole, publish, write stats and (status `done`) the manifest, and end."""

    status: str
    error: str
    stats: dict[str, Any]


class FillRows(msgspec.Struct, frozen=True, array_like=True, tag="fill_rows"):
    """No model computes the rows of the segment that have no result yet: give them the weights of their metadata, or `reason`
    as their error."""

    number: int
    segment: int
    rows: int
    """Rows of the whole segment."""
    reason: str


ToExporter = OpenRun | BeginPass | SourceRead | Rows | FailedRows | Record | CloseRun | FillRows


class Opened(msgspec.Struct, frozen=True, array_like=True, tag="opened"):
    """The directory is ours. Per pass: the segments that are committed, and the fingerprint if any."""

    protocol: int
    build: str
    committed: tuple[tuple[int, ...], ...]
    fingerprints: tuple[Fingerprint | None, ...]
    preprocessing: str = ""
    """The directory's policy for reading records, which the intake follows; empty for that of the spec."""


class OpenRefused(msgspec.Struct, frozen=True, array_like=True, tag="open_refused"):
    kind: str
    message: str


class PassRefused(msgspec.Struct, frozen=True, array_like=True, tag="pass_refused"):
    """The model is not the one that the committed segments were computed with."""

    number: int
    message: str


class Committed(msgspec.Struct, frozen=True, array_like=True, tag="committed"):
    """The segment stands under its final name and is synced."""

    number: int
    segment: int
    rows: int
    quarantined: int
    seconds: float


class SegmentDamaged(msgspec.Struct, frozen=True, array_like=True, tag="segment_damaged"):
    """A vector segment of an earlier session is not as it was written; it is removed, to be computed again."""

    number: int
    segment: int
    reason: str


class ChunksDamaged(msgspec.Struct, frozen=True, array_like=True, tag="chunks_damaged"):
    """A chunk segment is not as it was written. It is the intake's to remove and to read again."""

    segment: int
    reason: str


class Scrubbed(msgspec.Struct, frozen=True, array_like=True, tag="scrubbed"):
    """All that earlier sessions committed has been read again."""


class ExporterAlive(msgspec.Struct, frozen=True, array_like=True, tag="exporter_alive"):
    """Sent every second by the loop that assembles segments, also while it closes the run."""


class ExportFailed(msgspec.Struct, frozen=True, array_like=True, tag="export_failed"):
    """The disk refused: nothing more can be committed."""

    message: str


class Publishing(msgspec.Struct, frozen=True, array_like=True):
    """What a session put into the Edge shard. Unix time in seconds, from the first segment's begin to the last one's end."""

    rows: int
    begin: float
    end: float
    peak_bytes: int
    """The most resident memory of the exporter's process."""


class Closed(msgspec.Struct, frozen=True, array_like=True, tag="closed"):
    """All that was promised is on disk. The counts are recounted from the segments' footers."""

    chunks: int
    committed: int
    quarantined: int
    skipped_duplicates: int
    published: int
    """Points in the Edge shard; 0 also where a run that is not done had nothing to publish."""
    covered: dict[str, int] = {}
    """By vector: rows that have one."""
    stood_in: dict[str, int] = {}
    """By sparse vector: rows whose weights are their metadata's."""
    publishing: Publishing | None = None
    """None where nothing was published."""
    float16_segments: dict[str, int] = {}
    """For each vector of `--store int8`, how many segments are float16, if there are any."""
    truncation: dict[str, Truncation] = {}
    """The truncation of each vector that has a limit of tokens."""
    problem: str = ""
    """The reason why the files do not add up, and its remedy; empty if they do. With one, the run is not done."""


ToCoordinator = (
    Opened
    | OpenRefused
    | PassRefused
    | Committed
    | SegmentDamaged
    | ChunksDamaged
    | Scrubbed
    | ExporterAlive
    | ExportFailed
    | Closed
)
