"""What each pass of a run does, or waits for, in words for its watchers."""

from __future__ import annotations

from ..core.segments import has_work
from ..core.serving import is_in_doubt, may_begin, serving_devices
from ..core.state import Fleet, Run, RunStatus, WorkerStage
from ..telemetry.figures import PassState

LOADING = {
    WorkerStage.SPAWNED: "starting a worker",
    WorkerStage.STAGING: "loading the model into memory",
    WorkerStage.STAGED: "the model is loaded, and waits for its device",
    WorkerStage.HYDRATING: "moving the model to its device",
}
"""What a worker does before it computes, in order."""


def pass_state(fleet: Fleet, run: Run, pass_index: int) -> PassState:
    """A pass's state, how many of its batches workers have, and what it waits for or what its worker does."""
    one = run.passes[pass_index]
    workers = fleet.workers.values()
    mine = [worker for worker in workers if worker.run == run.name and worker.pass_index == pass_index]
    in_flight = sum(len(worker.batches) for worker in mine)
    stages = {worker.stage for worker in mine}
    if run.intake_done and len(one.committed) == len(run.segments):
        return PassState("done", in_flight)
    if WorkerStage.READY in stages:
        return PassState("working", in_flight)
    loading = [text for stage, text in LOADING.items() if stage in stages]
    if loading:
        return PassState("staging", in_flight, loading[-1])
    return PassState("waiting", in_flight, f"waiting for {_awaited(fleet, run, pass_index)}")


def _awaited(fleet: Fleet, run: Run, pass_index: int) -> str:
    """What a pass without a worker waits for."""
    match fleet.shown_status(run):
        case RunStatus.QUEUED:
            return "the run before this one"
        case RunStatus.OPENING:
            checking = run.status is RunStatus.CHECKING
            return "the check of the models" if checking else "the run directory to be opened"
        case RunStatus.RUNNING:
            return _awaited_chunks(run, pass_index) or _awaited_device(fleet, run, pass_index)
        case _:
            return "the run to end"


def _awaited_chunks(run: Run, pass_index: int) -> str:
    """What keeps batches from being there; empty if some are there."""
    one = run.passes[pass_index]
    if is_in_doubt(run):
        return "a chunk with weights in its metadata"
    if not run.segments and not run.intake_done:
        return "the first chunks of the source"
    if not may_begin(run, pass_index):
        return "its terms to be counted" if run.intake_done else "the whole source, to count terms"
    if one.given_up or one.broken is not None:
        return "the weights of the metadata to be written"
    if not has_work(run, pass_index):
        return "its last segments to be written"
    if not (one.pending or one.uncut or one.is_cutting):
        return "more chunks of the source"
    return ""


def _awaited_device(fleet: Fleet, run: Run, pass_index: int) -> str:
    """Why no device works for a pass that has batches."""
    slots = serving_devices(fleet, run, pass_index)
    usable = [slot for slot in slots if not slot.health.given_up(pass_index)]
    if not usable:
        reason = next((slot.health.given_up(pass_index) for slot in slots), "")
        return f"a device: {reason}" if reason else "a device that can compute it"
    if refused := next((slot.waiting for slot in usable if slot.waiting), ""):
        return f"a device: {refused}"
    holders = [worker for slot in usable if (worker := fleet.workers.get(slot.active or "")) is not None]
    others = {one.pass_index for one in holders if one.run == run.name}
    if others:
        return " and ".join(run.passes[other].plan.vector for other in sorted(others))
    if holders:
        return "a worker of the run before this one to end"
    if all(not slot.health.may_start(fleet.now) for slot in usable):
        return "a device to be tried again"
    return "a worker to start"
