"""Leases: which worker has which device, and which is staged behind it.

A device has at most one active worker, the holder of its lease, and at most one standby that loads the next model into host
memory meanwhile. A standby becomes active when the holder's process has ended. Passes go in order: a device works for the
first pass that has work for it. A worker with nothing left to do stays if the next run has a pass that loads the same: it is
staged for that pass as it is. Helpers, CPU slots of one thread beside the one with all threads, work for passes without a
model only, and start where there is more work than the other workers have begun.
"""

from __future__ import annotations

from .actions import HydrateWorker, ReleaseWorker, SpawnWorker, StageWorker
from .events import WorkerUnfit
from .segments import has_work
from .serving import is_in_doubt, is_worth_a_start, may_begin, may_serve
from .state import DeviceSlot, Fleet, Run, RunStatus, WorkerSlot, WorkerStage
from .workers import enter, kill


def plan(fleet: Fleet) -> None:
    """Move every device one step towards what the current run needs."""
    run = fleet.current
    if run is None or run.status is not RunStatus.RUNNING or is_in_doubt(run):
        for slot in fleet.devices.values():
            _vacate(fleet, slot)
        return
    unfinished = [n for n in range(len(run.passes)) if may_begin(run, n) and has_work(run, n)]
    for slot in fleet.devices.values():
        wanted = [n for n in unfinished if n not in slot.health.refused and may_serve(fleet, slot, run, n)]
        _lease(fleet, slot, run, wanted)


def worker_unfit(fleet: Fleet, event: WorkerUnfit) -> None:
    worker = fleet.workers.get(event.worker)
    if worker is not None and worker.stage is WorkerStage.STAGING:
        _dismiss(fleet, worker)


def any_at_work(fleet: Fleet) -> bool:
    """Whether a worker runs that does not stay for the next run. A killed one that does not end counts for `death_timeout`
    seconds only."""
    patience = fleet.config.death_timeout
    return any(
        not (fleet.now - worker.killed_at > patience if worker.killed else _stays(fleet, worker))
        for worker in fleet.workers.values()
    )


def _lease(fleet: Fleet, slot: DeviceSlot, run: Run, wanted: list[int]) -> None:
    """Move the device one step towards working for the first of the `wanted` passes."""
    active = fleet.workers.get(slot.active or "")
    standby = fleet.workers.get(slot.standby or "")
    if standby is not None and not standby.killed and (slot.health.bad or standby.pass_index not in wanted):
        _dismiss(fleet, standby)
    if active is None and standby is not None and wanted and standby.pass_index == wanted[0]:
        slot.active, slot.standby = slot.standby, None
        active, standby = standby, None
    if active is not None and active.run != run.name and _is_idle(active):
        _hand_over(fleet, active, run, wanted)
    if active is None:
        if wanted and slot.health.may_start(fleet.now) and is_worth_a_start(fleet, slot, run, wanted[0]):
            slot.active = _spawn(fleet, slot, run, wanted[0])
        return
    if active.stage is WorkerStage.STAGED and not active.killed:
        enter(fleet, active, WorkerStage.HYDRATING)
        fleet.out.append(HydrateWorker(active.name))
    if active.pass_index not in wanted and not active.batches and (wanted or not _stays(fleet, active)):
        _dismiss(fleet, active)
    others = [n for n in wanted if n != active.pass_index]
    idle = active.stage in (WorkerStage.READY, WorkerStage.RELEASING) and slot.standby is None
    if idle and others and slot.health.may_start(fleet.now):
        slot.standby = _spawn(fleet, slot, run, others[0])


def _vacate(fleet: Fleet, slot: DeviceSlot) -> None:
    for name in (slot.active, slot.standby):
        worker = fleet.workers.get(name or "")
        if worker is not None and not worker.batches and not _stays(fleet, worker):
            _dismiss(fleet, worker)


def _is_idle(worker: WorkerSlot) -> bool:
    """Whether the worker could compute and has nothing to do."""
    return worker.stage is WorkerStage.READY and not worker.batches and not worker.killed


def _stays(fleet: Fleet, worker: WorkerSlot) -> bool:
    """Whether the worker is idle, and a pass of the next run loads what it has loaded."""
    run, slot = fleet.next_run, fleet.devices[worker.device]
    if run is None or not worker.loads or not _is_idle(worker):
        return False
    return any(one.plan.loads == worker.loads and may_serve(fleet, slot, run, n) for n, one in enumerate(run.passes))


def _hand_over(fleet: Fleet, worker: WorkerSlot, run: Run, wanted: list[int]) -> None:
    """Stage an idle worker of an earlier run, as it is, for the first wanted pass that loads the same; if none does, release
    it."""
    same = (n for n in wanted if worker.loads and run.passes[n].plan.loads == worker.loads)
    pass_index = next(same, None)
    if pass_index is None:
        _dismiss(fleet, worker)
        return
    worker.run, worker.pass_index = run.name, pass_index
    enter(fleet, worker, WorkerStage.STAGING)
    fleet.out.append(StageWorker(worker.name, run.name, pass_index))


def _dismiss(fleet: Fleet, worker: WorkerSlot) -> None:
    """Release a ready worker; kill one that is still loading, which has nothing to finish."""
    if worker.stage is WorkerStage.RELEASING or worker.killed:
        return
    if worker.stage is WorkerStage.READY:
        fleet.out.append(ReleaseWorker(worker.name))
    else:
        kill(fleet, worker, "no longer needed")
    enter(fleet, worker, WorkerStage.RELEASING)


def _spawn(fleet: Fleet, slot: DeviceSlot, run: Run, pass_index: int) -> str:
    name = f"w{fleet.next_worker}"
    epoch = fleet.config.first_epoch + fleet.next_worker
    fleet.next_worker += 1
    plan = run.passes[pass_index].plan
    worker = WorkerSlot(name, slot.host, slot.device.uuid, run.name, pass_index, epoch, plan.loads, fleet.now)
    worker.seen = worker.began = worker.moved = fleet.now
    fleet.workers[name] = worker
    fleet.out.append(SpawnWorker(name, slot.host, slot.device.uuid, worker.epoch))
    if slot.device.auxiliary and not plan.cpu_only:
        fleet.note("cpu_fallback", vector=plan.vector, device=slot.device.name)
    return name
