"""What can happen to the pool. Plain data; times are given to `Pool.handle` beside the event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...protocol.wire.devices import Device
from ...protocol.wire.run_options import DEFAULTS, RunOptions


@dataclass(frozen=True, slots=True)
class HostJoined:
    host: str
    devices: tuple[Device, ...]


@dataclass(frozen=True, slots=True)
class HostLeft:
    host: str
    reason: str


@dataclass(frozen=True, slots=True)
class RunSubmitted:
    """A client wants the run; `passes` are in order."""

    run: str
    passes: tuple[PassPlan, ...]
    options: RunOptions = DEFAULTS
    unchecked: bool = False
    """Its models are being checked, and ModelsChecked follows."""


@dataclass(frozen=True, slots=True)
class RefusedModel:
    """A model that cannot be used. `pass_index` is None for a pass of a later run, or where no fallback helps; `kind` is the
    name of an error class."""

    pass_index: int | None
    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class ModelsChecked:
    """The result of the check of the models' files. Workers refuse a model that could not be checked here."""

    run: str
    refused: tuple[RefusedModel, ...] = ()


@dataclass(frozen=True, slots=True)
class PassPlan:
    """What the pool needs to know of a pass."""

    vector: str
    cpu_only: bool = False
    fallback: bool = False
    """Rows without a result may get the weights of their metadata: a model that cannot be loaded does not fail the run if a
    chunk has such weights."""
    after_intake: bool = False
    """The pass needs BM25's average length of the whole corpus: it begins after CorpusMeasured."""
    given_up: str = ""
    """Why no worker computes it, from the start; empty where workers do."""
    gpu_only: bool = False
    without: str = ""
    """The error of the run if no chunk has weights in its metadata; empty: that is no error."""


@dataclass(frozen=True, slots=True)
class RunOpened:
    """The exporter holds the directory. Per pass: the committed segments."""

    run: str
    committed: tuple[frozenset[int], ...]


@dataclass(frozen=True, slots=True)
class RunCancelled:
    run: str
    reason: str


@dataclass(frozen=True, slots=True)
class RunFailed:
    """Something outside the pool makes the run impossible: a refused directory, a full disk, a lost exporter."""

    run: str
    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class RunClosed:
    """The exporter has ended the run in good order, or is gone after the order to end it."""

    run: str


@dataclass(frozen=True, slots=True)
class ExporterLost:
    """The exporter died; what it had not committed is to be computed again."""

    run: str
    reason: str


@dataclass(frozen=True, slots=True)
class SegmentSpooled:
    """`tokens` are estimated, for progress. `has_weights`: a chunk of it, or of an earlier one, has weights in its metadata."""

    run: str
    segment: int
    rows: int
    tokens: int = 0
    has_weights: bool = True


@dataclass(frozen=True, slots=True)
class IntakeDone:
    run: str


@dataclass(frozen=True, slots=True)
class CorpusMeasured:
    """BM25's average length is known, for which passes with `after_intake` wait."""

    run: str


@dataclass(frozen=True, slots=True)
class Cut:
    """A batch of a segment: the sorted rows from `start` to `stop`, with their estimated tokens."""

    start: int
    stop: int
    tokens: int


@dataclass(frozen=True, slots=True)
class SegmentCut:
    run: str
    pass_index: int
    segment: int
    cuts: tuple[Cut, ...]


@dataclass(frozen=True, slots=True)
class SegmentCommitted:
    run: str
    pass_index: int
    segment: int


@dataclass(frozen=True, slots=True)
class SegmentDamaged:
    """A segment of an earlier session is not as it was written, and is removed."""

    run: str
    pass_index: int
    segment: int


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """Every segment of earlier sessions has been read again: those still committed are whole."""

    run: str


@dataclass(frozen=True, slots=True)
class WorkerHello:
    worker: str
    epoch: int


@dataclass(frozen=True, slots=True)
class WorkerStaged:
    worker: str
    row_bytes: int


@dataclass(frozen=True, slots=True)
class WorkerReady:
    worker: str


@dataclass(frozen=True, slots=True)
class WorkerBroken:
    """The model could not be staged or hydrated; `fatal` when another attempt would not help."""

    worker: str
    kind: str
    message: str
    fatal: bool


@dataclass(frozen=True, slots=True)
class WorkerAlive:
    worker: str
    progress: int


@dataclass(frozen=True, slots=True)
class BatchDone:
    """`payload` is handed back in ForwardResult untouched."""

    worker: str
    epoch: int
    batch: int
    payload: Any = None


@dataclass(frozen=True, slots=True)
class BatchFailed:
    worker: str
    epoch: int
    batch: int
    reason: str


@dataclass(frozen=True, slots=True)
class WorkerDied:
    """Its process is gone, its device not free yet: the batches need not wait for that. WorkerExited follows."""

    worker: str
    reason: str
    innocent: bool = False


@dataclass(frozen=True, slots=True)
class WorkerExited:
    """`fault`: what is wrong with the device itself, which is then given up. `innocent`: it was none of the batch's doing,
    as when the host ran out of memory."""

    worker: str
    reason: str
    fault: str = ""
    innocent: bool = False
    unreleased: bool = False
    """Its memory on the device was not given back."""


@dataclass(frozen=True, slots=True)
class SpawnRefused:
    """The host could not lease the device now; try again later."""

    worker: str
    reason: str


@dataclass(frozen=True, slots=True)
class Tick:
    """The clock moved on."""


Event = (
    HostJoined
    | HostLeft
    | RunSubmitted
    | ModelsChecked
    | RunOpened
    | RunCancelled
    | RunFailed
    | RunClosed
    | ExporterLost
    | SegmentSpooled
    | IntakeDone
    | CorpusMeasured
    | SegmentCut
    | SegmentCommitted
    | SegmentDamaged
    | Scrubbed
    | WorkerHello
    | WorkerStaged
    | WorkerReady
    | WorkerBroken
    | WorkerAlive
    | BatchDone
    | BatchFailed
    | WorkerDied
    | WorkerExited
    | SpawnRefused
    | Tick
)
