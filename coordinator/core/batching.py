"""Transitions of batches: sent, done, failed. `blame.py` decides what becomes of a batch without a result.

A batch gets its size when it is sent: as many cuts of a segment as its worker computes in `batch_seconds`, one at least.
"""

from __future__ import annotations

from collections.abc import Sequence

from . import blame, fallback
from .actions import ForwardResult, SendBatch
from .events import BatchDone, BatchFailed, Cut
from .segments import cut_ahead, more_comes
from .state import Batch, Fleet, Pass, Run, RunStatus, WorkerSlot, WorkerStage
from .verdicts import UNSUSPECTED, BatchPhase, Incident

SMOOTHING = 0.3
"""Weight of the newest measurement in a pass's seconds per token."""
FADING = 0.5
"""Weight of a worker's batch in its speed with each batch after it."""
GROWTH = 4
"""A batch has at most so many times the tokens by which its worker's speed is known: a single measurement may be wrong."""


def batch_done(fleet: Fleet, event: BatchDone) -> None:
    worker = _holder(fleet, event.worker, event.epoch, event.batch)
    if worker is None:
        fleet.note("stale_result", worker=event.worker, epoch=event.epoch, batch=event.batch)
        return
    batch = fleet.batches.pop(event.batch, None)
    seconds = fleet.now - worker.began
    _hand_in(fleet, worker, event.batch)
    fleet.devices[worker.device].health.computed(fleet.config)
    run = fleet.current
    if batch is None or run is None or run.name != worker.run:
        fleet.note("stale_result", worker=event.worker, epoch=event.epoch, batch=event.batch)
        return
    one = run.passes[batch.pass_index]
    one.results[worker.device] = one.results.get(worker.device, 0) + 1
    blame.went_through(fleet, batch)
    worker.tokens = FADING * worker.tokens + batch.tokens
    worker.seconds = FADING * worker.seconds + seconds
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
        if one.run == run.name and one.stage is WorkerStage.READY and not one.killed
        if run.passes[one.pass_index].broken is None
    ]
    for pass_index in {one.pass_index for one in ready}:
        mine = [one for one in ready if one.pass_index == pass_index]
        tokens = sum(wanted_tokens(fleet, one) for one in mine)
        cut_ahead(fleet, run, pass_index, fleet.config.credit * len(mine), fleet.config.credit * tokens)
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
    _split(fleet, worker, one, batch_id)
    one.pending.remove(batch_id)
    batch = fleet.batches[batch_id]
    if not worker.batches:
        worker.began = worker.moved = fleet.now
    worker.batches.append(batch_id)
    batch.in_flight = True
    where = (run.name, batch.pass_index, batch.segment, batch.start, batch.stop)
    fleet.out.append(SendBatch(worker.name, worker.epoch, batch_id, *where, batch.taken_from))
    batch.taken_from = None


def wanted_tokens(fleet: Fleet, worker: WorkerSlot) -> int:
    """The tokens of a batch for the worker: what it computes in `batch_seconds`, within its limits. 0: the smallest batch."""
    most = min(float(worker.most_tokens), GROWTH * worker.tokens)
    if worker.seconds > 0:
        most = min(most, fleet.config.batch_seconds * worker.tokens / worker.seconds)
    return int(most)


def _split(fleet: Fleet, worker: WorkerSlot, one: Pass, batch_id: int) -> None:
    """Leave in the batch as many cuts as suit the worker; the others stay pending in its place. A blamed batch stays whole."""
    batch = fleet.batches[batch_id]
    count = _fitting(fleet, worker, batch.cuts)
    if count >= len(batch.cuts) or batch.phase(one.results) not in UNSUSPECTED:
        return
    mine, others = batch.cuts[:count], batch.cuts[count:]
    tokens = sum(cut.tokens for cut in mine)
    where = (batch.pass_index, batch.segment, others[0].start, batch.stop)
    rest_id = fleet.add_batch(Batch(*where, batch.tokens - tokens, others, taken_from=batch.taken_from))
    batch.stop, batch.tokens, batch.cuts = others[0].start, tokens, mine
    one.open[batch.segment].outstanding.add(rest_id)
    one.pending.insert(one.pending.index(batch_id) + 1, rest_id)


def _fitting(fleet: Fleet, worker: WorkerSlot, cuts: Sequence[Cut]) -> int:
    """How many of the cuts suit the worker; at least one."""
    wanted, tokens = wanted_tokens(fleet, worker), 0
    for count, cut in enumerate(cuts):
        tokens += cut.tokens
        if count and (tokens > wanted or cut.stop - cuts[0].start > worker.most_rows):
            return count
    return len(cuts)


def _holder(fleet: Fleet, name: str, epoch: int, batch: int) -> WorkerSlot | None:
    worker = fleet.workers.get(name)
    if worker is None or worker.epoch != epoch or batch not in worker.batches:
        return None
    return worker


def _hand_in(fleet: Fleet, worker: WorkerSlot, batch: int) -> None:
    worker.batches.remove(batch)
    worker.began = worker.moved = worker.seen = fleet.now
