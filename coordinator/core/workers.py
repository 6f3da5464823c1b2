"""Transitions of hosts and workers, from a worker's start to its end, and who is blamed for the end.

A silent or stuck worker is killed. If it does not end, its device is given up.
"""

from __future__ import annotations

from . import blame
from .actions import KillWorker, StageWorker
from .events import (
    HostJoined,
    HostLeft,
    SpawnRefused,
    Tick,
    WorkerAlive,
    WorkerDied,
    WorkerExited,
    WorkerHello,
    WorkerReady,
    WorkerStaged,
)
from .state import DeviceSlot, Fleet, RunStatus, WorkerSlot, WorkerStage
from .verdicts import Incident

RETRY_LEASE_SECONDS = 1.0
NOT_GIVEN_BACK = "its device's memory was not given back"


def host_joined(fleet: Fleet, event: HostJoined) -> None:
    for device in event.devices:
        known = fleet.devices.get(device.uuid)
        if known is None or known.host != event.host:  # from a restarted agent: the earlier one is gone
            _evict(fleet, device.uuid)
            fleet.devices[device.uuid] = DeviceSlot(device, event.host)
    named = [device.name for device in event.devices if not device.helper]
    fleet.note("host_joined", host=event.host, devices=named)


def host_left(fleet: Fleet, event: HostLeft) -> None:
    fleet.note("host_left", host=event.host, reason=event.reason)
    # Workers before devices: a worker in the fleet always has its device there.
    for worker in [one for one in fleet.workers.values() if one.host == event.host]:
        _forget(fleet, worker)
        _take_back(fleet, worker, innocent=True)
    for uuid in [uuid for uuid, slot in fleet.devices.items() if slot.host == event.host]:
        del fleet.devices[uuid]


def _evict(fleet: Fleet, uuid: str) -> None:
    """Kill the device's workers and take their batches back, without blame."""
    for worker in [one for one in fleet.workers.values() if one.device == uuid]:
        fleet.out.append(KillWorker(worker.name, worker.host))
        _forget(fleet, worker)
        _take_back(fleet, worker, innocent=True)


def worker_hello(fleet: Fleet, event: WorkerHello) -> None:
    worker = fleet.workers.get(event.worker)
    if worker is None or worker.epoch != event.epoch or worker.stage is not WorkerStage.SPAWNED:
        return
    enter(fleet, worker, WorkerStage.STAGING)
    fleet.out.append(StageWorker(worker.name, worker.run, worker.pass_index))


def worker_staged(fleet: Fleet, event: WorkerStaged) -> None:
    worker = fleet.workers.get(event.worker)
    if worker is None or worker.stage is not WorkerStage.STAGING:
        return
    enter(fleet, worker, WorkerStage.STAGED)
    run = fleet.runs.get(worker.run)
    if run is not None:
        run.passes[worker.pass_index].row_bytes = event.row_bytes


def worker_ready(fleet: Fleet, event: WorkerReady) -> None:
    worker = fleet.workers.get(event.worker)
    if worker is not None and worker.stage is WorkerStage.HYDRATING:
        enter(fleet, worker, WorkerStage.READY)
        worker.most_tokens, worker.most_rows = event.most_tokens, event.most_rows
        fleet.devices[worker.device].health.loaded(worker.pass_index)


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
    if worker is None or worker.died or _left_in_order(worker):
        return
    worker.died = True
    if not worker.killed:
        worker.killed, worker.killed_at = event.reason, fleet.now
    worker.suspected = _take_back(fleet, worker, event.innocent)


def worker_exited(fleet: Fleet, event: WorkerExited) -> None:
    worker = fleet.workers.get(event.worker)
    if worker is None:
        return
    in_order = _left_in_order(worker)
    worker.killed = worker.killed or event.reason
    _forget(fleet, worker)
    if not worker.suspected:
        worker.suspected = _take_back(fleet, worker, event.innocent or bool(event.fault))
    incident = _end_of(fleet, worker, event, in_order)
    slot = fleet.devices[worker.device]
    if not incident.in_order and not incident.run_over:
        lost = {"worker": worker.name, "device": slot.device.name, "reason": incident.reason, "batches": worker.rework}
        fleet.note("worker_lost", **lost)
    _record(fleet, slot, incident)


