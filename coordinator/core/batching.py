"""Transitions of segments and batches: cut, sent, done, failed, split, quarantined, committed.

A segment of a pass goes uncut → open → committed. An open segment's batches are pending or in flight; a batch that fails
or takes its worker down twice is split in halves, which fail at once, until one row stands alone; that row gets one more
try and is then quarantined. Only the batch that was being computed is blamed; if it goes through after all, those that
were tokenized beside it are.

A row may be innocent and its device be broken. So a row that took a worker down alone waits until others had their turn,
and is guilty only if it does so again on a device that works: one that computed something in between.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection

from .actions import CutSegment, ForwardResult, Holder, QuarantineRows, SendBatch
from .events import BatchDone, BatchFailed, Scrubbed, SegmentCommitted, SegmentCut, SegmentDamaged, SegmentSpooled
from .state import Batch, Fleet, OpenSegment, Pass, Run, RunStatus, WorkerSlot, WorkerStage

SMOOTHING = 0.3
"""Weight of the newest measurement in a pass's seconds per token."""
MOST_POISON = 7
"""Rows that may all be poison, where nothing else is left to tell; of more than these it is rather the device that broke."""


def segment_spooled(fleet: Fleet, event: SegmentSpooled) -> None:
    run = fleet.runs.get(event.run)
    if run is None:
        return
    run.segments[event.segment] = event.rows
    run.stand_ins |= event.stand_ins
    if run.status is not RunStatus.RUNNING:
        return
    for one in run.passes:
        if event.segment not in one.committed:
            one.uncut.append(event.segment)


def segment_cut(fleet: Fleet, event: SegmentCut) -> None:
    run = fleet.runs.get(event.run)
    if run is None or run.status is not RunStatus.RUNNING:
        return
    one = run.passes[event.number]
    segment = one.open.get(event.segment)
    if segment is None or not segment.cutting:
        return
    segment.cutting = False
    for cut in event.cuts:
        batch = _new_batch(fleet, Batch(event.number, event.segment, cut.start, cut.stop, cut.tokens))
        segment.outstanding.add(batch)
        one.pending.append(batch)


def segment_committed(fleet: Fleet, event: SegmentCommitted) -> None:
    run = fleet.runs.get(event.run)
    if run is None or run.status is RunStatus.OPENING:
        return
    one = run.passes[event.number]
    one.open.pop(event.segment, None)
    one.committed.add(event.segment)


def segment_damaged(fleet: Fleet, event: SegmentDamaged) -> None:
    run = fleet.runs.get(event.run)
    if run is None or run.status is RunStatus.OPENING:
        return
    one = run.passes[event.number]
    if event.segment in one.committed:
        one.committed.discard(event.segment)
        if event.segment in run.segments:
            one.uncut.append(event.segment)


def scrubbed(fleet: Fleet, event: Scrubbed) -> None:
    run = fleet.runs.get(event.run)
    if run is not None and run.status is not RunStatus.OPENING:
        run.scrubbed = True


def batch_done(fleet: Fleet, event: BatchDone) -> None:
    worker = _holder(fleet, event.worker, event.epoch, event.batch)
    if worker is None:
        fleet.note("stale_result", worker=event.worker, epoch=event.epoch, batch=event.batch)
        return
    batch = fleet.batches.pop(event.batch, None)
    seconds = fleet.now - worker.moved
    _hand_in(fleet, worker, event.batch)
    slot = fleet.devices[worker.device]
    slot.failures = slot.losses = 0
    slot.strain = max(0.0, slot.strain - fleet.config.relief)
    run = fleet.current
    if batch is None or run is None or run.name != worker.run:
        fleet.note("stale_result", worker=event.worker, epoch=event.epoch, batch=event.batch)
        return
    one = run.passes[batch.number]
    one.results[worker.device] = one.results.get(worker.device, 0) + 1
    for name in batch.companions:
        companion = fleet.batches.get(name)
        if companion is not None and companion.rows > 1:  # enough to halve it sooner, not to give up a row
            companion.failures = max(companion.failures, 1)
    measured = seconds / max(batch.tokens, 1)
    known = one.seconds_per_token
    one.seconds_per_token = measured if known == 0 else known + SMOOTHING * (measured - known)
    one.open[batch.segment].outstanding.discard(event.batch)
    fleet.out.append(ForwardResult(run.name, batch.number, batch.segment, batch.start, batch.stop, event.payload))


