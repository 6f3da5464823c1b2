"""RunRequest: the checked flags of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ....protocol.spec.run_spec import RunSpec
from ....protocol.spec.shard import Shard
from ....protocol.wire.run_options import RunOptions
from ...options.retrieval_plan import RetrievalPlan

if TYPE_CHECKING:
    from ...steps.remote_out import RemoteDirectory


@dataclass(frozen=True, slots=True)
class AfterRun:
    """The steps after the corpus is embedded."""

    retrieval: RetrievalPlan | None = None
    formats: tuple[str, ...] = ()
    """Export formats; empty for no export."""
    collection: bool = False
    """Whether to make the collection of a run in object storage, in its spool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """The checked flags. `out` is the run directory of the whole source; `notes` are lines to show first."""

    spec: RunSpec
    out: Path
    remote: RemoteDirectory | None = None
    """The directory in object storage that `out` is the spool of, if any. With `shards` or `on`, nothing of it is open yet."""
    options: RunOptions
    after: AfterRun
    devices: str | None = None
    restart: bool = False
    otlp: str | None = None
    as_json: bool = False
    grace: float
    notes: Sequence[str] = ()
    shard: Shard | None = None
    """The one part to embed; None: all of the source."""
    shards: int | None = None
    """The number of parts to embed one after another; None: the source is not divided."""
    on: Literal["ray"] | None = None
    """The engine that runs the shards on other hosts; None: this host runs them all."""
    ray_address: str | None = None
