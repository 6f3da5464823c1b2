"""The core: one event in, the actions it calls for out. No sockets, no clock, no randomness.

The state is in `state.py`. What changes it is in `run_lifecycle.py`, `workers.py` (hosts too), `segments.py` and `batching.py`;
who is blamed for a failure, in `verdicts.py`, `blame.py` and `device_health.py`. This file has the table of events. After
each event the same steps follow, in this order: workers are given batches, a run that has nothing left (or no device left)
is closed, devices are leased or released.
Rules that a simulation checks: no row lost, none twice, no device leased twice, and everything ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import batching, fallback, leasing, run_lifecycle, segments, workers
from .actions import Action
from .config import PoolConfig
from .events import (
    BatchDone,
    BatchFailed,
    CorpusMeasured,
    Event,
    ExporterLost,
    HostJoined,
    HostLeft,
    IntakeDone,
    ModelsChecked,
    RunCancelled,
    RunClosed,
    RunFailed,
    RunOpened,
    RunSubmitted,
    Scrubbed,
    SegmentCommitted,
    SegmentCut,
    SegmentDamaged,
    SegmentSpooled,
    SpawnRefused,
    Tick,
    WorkerAlive,
    WorkerBroken,
    WorkerDied,
    WorkerExited,
    WorkerHello,
    WorkerReady,
    WorkerStaged,
    WorkerUnfit,
)
from .state import Fleet


class Pool:
    """The state machine. `fleet` may be read by anyone and is changed only through `handle`."""

    def __init__(self, config: PoolConfig | None = None) -> None:
        self.fleet = Fleet(config or PoolConfig())

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take `event`, which happened at `now` (seconds of any steady clock); return what to do, in order."""
        fleet = self.fleet
        fleet.now = now
        fleet.out = []
        _TRANSITIONS[type(event)](fleet, event)
        batching.refill(fleet)
        fallback.fail_if_hopeless(fleet)
        if fallback.settle_fallbacks(fleet):
            batching.refill(fleet)
        run_lifecycle.prepare_next(fleet)
        run_lifecycle.close_if_over(fleet)
        leasing.plan(fleet)
        return fleet.out


_TRANSITIONS: dict[type[Any], Callable[[Fleet, Any], None]] = {
    HostJoined: workers.host_joined,
    HostLeft: workers.host_left,
    RunSubmitted: run_lifecycle.run_submitted,
    ModelsChecked: run_lifecycle.models_checked,
    RunOpened: run_lifecycle.run_opened,
    RunCancelled: run_lifecycle.run_cancelled,
    RunFailed: run_lifecycle.run_failed,
    RunClosed: run_lifecycle.run_closed,
    ExporterLost: run_lifecycle.exporter_lost,
    SegmentSpooled: segments.segment_spooled,
    IntakeDone: run_lifecycle.intake_done,
    CorpusMeasured: run_lifecycle.corpus_measured,
    SegmentCut: segments.segment_cut,
    SegmentCommitted: segments.segment_committed,
    SegmentDamaged: segments.segment_damaged,
    Scrubbed: segments.scrubbed,
    WorkerHello: workers.worker_hello,
    WorkerStaged: workers.worker_staged,
    WorkerReady: workers.worker_ready,
    WorkerBroken: fallback.worker_broken,
    WorkerUnfit: leasing.worker_unfit,
    WorkerAlive: workers.worker_alive,
    BatchDone: batching.batch_done,
    BatchFailed: batching.batch_failed,
    WorkerDied: workers.worker_died,
    WorkerExited: workers.worker_exited,
    SpawnRefused: workers.spawn_refused,
    Tick: workers.tick,
}
