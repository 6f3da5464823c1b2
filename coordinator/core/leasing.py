"""Transitions of hosts, devices and workers: who leases which device, who is staged behind, who is given up.

A device has at most one active worker, the holder of its lease, and at most one standby that loads the next model into host
memory meanwhile. A standby becomes active when the holder's process has ended. Passes go in order: a device works for the
first pass that has work for it.
"""

from __future__ import annotations

from . import batching
from .actions import HydrateWorker, KillWorker, ReleaseWorker, SpawnWorker, StageWorker
from .batching import has_work, take_back
from .events import (
    HostJoined,
    HostLeft,
    SpawnRefused,
    WorkerAlive,
    WorkerDied,
    WorkerExited,
    WorkerHello,
    WorkerReady,
    WorkerStaged,
)
from .state import DeviceSlot, Fleet, Run, RunStatus, WorkerSlot, WorkerStage

RETRY_LEASE_SECONDS = 1.0


def host_joined(fleet: Fleet, event: HostJoined) -> None:
    for device in event.devices:
        known = fleet.devices.get(device.uuid)
        if known is None or known.host != event.host:  # of an agent that was started again: the other one is gone
            _evict(fleet, device.uuid)
            fleet.devices[device.uuid] = DeviceSlot(device, event.host)
    fleet.note("host_joined", host=event.host, devices=[device.name for device in event.devices])


def host_left(fleet: Fleet, event: HostLeft) -> None:
    fleet.note("host_left", host=event.host, reason=event.reason)
    # The workers before the devices: whoever finds a worker finds its device too.
    for worker in [one for one in fleet.workers.values() if one.host == event.host]:
        _forget(fleet, worker)
        take_back(fleet, worker, blamed="")
    for uuid in [uuid for uuid, slot in fleet.devices.items() if slot.host == event.host]:
        del fleet.devices[uuid]


def _evict(fleet: Fleet, uuid: str) -> None:
    """End the device's workers and take their batches back; nobody is blamed."""
    for worker in [one for one in fleet.workers.values() if one.device == uuid]:
        fleet.out.append(KillWorker(worker.name, worker.host))
        _forget(fleet, worker)
        take_back(fleet, worker, blamed="")


def worker_hello(fleet: Fleet, event: WorkerHello) -> None:
    worker = fleet.workers.get(event.worker)
    if worker is None or worker.epoch != event.epoch or worker.stage is not WorkerStage.SPAWNED:
        return
    _enter(fleet, worker, WorkerStage.STAGING)
    fleet.out.append(StageWorker(worker.name, worker.run, worker.pass_index))


def worker_staged(fleet: Fleet, event: WorkerStaged) -> None:
    worker = fleet.workers.get(event.worker)
    if worker is None or worker.stage is not WorkerStage.STAGING:
        return
    _enter(fleet, worker, WorkerStage.STAGED)
    run = fleet.runs.get(worker.run)
    if run is not None:
        run.passes[worker.pass_index].row_bytes = event.row_bytes


def worker_ready(fleet: Fleet, event: WorkerReady) -> None:
    worker = fleet.workers.get(event.worker)
    if worker is not None and worker.stage is WorkerStage.HYDRATING:
        _enter(fleet, worker, WorkerStage.READY)
        fleet.devices[worker.device].loading.pop(worker.pass_index, None)


def worker_alive(fleet: Fleet, event: WorkerAlive) -> None:
    worker = fleet.workers.get(event.worker)
    if worker is None:
        return
    worker.seen = fleet.now
    if event.progress != worker.progress:
        worker.progress = event.progress
        worker.moved = fleet.now


def worker_died(fleet: Fleet, event: WorkerDied) -> None:
    worker = fleet.workers.get(event.worker)
    if worker is None or worker.died or (worker.stage is WorkerStage.RELEASING and not worker.batches):
        return
    worker.died = True
    if not worker.killed:
        worker.killed, worker.killed_at = event.reason, fleet.now
    worker.suspected = _take_back(fleet, worker, event.innocent)


