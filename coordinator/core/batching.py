"""Transitions of batches: sent, done, failed. `blame.py` decides what becomes of a batch without a result."""

from __future__ import annotations

from . import blame, fallback
from .actions import ForwardResult, SendBatch
from .events import BatchDone, BatchFailed
from .segments import cut_ahead, more_comes
from .state import Fleet, Run, RunStatus, WorkerSlot, WorkerStage
from .verdicts import UNSUSPECTED, BatchPhase, Incident

SMOOTHING = 0.3
"""Weight of the newest measurement in a pass's seconds per token."""


def batch_done(fleet: Fleet, event: BatchDone) -> None:
    worker = _holder(fleet, event.worker, event.epoch, event.batch)
    if worker is None:
        fleet.note("stale_result", worker=event.worker, epoch=event.epoch, batch=event.batch)
        return
    batch = fleet.batches.pop(event.batch, None)
    seconds = fleet.now - worker.moved
    _hand_in(fleet, worker, event.batch)
    fleet.devices[worker.device].health.computed(fleet.config)
    run = fleet.current
    if batch is None or run is None or run.name != worker.run:
        fleet.note("stale_result", worker=event.worker, epoch=event.epoch, batch=event.batch)
        return
    one = run.passes[batch.pass_index]
    one.results[worker.device] = one.results.get(worker.device, 0) + 1
    blame.went_through(fleet, batch)
    measured = seconds / max(batch.tokens, 1)
    known = one.seconds_per_token
    one.seconds_per_token = measured if known == 0 else known + SMOOTHING * (measured - known)
    one.open[batch.segment].outstanding.discard(event.batch)
    fleet.out.append(ForwardResult(run.name, batch.pass_index, batch.segment, batch.start, batch.stop, event.payload))


def batch_failed(fleet: Fleet, event: BatchFailed) -> None:
    worker = _holder(fleet, event.worker, event.epoch, event.batch)
    if worker is None:
        fleet.note("stale_result", worker=event.worker, epoch=event.epoch, batch=event.batch)
        return
    _hand_in(fleet, worker, event.batch)
    if event.batch in fleet.batches:
        blame.blame(fleet, event.batch, Incident(event.reason, worker.pass_index))


def refill(fleet: Fleet) -> None:
    """Give batches to workers below their credit, the emptiest first; have segments cut before batches run out, or filled where
    no worker computes them."""
    run = fleet.current
    if run is None or run.status is not RunStatus.RUNNING:
        return
    for pass_index, one in enumerate(run.passes):
        if one.given_up:
            fallback.fill(fleet, run, pass_index)
    ready = [
        one
        for one in fleet.workers.values()
        if one.stage is WorkerStage.READY and not one.killed and run.passes[one.pass_index].broken is None
    ]
    for pass_index in {one.pass_index for one in ready}:
        mine = [one for one in ready if one.pass_index == pass_index]
        cut_ahead(fleet, run, pass_index, want=fleet.config.credit * len(mine))
        for level in range(fleet.config.credit):
            for worker in mine:
                if len(worker.batches) == level and _may_follow(fleet, run, worker):
                    _send_next(fleet, run, worker)


def _may_follow(fleet: Fleet, run: Run, worker: WorkerSlot) -> bool:
    """Whether the pass's next batch may join those that the worker has.

    A worker may also die of the batch that it tokenizes meanwhile, or of a result that it could not send. So a batch that was
    blamed once travels alone: if the worker dies again, there is no doubt about the cause.
    """
    following = _next(fleet, run, worker.pass_index)
    if not worker.batches or following is None:
        return True
    both = (fleet.batches.get(worker.batches[-1]), fleet.batches[following])
    results = run.passes[worker.pass_index].results
    return all(one is None or one.phase(results) in UNSUSPECTED for one in both)


def _next(fleet: Fleet, run: Run, pass_index: int) -> int | None:
    """The next batch to compute. A parked row comes after all others, those yet to be cut included."""
    one = run.passes[pass_index]
    for batch_id in one.pending:
        if fleet.batches[batch_id].phase(one.results) is not BatchPhase.PARKED:
            return batch_id
    return one.pending[0] if one.pending and not more_comes(fleet, run, one) else None


def _send_next(fleet: Fleet, run: Run, worker: WorkerSlot) -> None:
    one = run.passes[worker.pass_index]
    batch_id = _next(fleet, run, worker.pass_index)
    if batch_id is None:
        return
    one.pending.remove(batch_id)
    batch = fleet.batches[batch_id]
    if not worker.batches:
        worker.moved = fleet.now
    worker.batches.append(batch_id)
    batch.in_flight = True
    where = (run.name, batch.pass_index, batch.segment, batch.start, batch.stop)
    fleet.out.append(SendBatch(worker.name, worker.epoch, batch_id, *where, batch.taken_from))
    batch.taken_from = None


def _holder(fleet: Fleet, name: str, epoch: int, batch: int) -> WorkerSlot | None:
    worker = fleet.workers.get(name)
    if worker is None or worker.epoch != epoch or batch not in worker.batches:
        return None
    return worker


def _hand_in(fleet: Fleet, worker: WorkerSlot, batch: int) -> None:
    worker.batches.remove(batch)
    worker.moved = worker.seen = fleet.now
