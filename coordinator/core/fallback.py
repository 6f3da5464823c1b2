"""Passes whose model fails: given up in favour of the weights that chunks have of their own, or the run fails.

A pass with a fallback whose model fails, or whose devices all do, is given up in the run's place once a chunk with weights
of its own is known of.
"""

from __future__ import annotations

from ...protocol.vectors.metadata_terms import METADATA_WEIGHTS
from .device_health import DeviceHealth
from .events import WorkerBroken
from .run_lifecycle import fail
from .segments import has_work
from .serving import serving_devices
from .state import Fleet, RunStatus
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
    """A pass whose devices were all given up would wait forever; one that never had a device waits for a host."""
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
    """Give up a pass whose model failed, as soon as a chunk has weights of its own; True if there was one.

    Where none has at the end of the intake, nothing can stand in: a mistyped model must not pass for a fallback.
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