def worker_exited(fleet: Fleet, event: WorkerExited) -> None:
    worker = fleet.workers.get(event.worker)
    if worker is None:
        return
    expected = worker.stage is WorkerStage.RELEASING and not worker.batches and not worker.died
    reason = worker.killed = worker.killed or event.reason
    unreleased = "its device's memory was not given back" if event.unreleased else ""
    if unreleased:
        reason += f"; {unreleased}"
    _forget(fleet, worker)
    suspected = worker.suspected or _take_back(fleet, worker, event.innocent or bool(event.fault))
    slot = fleet.devices[worker.device]
    run = fleet.runs.get(worker.run)
    if run is not None and event.fault:  # of one that was released too: the next one is not to be sent there
        _mark_bad(fleet, slot, event.fault)
    elif expected and unreleased:
        _count_failure(fleet, slot, unreleased, worker.pass_index)
    if expected or run is None or run.status is RunStatus.CLOSING:
        return
    lost = {"worker": worker.name, "device": slot.device.name, "reason": reason, "batches": worker.rework}
    fleet.note("worker_lost", **lost)
    slot.losses += 1
    if event.fault:
        return
    if slot.losses >= fleet.config.device_losses:
        last = f"{slot.losses} workers in a row ended without a result, the last one: {reason}"
        _mark_bad(fleet, slot, last, worker.pass_index)
    elif worker.stage not in (WorkerStage.READY, WorkerStage.RELEASING) and event.innocent and slot.active is not None:
        _pause(fleet, slot, slot.losses)  # it was staged behind another, which has the memory that it wanted
    elif worker.stage not in (WorkerStage.READY, WorkerStage.RELEASING):
        _count_load(fleet, slot, reason, worker.pass_index)
        if unreleased:
            _count_failure(fleet, slot, reason, worker.pass_index)
    elif batching.computes_nothing(fleet, run, worker.pass_index, worker.device):
        _mark_bad(
            fleet,
            slot,
            f"every worker ended at the first batch that it was given, the last one: {reason}",
            worker.pass_index,
        )
    elif not suspected:
        _count_failure(fleet, slot, reason, worker.pass_index)
        slot.strain += not event.innocent
        if slot.strain >= fleet.config.device_strain and not slot.bad:
            _mark_bad(fleet, slot, f"its workers end again and again, the last one: {reason}", worker.pass_index)


def _take_back(fleet: Fleet, worker: WorkerSlot, innocent: bool) -> bool:
    computing = worker.stage in (WorkerStage.READY, WorkerStage.RELEASING)
    run = fleet.runs.get(worker.run)
    slots = serving_devices(fleet, run, worker.pass_index) if run is not None else []
    serving = [slot.device.uuid for slot in slots if not slot.given_up(worker.pass_index)]
    return take_back(fleet, worker, worker.killed if computing and not innocent else "", serving)


def spawn_refused(fleet: Fleet, event: SpawnRefused) -> None:
    worker = fleet.workers.get(event.worker)
    if worker is None:
        return
    _forget(fleet, worker)
    slot = fleet.devices[worker.device]
    slot.not_before = fleet.now + RETRY_LEASE_SECONDS
    if slot.waiting != event.reason:
        slot.waiting = event.reason
        fleet.note("lease_waiting", device=slot.device.name, reason=event.reason)


def plan(fleet: Fleet) -> None:
    """Bring every device closer to what the current run wants of it."""
    run = fleet.current
    working = run is not None and run.status is RunStatus.RUNNING and not _is_in_doubt(run)
    for slot in fleet.devices.values():
        if working and run is not None:
            _lease(fleet, slot, run)
        else:
            _vacate(fleet, slot)


def check_deadlines(fleet: Fleet) -> None:
    """Kill workers that are silent, or stuck in a stage or a batch for too long."""
    for worker in list(fleet.workers.values()):
        if worker.killed and fleet.now - worker.killed_at > fleet.config.death_timeout:
            _write_off(fleet, worker)
            continue
        overdue = _overdue(fleet, worker)
        if overdue and not worker.killed:
            kill(fleet, worker, overdue)


def kill(fleet: Fleet, worker: WorkerSlot, reason: str) -> None:
    """End a worker now; its host will report the exit."""
    worker.killed, worker.killed_at = reason, fleet.now
    fleet.out.append(KillWorker(worker.name, worker.host))


def any_alive(fleet: Fleet) -> bool:
    """Whether a worker has yet to end; one that was killed and does not end is not waited for."""
    patience = fleet.config.death_timeout
    return any(not worker.killed or fleet.now - worker.killed_at <= patience for worker in fleet.workers.values())


