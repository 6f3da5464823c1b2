"""What the pool wants done. Plain data; the loop performs them in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class StartExporter:
    """Start an exporter, which waits while the run's models are checked: if one is refused, the directory stays as it is."""

    run: str


@dataclass(frozen=True, slots=True)
class OpenRun:
    """Let the exporter take the run's directory; start one if there is none."""

    run: str


@dataclass(frozen=True, slots=True)
class StartIntake:
    run: str


@dataclass(frozen=True, slots=True)
class CutSegment:
    """Sort the segment's rows and cut them into batches; answer with SegmentCut."""

    run: str
    pass_index: int
    segment: int


@dataclass(frozen=True, slots=True)
class SpawnWorker:
    worker: str
    host: str
    device: str
    epoch: int


@dataclass(frozen=True, slots=True)
class StageWorker:
    worker: str
    run: str
    pass_index: int


@dataclass(frozen=True, slots=True)
class HydrateWorker:
    worker: str


@dataclass(frozen=True, slots=True)
class Holder:
    """A worker and its device, by name."""

    worker: str
    device: str


@dataclass(frozen=True, slots=True)
class SendBatch:
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


@dataclass(frozen=True, slots=True)
class ReleaseWorker:
    worker: str


@dataclass(frozen=True, slots=True)
class KillWorker:
    worker: str
    host: str


@dataclass(frozen=True, slots=True)
class ForwardResult:
    """Hand the result to the exporter."""

    run: str
    pass_index: int
    segment: int
    start: int
    stop: int
    payload: Any


@dataclass(frozen=True, slots=True)
class QuarantineRows:
    """Give up poison: the sorted rows from `start` to `stop` of the segment."""

    run: str
    pass_index: int
    segment: int
    start: int
    stop: int
    reason: str


@dataclass(frozen=True, slots=True)
class FillSegment:
    """Let the exporter fill the rows of the segment that have no result: no worker computes them."""

    run: str
    pass_index: int
    segment: int
    reason: str


@dataclass(frozen=True, slots=True)
class CloseRun:
    """Let the exporter end the run: `done`, `interrupted` or `failed` with an error."""

    run: str
    status: str
    kind: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class RunOver:
    """The run is closed: tell its watchers, forget it."""

    run: str
    status: str
    kind: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Note:
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
