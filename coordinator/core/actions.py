"""What the pool wants done. Plain data; the loop performs them in order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct


class StartExporter(Struct, frozen=True):
    """Start an exporter, which waits for OpenRun: while the run's models are checked (if one is refused, the directory stays as
    it is), or while the run before it ends."""

    run: str


class OpenRun(Struct, frozen=True):
    """Let the exporter take the run's directory; start one if there is none."""

    run: str


class StartIntake(Struct, frozen=True):
    run: str


class CutSegment(Struct, frozen=True):
    """Sort the segment's rows and cut them into the smallest batches; answer with SegmentCut."""

    run: str
    pass_index: int
    segment: int


class SpawnWorker(Struct, frozen=True):
    worker: str
    host: str
    device: str
    epoch: int


class StageWorker(Struct, frozen=True):
    worker: str
    run: str
    pass_index: int


class HydrateWorker(Struct, frozen=True):
    worker: str


class Holder(Struct, frozen=True):
    """A worker and its device, by name."""

    worker: str
    device: str


class SendBatch(Struct, frozen=True):
    worker: str
    epoch: int
    batch: int
    run: str
    pass_index: int
    segment: int
    start: int
    stop: int
    taken_from: Holder | None = None
    """The lost worker that had these rows last; None where none was lost with them."""


class ReleaseWorker(Struct, frozen=True):
    worker: str


class KillWorker(Struct, frozen=True):
    worker: str
    host: str


class ForwardResult(Struct, frozen=True):
    """Hand the result to the exporter."""

    run: str
    pass_index: int
    segment: int
    start: int
    stop: int
    payload: Any


class QuarantineRows(Struct, frozen=True):
    """Give up poison: the sorted rows from `start` to `stop` of the segment."""

    run: str
    pass_index: int
    segment: int
    start: int
    stop: int
    reason: str


class FillSegment(Struct, frozen=True):
    """Let the exporter fill the rows of the segment that have no result: no worker computes them."""

    run: str
    pass_index: int
    segment: int
    reason: str


class CloseRun(Struct, frozen=True):
    """Let the exporter end the run: `done`, `interrupted` or `failed` with an error."""

    run: str
    status: str
    kind: str = ""
    error: str = ""


class RunOver(Struct, frozen=True):
    """The run is closed: tell its watchers, forget it."""

    run: str
    status: str
    kind: str = ""
    error: str = ""


class Note(Struct, frozen=True):
    """Something for the event log: its name and what goes with it. `run` had the fleet then; empty: none had."""

    event: str
    fields: Mapping[str, Any]
    run: str = ""


Action = (
    StartExporter
    | OpenRun
    | StartIntake
    | CutSegment
    | SpawnWorker
    | StageWorker
    | HydrateWorker
    | SendBatch
    | ReleaseWorker
    | KillWorker
    | ForwardResult
    | QuarantineRows
    | FillSegment
    | CloseRun
    | RunOver
    | Note
)