def serving_devices(fleet: Fleet, run: Run, pass_index: int) -> list[DeviceSlot]:
    """Devices that may work for the pass, those given up among them."""
    return [slot for slot in fleet.devices.values() if _may_serve(fleet, slot, run, pass_index)]


def clear_failures(slot: DeviceSlot) -> None:
    """What other models did to a device says nothing of the next one's."""
    slot.bad, slot.bad_for, slot.failures, slot.losses, slot.strain, slot.not_before = "", None, 0, 0, 0.0, 0.0
    slot.loading.clear()
    slot.refused.clear()


def _lease(fleet: Fleet, slot: DeviceSlot, run: Run) -> None:
    wanted = [
        n
        for n in range(len(run.passes))
        if n not in slot.refused and _may_serve(fleet, slot, run, n) and _may_begin(run, n) and has_work(run, n)
    ]
    active = fleet.workers.get(slot.active or "")
    standby = fleet.workers.get(slot.standby or "")
    if standby is not None and not standby.killed and (slot.bad or standby.pass_index not in wanted):
        _dismiss(fleet, standby)
    if active is None and standby is not None and wanted and standby.pass_index == wanted[0]:
        slot.active, slot.standby = slot.standby, None
        active, standby = standby, None
    if active is None:
        if wanted and not slot.bad and fleet.now >= slot.not_before:
            slot.active = _spawn(fleet, slot, run, wanted[0])
        return
    if active.stage is WorkerStage.STAGED and not active.killed:
        _enter(fleet, active, WorkerStage.HYDRATING)
        fleet.out.append(HydrateWorker(active.name))
    if active.pass_index not in wanted and not active.batches:
        _dismiss(fleet, active)
    others = [n for n in wanted if n != active.pass_index]
    idle = active.stage in (WorkerStage.READY, WorkerStage.RELEASING) and slot.standby is None
    if idle and others and not slot.bad and fleet.now >= slot.not_before:
        slot.standby = _spawn(fleet, slot, run, others[0])


def _vacate(fleet: Fleet, slot: DeviceSlot) -> None:
    for name in (slot.active, slot.standby):
        worker = fleet.workers.get(name or "")
        if worker is not None and not worker.batches:
            _dismiss(fleet, worker)


def _dismiss(fleet: Fleet, worker: WorkerSlot) -> None:
    """Let a ready worker leave in good order; one that is still loading has nothing to finish."""
    if worker.stage is WorkerStage.RELEASING or worker.killed:
        return
    if worker.stage is WorkerStage.READY:
        fleet.out.append(ReleaseWorker(worker.name))
    else:
        kill(fleet, worker, "no longer needed")
    _enter(fleet, worker, WorkerStage.RELEASING)


def _spawn(fleet: Fleet, slot: DeviceSlot, run: Run, pass_index: int) -> str:
    name = f"w{fleet.next_worker}"
    epoch = fleet.config.first_epoch + fleet.next_worker
    fleet.next_worker += 1
    worker = WorkerSlot(name, slot.host, slot.device.uuid, run.name, pass_index, epoch, fleet.now)
    worker.seen = worker.moved = fleet.now
    fleet.workers[name] = worker
    fleet.out.append(SpawnWorker(name, slot.host, slot.device.uuid, worker.epoch))
    plan = run.passes[pass_index].plan
    if slot.device.auxiliary and not plan.cpu_only:
        fleet.note("cpu_fallback", vector=plan.vector, device=slot.device.name)
    return name


def _enter(fleet: Fleet, worker: WorkerSlot, stage: WorkerStage) -> None:
    worker.stage = stage
    worker.since = worker.seen = fleet.now


def _forget(fleet: Fleet, worker: WorkerSlot) -> None:
    del fleet.workers[worker.name]
    slot = fleet.devices[worker.device]
    if slot.active == worker.name:
        slot.active = None
    if slot.standby == worker.name:
        slot.standby = None


def _count_failure(fleet: Fleet, slot: DeviceSlot, reason: str, pass_index: int) -> None:
    slot.failures += 1
    _pause(fleet, slot, slot.failures)
    if slot.failures >= fleet.config.device_failures:
        _mark_bad(fleet, slot, reason, pass_index)


