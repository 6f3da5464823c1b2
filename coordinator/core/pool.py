"""The core: one event in, the actions it calls for out. No sockets, no clock, no randomness.

Everything that changes the pool's state is here, in `leasing.py` (hosts, devices, workers) and in `batching.py` (segments,
batches); this file has the runs and the table of events. After each event the same three steps follow, in this order:
workers are given batches, a run that has nothing left (or no device left) is closed, devices are leased or released.
A run whose models are being looked at is not opened before that, and ends there if one is refused.
A pass with a fallback whose model fails, or whose devices all do, is given up in the run's place once a chunk with weights
of its own is known of.
Rules that a simulation checks: no row lost, none twice, no device leased twice, and everything ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...protocol.vectors.metadata_terms import METADATA_WEIGHTS
from . import batching, leasing
from .actions import Action, CloseRun, OpenRun, RunOver, StartExporter, StartIntake
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
)
from .state import Fleet, Pass, PoolConfig, Run, RunStatus, WorkerStage

_UNOPENED = (RunStatus.CHECKING, RunStatus.QUEUED)
"""No exporter has the run's directory: it may end at once."""


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
        _fail_if_hopeless(fleet)
        if _settle_fallbacks(fleet):
            batching.refill(fleet)
        _close_if_over(fleet)
        leasing.plan(fleet)
        return fleet.out


def _run_submitted(fleet: Fleet, event: RunSubmitted) -> None:
    passes = [Pass(plan, given_up=plan.given_up) for plan in event.passes]
    status = RunStatus.CHECKING if event.unchecked else RunStatus.QUEUED
    run = fleet.runs[event.run] = Run(event.run, passes, status, options=event.options)
    if run is fleet.current:
        _begin(fleet, run)


def _models_checked(fleet: Fleet, event: ModelsChecked) -> None:
    run = fleet.runs.get(event.run)
    if run is None or run.status is not RunStatus.CHECKING:
        return
    spared = [(run.passes[one.pass_index], one) for one in event.refused if one.pass_index is not None]
    spared = [(mine, one) for mine, one in spared if mine.plan.fallback]
    if len(spared) < len(event.refused):
        # All of them, those with a fallback too: who mistyped two names wants to hear of both.
        messages = dict.fromkeys(one.message for one in event.refused)
        _fail(fleet, run, event.refused[0].kind, "; ".join(messages))
        return
    for mine, one in spared:
        mine.broken, mine.refused = (one.kind, one.message), True
    run.status = RunStatus.QUEUED
    if run is fleet.current:
        _begin(fleet, run)


def _run_opened(fleet: Fleet, event: RunOpened) -> None:
    run = fleet.runs.get(event.run)
    if run is None or run.status is not RunStatus.OPENING:
        return
    run.scrubbed = not any(event.committed)
    for pass_index, committed in enumerate(event.committed):
        batching.reset_pass(fleet, run, pass_index, committed)
    if run.outcome:
        _close(fleet, run)
        return
    run.status = RunStatus.RUNNING
    if not run.intake_started:
        run.intake_started = True
        fleet.out.append(StartIntake(run.name))


def _run_cancelled(fleet: Fleet, event: RunCancelled) -> None:
    run = fleet.runs.get(event.run)
    if run is None or run.outcome:
        return
    run.outcome, run.error = "interrupted", event.reason
    if run.status in _UNOPENED:
        _end(fleet, run)
    elif run.status is RunStatus.RUNNING:
        run.status = RunStatus.DRAINING


def _run_failed(fleet: Fleet, event: RunFailed) -> None:
    run = fleet.runs.get(event.run)
    if run is not None:
        _fail(fleet, run, event.kind, event.message)


def _run_closed(fleet: Fleet, event: RunClosed) -> None:
    run = fleet.runs.get(event.run)
    if run is not None:
        _end(fleet, run)


def _exporter_lost(fleet: Fleet, event: ExporterLost) -> None:
    run = fleet.runs.get(event.run)
    if run is None or run is not fleet.current:
        return
    fleet.note("exporter_lost", reason=event.reason)
    run.exporter_failures += 1
    if run.outcome in ("interrupted", "failed"):
        _end(fleet, run)
        return
    if run.exporter_failures >= fleet.config.exporter_failures:
        run.outcome, run.kind = "failed", "RunFailed"
        run.error = f"the exporter ended {run.exporter_failures} times: {event.reason}"
        _end(fleet, run)
        return
    run.outcome = ""
    for pass_index, one in enumerate(run.passes):
        batching.reset_pass(fleet, run, pass_index, frozenset(one.committed))
    _begin(fleet, run)


def _intake_done(fleet: Fleet, event: IntakeDone) -> None:
    run = fleet.runs.get(event.run)
    if run is not None:
        run.intake_done = True


def _corpus_measured(fleet: Fleet, event: CorpusMeasured) -> None:
    run = fleet.runs.get(event.run)
    if run is not None:
        run.measured = True


def _worker_broken(fleet: Fleet, event: WorkerBroken) -> None:
    worker = fleet.workers.get(event.worker)
    run = fleet.runs.get(worker.run) if worker is not None else None
    if worker is None or run is None or worker.killed:
        return
    one = run.passes[worker.pass_index]
    if event.fatal and one.plan.fallback:
        one.broken = one.broken or (event.kind, event.message)
    elif event.fatal:
        _fail(fleet, run, event.kind, event.message)
    else:
        leasing.kill(fleet, worker, event.message)