def batch_failed(fleet: Fleet, event: BatchFailed) -> None:
    worker = _holder(fleet, event.worker, event.epoch, event.batch)
    if worker is None:
        fleet.note("stale_result", worker=event.worker, epoch=event.epoch, batch=event.batch)
        return
    _hand_in(fleet, worker, event.batch)
    blame(fleet, event.batch, event.reason)


def take_back(fleet: Fleet, worker: WorkerSlot, blamed: str, serving: Collection[str] = ()) -> bool:
    """The worker is gone: its batches are pending again. `blamed` is why the first one is at fault; empty: nobody is.

    `serving` are the devices that may compute it.

    Returns whether the blamed batch was already under suspicion, so that the device need not answer for it.
    """
    held = [batch for batch in worker.batches if batch in fleet.batches]
    for batch in held:
        fleet.batches[batch].taken_from = Holder(worker.name, fleet.devices[worker.device].device.name)
    first_is_computing = bool(worker.batches) and bool(held) and held[0] == worker.batches[0]
    suspected = False
    guilty = held[0] if blamed and first_is_computing else None
    for batch in reversed(held):
        if batch != guilty:
            _pass_of(fleet, batch).pending.appendleft(batch)
    if guilty is not None:
        batch = fleet.batches[guilty]
        suspected = batch.suspect or batch.failures > 0
        batch.companions += tuple(held[1:])
        batch.charged = batch.charged or worker.device
        blame(fleet, guilty, blamed, worker.device, serving)
    worker.batches.clear()
    worker.rework += len(held)
    return suspected


def blame(fleet: Fleet, number: int, reason: str, device: str = "", serving: Collection[str] = ()) -> None:
    """Count a failure of a batch that is in nobody's hands: try again, split, or quarantine its row.

    `device` is where a worker died of it; empty: the worker is well. `serving` are all devices that may compute it.
    """
    batch = fleet.batches.get(number)
    run = fleet.current
    if batch is None or run is None:
        return
    batch.failures += 1
    one = run.passes[batch.number]
    fleet.note("batch_failed", vector=one.plan.vector, segment=batch.segment, rows=batch.rows, reason=reason)
    limit = 1 if batch.suspect and batch.rows > 1 else 2
    if batch.rows == 1 and device:
        guilty = _is_guilty(fleet, run, batch, device, serving)
        batch.deaths.setdefault(device, one.results.get(device, 0))
        if batch.failures < limit or not guilty:
            one.pending.appendleft(number)
            return
    elif batch.failures < limit:
        one.pending.appendleft(number)
        return
    segment = one.open[batch.segment]
    segment.outstanding.discard(number)
    del fleet.batches[number]
    if batch.rows == 1:
        row = (batch.segment, batch.start, batch.stop)
        fleet.out.append(QuarantineRows(run.name, batch.number, *row, f"could not be embedded: {reason}"))
        if (slot := fleet.devices.get(batch.charged)) is not None:
            slot.strain = max(0.0, slot.strain - 1.0)
        return
    middle = batch.start + batch.rows // 2
    per_row = batch.tokens / batch.rows
    for start, stop in ((middle, batch.stop), (batch.start, middle)):
        tokens = int(per_row * (stop - start)) + 1
        half = Batch(batch.number, batch.segment, start, stop, tokens, suspect=True, charged=batch.charged)
        half.taken_from = batch.taken_from
        name = _new_batch(fleet, half)
        segment.outstanding.add(name)
        one.pending.appendleft(name)


