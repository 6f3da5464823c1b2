"""The work link: worker ↔ coordinator. Arrays follow their message as raw frames (see `arrays.py`)."""

from __future__ import annotations

import hashlib

import msgspec

from ..spec.run_spec import Form, PassSpec
from .arrays import ArrayHeader
from .devices import MemorySample, PerformanceSample
from .model_refusal import changed_files

EXIT_STARVED = 71
"""A worker ends so where others have taken its device's memory: no batch is to blame."""


def worker_identity(worker: str, epoch: int) -> bytes:
    """A worker's identity on the link. With the epoch in it, one that comes back after its lease ended is a stranger."""
    return f"{worker}.{epoch}".encode()


class WorkerHello(msgspec.Struct, frozen=True, array_like=True, tag="worker_hello"):
    """The process is up and pinned; nothing heavy is imported yet."""

    protocol: int
    build: str
    epoch: int
    pid: int


class Fingerprint(msgspec.Struct, frozen=True, kw_only=True):
    """What makes two passes produce the same numbers. Kept in `pass.json`; a resume that differs is refused."""

    model: str
    """The hub id, folder name or fake spec: where the weights came from, without the machine's paths."""
    revision: str
    weights: str
    """SHA-256 over the weight files' names and contents; empty for an encoder without weights."""
    dtype: str
    max_tokens: int
    prompt: str
    pooling: str
    dim: int
    """Dimensions of a dense vector; 0 for sparse ones."""
    normalized: bool
    settings: dict[str, float] = {}
    """Of BM25: k, b and the average length; of an ensemble: the members' shares, and the seed of its projection."""
    token_dim: int = 0
    """Dimensions of a token's vector, where a pass has both dense vectors and multivectors."""
    versions: dict[str, str]
    """Of the libraries that computed it: recorded, not compared."""
    files: dict[str, str] = {}
    """A digest for each file that decides the model's numbers, by its path (`worker/models/identity.py`). Compared if both
    sides have them: 0.1.0 wrote none."""
    similarity: str = ""
    """How the model itself compares its vectors, if not by the cosine: recorded, not compared."""
    weights_before: str = ""
    """The hash of the weights as 0.1.0 made it, if it differs. A run that recorded this hash has the same model."""
    assumed: str = ""
    """What was assumed because the model's files do not say it, as sentence-transformers assumes it: recorded, not compared."""

    def dim_of(self, form: Form) -> int:
        """Dimensions of the vectors of one form; 0 where they have none of their own."""
        match form:
            case "dense":
                return self.dim
            case "multivector":
                return self.token_dim or self.dim
            case _:
                return 0

    def differences(self, other: Fingerprint) -> list[str]:
        """The fields in which `other` would give other numbers, each as `field: other → ours`; for files, only their paths."""
        found = [
            f"{name}: {getattr(other, name)!r} → {getattr(self, name)!r}"
            for name in self._compared()
            if getattr(self, name) != getattr(other, name) and not (name == "weights" and self.same_weights(other))
        ]
        paths = changed_files(other.files, self.files)
        return found + ([f"changed files: {', '.join(paths)}"] if paths else [])

    def same_weights(self, other: Fingerprint) -> bool:
        """Whether `other` has the same weights."""
        return other.weights in (self.weights, self.weights_before or self.weights)

    def digest(self) -> str:
        """A short name for what decides the numbers: BLAKE2b-64 of the compared fields and, after a dot, of the files."""
        parts = [{name: getattr(self, name) for name in self._compared()}, *([self.files] if self.files else [])]
        return ".".join(
            hashlib.blake2b(msgspec.json.encode(one, order="sorted"), digest_size=8).hexdigest() for one in parts
        )

    def _compared(self) -> list[str]:
        """Without the versions; and weights that hash the same are the same model under any name and revision."""
        skipped = {"versions", "revision", "files", "similarity", "assumed", "weights_before"} | (
            {"model"} if self.weights else set()
        )
        return [name for name in self.__struct_fields__ if name not in skipped]


def same_digest(one: str, other: str) -> bool:
    """Whether two digests of fingerprints agree in the parts that both have: one of 0.1.0 has no part for the files."""
    return all(mine == theirs for mine, theirs in zip(one.split("."), other.split("."), strict=False))


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


class BatchFailed(msgspec.Struct, frozen=True, array_like=True, tag="batch_failed"):
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


ToCoordinator = WorkerHello | Staged | Ready | Broken | Result | BatchFailed | Alive | Mitigation | Released


class Stage(msgspec.Struct, frozen=True, array_like=True, tag="stage"):
    """Load this model into host memory."""

    spec: PassSpec


class Hydrate(msgspec.Struct, frozen=True, array_like=True, tag="hydrate"):
    """The device is yours: move the model there."""


class Batch(msgspec.Struct, frozen=True, array_like=True, tag="batch"):
    """Rows to compute. Two frames follow: `offsets` int32 (rows+1) and `utf8` bytes."""

    batch: int
    epoch: int
    rows: int
    arrays: tuple[ArrayHeader, ...]


class Release(msgspec.Struct, frozen=True, array_like=True, tag="release"):
    """Finish what you have and leave the device."""


ToWorker = Stage | Hydrate | Batch | Release