def _count_load(fleet: Fleet, slot: DeviceSlot, reason: str, pass_index: int) -> None:
    """A model that does not get ready says nothing of the others, nor does one that works say anything of it."""
    slot.loading[pass_index] = slot.loading.get(pass_index, 0) + 1
    _pause(fleet, slot, slot.loading[pass_index])
    if slot.loading[pass_index] >= fleet.config.device_failures and not slot.given_up(pass_index):
        slot.refused[pass_index] = reason
        fleet.note("device_bad", device=slot.device.name, failures=slot.loading[pass_index], reason=reason)


def _pause(fleet: Fleet, slot: DeviceSlot, failures: int) -> None:
    slot.not_before = fleet.now + min(fleet.config.backoff * 2 ** (failures - 1), fleet.config.max_backoff)


def _mark_bad(fleet: Fleet, slot: DeviceSlot, reason: str, pass_index: int | None = None) -> None:
    slot.bad, slot.bad_for = reason, pass_index
    fleet.note("device_bad", device=slot.device.name, failures=max(slot.failures, slot.losses), reason=reason)


def _write_off(fleet: Fleet, worker: WorkerSlot) -> None:
    """A killed worker does not end: its batches go to others (epochs fence what it may yet say), its device is given up."""
    slot = fleet.devices[worker.device]
    if worker.batches:
        _take_back(fleet, worker, innocent=False)
    if not slot.bad:
        _mark_bad(fleet, slot, f"a killed worker does not end ({worker.killed})")


def _is_in_doubt(run: Run) -> bool:
    """Whether a model was refused that only weights in the chunks can stand in for, and none has been seen yet.

    Without them the run fails at the end of the intake: what other models compute until then would be waited for in vain.
    """
    return not run.intake_done and any(one.refused and not one.given_up for one in run.passes)


def _may_begin(run: Run, pass_index: int) -> bool:
    return run.measured or not run.passes[pass_index].plan.after_intake


def _may_serve(fleet: Fleet, slot: DeviceSlot, run: Run, pass_index: int) -> bool:
    plan = run.passes[pass_index].plan
    if plan.cpu_only or plan.gpu_only:
        return slot.device.kind == ("cpu" if plan.cpu_only else "cuda")
    return not slot.device.auxiliary or (run.options.cpu_fallback and _gpus_are_given_up(fleet, pass_index))


def _gpus_are_given_up(fleet: Fleet, pass_index: int) -> bool:
    working = [slot for slot in fleet.devices.values() if not slot.device.auxiliary]
    return bool(working) and all(slot.given_up(pass_index) for slot in working)


def _overdue(fleet: Fleet, worker: WorkerSlot) -> str:
    config, now = fleet.config, fleet.now
    run = fleet.runs.get(worker.run)
    loading = run.options.load_timeout if run is not None else None
    limits = {
        WorkerStage.SPAWNED: config.hello_timeout,
        WorkerStage.STAGING: config.stage_timeout if loading is None else loading,
        WorkerStage.HYDRATING: config.hydrate_timeout if loading is None else loading,
        WorkerStage.RELEASING: config.release_timeout,
    }
    limit = limits.get(worker.stage)
    if limit is not None and now - worker.since > limit:
        return f"still {worker.stage.value} after {limit:.0f} s"
    loads = worker.stage in (WorkerStage.STAGING, WorkerStage.HYDRATING)
    patience = config.loading_silence if loads else config.silence_timeout
    if worker.stage is not WorkerStage.SPAWNED and now - worker.seen > patience:
        return f"silent for {patience:.0f} s"
    if worker.stage is WorkerStage.READY and worker.batches:
        allowed = _batch_allowance(fleet, worker)
        if now - worker.moved > allowed:
            return f"no progress on a batch for {allowed:.3g} s"
    return ""


def _batch_allowance(fleet: Fleet, worker: WorkerSlot) -> float:
    batch = fleet.batches.get(worker.batches[0])
    run = fleet.runs.get(worker.run)
    if run is not None and run.options.batch_timeout is not None:
        return run.options.batch_timeout
    if batch is None or run is None or run.passes[worker.pass_index].seconds_per_token == 0:
        return fleet.config.first_batch_timeout
    allowed = fleet.config.batch_slowdown * batch.tokens * run.passes[worker.pass_index].seconds_per_token
    # One late result must not let the next stuck batch wait for hours.
    return max(fleet.config.batch_timeout, min(allowed, fleet.config.first_batch_timeout))