def _is_guilty(fleet: Fleet, run: Run, batch: Batch, device: str, serving: Collection[str]) -> bool:
    """Whether a row that took a worker down alone, once more now, is to blame, and not the device.

    The device has to be one that works, and where there is something else to compute, some of it has to have been computed
    since. A row that is all that is left is guilty on a device of which nothing is known too, once it has been on all that
    there are: their workers computed a text before they were given it.
    """
    one = run.passes[batch.number]
    others = [other for other in fleet.batches.values() if other.number == batch.number and other is not batch]
    more = _more_comes(fleet, run, one)
    if one.results.get(device):
        return not _waits(one, batch) or (all(other.deaths for other in others) and not more)
    return not others and not more and {*batch.deaths, device}.issuperset(serving)


def computes_nothing(fleet: Fleet, run: Run, number: int, device: str) -> bool:
    """Whether every row that is left took the device's worker down alone, and it has no result of the pass; or none since
    the first of them did, and they are more than are likely to be all poison."""
    one = run.passes[number]
    left = [batch for batch in fleet.batches.values() if batch.number == number]
    accused = len(left) > 1 and all(device in batch.deaths for batch in left)
    results = one.results.get(device, 0)
    none = not results or (len(left) > MOST_POISON and all(batch.deaths.get(device) == results for batch in left))
    return accused and none and not _more_comes(fleet, run, one)


def refill(fleet: Fleet) -> None:
    """Give batches to workers below their credit, the emptiest first, and have segments cut before batches run out."""
    run = fleet.current
    if run is None or run.status is not RunStatus.RUNNING:
        return
    for number, one in enumerate(run.passes):
        if one.given_up:
            _hand_on(fleet, run, number)
    ready = [
        one
        for one in fleet.workers.values()
        if one.stage is WorkerStage.READY and not one.killed and run.passes[one.number].broken is None
    ]
    for number in {one.number for one in ready}:
        mine = [one for one in ready if one.number == number]
        _cut_ahead(fleet, run, number, want=fleet.config.credit * len(mine))
        for level in range(fleet.config.credit):
            for worker in mine:
                if len(worker.batches) == level and _may_follow(fleet, run, worker):
                    _send_next(fleet, run, worker)


def _may_follow(fleet: Fleet, run: Run, worker: WorkerSlot) -> bool:
    """Whether the pass's next batch may join those that the worker has.

    A worker may also die of the batch that it tokenizes meanwhile, or of a result that it did not get to send: so a batch
    that has failed once travels alone, and whoever it blames is to blame.
    """
    following = _next(fleet, run, worker.number)
    if not worker.batches or following is None:
        return True
    both = (fleet.batches.get(worker.batches[-1]), fleet.batches[following])
    return not any(one is not None and (one.failures or one.suspect) for one in both)


def _next(fleet: Fleet, run: Run, number: int) -> int | None:
    """The batch that is to be computed next. A row that waits for others goes after them, those yet to be cut included."""
    one = run.passes[number]
    for name in one.pending:
        if not _waits(one, fleet.batches[name]):
            return name
    return one.pending[0] if one.pending and not _more_comes(fleet, run, one) else None


def _waits(one: Pass, batch: Batch) -> bool:
    """Whether a row took workers down alone, and none of their devices has computed anything since."""
    return bool(batch.deaths) and not any(one.results.get(device, 0) > n for device, n in batch.deaths.items())


def has_work(run: Run, number: int) -> bool:
    """Whether a worker of this pass would find (or may yet find) something that nobody computes."""
    one = run.passes[number]
    if one.given_up or one.broken is not None:
        return False
    if one.pending or one.uncut or not run.intake_done:
        return True
    return _is_cutting(one)