def spawn_refused(fleet: Fleet, event: SpawnRefused) -> None:
    worker = fleet.workers.get(event.worker)
    if worker is None:
        return
    _forget(fleet, worker)
    slot = fleet.devices[worker.device]
    slot.health.not_before = fleet.now + RETRY_LEASE_SECONDS
    if slot.waiting != event.reason:
        slot.waiting = event.reason
        fleet.note("lease_waiting", device=slot.device.name, reason=event.reason)


def tick(fleet: Fleet, _event: Tick) -> None:
    """Kill workers that are silent, or stuck in a stage or a batch for too long."""
    for worker in list(fleet.workers.values()):
        if worker.killed and fleet.now - worker.killed_at > fleet.config.death_timeout:
            _write_off(fleet, worker)
            continue
        overdue = _overdue(fleet, worker)
        if overdue and not worker.killed:
            kill(fleet, worker, overdue)


def kill(fleet: Fleet, worker: WorkerSlot, reason: str) -> None:
    """Kill a worker; its host reports the exit."""
    worker.killed, worker.killed_at = reason, fleet.now
    fleet.out.append(KillWorker(worker.name, worker.host))


def enter(fleet: Fleet, worker: WorkerSlot, stage: WorkerStage) -> None:
    worker.stage = stage
    worker.since = worker.seen = fleet.now


def _forget(fleet: Fleet, worker: WorkerSlot) -> None:
    del fleet.workers[worker.name]
    slot = fleet.devices[worker.device]
    if slot.active == worker.name:
        slot.active = None
    if slot.standby == worker.name:
        slot.standby = None


def _left_in_order(worker: WorkerSlot) -> bool:
    return worker.stage is WorkerStage.RELEASING and not worker.batches and not worker.died


def _take_back(fleet: Fleet, worker: WorkerSlot, innocent: bool) -> bool:
    incident = Incident(worker.killed, worker.pass_index, worker.device, innocent)
    return blame.take_back(fleet, worker, incident)


def _end_of(fleet: Fleet, worker: WorkerSlot, event: WorkerExited, in_order: bool) -> Incident:
    """Describe a worker's end for its device's health, after its batches were taken back."""
    run = fleet.runs.get(worker.run)
    lost = f"{worker.killed}; {NOT_GIVEN_BACK}" if event.unreleased else worker.killed
    return Incident(
        NOT_GIVEN_BACK if in_order else lost,
        worker.pass_index,
        worker.device,
        event.innocent,
        fault=event.fault if run is not None else "",
        in_order=in_order,
        run_over=run is None or run.status is RunStatus.CLOSING,
        unreleased=event.unreleased,
        loading=worker.stage not in (WorkerStage.READY, WorkerStage.RELEASING),
        behind_another=fleet.devices[worker.device].active is not None,
        computes_nothing=run is not None and blame.computes_nothing(fleet, run, worker.pass_index, worker.device),
        suspected=worker.suspected,
    )


def _record(fleet: Fleet, slot: DeviceSlot, incident: Incident) -> None:
    for one in slot.health.record(incident, fleet.config, fleet.now):
        fleet.note("device_bad", device=slot.device.name, failures=one.failures, reason=one.reason)


def _write_off(fleet: Fleet, worker: WorkerSlot) -> None:
    """Give up on a killed worker that does not end: requeue its batches (epochs fence late results), give up its device."""
    _take_back(fleet, worker, innocent=False)
    slot = fleet.devices[worker.device]
    if not slot.health.bad:
        reason = f"a killed worker does not end ({worker.killed})"
        _record(fleet, slot, Incident(reason, worker.pass_index, worker.device, unending=True))


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
