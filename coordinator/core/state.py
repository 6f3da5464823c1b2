"""The pool's memory: devices, workers, runs, passes, segments, batches. It changes only while `Pool.handle` runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ...protocol.wire.devices import Device
from ...protocol.wire.run_options import DEFAULTS, RunOptions
from .actions import Action, Holder, Note
from .config import PoolConfig
from .device_health import DeviceHealth
from .events import Cut, PassPlan
from .verdicts import BatchPhase


class WorkerStage(Enum):
    """A worker's life, in order; a worker may end from any of them."""

    SPAWNED = "spawned"
    STAGING = "staging"
    STAGED = "staged"
    HYDRATING = "hydrating"
    READY = "ready"
    RELEASING = "releasing"


class RunStatus(Enum):
    """A run's life, in order; OPENING may come again after a lost exporter.

    CHECKING is left out where nobody looks at the models. A run may be checked while it waits for the one before it.
    """

    CHECKING = "checking"
    QUEUED = "queued"
    OPENING = "opening"
    RUNNING = "running"
    DRAINING = "draining"
    CLOSING = "closing"


COMING = (RunStatus.CHECKING, RunStatus.QUEUED, RunStatus.OPENING)
"""The statuses of a run that computes nothing yet."""


@dataclass(slots=True)
class DeviceSlot:
    """A device: the worker that holds its lease, and the one that is staged behind it."""

    device: Device
    host: str
    active: str | None = None
    standby: str | None = None
    health: DeviceHealth = field(default_factory=DeviceHealth)
    waiting: str = ""
    """Why the last lease was refused; empty once it was granted."""


@dataclass(slots=True)
class WorkerSlot:
    """A worker process and the batches it has, oldest first: the first one is being computed."""

    name: str
    host: str
    device: str
    run: str
    """Empty once that run is over."""
    pass_index: int
    epoch: int
    loads: str
    """Identifies the model that it loads and how, see `PassPlan`."""
    since: float
    """When it entered its stage."""
    stage: WorkerStage = WorkerStage.SPAWNED
    batches: list[int] = field(default_factory=list[int])
    seen: float = 0.0
    progress: int = -1
    began: float = 0.0
    """When its first batch became the first."""
    moved: float = 0.0
    """The same, or when its progress last changed."""
    most_tokens: int = 0
    most_rows: int = 0
    """Bounds of a batch of several cuts for it; 0: batches stay as they were cut."""
    tokens: float = 0.0
    """Of the batches that it computed, the earlier ones counting less."""
    seconds: float = 0.0
    """That these took, with the same weights."""
    killed: str = ""
    """Why we killed it; empty if we did not."""
    killed_at: float = 0.0
    died: bool = False
    """Its end is known and its batches are taken back; the device is not free yet."""
    suspected: bool = False
    """The batch that it died of was isolated or parked before."""
    rework: int = 0
    """Batches that it had when it was lost, to be computed again."""


@dataclass(slots=True)
class Batch:
    """Sorted rows `start` to `stop` of a segment. `failures` counts results denied and workers lost to it."""

    pass_index: int
    segment: int
    start: int
    stop: int
    tokens: int
    cuts: tuple[Cut, ...] = ()
    """What it consists of, where a part of it may be sent as a batch of its own."""
    failures: int = 0
    in_flight: bool = False
    isolated: bool = False
    """A half of a batch that failed twice."""
    sent_with: tuple[int, ...] = ()
    """Batches that its worker had beside it when it died of one of them."""
    killed_on: dict[str, int] = field(default_factory=dict[str, int])
    """Devices whose worker died of it while it was one row alone, and how many results of the pass each had before."""
    first_killed_on: str = ""
    """The device that has an unexplained loss for it, until a row of it is found guilty."""
    taken_from: Holder | None = None
    """The lost worker that had it; None again once another has it."""

    @property
    def rows(self) -> int:
        return self.stop - self.start

    def phase(self, results: Mapping[str, int]) -> BatchPhase:
        """Its phase, where its pass has so many results by device."""
        if self.killed_on:
            computed_since = any(results.get(device, 0) > before for device, before in self.killed_on.items())
            return BatchPhase.LAST_TRY if computed_since else BatchPhase.PARKED
        if self.failures or self.isolated:
            return BatchPhase.ISOLATED
        return BatchPhase.IN_FLIGHT if self.in_flight else BatchPhase.PENDING


