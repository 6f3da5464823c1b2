"""The metadata fallback of sparse passes: when a pass is given up, and who completes its segments.

A pass with a fallback whose model fails, or whose devices are all given up, does not fail the run if a chunk has weights in its
metadata. It is given up instead: no worker computes it any more, and the exporter fills its segments from the metadata.
"""

from __future__ import annotations

from ...protocol.vectors.metadata_terms import METADATA_WEIGHTS
from .actions import FillSegment
from .device_health import DeviceHealth
from .events import WorkerBroken
from .run_lifecycle import fail
from .segments import has_work
from .serving import serving_devices
from .state import Fleet, Run, RunStatus
from .workers import kill


def worker_broken(fleet: Fleet, event: WorkerBroken) -> None:
    worker = fleet.workers.get(event.worker)
    run = fleet.runs.get(worker.run) if worker is not None else None
    if worker is None or run is None or worker.killed:
        return
    one = run.passes[worker.pass_index]
    if event.fatal and one.plan.fallback:
        one.broken = one.broken or (event.kind, event.message)
    elif event.fatal:
        fail(fleet, run, event.kind, event.message)
    else:
        kill(fleet, worker, event.message)


def fail_if_hopeless(fleet: Fleet) -> None:
    """Fail the run if all devices of a pass were given up and it has no fallback. A pass without devices waits for a host."""
    run = fleet.current
    if run is None or run.status is not RunStatus.RUNNING:
        return
    for pass_index, one in enumerate(run.passes):
        slots = serving_devices(fleet, run, pass_index) if has_work(run, pass_index) else []
        if slots and all(slot.health.given_up(pass_index) for slot in slots):
            reasons = "; ".join(f"{slot.device.name}: {slot.health.given_up(pass_index)}" for slot in slots)
            message = f"every device for {one.plan.vector} was given up: {reasons}"
            if not one.plan.fallback:
                fail(fleet, run, "RunFailed", message)
                return
            one.broken = ("RunFailed", message)
            for slot in slots:
                if slot.health.bad_for == pass_index:  # the other passes may well do on it
                    slot.health = DeviceHealth()


def settle_fallbacks(fleet: Fleet) -> bool:
    """Give up each pass whose model failed, as soon as a chunk has weights in its metadata; True if a pass was given up now.

    If no chunk has any at the end of the intake, the run fails: a mistyped model must not pass for a fallback.
    """
    run = fleet.current
    if run is None or run.status is not RunStatus.RUNNING:
        return False
    hopeless = run.intake_done and bool(run.segments) and not run.has_weights
    settled = False
    for one in run.passes:
        if one.broken is not None and run.has_weights and not one.given_up:
            one.given_up, settled = one.broken[1], True
            fleet.note("pass_given_up", vector=one.plan.vector, reason=one.given_up)
        elif hopeless and one.broken is not None:
            kind, message = one.broken
            fail(fleet, run, kind, f"{message}; and no chunk has {METADATA_WEIGHTS} that could stand in")
        elif hopeless and one.plan.without:
            fail(fleet, run, "SourceError", one.plan.without)
    return settled


def fill(fleet: Fleet, run: Run, pass_index: int) -> None:
    """Let the exporter fill the segments of a pass that is given up, each once no worker has a batch of it."""
    one = run.passes[pass_index]
    for batch_id in one.pending:
        batch = fleet.batches.pop(batch_id)
        one.open[batch.segment].outstanding.discard(batch_id)
    one.pending.clear()
    at_rest = [segment for segment, opened in one.open.items() if not opened.cutting and not opened.outstanding]
    for segment in [*at_rest, *one.uncut]:
        one.open.pop(segment, None)
        fleet.out.append(FillSegment(run.name, pass_index, segment, one.given_up))
    one.uncut.clear()
