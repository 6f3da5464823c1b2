"""What can happen to the pool. Plain data; times are given to `Pool.handle` beside the event."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from ...protocol.wire.devices import Device
from ...protocol.wire.run_options import DEFAULTS, RunOptions


class HostJoined(Struct, frozen=True):
    host: str
    devices: tuple[Device, ...]


class HostLeft(Struct, frozen=True):
    host: str
    reason: str


class RunSubmitted(Struct, frozen=True):
    """A client wants the run; `passes` are in order."""

    run: str
    passes: tuple[PassPlan, ...]
    options: RunOptions = DEFAULTS
    unchecked: bool = False
    """Its models are being checked, and ModelsChecked follows."""


class RefusedModel(Struct, frozen=True):
    """A model that cannot be used. `pass_index` is None for a pass of a later run, or where no fallback helps; `kind` is the
    name of an error class."""

    pass_index: int | None
    kind: str
    message: str


class ModelsChecked(Struct, frozen=True):
    """The result of the check of the models' files. Workers refuse a model that could not be checked here."""

    run: str
    refused: tuple[RefusedModel, ...] = ()


class PassPlan(Struct, frozen=True):
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
    light: bool = False
    """It has no model, so a worker of it starts soon and takes little memory: helpers work for it too."""
    without: str = ""
    """The error of the run if no chunk has weights in its metadata; empty: that is no error."""
    loads: str = ""
    """Identifies the model that its workers load and how. They stay for a pass of the next run with the same text; if it is
    empty, they never stay."""


class RunOpened(Struct, frozen=True):
    """The exporter holds the directory. Per pass: the committed segments."""

    run: str
    committed: tuple[frozenset[int], ...]


class RunCancelled(Struct, frozen=True):
    run: str
    reason: str


class RunFailed(Struct, frozen=True):
    """Something outside the pool makes the run impossible: a refused directory, a full disk, a lost exporter."""

    run: str
    kind: str
    message: str


class RunClosed(Struct, frozen=True):
    """The exporter has ended the run in good order, or is gone after the order to end it."""

    run: str


class ExporterLost(Struct, frozen=True):
    """The exporter died; what it had not committed is to be computed again."""

    run: str
    reason: str


class SegmentSpooled(Struct, frozen=True):
    """`tokens` are estimated, for progress. `has_weights`: a chunk of it, or of an earlier one, has weights in its metadata."""

    run: str
    segment: int
    rows: int
    tokens: int = 0
    has_weights: bool = True


class IntakeDone(Struct, frozen=True):
    run: str


class CorpusMeasured(Struct, frozen=True):
    """BM25's average length is known, for which passes with `after_intake` wait."""

    run: str


class Cut(Struct, frozen=True):
    """The smallest batch of a segment: the sorted rows from `start` to `stop`, with their estimated tokens."""

    start: int
    stop: int
    tokens: int


class SegmentCut(Struct, frozen=True):
    run: str
    pass_index: int
    segment: int
    cuts: tuple[Cut, ...]


class SegmentCommitted(Struct, frozen=True):
    run: str
    pass_index: int
    segment: int


class SegmentDamaged(Struct, frozen=True):
    """A segment of an earlier session is not as it was written, and is removed."""

    run: str
    pass_index: int
    segment: int


class Scrubbed(Struct, frozen=True):
    """Every segment of earlier sessions has been read again: those still committed are whole."""

    run: str


class WorkerHello(Struct, frozen=True):
    worker: str
    epoch: int


class WorkerStaged(Struct, frozen=True):
    worker: str
    row_bytes: int


class WorkerReady(Struct, frozen=True):
    """`most_tokens` and `most_rows` are bounds of a batch of several cuts for it; 0: batches stay as they were cut."""

    worker: str
    most_tokens: int = 0
    most_rows: int = 0


class WorkerBroken(Struct, frozen=True):
    """The model could not be staged or hydrated; `fatal` when another attempt would not help."""

    worker: str
    kind: str
    message: str
    fatal: bool


class WorkerUnfit(Struct, frozen=True):
    """A worker that stayed for this run has loaded its model in another way than it needs, for example in another dtype."""

    worker: str


class WorkerAlive(Struct, frozen=True):
    worker: str
    progress: int


class BatchDone(Struct, frozen=True):
    """`payload` is handed back in ForwardResult untouched."""

    worker: str
    epoch: int
    batch: int
    payload: Any = None


class BatchFailed(Struct, frozen=True):
    worker: str
    epoch: int
    batch: int
    reason: str


class WorkerDied(Struct, frozen=True):
    """Its process is gone, its device not free yet: the batches need not wait for that. WorkerExited follows."""

    worker: str
    reason: str
    innocent: bool = False


class WorkerExited(Struct, frozen=True):
    """`fault`: what is wrong with the device itself, which is then given up. `innocent`: it was none of the batch's doing,
    as when the host ran out of memory."""

    worker: str
    reason: str
    fault: str = ""
    innocent: bool = False
    unreleased: bool = False
    """Its memory on the device was not given back."""


class SpawnRefused(Struct, frozen=True):
    """The host could not lease the device now; try again later."""

    worker: str
    reason: str


class Tick(Struct, frozen=True):
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
    | WorkerUnfit
    | WorkerAlive
    | BatchDone
    | BatchFailed
    | WorkerDied
    | WorkerExited
    | SpawnRefused
    | Tick
)