def _tick(fleet: Fleet, _event: Tick) -> None:
    leasing.check_deadlines(fleet)


def _fail_if_hopeless(fleet: Fleet) -> None:
    """A pass whose devices were all given up would wait forever; one that never had a device waits for a host."""
    run = fleet.current
    if run is None or run.status is not RunStatus.RUNNING:
        return
    for pass_index, one in enumerate(run.passes):
        slots = leasing.serving_devices(fleet, run, pass_index)
        if slots and all(slot.given_up(pass_index) for slot in slots) and batching.has_work(run, pass_index):
            reasons = "; ".join(f"{slot.device.name}: {slot.given_up(pass_index)}" for slot in slots)
            message = f"every device for {one.plan.vector} was given up: {reasons}"
            if not one.plan.fallback:
                _fail(fleet, run, "RunFailed", message)
                return
            one.broken = ("RunFailed", message)
            for slot in slots:
                if slot.bad_for == pass_index:  # the other passes may well do on it
                    leasing.clear_failures(slot)


def _settle_fallbacks(fleet: Fleet) -> bool:
    """Give up a pass whose model failed, as soon as a chunk has weights of its own; True if there was one.

    Where none has at the end of the intake, nothing can stand in: a mistyped model must not pass for a fallback.
    """
    run = fleet.current
    if run is None or run.status is not RunStatus.RUNNING:
        return False
    hopeless = run.intake_done and bool(run.segments) and not run.stand_ins
    settled = False
    for one in run.passes:
        if one.broken is not None and run.stand_ins and not one.given_up:
            one.given_up, settled = one.broken[1], True
            fleet.note("pass_given_up", vector=one.plan.vector, reason=one.given_up)
        elif hopeless and one.broken is not None:
            kind, message = one.broken
            _fail(fleet, run, kind, f"{message}; and no chunk has {METADATA_WEIGHTS} that could stand in")
        elif hopeless and one.plan.without:
            _fail(fleet, run, "SourceError", one.plan.without)
    return settled


def _close_if_over(fleet: Fleet) -> None:
    run = fleet.current
    if run is None:
        return
    if run.status is RunStatus.RUNNING and batching.is_complete(run) and not leasing.any_alive(fleet):
        run.outcome = "done"
        _close(fleet, run)
    elif run.status is RunStatus.DRAINING and not any(worker.batches for worker in fleet.workers.values()):
        _close(fleet, run)


def _fail(fleet: Fleet, run: Run, kind: str, message: str) -> None:
    if run.outcome == "failed":
        return
    run.outcome, run.kind, run.error = "failed", kind, message
    if run.status in _UNOPENED:
        _end(fleet, run)
    elif run.status is not RunStatus.OPENING:
        _close(fleet, run)


def _close(fleet: Fleet, run: Run) -> None:
    """Stop the run's workers at once and let the exporter finish."""
    run.status = RunStatus.CLOSING
    _stop_workers(fleet)
    fleet.out.append(CloseRun(run.name, run.outcome, run.kind, run.error))


def _stop_workers(fleet: Fleet) -> None:
    """A worker with batches must not live to be taken for one of the next run; the others are let go by `leasing.plan`."""
    for worker in fleet.workers.values():
        if worker.batches and not worker.killed:
            leasing.kill(fleet, worker, "the run is over")
            worker.batches.clear()
            worker.stage = WorkerStage.RELEASING
    fleet.batches.clear()


def _end(fleet: Fleet, run: Run) -> None:
    current = fleet.current is run
    del fleet.runs[run.name]
    if current:
        _stop_workers(fleet)
        for slot in fleet.devices.values():  # what this run's models did to a device says nothing of the next one's
            leasing.clear_failures(slot)
    fleet.out.append(RunOver(run.name, run.outcome or "interrupted", run.kind, run.error))
    if current and fleet.current is not None:
        _begin(fleet, fleet.current)


def _begin(fleet: Fleet, run: Run) -> None:
    """Open the current run. Where its models are still being checked, its exporter starts meanwhile."""
    if run.status is RunStatus.CHECKING:
        fleet.out.append(StartExporter(run.name))
    else:
        run.status = RunStatus.OPENING
        fleet.out.append(OpenRun(run.name))


_TRANSITIONS: dict[type[Any], Callable[[Fleet, Any], None]] = {
    HostJoined: leasing.host_joined,
    HostLeft: leasing.host_left,
    RunSubmitted: _run_submitted,
    ModelsChecked: _models_checked,
    RunOpened: _run_opened,
    RunCancelled: _run_cancelled,
    RunFailed: _run_failed,
    RunClosed: _run_closed,
    ExporterLost: _exporter_lost,
    SegmentSpooled: batching.segment_spooled,
    IntakeDone: _intake_done,
    CorpusMeasured: _corpus_measured,
    SegmentCut: batching.segment_cut,
    SegmentCommitted: batching.segment_committed,
    SegmentDamaged: batching.segment_damaged,
    Scrubbed: batching.scrubbed,
    WorkerHello: leasing.worker_hello,
    WorkerStaged: leasing.worker_staged,
    WorkerReady: leasing.worker_ready,
    WorkerBroken: _worker_broken,
    WorkerAlive: leasing.worker_alive,
    BatchDone: batching.batch_done,
    BatchFailed: batching.batch_failed,
    WorkerDied: leasing.worker_died,
    WorkerExited: leasing.worker_exited,
    SpawnRefused: leasing.spawn_refused,
    Tick: _tick,
}
