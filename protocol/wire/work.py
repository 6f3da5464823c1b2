"""The work link: worker ↔ coordinator. Arrays follow their message as raw frames (see `arrays.py`)."""

from __future__ import annotations

import msgspec

from ..spec.fingerprint import Fingerprint
from ..spec.run_spec import Form, PassSpec
from .arrays import ArrayHeader
from .devices import MemorySample, PerformanceSample

EXIT_STARVED = 71
"""A worker ends so where others have taken its device's memory: no batch is to blame."""


def worker_identity(worker: str, epoch: int) -> bytes:
    """A worker's identity on the link. With the epoch in it, one that comes back after its lease ended is a stranger."""
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
    """Estimated tokens in a batch that suit this encoder on this device."""
    row_bytes: int
    """Bytes of a row's result, for the cap on uncommitted results."""
    seconds: float


class Ready(msgspec.Struct, frozen=True, array_like=True, tag="ready"):
    """The model is on the device and has computed a first micro-batch."""

    placement: str
    """Where the parameters are, `cuda:0 bfloat16`, for audit."""
    memory: MemorySample
    seconds: float


class Broken(msgspec.Struct, frozen=True, array_like=True, tag="broken"):
    """The model cannot be staged or hydrated. `fatal`: no other attempt would help (missing model, refused weights)."""

    kind: str
    message: str
    fatal: bool


class Timings(msgspec.Struct, frozen=True, array_like=True):
    """Seconds of one batch in the worker. `wait` is the time that the forward pass had nothing to do before it."""

    tokenize: float
    forward: float
    wait: float


class RowError(msgspec.Struct, frozen=True, array_like=True):
    """A row of the batch (by position in it) that cannot be embedded, and why."""

    position: int
    reason: str
    output: Form | None = None
    """The one vector of a pass that the row lacks; None: it lacks all."""
    too_large: bool = False
    """It has a multivector, of more numbers than the engine takes in a point."""


class Result(msgspec.Struct, frozen=True, array_like=True, tag="result"):
    """One batch, computed. Frames follow: as `arrays` says, one row per text, in the order of the batch."""

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
    """The batch could not be computed; the worker is well and goes on."""

    batch: int
    epoch: int
    reason: str


class Alive(msgspec.Struct, frozen=True, array_like=True, tag="alive"):
    """Sent every second by the loop that sends results; `progress` counts micro-batches, so a stuck model shows."""

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
    """Last message of a worker in good order."""

    peak: MemorySample
    send_seconds: float
    """Time spent handing results to the socket, in all."""


ToCoordinator = (
    WorkerHelloMessage | Staged | Ready | Broken | Result | BatchFailedMessage | Alive | Mitigation | Released
)


class StageMessage(msgspec.Struct, frozen=True, array_like=True, tag="stage"):
    """Load this model into host memory."""

    spec: PassSpec


class Hydrate(msgspec.Struct, frozen=True, array_like=True, tag="hydrate"):
    """The device is yours: move the model there."""


class BatchMessage(msgspec.Struct, frozen=True, array_like=True, tag="batch"):
    """Rows to compute. Two frames follow: `offsets` int32 (rows+1) and `utf8` bytes."""

    batch: int
    epoch: int
    rows: int
    arrays: tuple[ArrayHeader, ...]


class Release(msgspec.Struct, frozen=True, array_like=True, tag="release"):
    """Finish what you have and leave the device."""


ToWorker = StageMessage | Hydrate | BatchMessage | Release
