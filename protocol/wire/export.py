"""The export link: coordinator ↔ exporter. One exporter serves one run."""

from __future__ import annotations

from typing import Any

import msgspec

from ..run_directory.truncation import Truncation
from ..spec.fingerprint import Fingerprint
from ..spec.run_spec import RunSpec
from .arrays import ArrayHeader
from .work import RowError


class OpenRunMessage(msgspec.Struct, frozen=True, array_like=True, tag="open_run"):
    """Take the run directory: lock it, compare its spec, and answer with what is committed."""

    protocol: int
    build: str
    run: str
    directory: str
    spec: RunSpec
    restart: bool


class BeginPass(msgspec.Struct, frozen=True, array_like=True, tag="begin_pass"):
    """The model of a pass is known: write or compare its record before any of its results come."""

    number: int
    fingerprint: Fingerprint
    placement: str = ""
    """Where the parameters are. Recorded, not compared."""


class SourceRead(msgspec.Struct, frozen=True, array_like=True, tag="source_read"):
    """The intake has ended. The run has this many segments."""

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


class CloseRunMessage(msgspec.Struct, frozen=True, array_like=True, tag="close_run"):
    """The last message. Commit complete segments, publish, write the stats and (status `done`) the manifest; then exit."""

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


ToExporter = OpenRunMessage | BeginPass | SourceRead | Rows | FailedRows | Record | CloseRunMessage | FillRows


class Opened(msgspec.Struct, frozen=True, array_like=True, tag="opened"):
    """The directory is locked. For each pass: its committed segments, and its fingerprint if it has one."""

    protocol: int
    build: str
    committed: tuple[tuple[int, ...], ...]
    fingerprints: tuple[Fingerprint | None, ...]
    preprocessing: str = ""
    """The directory's preprocessing policy, which the intake follows; empty: the spec's."""


class OpenRefused(msgspec.Struct, frozen=True, array_like=True, tag="open_refused"):
    kind: str
    message: str


class PassRefused(msgspec.Struct, frozen=True, array_like=True, tag="pass_refused"):
    """The model is not the one that the committed segments were computed with."""

    number: int
    message: str


class Committed(msgspec.Struct, frozen=True, array_like=True, tag="committed"):
    """The segment has its final name and is synced."""

    number: int
    segment: int
    rows: int
    quarantined: int
    seconds: float


class SegmentDamagedMessage(msgspec.Struct, frozen=True, array_like=True, tag="segment_damaged"):
    """A vector segment of an earlier session is damaged. The exporter removed it; compute it again."""

    number: int
    segment: int
    reason: str


class ChunksDamaged(msgspec.Struct, frozen=True, array_like=True, tag="chunks_damaged"):
    """A chunk segment is damaged. The intake has to remove it and read it from the source again."""

    segment: int
    reason: str


class ScrubbedMessage(msgspec.Struct, frozen=True, array_like=True, tag="scrubbed"):
    """The exporter has checked everything that earlier sessions committed."""


class ExporterAlive(msgspec.Struct, frozen=True, array_like=True, tag="exporter_alive"):
    """Sent every second by the loop that assembles segments, also while it closes the run."""


class ExportFailed(msgspec.Struct, frozen=True, array_like=True, tag="export_failed"):
    """The disk refused: nothing more can be committed."""

    message: str


class Publishing(msgspec.Struct, frozen=True, array_like=True):
    """The points that a session put into the Edge shard. `begin` and `end` are Unix times in seconds."""

    rows: int
    begin: float
    end: float
    peak_bytes: int
    """The most resident memory of the exporter's process."""


class Closed(msgspec.Struct, frozen=True, array_like=True, tag="closed"):
    """The run is closed and everything is on disk. The counts are from the segments' footers."""

    chunks: int
    committed: int
    quarantined: int
    skipped_duplicates: int
    published: int
    """Points in the Edge shard; 0 if a run that is not done published nothing."""
    covered: dict[str, int] = {}
    """Rows that have the vector, by vector."""
    stood_in: dict[str, int] = {}
    """Rows with metadata weights, by sparse vector."""
    publishing: Publishing | None = None
    """None if nothing was published."""
    float16_segments: dict[str, int] = {}
    """Segments stored as float16, by vector of `--store int8`; only vectors that have some."""
    truncation: dict[str, Truncation] = {}
    """The truncation of each vector that has a limit of tokens."""
    problem: str = ""
    """Why the row counts of the files differ, and the remedy; empty if they agree. With a problem the run is not done."""


ToCoordinator = (
    Opened
    | OpenRefused
    | PassRefused
    | Committed
    | SegmentDamagedMessage
    | ChunksDamaged
    | ScrubbedMessage
    | ExporterAlive
    | ExportFailed
    | Closed
)