def is_complete(run: Run) -> bool:
    """Whether every pass has every segment committed, and those of earlier sessions are whole."""
    return run.intake_done and run.scrubbed and all(len(one.committed) >= len(run.segments) for one in run.passes)


def reset_pass(fleet: Fleet, run: Run, number: int, committed: frozenset[int]) -> None:
    """Forget what is not committed: its segments are uncut again, and results on their way will be stale."""
    one = run.passes[number]
    for batch in [name for name, batch in fleet.batches.items() if batch.number == number]:
        del fleet.batches[batch]
    one.pending.clear()
    one.open.clear()
    one.committed = set(committed)
    one.uncut.clear()
    one.uncut.extend(segment for segment in sorted(run.segments) if segment not in one.committed)


def _hand_on(fleet: Fleet, run: Run, number: int) -> None:
    """Nobody computes this pass: its rows go to the exporter without a result, segment by segment."""
    one = run.passes[number]
    while one.pending:
        name = one.pending.popleft()
        batch = fleet.batches.pop(name)
        one.open[batch.segment].outstanding.discard(name)
        rows = (batch.segment, batch.start, batch.stop)
        fleet.out.append(QuarantineRows(run.name, number, *rows, one.given_up))
    while one.uncut:
        segment = one.uncut.popleft()
        rows = run.segments[segment]
        one.open[segment] = OpenSegment(rows, cutting=False)
        fleet.out.append(QuarantineRows(run.name, number, segment, 0, rows, one.given_up))


def _send_next(fleet: Fleet, run: Run, worker: WorkerSlot) -> None:
    one = run.passes[worker.number]
    name = _next(fleet, run, worker.number)
    if name is None:
        return
    one.pending.remove(name)
    batch = fleet.batches[name]
    if not worker.batches:
        worker.moved = fleet.now
    worker.batches.append(name)
    where = (run.name, batch.number, batch.segment, batch.start, batch.stop)
    fleet.out.append(SendBatch(worker.name, worker.epoch, name, *where, batch.taken_from))
    batch.taken_from = None


def _cut_ahead(fleet: Fleet, run: Run, number: int, want: int) -> None:
    one = run.passes[number]
    ready = (name for name in one.pending if not _waits(one, fleet.batches[name]))
    if len(list(itertools.islice(ready, want))) >= want or _is_cutting(one) or not _may_cut(fleet, run, one):
        return
    segment = one.uncut.popleft()
    one.open[segment] = OpenSegment(run.segments[segment])
    fleet.out.append(CutSegment(run.name, number, segment))


def _more_comes(fleet: Fleet, run: Run, one: Pass) -> bool:
    return _is_cutting(one) or _may_cut(fleet, run, one)


def _is_cutting(one: Pass) -> bool:
    return any(segment.cutting for segment in one.open.values())


def _may_cut(fleet: Fleet, run: Run, one: Pass) -> bool:
    """Whether there is a segment to cut, and room for its results."""
    if not one.uncut:
        return False
    held = sum(segment.rows for segment in one.open.values()) * one.row_bytes
    return len(one.open) < 2 or held + run.segments[one.uncut[0]] * one.row_bytes <= fleet.config.uncommitted_bytes


def _new_batch(fleet: Fleet, batch: Batch) -> int:
    name = fleet.next_batch
    fleet.next_batch += 1
    fleet.batches[name] = batch
    return name


def _holder(fleet: Fleet, name: str, epoch: int, batch: int) -> WorkerSlot | None:
    worker = fleet.workers.get(name)
    if worker is None or worker.epoch != epoch or batch not in worker.batches:
        return None
    return worker


def _hand_in(fleet: Fleet, worker: WorkerSlot, batch: int) -> None:
    worker.batches.remove(batch)
    worker.moved = worker.seen = fleet.now


def _pass_of(fleet: Fleet, batch: int) -> Pass:
    run = fleet.current
    assert run is not None, "a batch exists only while its run is current"
    return run.passes[fleet.batches[batch].number]
