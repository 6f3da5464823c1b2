"""Transitions of segments: spooled, cut, committed, damaged. A segment of a pass goes uncut → open → committed."""

from __future__ import annotations

from .actions import CutSegment
from .events import Scrubbed, SegmentCommitted, SegmentCut, SegmentDamaged, SegmentSpooled
from .state import Batch, Fleet, OpenSegment, Pass, Run, RunStatus
from .verdicts import BatchPhase


def segment_spooled(fleet: Fleet, event: SegmentSpooled) -> None:
    run = fleet.runs.get(event.run)
    if run is None:
        return
    run.segments[event.segment] = event.rows
    run.has_weights |= event.has_weights
    if run.status is not RunStatus.RUNNING:
        return
    for one in run.passes:
        if event.segment not in one.committed:
            one.uncut.append(event.segment)


def segment_cut(fleet: Fleet, event: SegmentCut) -> None:
    run = fleet.runs.get(event.run)
    if run is None or run.status is not RunStatus.RUNNING:
        return
    one = run.passes[event.pass_index]
    segment = one.open.get(event.segment)
    if segment is None or not segment.cutting:
        return
    segment.cutting = False
    tokens = sum(cut.tokens for cut in event.cuts)
    whole = Batch(event.pass_index, event.segment, event.cuts[0].start, event.cuts[-1].stop, tokens, event.cuts)
    batch_id = fleet.add_batch(whole)
    segment.outstanding.add(batch_id)
    one.pending.append(batch_id)


def segment_committed(fleet: Fleet, event: SegmentCommitted) -> None:
    run = fleet.runs.get(event.run)
    if run is None or run.status is RunStatus.OPENING:
        return
    one = run.passes[event.pass_index]
    one.open.pop(event.segment, None)
    one.committed.add(event.segment)


def segment_damaged(fleet: Fleet, event: SegmentDamaged) -> None:
    run = fleet.runs.get(event.run)
    if run is None or run.status is RunStatus.OPENING:
        return
    one = run.passes[event.pass_index]
    if event.segment in one.committed:
        one.committed.discard(event.segment)
        if event.segment in run.segments:
            one.uncut.append(event.segment)


def scrubbed(fleet: Fleet, event: Scrubbed) -> None:
    run = fleet.runs.get(event.run)
    if run is not None and run.status is not RunStatus.OPENING:
        run.scrubbed = True


def has_work(run: Run, pass_index: int) -> bool:
    """Whether a worker of this pass has batches to take, now or later."""
    one = run.passes[pass_index]
    if one.given_up or one.broken is not None:
        return False
    if one.pending or one.uncut or not run.intake_done:
        return True
    return one.is_cutting


def is_complete(run: Run) -> bool:
    """Whether every pass has every segment committed, and those of earlier sessions are whole."""
    return run.intake_done and run.scrubbed and all(len(one.committed) >= len(run.segments) for one in run.passes)


def reset_pass(fleet: Fleet, run: Run, pass_index: int, committed: frozenset[int]) -> None:
    """Forget what is not committed: those segments are uncut again, and results on their way become stale."""
    one = run.passes[pass_index]
    for batch_id in [batch_id for batch_id, batch in fleet.batches.items() if batch.pass_index == pass_index]:
        del fleet.batches[batch_id]
    one.pending.clear()
    one.open.clear()
    one.committed = set(committed)
    one.uncut.clear()
    one.uncut.extend(segment for segment in sorted(run.segments) if segment not in one.committed)


def cut_ahead(fleet: Fleet, run: Run, pass_index: int, batches: int, tokens: int) -> None:
    """Have the next segment cut if what is ready makes fewer than so many batches, or has fewer tokens."""
    one = run.passes[pass_index]
    if one.is_cutting or not _may_cut(fleet, run, one):
        return
    pending = (fleet.batches[batch_id] for batch_id in one.pending)
    for batch in (each for each in pending if each.phase(one.results) is not BatchPhase.PARKED):
        batches -= max(1, len(batch.cuts))
        tokens -= batch.tokens
        if batches <= 0 and tokens <= 0:
            return
    segment = one.uncut.popleft()
    one.open[segment] = OpenSegment(run.segments[segment])
    fleet.out.append(CutSegment(run.name, pass_index, segment))


def more_comes(fleet: Fleet, run: Run, one: Pass) -> bool:
    """Whether a segment of the pass is being cut, or may be cut now."""
    return one.is_cutting or _may_cut(fleet, run, one)


def _may_cut(fleet: Fleet, run: Run, one: Pass) -> bool:
    """Whether there is a segment to cut, and room for its results."""
    if not one.uncut:
        return False
    held = sum(segment.rows for segment in one.open.values()) * one.row_bytes
    return len(one.open) < 2 or held + run.segments[one.uncut[0]] * one.row_bytes <= fleet.config.uncommitted_bytes
