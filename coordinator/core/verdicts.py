"""Who is blamed for a dead worker or a failed batch: one table of verdicts; the first row that applies counts.

A row may be innocent and its device broken, or the other way round. So batch and device are judged separately. What else the
device computes shows whether the row or the device kills workers. A device "works" if it has computed something of the pass.
docs/reliability.md has the same table.

| who | case | verdict |
|---|---|---|
| batch | the device or the host is known to be at fault | back in the queue, not blamed |
| batch | several rows, never blamed before | tried again, alone |
| batch | several rows | halved |
| batch | one row, its first failure, and the worker lives | tried again, alone |
| batch | one row, and the worker lives | quarantined |
| batch | one row, its first failure | parked |
| batch | one row that is not parked, on a device that works | quarantined |
| batch | one row, on a device that works, and all else that is left killed a worker too | quarantined |
| batch | one row, all that is left, and it killed a worker on every device for it | quarantined |
| batch | anything else | parked |
| device | its driver reports a fault | given up |
| device | a worker was killed and does not end | given up |
| device | the worker left in good order, but its memory was not given back | one failure |
| device | the worker left in good order, or its run is over | nothing |
| device | too many workers in a row lost without a result | given up for the pass |
| device | a model behind another one found no room in the host's memory | a pause |
| device | the model did not get ready, and its memory was not given back | one failed load and one failure |
| device | the model did not get ready | one failed load |
| device | all that is left killed a worker here, and nothing else was computed | given up for the pass |
| device | the batch was isolated or parked before | nothing |
| device | the host ran out of memory | one failure |
| device | anything else | one failure and one unexplained loss |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Literal


class BatchPhase(Enum):
    """Where a batch stands between its cut and its result."""

    PENDING = "pending"
    """In the queue, and never blamed."""
    IN_FLIGHT = "in flight"
    """With a worker, and never blamed."""
    ISOLATED = "isolated"
    """Blamed, or half of one that was: it travels alone."""
    PARKED = "parked"
    """A row that killed a worker: it waits until that device has computed something else, or nothing else is left."""
    LAST_TRY = "last try"
    """A row that was parked, and a device where it killed a worker has computed something since."""


class Verdict(Enum):
    """What follows, in the words of the table."""

    UNBLAMED = "back in the queue, not blamed"
    TRY_AGAIN = "tried again, alone"
    HALVE = "halved"
    PARK = "parked"
    QUARANTINE = "quarantined"

    NOTHING = "nothing"
    PAUSE = "a pause"
    FAILURE = "one failure"
    FAILED_LOAD = "one failed load"
    FAILED_LOAD_AND_FAILURE = "one failed load and one failure"
    UNEXPLAINED_LOSS = "one failure and one unexplained loss"
    GIVE_UP_FOR_PASS = "given up for the pass"
    GIVE_UP = "given up"


@dataclass(frozen=True, slots=True)
class Incident:
    """A batch that failed or a worker that ended, with all facts that a verdict needs."""

    reason: str
    pass_index: int
    device: str = ""
    """Where the worker ended; empty: the batch failed, and its worker lives."""
    innocent: bool = False
    """The batch did not cause it: a fault of the device, no memory in the host, a host that left."""

    # Of a batch.
    rows: int = 0
    phase: BatchPhase = BatchPhase.PENDING
    first: bool = False
    """The batch has not failed before."""
    works: bool = False
    """The device has computed something of the pass."""
    only_killers_left: bool = False
    """Every other batch left in the pass is a single row that killed a worker, and no more batches will be cut."""
    tried_everywhere: bool = False
    """No other batch is left, and the row killed a worker on every device that may compute it."""

    # Of a worker's end.
    fault: str = ""
    """What the driver reports of the device."""
    unending: bool = False
    """It was killed, and does not end."""
    in_order: bool = False
    """It was released, and had nothing left to compute."""
    run_over: bool = False
    unreleased: bool = False
    """Its memory on the device was not given back."""
    too_many: bool = False
    """More workers in a row were lost than one poison row can cost."""
    loading: bool = False
    """Its model was not ready."""
    behind_another: bool = False
    """It was loaded while another worker had the device."""
    computes_nothing: bool = False
    """All batches of the pass that are left killed a worker on the device, which has computed nothing otherwise."""
    suspected: bool = False
    """The batch that it computed was isolated or parked before."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table."""

    who: Literal["batch", "device"]
    case: str
    applies: Callable[[Incident], bool]
    verdict: Verdict


UNSUSPECTED = (BatchPhase.PENDING, BatchPhase.IN_FLIGHT)

# fmt: off
VERDICTS = (
    Rule("batch", "the device or the host is known to be at fault",
         lambda it: it.innocent, Verdict.UNBLAMED),
    Rule("batch", "several rows, never blamed before",
         lambda it: it.rows > 1 and it.phase in UNSUSPECTED, Verdict.TRY_AGAIN),
    Rule("batch", "several rows",
         lambda it: it.rows > 1, Verdict.HALVE),
    Rule("batch", "one row, its first failure, and the worker lives",
         lambda it: it.first and not it.device, Verdict.TRY_AGAIN),
    Rule("batch", "one row, and the worker lives",
         lambda it: not it.device, Verdict.QUARANTINE),
    Rule("batch", "one row, its first failure",
         lambda it: it.first, Verdict.PARK),
    Rule("batch", "one row that is not parked, on a device that works",
         lambda it: it.works and it.phase is not BatchPhase.PARKED, Verdict.QUARANTINE),
    Rule("batch", "one row, on a device that works, and all else that is left killed a worker too",
         lambda it: it.works and it.only_killers_left, Verdict.QUARANTINE),
    Rule("batch", "one row, all that is left, and it killed a worker on every device for it",
         lambda it: it.tried_everywhere, Verdict.QUARANTINE),
    Rule("batch", "anything else",
         lambda _: True, Verdict.PARK),
    Rule("device", "its driver reports a fault",
         lambda it: it.fault != "", Verdict.GIVE_UP),
    Rule("device", "a worker was killed and does not end",
         lambda it: it.unending, Verdict.GIVE_UP),
    Rule("device", "the worker left in good order, but its memory was not given back",
         lambda it: it.in_order and it.unreleased, Verdict.FAILURE),
    Rule("device", "the worker left in good order, or its run is over",
         lambda it: it.in_order or it.run_over, Verdict.NOTHING),
    Rule("device", "too many workers in a row lost without a result",
         lambda it: it.too_many, Verdict.GIVE_UP_FOR_PASS),
    Rule("device", "a model behind another one found no room in the host's memory",
         lambda it: it.loading and it.innocent and it.behind_another, Verdict.PAUSE),
    Rule("device", "the model did not get ready, and its memory was not given back",
         lambda it: it.loading and it.unreleased, Verdict.FAILED_LOAD_AND_FAILURE),
    Rule("device", "the model did not get ready",
         lambda it: it.loading, Verdict.FAILED_LOAD),
    Rule("device", "all that is left killed a worker here, and nothing else was computed",
         lambda it: it.computes_nothing, Verdict.GIVE_UP_FOR_PASS),
    Rule("device", "the batch was isolated or parked before",
         lambda it: it.suspected, Verdict.NOTHING),
    Rule("device", "the host ran out of memory",
         lambda it: it.innocent, Verdict.FAILURE),
    Rule("device", "anything else",
         lambda _: True, Verdict.UNEXPLAINED_LOSS),
)
# fmt: on


def judge(who: Literal["batch", "device"], incident: Incident) -> Verdict:
    """The verdict of the first row that applies."""
    return next(rule.verdict for rule in VERDICTS if rule.who == who and rule.applies(incident))