@dataclass(slots=True)
class OpenSegment:
    """A segment that is cut and not committed. `outstanding` batches have no result yet."""

    rows: int
    outstanding: set[int] = field(default_factory=set[int])
    cutting: bool = True


@dataclass(slots=True)
class Pass:
    """One model's way through the segments: uncut → open → committed. One that the exporter fills is neither uncut nor open."""

    plan: PassPlan
    uncut: deque[int] = field(default_factory=deque[int])
    open: dict[int, OpenSegment] = field(default_factory=dict[int, OpenSegment])
    committed: set[int] = field(default_factory=set[int])
    pending: deque[int] = field(default_factory=deque[int])
    row_bytes: int = 0
    broken: tuple[str, str] | None = None
    """The kind and the message of its model's error. No worker tries again: the pass is given up if a chunk has weights in
    its metadata, and the run fails if none has."""
    refused: bool = False
    """`broken` was known before the run began."""
    given_up: str = ""
    """Why no worker computes it (any more): the exporter fills its rows. Empty where workers do."""
    seconds_per_token: float = 0.0
    """Measured, smoothed; 0 until the first result."""
    results: dict[str, int] = field(default_factory=dict[str, int])
    """Batches computed, by device."""

    @property
    def is_cutting(self) -> bool:
        return any(segment.cutting for segment in self.open.values())


@dataclass(slots=True)
class Run:
    """A run in the queue. `segments` maps a spooled segment to its rows."""

    name: str
    passes: list[Pass]
    status: RunStatus = RunStatus.QUEUED
    segments: dict[int, int] = field(default_factory=dict[int, int])
    is_prepared: bool = False
    """An exporter was started that waits for the run's turn."""
    intake_started: bool = False
    intake_done: bool = False
    measured: bool = False
    """Whether CorpusMeasured has come."""
    scrubbed: bool = False
    """Whether what earlier sessions committed is known to be whole."""
    has_weights: bool = False
    """A spooled chunk has weights in its metadata."""
    exporter_failures: int = 0
    outcome: str = ""
    """`done`, `interrupted` or `failed`, once it is decided."""
    kind: str = ""
    error: str = ""
    options: RunOptions = DEFAULTS


@dataclass(slots=True)
class Fleet:
    """Everything the pool knows. `out` collects the actions of the event at hand."""

    config: PoolConfig
    devices: dict[str, DeviceSlot] = field(default_factory=dict[str, DeviceSlot])
    workers: dict[str, WorkerSlot] = field(default_factory=dict[str, WorkerSlot])
    runs: dict[str, Run] = field(default_factory=dict[str, Run])
    """In order of submission; the first is the current one."""
    batches: dict[int, Batch] = field(default_factory=dict[int, Batch])
    """Of the current run, pending or in flight."""
    next_batch: int = 0
    next_worker: int = 0
    now: float = 0.0
    out: list[Action] = field(default_factory=list[Action])

    @property
    def current(self) -> Run | None:
        """The run that has the fleet."""
        return next(iter(self.runs.values()), None)

    @property
    def next_run(self) -> Run | None:
        """The first run that is still to begin, or to go on with a new exporter."""
        return next((run for run in self.runs.values() if run.status in COMING), None)

    def add_batch(self, batch: Batch) -> int:
        """Give a new batch its id."""
        batch_id = self.next_batch
        self.next_batch += 1
        self.batches[batch_id] = batch
        return batch_id

    def shown_status(self, run: Run) -> RunStatus:
        """The run's status for people: a run that is checked is queued, or its exporter starts meanwhile."""
        if run.status is not RunStatus.CHECKING:
            return run.status
        return RunStatus.OPENING if run is self.current else RunStatus.QUEUED

    def note(self, event: str, **fields: Any) -> None:
        """Add a line for the event log, of the run that has the fleet."""
        self.out.append(Note(event, fields, self.current.name if self.current is not None else ""))
