"""The control link: client ↔ coordinator. Written as maps, so that any MessagePack library can speak it.

Every request carries a number, and its answer the same number. A watcher gets a `progress` message about twice a second,
and one `run_ended`.
"""

from __future__ import annotations

import msgspec

from ..run_directory.truncation import Truncation
from ..spec.run_spec import PassSpec, RunSpec
from .run_options import RunOptions


class ClientHello(msgspec.Struct, frozen=True, tag="hello"):
    """First message of a client. Answered by Welcome, or by Refused where the versions differ."""

    request: int
    protocol: int
    build: str


class Submit(msgspec.Struct, frozen=True, tag="submit"):
    """Queue a run. `out` is an absolute folder on the coordinator's host. Answered by Accepted or Refused."""

    request: int
    spec: RunSpec
    out: str
    restart: bool = False
    options: RunOptions = RunOptions()
    later: tuple[PassSpec, ...] = ()
    """Passes of runs that the same command will submit next: their models are checked together with this run's."""
    traceparent: str = ""
    """The parent of the run's span, in the format of W3C's `traceparent` header; empty: the run begins a trace."""


class Watch(msgspec.Struct, frozen=True, tag="watch"):
    """Send me the progress and the end of this run."""

    request: int
    run: str


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Finish what is in flight, commit it, and stop; the run can be resumed. Answered by Accepted or Refused."""

    request: int
    run: str


class GetStatus(msgspec.Struct, frozen=True, tag="get_status"):
    """What the fleet is doing. Answered by Status."""

    request: int


class StageDone(msgspec.Struct, frozen=True, kw_only=True, tag="stage_done"):
    """A step of the client's command is over; record it as a span. Answered by Accepted, with an empty `run`."""

    request: int
    name: str
    begin: float
    end: float
    """Unix time, in seconds."""
    fields: dict[str, int | float | str] = {}
    """Attributes of the span: counts, bytes, seconds."""
    error: str = ""
    """Why the step failed; empty if it did not."""
    traceparent: str = ""
    """The parent of the span."""


ToCoordinator = ClientHello | Submit | Watch | Cancel | GetStatus | StageDone


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    request: int
    protocol: int
    build: str


class Accepted(msgspec.Struct, frozen=True, omit_defaults=True, tag="accepted"):
    request: int
    run: str
    traceparent: str = ""
    """The span of a run that was submitted, as parent for the command's next steps; empty without tracing."""


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """`kind` is the name of an error class of `errors.py`."""

    request: int
    kind: str
    message: str


class PassProgress(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One pass now. Rates are averages over the time that the pass has worked in this session."""

    vector: str
    model: str
    rows_done: int
    """Rows whose results have come back, committed ones of earlier sessions included."""
    rows_committed: int
    rows_per_second: float
    tokens_per_second: float
    share_done: float
    """Part of the work that is done, 0 to 1, by estimated tokens: batches go longest first, so rows come late."""
    seconds_left: float | None
    """Estimated from `share_done`, for the rows read so far; None before the first result."""
    devices: tuple[str, ...]
    in_flight: int
    state: str
    """`waiting`, `staging`, `working` or `done`."""
    doing: str = ""
    """What it waits for, or what its worker does before it computes; empty while it computes, and at its end."""


class Progress(msgspec.Struct, frozen=True, kw_only=True, tag="progress"):
    run: str
    status: str
    rows: int
    """Rows read from the source so far."""
    intake_done: bool
    rejected: int
    passes: tuple[PassProgress, ...]
    notices: tuple[str, ...] = ()
    """Lines for people since the last message."""


class PassSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One pass of an ended run. `padding` is the share of padding in the tokens computed."""

    vector: str
    model: str
    device: str
    chunks: int
    """Committed rows, from the model, from metadata or from an earlier session."""
    chunks_per_second: float
    tokens_per_second: float
    padding: float
    rotation_gap_seconds: float | None
    """From the last result of the pass before on a device to the first batch of this one; None for the first pass."""
    computed: int = 0
    """Rows computed in this session; the others were committed before."""
    seconds: float = 0.0
    """From the first batch to the last result."""
    batches: int = 0
    peak_bytes: int = 0
    """The most that a worker held: reserved by torch on a GPU, resident memory on a CPU."""
    gpu_peak_bytes: int = 0
    """The most that was in use on a GPU by NVML's samples, other tenants included; 0 on a CPU."""
    coverage: float | None = None
    """Part of the run's rows that have their vector, 0 to 1; None where it was not counted."""
    dtype: str = ""
    placement: str = ""
    """Where the parameters were, `cuda:0 bfloat16`; empty where nothing was computed."""
    batch_seconds: dict[str, float] = {}
    """`p50`, `p95` and others: tokenizing and computing one batch in this session; empty where nothing was computed."""
    weights: str = ""
    """For a sparse pass that uses metadata weights: how many rows have which weights, as text."""
    truncation: Truncation | None = None
    """Truncation of all committed rows; None if it was not counted, or texts may have any length."""
    max_tokens: int = 0
    """The limit in tokens at which texts were cut; 0 if it is not known."""
    earlier: int = 0
    """How many of `chunks` earlier sessions committed."""
    uncommitted: int = 0
    """How many rows of `computed` are in segments that were not complete at the end, and are computed again."""


class RunEnded(msgspec.Struct, frozen=True, kw_only=True, tag="run_ended"):
    """`status` is `done`, `interrupted` or `failed`; `error` says why it failed, `kind` the class in `errors.py`."""

    run: str
    status: str
    chunks: int
    committed: int
    quarantined: int
    skipped_duplicates: int
    seconds: float
    passes: tuple[PassSummary, ...]
    kind: str = ""
    error: str = ""
    notes: dict[str, int] = {}
    """Records for each note of the intake (`intake_notes.py`), if the source was read to its end."""


class RunState(msgspec.Struct, frozen=True, kw_only=True):
    run: str
    status: str
    out: str


class DeviceState(msgspec.Struct, frozen=True, kw_only=True):
    uuid: str
    name: str
    host: str
    working: str
    """The vector that the device works on; empty when idle."""
    bad: str
    """Why the device was given up; empty when it is well."""


class Status(msgspec.Struct, frozen=True, kw_only=True, tag="status"):
    request: int
    runs: tuple[RunState, ...]
    devices: tuple[DeviceState, ...]


ToClient = Welcome | Accepted | Refused | Progress | RunEnded | Status
