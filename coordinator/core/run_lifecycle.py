"""Transitions of runs: submitted, checked, opened, closed, over. The first run in the queue has the fleet.

A run is opened after the check of its models, and ends there if a model is refused.
"""

from __future__ import annotations

from .actions import CloseRun, OpenRun, RunOver, StartExporter, StartIntake
from .device_health import DeviceHealth
from .events import (
    CorpusMeasured,
    ExporterLost,
    IntakeDone,
    ModelsChecked,
    RunCancelled,
    RunClosed,
    RunFailed,
    RunOpened,
    RunSubmitted,
)
from .leasing import any_at_work
from .segments import is_complete, reset_pass
from .state import Fleet, Pass, Run, RunStatus, WorkerStage
from .workers import kill

_UNOPENED = (RunStatus.CHECKING, RunStatus.QUEUED)
"""No exporter has opened the run directory yet: the run may end at once."""


def run_submitted(fleet: Fleet, event: RunSubmitted) -> None:
    passes = [Pass(plan, given_up=plan.given_up) for plan in event.passes]
    status = RunStatus.CHECKING if event.unchecked else RunStatus.QUEUED
    run = fleet.runs[event.run] = Run(event.run, passes, status, options=event.options)
    if run is fleet.current:
        _begin(fleet, run)


def models_checked(fleet: Fleet, event: ModelsChecked) -> None:
    run = fleet.runs.get(event.run)
    if run is None or run.status is not RunStatus.CHECKING:
        return
    spared = [(run.passes[one.pass_index], one) for one in event.refused if one.pass_index is not None]
    spared = [(mine, one) for mine, one in spared if mine.plan.fallback]
    if len(spared) < len(event.refused):
        # All messages, those of passes with a fallback too: a user who mistyped two names sees both.
        messages = dict.fromkeys(one.message for one in event.refused)
        fail(fleet, run, event.refused[0].kind, "; ".join(messages))
        return
    for mine, one in spared:
        mine.broken, mine.refused = (one.kind, one.message), True
    run.status = RunStatus.QUEUED
    if run is fleet.current:
        _begin(fleet, run)


def run_opened(fleet: Fleet, event: RunOpened) -> None:
    run = fleet.runs.get(event.run)
    if run is None or run.status is not RunStatus.OPENING:
        return
    run.scrubbed = not any(event.committed)
    for pass_index, committed in enumerate(event.committed):
        reset_pass(fleet, run, pass_index, committed)
    if run.outcome:
        _close(fleet, run)
        return
    run.status = RunStatus.RUNNING
    if not run.intake_started:
        run.intake_started = True
        fleet.out.append(StartIntake(run.name))


def run_cancelled(fleet: Fleet, event: RunCancelled) -> None:
    run = fleet.runs.get(event.run)
    if run is None or run.outcome:
        return
    run.outcome, run.error = "interrupted", event.reason
    if run.status in _UNOPENED:
        _end(fleet, run)
    elif run.status is RunStatus.RUNNING:
        run.status = RunStatus.DRAINING


def run_failed(fleet: Fleet, event: RunFailed) -> None:
    run = fleet.runs.get(event.run)
    if run is not None:
        fail(fleet, run, event.kind, event.message)


def run_closed(fleet: Fleet, event: RunClosed) -> None:
    run = fleet.runs.get(event.run)
    if run is not None:
        _end(fleet, run)


def exporter_lost(fleet: Fleet, event: ExporterLost) -> None:
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
        reset_pass(fleet, run, pass_index, frozenset(one.committed))
    _begin(fleet, run)


def intake_done(fleet: Fleet, event: IntakeDone) -> None:
    run = fleet.runs.get(event.run)
    if run is not None:
        run.intake_done = True


def corpus_measured(fleet: Fleet, event: CorpusMeasured) -> None:
    run = fleet.runs.get(event.run)
    if run is not None:
        run.measured = True


def prepare_next(fleet: Fleet) -> None:
    """Start the exporter of the next run while the last segments of this one are computed."""
    run, following = fleet.current, fleet.next_run
    if run is None or following is None or run.status is not RunStatus.RUNNING:
        return
    ends_soon = run.intake_done and not any(one.uncut for one in run.passes)
    if ends_soon and following.status is RunStatus.QUEUED and not following.is_prepared:
        following.is_prepared = True
        fleet.out.append(StartExporter(following.name))


def close_if_over(fleet: Fleet) -> None:
    run = fleet.current
    if run is None:
        return
    if run.status is RunStatus.RUNNING and is_complete(run) and not any_at_work(fleet):
        run.outcome = "done"
        _close(fleet, run)
    elif run.status is RunStatus.DRAINING and not any(worker.batches for worker in fleet.workers.values()):
        _close(fleet, run)


def fail(fleet: Fleet, run: Run, kind: str, message: str) -> None:
    if run.outcome == "failed":
        return
    run.outcome, run.kind, run.error = "failed", kind, message
    if run.status in _UNOPENED:
        _end(fleet, run)
    elif run.status is not RunStatus.OPENING:
        _close(fleet, run)


def _close(fleet: Fleet, run: Run) -> None:
    """Stop the run's workers at once, but for those that stay for the next run, and let the exporter finish."""
    run.status = RunStatus.CLOSING
    _stop_workers(fleet)
    fleet.out.append(CloseRun(run.name, run.outcome, run.kind, run.error))


def _stop_workers(fleet: Fleet) -> None:
    """Kill the workers with batches, or the next run would take them for its own. `leasing.plan` releases the others."""
    for worker in fleet.workers.values():
        if worker.batches and not worker.killed:
            kill(fleet, worker, "the run is over")
            worker.batches.clear()
            worker.stage = WorkerStage.RELEASING
    fleet.batches.clear()


def _end(fleet: Fleet, run: Run) -> None:
    current = fleet.current is run
    del fleet.runs[run.name]
    for worker in fleet.workers.values():
        if worker.run == run.name:
            worker.run = ""
    if current:
        _stop_workers(fleet)
        for slot in fleet.devices.values():  # this run's failures say nothing about the next run's models
            slot.health = DeviceHealth()
    fleet.out.append(RunOver(run.name, run.outcome or "interrupted", run.kind, run.error))
    if current and fleet.current is not None:
        _begin(fleet, fleet.current)


def _begin(fleet: Fleet, run: Run) -> None:
    """Open the current run. While its models are still being checked, only start its exporter."""
    if run.status is RunStatus.CHECKING:
        fleet.out.append(StartExporter(run.name))
    else:
        run.status = RunStatus.OPENING
        fleet.out.append(OpenRun(run.name))
