"""What happens to a batch without a result: `verdicts.py` has the table, this file the evidence and the consequences.

Only the batch that was being computed is blamed. If it has a result later, the batches tokenized beside it are blamed instead.
A blamed batch is sent alone and halved until one row is left. That row waits until other batches had their turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .actions import Holder, QuarantineRows
from .segments import more_comes
from .serving import serving_devices
from .state import Batch, Fleet, Pass, Run, WorkerSlot
from .verdicts import UNSUSPECTED, Incident, Verdict, judge

MOST_POISON = 7
"""So many rows may all be poison if nothing else is left to compute; with more, the device is more likely at fault."""


def take_back(fleet: Fleet, worker: WorkerSlot, incident: Incident) -> bool:
    """Take back the batches of an ended worker. Return whether the computed one was isolated or parked before."""
    held = [batch_id for batch_id in worker.batches if batch_id in fleet.batches]
    for batch_id in held:
        fleet.batches[batch_id].taken_from = Holder(worker.name, fleet.devices[worker.device].device.name)
    computed = held[0] if held and held[0] == worker.batches[0] else None
    for batch_id in reversed(held):
        if batch_id != computed:
            _put_back(fleet, batch_id)
    suspected = computed is not None and blame(fleet, computed, incident, held[1:])
    worker.batches.clear()
    worker.rework += len(held)
    return suspected


def blame(fleet: Fleet, batch_id: int, incident: Incident, beside: Sequence[int] = ()) -> bool:
    """Carry out the verdict on a failed batch. Return whether it was isolated or parked before.

    `beside` are the other batches of its worker, if the worker ended.
    """
    batch, run = fleet.batches[batch_id], _current(fleet)
    one = run.passes[batch.pass_index]
    incident = _with_evidence(fleet, run, batch, incident)
    verdict = judge("batch", incident)
    if verdict is Verdict.UNBLAMED:
        _put_back(fleet, batch_id)
        return False
    fleet.note("batch_failed", vector=one.plan.vector, segment=batch.segment, rows=batch.rows, reason=incident.reason)
    batch.failures += 1
    batch.sent_with += tuple(beside)
    batch.first_killed_on = batch.first_killed_on or incident.device
    match verdict:
        case Verdict.HALVE:
            _halve(fleet, one, batch_id)
        case Verdict.QUARANTINE:
            _quarantine(fleet, run, batch_id, incident.reason)
        case Verdict.PARK:
            batch.killed_on.setdefault(incident.device, one.results.get(incident.device, 0))
            _put_back(fleet, batch_id)
        case _:
            _put_back(fleet, batch_id)
    return incident.phase not in UNSUSPECTED


def went_through(fleet: Fleet, batch: Batch) -> None:
    """Note a batch's result. If a worker died with it, suspect the batches sent with it instead."""
    for batch_id in batch.sent_with:
        companion = fleet.batches.get(batch_id)
        if companion is not None and companion.rows > 1:  # halve it sooner; a single row must not be given up for it
            companion.failures = max(companion.failures, 1)


def computes_nothing(fleet: Fleet, run: Run, pass_index: int, device: str) -> bool:
    """Whether the device, not the rows, is at fault: each row that is left killed a worker there while it was alone.

    The device must have no result of the pass. With more than MOST_POISON rows, no result since the first of these deaths
    is enough.
    """
    one = run.passes[pass_index]
    left = [batch for batch in fleet.batches.values() if batch.pass_index == pass_index]
    accused = len(left) > 1 and all(device in batch.killed_on for batch in left)
    results = one.results.get(device, 0)
    none = not results or (len(left) > MOST_POISON and all(batch.killed_on.get(device) == results for batch in left))
    return accused and none and not more_comes(fleet, run, one)


def _with_evidence(fleet: Fleet, run: Run, batch: Batch, incident: Incident) -> Incident:
    """Add what the fleet knows of the batch to the incident."""
    one, device = run.passes[batch.pass_index], incident.device
    others = [other for other in fleet.batches.values() if other.pass_index == batch.pass_index and other is not batch]
    more = more_comes(fleet, run, one)
    serving = serving_devices(fleet, run, batch.pass_index)
    left = {slot.device.uuid for slot in serving if not slot.health.given_up(batch.pass_index)}
    return replace(
        incident,
        rows=batch.rows,
        phase=batch.phase(one.results),
        first=batch.failures == 0,
        works=one.results.get(device, 0) > 0,
        only_killers_left=all(other.killed_on for other in others) and not more,
        tried_everywhere=not others and not more and left <= {*batch.killed_on, device},
    )


def _put_back(fleet: Fleet, batch_id: int) -> None:
    batch = fleet.batches[batch_id]
    batch.in_flight = False
    _current(fleet).passes[batch.pass_index].pending.appendleft(batch_id)


def _halve(fleet: Fleet, one: Pass, batch_id: int) -> None:
    batch = _take_out(fleet, one, batch_id)
    middle = batch.start + batch.rows // 2
    per_row = batch.tokens / batch.rows
    for start, stop in ((middle, batch.stop), (batch.start, middle)):
        tokens = int(per_row * (stop - start)) + 1
        half = Batch(batch.pass_index, batch.segment, start, stop, tokens, isolated=True)
        half.first_killed_on, half.taken_from = batch.first_killed_on, batch.taken_from
        half_id = fleet.add_batch(half)
        one.open[batch.segment].outstanding.add(half_id)
        one.pending.appendleft(half_id)


def _quarantine(fleet: Fleet, run: Run, batch_id: int, reason: str) -> None:
    batch = _take_out(fleet, run.passes[fleet.batches[batch_id].pass_index], batch_id)
    where = (batch.pass_index, batch.segment, batch.start, batch.stop)
    fleet.out.append(QuarantineRows(run.name, *where, f"could not be embedded: {reason}"))
    if (slot := fleet.devices.get(batch.first_killed_on)) is not None:
        slot.health.explained()


def _take_out(fleet: Fleet, one: Pass, batch_id: int) -> Batch:
    batch = fleet.batches.pop(batch_id)
    one.open[batch.segment].outstanding.discard(batch_id)
    return batch


def _current(fleet: Fleet) -> Run:
    run = fleet.current
    assert run is not None, "a batch exists only while its run is current"
    return run
