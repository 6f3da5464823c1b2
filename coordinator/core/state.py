"""The pool's memory: devices, workers, runs, passes, segments, batches. Only `pool.py` changes it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ...protocol.wire.devices import Device
from ...protocol.wire.run_options import DEFAULTS, RunOptions
from .actions import Action, Holder, Note
from .events import PassPlan


class WorkerStage(Enum):
    """A worker's life, in order; a worker may end from any of them."""

    SPAWNED = "spawned"
    STAGING = "staging"
    STAGED = "staged"
    HYDRATING = "hydrating"
    READY = "ready"
    RELEASING = "releasing"


class RunStatus(Enum):
    """A run's life, in order; OPENING may come again after a lost exporter."""

    QUEUED = "queued"
    OPENING = "opening"
    RUNNING = "running"
    DRAINING = "draining"
    CLOSING = "closing"


@dataclass(slots=True)
class DeviceSlot:
    """A device: the worker that holds its lease, and the one that is staged behind it."""

    device: Device
    host: str
    active: str | None = None
    standby: str | None = None
    failures: int = 0
    """In a row, without a result between."""
    losses: int = 0
    """Workers lost in a row without a result between, whoever was to blame."""
    loading: dict[int, int] = field(default_factory=dict[int, int])
    """Workers in a row that ended before they were ready, by pass: whoever works meanwhile says nothing of them."""
    refused: dict[int, str] = field(default_factory=dict[int, str])
    """Passes that the device is given up for, and why; it may work for the others."""
    strain: float = 0.0
    """Workers lost that no row was found guilty of, less a share for each result: what is lost now and then adds up too."""
    not_before: float = 0.0
    bad: str = ""
    bad_for: int | None = None
    """The pass whose workers ended there until it was given up; None where the device itself is at fault."""
    waiting: str = ""
    """Why the last lease was refused; empty once it was granted."""

    def given_up(self, number: int) -> str:
        """Why the device does not work for a pass any more; empty where it does."""
        return self.bad or self.refused.get(number, "")


@dataclass(slots=True)
class WorkerSlot:
    """A worker process and the batches it has, oldest first: the first one is being computed."""

    name: str
    host: str
    device: str
    run: str
    number: int
    epoch: int
    since: float
    """When it entered its stage."""
    stage: WorkerStage = WorkerStage.SPAWNED
    batches: list[int] = field(default_factory=list[int])
    seen: float = 0.0
    progress: int = -1
    moved: float = 0.0
    """When its first batch became the first, or its progress last changed."""
    killed: str = ""
    """Why we killed it; empty if we did not."""
    killed_at: float = 0.0
    died: bool = False
    """Its end is known and its batches are taken back; the device is not free yet."""
    suspected: bool = False
    """The batch that it died of was under suspicion already."""
    rework: int = 0
    """Batches that it had when it was lost, to be computed again."""


@dataclass(slots=True)
class Batch:
    """Sorted rows `start` to `stop` of a segment. `failures` counts results denied and workers lost to it."""

    number: int
    segment: int
    start: int
    stop: int
    tokens: int
    failures: int = 0
    suspect: bool = False
    """Split from a batch that failed twice: it is given up or split again at its next failure."""
    companions: tuple[int, ...] = ()
    """Batches that its worker had beside it when it died of one of them."""
    deaths: dict[str, int] = field(default_factory=dict[str, int])
    """Devices whose worker died of it while it was one row alone, and how many results of the pass each had before."""
    charged: str = ""
    """The device that its first death is held against, until a row of it is found guilty."""
    taken_from: Holder | None = None
    """The lost worker that had it; None again once another has it."""

    @property
    def rows(self) -> int:
        return self.stop - self.start


@dataclass(slots=True)
class OpenSegment:
    """A segment that is cut and not committed. `outstanding` batches have no result yet."""

    rows: int
    outstanding: set[int] = field(default_factory=set[int])
    cutting: bool = True


@dataclass(slots=True)
class Pass:
    """One model's way through the segments: uncut → open → committed."""

    plan: PassPlan
    uncut: deque[int] = field(default_factory=deque[int])
    open: dict[int, OpenSegment] = field(default_factory=dict[int, OpenSegment])
    committed: set[int] = field(default_factory=set[int])
    pending: deque[int] = field(default_factory=deque[int])
    row_bytes: int = 0
    broken: tuple[str, str] | None = None
    """What its model failed with, kind and message. No worker tries again; whether chunks have weights of their own, which
    may stand in, decides what becomes of the run."""
    refused: bool = False
    """`broken` was known before the run began."""
    given_up: str = ""
    """Why no worker computes it (any more); its rows are handed on without a result."""
    seconds_per_token: float = 0.0
    """Measured, smoothed; 0 until the first result."""
    results: dict[str, int] = field(default_factory=dict[str, int])
    """Batches computed, by device."""


@dataclass(slots=True)
class Run:
    """A run in the queue. `segments` maps a spooled segment to its rows."""

    name: str
    passes: list[Pass]
    status: RunStatus = RunStatus.QUEUED
    unchecked: bool = False
    """Its models are being looked at; until then no exporter takes its directory."""
    segments: dict[int, int] = field(default_factory=dict[int, int])
    intake_started: bool = False
    intake_done: bool = False
    measured: bool = False
    """Whether CorpusMeasured has come."""
    scrubbed: bool = False
    """Whether what earlier sessions committed is known to be whole."""
    stand_ins: bool = False
    """A spooled chunk has weights of its own."""
    exporter_failures: int = 0
    outcome: str = ""
    """`done`, `interrupted` or `failed`, once it is decided."""
    kind: str = ""
    error: str = ""
    options: RunOptions = DEFAULTS


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """Limits of the pool. Seconds and bytes."""

    first_epoch: int = 1
    """Of the first lease; a coordinator that is started again must not repeat those of the one before it."""
    credit: int = 2
    """Batches in flight per worker: one computed, one waiting."""
    hello_timeout: float = 60.0
    stage_timeout: float = 3600.0
    """Loading weights, a download from a hub included."""
    hydrate_timeout: float = 300.0
    release_timeout: float = 20.0
    silence_timeout: float = 30.0
    """Without any message from a worker's loop."""
    loading_silence: float = 120.0
    """The same while it loads: libraries that come from a slow disk hold the interpreter's lock."""
    first_batch_timeout: float = 600.0
    """For a batch before the pass's speed is known, and the most that any batch is given."""
    batch_timeout: float = 30.0
    """The least that a batch is given once the speed is known."""
    batch_slowdown: float = 20.0
    """A batch may take this many times what the measured speed says."""
    death_timeout: float = 30.0
    """Between a kill and the word that the process has ended; a process that hangs in a driver never says it."""
    device_failures: int = 3
    device_losses: int = 48
    """A poison row costs at most log2(batch) + 3 workers; so many in a row are the device's or the model's fault."""
    device_strain: float = 10.0
    relief: float = 0.1
    """Of the strain, for each result."""
    exporter_failures: int = 3
    backoff: float = 0.25
    """After the first failure of a device; doubled with each, up to `max_backoff`."""
    max_backoff: float = 30.0
    uncommitted_bytes: int = 256 << 20
    """Cap on the results of segments that are cut and not committed; two segments may always be open."""


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

    def note(self, event: str, **fields: Any) -> None:
        """Add a line for the event log."""
        self.out.append(Note(event, fields))
