"""The work link: worker ↔ coordinator. Arrays follow their message as raw frames (see `arrays.py`)."""

from __future__ import annotations

import msgspec

from ..spec.fingerprint import Fingerprint
from ..spec.run_spec import Form, PassSpec
from .arrays import ArrayHeader
from .devices import MemorySample, PerformanceSample

EXIT_STARVED = 71
"""Exit code of a worker whose device's memory other processes have taken: no batch is to blame."""


def worker_identity(worker: str, epoch: int) -> bytes:
    """A worker's identity on the link. It has the epoch, so that a worker whose lease has ended is not recognised."""
    return f"{worker}.{epoch}".encode()


class WorkerHelloMessage(msgspec.Struct, frozen=True, array_like=True, tag="worker_hello"):
    """The process is up and pinned; nothing heavy is imported yet."""

    protocol: int
    build: str
    epoch: int
    pid: int


class Staged(msgspec.Struct, frozen=True, array_like=True, tag="staged"):
    """The weights are in host memory."""

    fingerprint: Fingerprint
    batch_tokens: int
    """A usual size of a batch for this encoder on this device, in estimated tokens. The coordinator goes from a sixteenth of it
    to sixteen times as many, by the speed that it measures."""
    row_bytes: int
    """Estimated bytes of a row's result. The coordinator limits uncommitted results by it."""
    seconds: float


class Ready(msgspec.Struct, frozen=True, array_like=True, tag="ready"):
    """The model is on the device and has computed a first micro-batch."""

    placement: str
    """Where the parameters are and what computes them, for audit: `cpu float32, torch-packed (…)`."""
    memory: MemorySample
    seconds: float
    notes: tuple[str, ...] = ()
    """Lines for people on the choice of what computes the pass."""
    fixed_batches: bool = False
    """A row's last bits depend on the rows that it is padded with, and are the same in every run: a batch must not depend on
    the measured speed."""


class Broken(msgspec.Struct, frozen=True, array_like=True, tag="broken"):
    """The model cannot be staged or hydrated. `fatal`: another attempt would fail too (missing model, refused weights)."""

    kind: str
    message: str
    fatal: bool


class Unfit(msgspec.Struct, frozen=True, array_like=True, tag="unfit"):
    """The worker stayed for another run, but has not loaded what this run's pass needs."""


class Timings(msgspec.Struct, frozen=True, array_like=True):
    """Seconds of one batch in the worker. `wait`: how long the forward pass was idle before it. `send`: how long it took to
    hand the result before it to the socket."""

    tokenize: float
    forward: float
    wait: float
    send: float = 0.0


class RowError(msgspec.Struct, frozen=True, array_like=True):
    """A row that cannot be embedded, by its position in the batch, and why."""

    position: int
    reason: str
    output: Form | None = None
    """The form of the vector that is missing; None: all of the pass's vectors are."""
    too_large: bool = False
    """Whether the reason is a multivector with more numbers than the engine takes in a point."""


class Result(msgspec.Struct, frozen=True, array_like=True, tag="result"):
    """A computed batch. The frames of `arrays` follow, one row per text, in the order of the batch."""

    batch: int
    epoch: int
    tokens: int
    """Tokens of the texts, special ones included."""
    padded: int
    """Tokens computed, padding included."""
    timings: Timings
    arrays: tuple[ArrayHeader, ...]
    errors: tuple[RowError, ...] = ()


class BatchFailedMessage(msgspec.Struct, frozen=True, array_like=True, tag="batch_failed"):
    """The batch could not be computed; the worker goes on."""

    batch: int
    epoch: int
    reason: str


class Alive(msgspec.Struct, frozen=True, array_like=True, tag="alive"):
    """Sent every second by the loop that sends results. `progress` counts micro-batches: it stops if the model hangs."""

    epoch: int
    progress: int
    resident: int
    """Resident memory of the process, in bytes."""
    performance: PerformanceSample | None = None


class Mitigation(msgspec.Struct, frozen=True, array_like=True, tag="mitigation"):
    """The micro-batch budget was changed."""

    reason: str
    tokens_before: int
    tokens_after: int


class Released(msgspec.Struct, frozen=True, array_like=True, tag="released"):
    """Last message of a worker that was released."""

    peak: MemorySample


ToCoordinator = (
    WorkerHelloMessage | Staged | Ready | Broken | Unfit | Result | BatchFailedMessage | Alive | Mitigation | Released
)


class StageMessage(msgspec.Struct, frozen=True, array_like=True, tag="stage"):
    """Load this model into host memory. A worker that has loaded it for an earlier run answers at once."""

    spec: PassSpec


class Hydrate(msgspec.Struct, frozen=True, array_like=True, tag="hydrate"):
    """The device is free: move the model there."""


class BatchMessage(msgspec.Struct, frozen=True, array_like=True, tag="batch"):
    """Rows to compute. Two frames follow: `offsets` int32 (rows+1) and `utf8` bytes."""

    batch: int
    epoch: int
    rows: int
    arrays: tuple[ArrayHeader, ...]


class Release(msgspec.Struct, frozen=True, array_like=True, tag="release"):
    """Finish the batches in flight and exit."""


ToWorker = StageMessage | Hydrate | BatchMessage | Release
